"""ChunkScheduler: laws over delays, losses, reorderings and duplicates, and the published bugs of others."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.interfaces import Chunk
from robopolicy_drivers.runtime.blending import TemporalEnsembling
from robopolicy_drivers.runtime.commander import Commander, JumpLimit
from robopolicy_drivers.runtime.scheduler import ChunkScheduler
from robopolicy_drivers.runtime.spaces import FeatureSpace

DT_S = 0.1
PLANE = FeatureSpace((Feature("action", (2,), kind="position", unit="m"),))
POSE = FeatureSpace((Feature("action", (7,), kind="pose_width", unit="m, rad"),))


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


@given(deliveries, st.integers(0, 12), st.floats(-0.5, 0.5))
def test_temporal_ensembling_is_the_weighted_mean_of_all_rows_that_may_be_played(plan, max_age, decay):
    scheduler = ChunkScheduler(max_age, TemporalEnsembling(PLANE, decay))
    known = {}
    for observed, _, length, version in plan:
        rows = np.random.default_rng(version).normal(size=(length, 2)) + observed
        known[observed] = rows
        scheduler.add(Chunk(rows, observed, DT_S, 0))
    for step in range(60):
        usable = {step - first: rows for first, rows in known.items() if first <= step < first + len(rows)}
        usable = {age: rows[age] for age, rows in usable.items() if age <= max_age}
        scheduled = scheduler.action(step)
        assert (scheduled.status == "fresh") == bool(usable)
        if usable:
            weights = np.exp(-decay * np.array(list(usable)))
            expected = np.average(list(usable.values()), axis=0, weights=weights)
            np.testing.assert_allclose(scheduled.action, expected, atol=1e-9)
            assert scheduled.age_steps == min(usable)


def test_ensembling_averages_rotations_on_the_group():
    """Half a turn less and half a turn more than pi: their mean is pi; that of their numbers is none."""
    scheduler = ChunkScheduler(20, TemporalEnsembling(POSE, 0.0))
    for first, angle in ((0, np.pi - 0.2), (1, -np.pi + 0.2)):
        scheduler.add(Chunk(np.tile([0.0, 0, 0, 0, 0, angle, 0.04], (8, 1)), first, DT_S, 0))
    assert abs(scheduler.action(2).action[5]) == pytest.approx(np.pi)
    with pytest.raises(ConfigError, match="decay"):
        TemporalEnsembling(POSE, np.nan)


@given(
    deliveries,
    st.integers(0, 12),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
    st.floats(0.01, 1.0),
    st.integers(0, 10),
)
def test_commands_never_jump_never_freeze_and_never_are_old(
    plan, max_age, hold_steps, ensembling, limit, retreat_steps
):
    """Whatever arrives when: from scheduler and commander together comes a motion in bounded steps."""
    options = {"blending": TemporalEnsembling(POSE)} if ensembling else {}
    scheduler = ChunkScheduler(max_age, hold_steps=hold_steps, **options)
    commander = Commander(JumpLimit(POSE, limit, 2 * limit), retreat_steps)
    arrivals = {}
    for index, (observed, delay, length, times) in enumerate(plan):
        rows = np.random.default_rng(index).normal(size=(length, 7))
        arrivals.setdefault(observed + delay, []).extend([Chunk(rows, observed, DT_S, 0)] * times)
    sent, starved = [], 0
    for step in range(80):
        for arrival in arrivals.get(step, []):
            scheduler.add(arrival)
        planned = scheduler.action(step)
        assert (planned.status == "fresh") == scheduler.covers(step)
        if planned.status == "waiting":
            assert commander.last is None
            continue
        fresh = planned.status == "fresh"
        starved = 0 if fresh else starved + 1
        retreats = hold_steps is not None and starved > hold_steps
        assert fresh or planned.status == ("retreat" if retreats else "hold")
        assert not fresh or planned.age_steps <= max_age
        target = commander.toward(planned.action) if fresh else commander.last
        target = commander.back() if planned.status == "retreat" else target
        commander.sent(target, forward=fresh)
        sent.append(target)
    for before, after in itertools.pairwise(sent):
        metres, radians = POSE.lengths(POSE.difference(before, after))
        assert metres <= limit * (1 + 1e-6)
        assert radians <= 2 * limit * (1 + 1e-6)


def test_a_starved_robot_goes_back_along_its_way_slowly_and_drops_nothing():
    scheduler = ChunkScheduler(20, hold_steps=2)
    commander = Commander(JumpLimit(POSE, 1.0, 1.0), retreat_steps=3)
    rows = np.zeros((5, 7))
    rows[:, 0] = [0.0, 0.1, 0.2, 0.3, 0.4]
    rows[:, 6] = [0.08, 0.08, 0.04, 0.02, 0.01]  # it grips
    scheduler.add(Chunk(rows, 0, DT_S, 0))
    way = []
    for step in range(16):
        planned = scheduler.action(step)
        target = {"fresh": planned.action, "hold": commander.last, "retreat": None}[planned.status]
        target = commander.back() if target is None else target
        commander.sent(target, forward=planned.status == "fresh")
        way.append(target)
    backward = [0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.1, 0.1, 0.1]
    np.testing.assert_allclose([pose[0] for pose in way[5:]], [0.4, 0.4, *backward])
    assert {pose[6] for pose in way[4:]} == {0.01}
    scheduler.add(chunk_of(np.full((4, 7), 0.2), 16))
    assert scheduler.action(16).status == "fresh"


def chunk_of(rows, first_step):
    return Chunk(rows, first_step, DT_S, 0)


def test_the_prefix_is_what_the_newest_chunk_has_from_this_step_on():
    scheduler = ChunkScheduler(3)
    assert scheduler.prefix(0).shape == (0, 0)
    scheduler.add(chunk(0))
    scheduler.add(chunk(2))
    prefix = scheduler.prefix(4)
    np.testing.assert_array_equal(prefix[:, 0], [4, 5, 6, 7, 8, 9])
    assert (prefix[:, 1] == 2).all()
    assert scheduler.prefix(6).shape == (0, 3)  # too old to be played, so nothing to continue
    prefix[:] = 0
    assert scheduler.action(4).action[0] == 4


def test_what_is_discarded_is_never_played_and_steps_go_on():
    scheduler = ChunkScheduler(5)
    scheduler.add(chunk(0))
    scheduler.action(3)
    scheduler.discard()
    assert scheduler.action(4).status == "waiting"
    assert scheduler.add(chunk(3)) == 2
    assert scheduler.action(5).action[0] == 5


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
    with pytest.raises(ConfigError, match="hold_steps"):
        ChunkScheduler(1, hold_steps=-1)
    with pytest.raises(ConfigError, match="allows no motion"):
        JumpLimit(POSE, 0.0, 1.0)


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
