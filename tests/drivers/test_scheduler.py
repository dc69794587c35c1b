"""ChunkScheduler: laws over delays, losses, reorderings and duplicates, and the published bugs of others."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import Chunk
from robopolicy_drivers.runtime.scheduler import ChunkScheduler

DT_S = 0.1


def chunk(first_step: int, length: int = 8, version: float = 0.0) -> Chunk:
    """Rows that name their own step, the observation's step and a version."""
    steps = np.arange(first_step, first_step + length, dtype=float)
    rows = np.stack([steps, np.full(length, first_step), np.full(length, version)], axis=1)
    return Chunk(rows, first_step, DT_S, first_step * 100_000_000)


deliveries = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 15), st.integers(1, 10), st.integers(1, 2)), max_size=30
)


@given(deliveries, st.integers(0, 12), st.sets(st.integers(0, 60)))
def test_laws_under_any_delivery(plan, max_age, skipped):
    """Chunks arrive after any delay, not at all, in any order, or twice; some steps are skipped."""
    scheduler = ChunkScheduler(max_age)
    arrivals = {}
    for observed, delay, length, times in plan:
        arrivals.setdefault(observed + delay, []).extend([chunk(observed, length)] * times)
    known, last = {}, None
    for step in range(70):
        for arrival in arrivals.get(step, []):
            scheduler.add(arrival)
            known[arrival.first_step] = arrival
        if step in skipped:
            continue
        usable = [
            first for first, c in known.items() if first <= step < first + min(len(c.actions), max_age + 1)
        ]
        scheduled = scheduler.action(step)
        if usable:
            newest = max(usable)
            assert scheduled.status == "fresh"
            assert scheduled.action[0] == step
            assert scheduled.action[1] == newest
            assert scheduled.age_steps == step - newest <= max_age
            assert scheduled.due_ns == (step + 1) * 100_000_000
            last = scheduled.action
        elif last is None:
            assert (scheduled.status, scheduled.action) == ("waiting", None)
        else:
            assert scheduled.status == "hold"
            np.testing.assert_array_equal(scheduled.action, last)
            assert scheduled.age_steps == step - last[1]
        assert scheduler.covers(step) == bool(usable)


def test_late_rows_are_dropped_by_count():
    scheduler = ChunkScheduler(20)
    scheduler.action(4)
    assert scheduler.add(chunk(2)) == 3
    assert scheduler.action(5).action[0] == 5
    assert scheduler.add(chunk(0, length=3)) == 3
    assert scheduler.dropped_rows == 6


def test_a_first_chunk_for_a_later_step_is_played_when_its_step_comes():
    """RDP's ensemble buffer returns None forever here: its clock stands still while it is empty."""
    scheduler = ChunkScheduler(20)
    assert scheduler.action(0).status == "waiting"
    scheduler.add(chunk(12))
    assert scheduler.action(1).status == "waiting"
    assert scheduler.action(12).action[0] == 12


def test_play_resumes_after_a_drought():
    scheduler = ChunkScheduler(20)
    scheduler.add(chunk(0, length=4))
    assert [scheduler.action(step).status for step in range(8)] == ["fresh"] * 4 + ["hold"] * 4
    scheduler.add(chunk(8))
    assert scheduler.action(8).status == "fresh"


def test_of_two_chunks_from_one_step_the_last_added_wins():
    """RDP's buffer raises ValueError for equal times."""
    scheduler = ChunkScheduler(20)
    scheduler.add(chunk(3, version=1.0))
    scheduler.add(chunk(3, version=2.0))
    assert scheduler.action(3).action[2] == 2.0


def test_an_older_chunk_never_outranks_a_newer_one():
    scheduler = ChunkScheduler(20)
    scheduler.add(chunk(4))
    scheduler.add(chunk(2))
    assert scheduler.action(5).action[1] == 4


def test_memory_stays_bounded():
    scheduler = ChunkScheduler(10)
    for step in range(500):
        scheduler.add(chunk(step))
        scheduler.action(step)
    assert len(scheduler._chunks) <= 8


def test_bad_chunks_are_refused_and_change_nothing():
    scheduler = ChunkScheduler(5)
    scheduler.add(chunk(0))
    with pytest.raises(SpecError, match="NaN"):
        scheduler.add(Chunk(np.full((4, 3), np.nan), 0, DT_S, 0))
    with pytest.raises(SpecError, match=r"\[T, A\]"):
        scheduler.add(Chunk(np.zeros(3), 0, DT_S, 0))
    with pytest.raises(SpecError, match="2 numbers"):
        scheduler.add(Chunk(np.zeros((4, 2)), 0, DT_S, 0))
    assert scheduler.action(1).action[0] == 1
    with pytest.raises(SpecError, match="never go back"):
        scheduler.action(0)
    with pytest.raises(ConfigError, match="max_age_steps"):
        ChunkScheduler(-1)


def test_reset_forgets_the_episode():
    scheduler = ChunkScheduler(5)
    scheduler.add(chunk(0))
    scheduler.action(3)
    scheduler.reset()
    assert scheduler.action(0).status == "waiting"


def test_threads_may_add_and_ask_at_once():
    scheduler = ChunkScheduler(5)
    errors = []

    def add(offset: int) -> None:
        try:
            for step in range(offset, 2000, 3):
                scheduler.add(chunk(step))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for step in range(2000):
        scheduled = scheduler.action(step)
        assert scheduled.action is None or scheduled.action[0] <= step
    for thread in threads:
        thread.join()
    assert not errors
