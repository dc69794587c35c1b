"""The laws of the recorder's parts: steps of samples, gaps, and the order in which a commit writes."""

from __future__ import annotations

import itertools
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.recording.aligner import StepAligner
from robopolicy_datasets.recording.gaps import GapWatch
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, Event, Stream, transaction

MS = 1_000_000
times_of_a_key = st.lists(st.integers(0, 2000), min_size=1, max_size=60, unique=True).map(sorted)


@given(
    times=st.tuples(times_of_a_key, times_of_a_key, times_of_a_key),
    rate_hz=st.sampled_from([7.0, 30.0, 100.0]),
    cuts=st.lists(st.integers(0, 2500), max_size=8).map(sorted),
    patience_ms=st.sampled_from([0, 50, 10_000]),
)
def test_a_step_shows_the_newest_sample_of_each_key(times, rate_hz, cuts, patience_ms):
    """However the samples are handed over, with none that comes later than the patience."""
    keys = ["a", "b", "c"]
    aligner = StepAligner(keys, rate_hz=rate_hz, patience_s=patience_ms / 1e3)
    made = []
    for begin, now in zip([-1, *cuts], [*cuts, 20_000], strict=True):
        for key, all_times in zip(keys, times, strict=True):
            new = np.array([time for time in all_times if begin < time <= now], np.int64)
            aligner.put(key, new * MS, new)
        made += list(aligner.steps(now * MS))
    first = max(key_times[0] for key_times in times) * MS
    period = 1e9 / rate_hz
    assert [time for time, _ in made] == [first + round(number * period) for number in range(len(made))]
    for time, values in made:
        expected = [max(sample for sample in key_times if sample * MS <= time) for key_times in times]
        assert [values[key] for key in keys] == expected
    # as many steps as the clock, or the slowest key, allows
    slowest = min(key_times[-1] for key_times in times) * MS
    limit = max(slowest, (20_000 - patience_ms) * MS)
    assert first + round(len(made) * period) > limit or not made
    assert not made or made[-1][0] <= limit


def test_an_aligner_waits_for_a_late_key_and_then_does_not():
    aligner = StepAligner(["a", "b"], rate_hz=10, patience_s=0.5)
    aligner.put("a", np.arange(11) * 100 * MS, np.arange(11))
    assert list(aligner.steps(400 * MS)) == []  # b never came
    aligner.put("b", np.array([0]), np.array([7]))
    assert [time for time, _ in aligner.steps(500 * MS)] == [0]
    assert [time // MS for time, _ in aligner.steps(700 * MS)] == [100, 200]
    aligner.put("b", np.array([300 * MS]), np.array([8]))
    assert [(time // MS, values) for time, values in aligner.steps(700 * MS)] == [(300, {"a": 3, "b": 8})]


def test_what_waits_for_a_key_that_never_comes_is_bounded():
    aligner = StepAligner(["a", "b"], rate_hz=10, patience_s=0.5)
    alive: weakref.WeakSet[_Sample] = weakref.WeakSet()
    for number in range(1000):
        image = _Sample(number)
        alive.add(image)
        aligner.put("a", np.array([number * 30 * MS]), [image])
        del image
        assert list(aligner.steps(number * 30 * MS)) == []
        assert len(alive) <= 0.5 / 0.03 + 3
    aligner.put("b", np.array([30_000 * MS]), np.array([1]))
    ((time, values),) = aligner.steps(30_500 * MS)
    assert (time, values["a"].number) == (30_000 * MS, 999)


class _Sample:
    def __init__(self, number):
        self.number = number


@given(
    numbers=st.lists(st.integers(0, 300), min_size=1, max_size=80, unique=True).map(sorted),
    jitter=st.floats(0, 0.2),
    cuts=st.lists(st.integers(0, 80), max_size=5).map(sorted),
    seed=st.integers(0, 99),
)
def test_every_missing_sample_is_counted(numbers, jitter, cuts, seed):
    """Whatever is missing between the first and the last, however it is handed over."""
    random = np.random.default_rng(seed)
    times = ((np.array(numbers) + random.uniform(-jitter, jitter, len(numbers))) * MS).astype(np.int64)
    watch = GapWatch({"force": 1000.0})
    for part in np.split(times, [cut for cut in cuts if cut < len(times)]):
        watch.saw("force", part)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    assert watch.missing == ({"force": missing} if missing else {})
    assert sum(event.data["missing"] for event in watch.events()) == missing
    ends = [(event.start_ns, event.end_ns) for event in watch.events()]
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(ends))
    assert {time for pair in ends for time in pair} <= set(times.tolist())


def test_a_late_sample_is_not_a_missing_one():
    """A device that wakes up late, and then is in time again."""
    watch = GapWatch({"force": 1000.0})
    late = np.arange(100) * MS + np.where(np.arange(100) % 10 == 5, 800_000, 0)
    late[50:53] = [52.7e6, 52.8e6, 52.9e6]  # three at once
    for part in np.array_split(late, 37):
        watch.saw("force", part)
    assert watch.missing == {}
    watch.saw("force", np.array([105, 106]) * MS)
    assert watch.missing == {"force": 5}
    watch.saw("force", np.array([106_300_000, 106_600_000]))  # a burst elsewhere makes up for nothing
    assert watch.missing == {"force": 5}


def test_an_early_sample_makes_up_for_the_gap_after_it():
    """As the steps of a policy whose newest image was an old one once: none of them was left out."""
    watch = GapWatch({"steps": 10.0})
    watch.saw("steps", np.array([0, 100, 110, 290, 395, 400, 410, 690]) * MS)
    assert watch.missing == {}
    watch.saw("steps", np.array([700, 1000, 1095]) * MS)  # 0.9 periods early, and then 2 of them without
    assert watch.missing == {"steps": 1}
    watch.saw("steps", np.array([1100, 1200, 1400]) * MS)  # what was early before it was in time again
    assert watch.missing == {"steps": 2}


def test_reported_losses_count_where_no_rate_is_known_and_before_any_sample_comes():
    watch = GapWatch({"contact": 0.0})
    watch.saw("contact", np.array([5, 900]))
    watch.saw("contact", np.array([], np.int64), lost=2)
    watch.saw("contact", np.array([2000]), lost=1)
    assert watch.missing == {"contact": 3}
    (event,) = watch.events()
    assert (event.start_ns, event.end_ns, event.text) == (900, 2000, "3 of 'contact' missing")


def test_a_sensor_at_half_its_rate_gives_one_gap_event():
    watch = GapWatch({"force": 1000.0})
    watch.saw("force", np.arange(0, 1000, 2) * MS)
    assert len(watch.events()) == 1
    assert watch.missing == {"force": 499}


# --- the order of system calls ------------------------------------------------------------------------------


class Calls:
    """Notes what is written, synced and renamed; the real calls are made."""

    def __init__(self, monkeypatch):
        self.log: list[tuple[str, str, str]] = []
        for name in ("write", "fsync", "replace"):
            monkeypatch.setattr(transaction.os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name, call):
        def noted(*words, **settings):
            if name in ("write", "fsync"):
                path, other = os.readlink(f"/proc/self/fd/{words[0]}"), ""
            else:
                path, other = map(str, words[:2])
            result = call(*words, **settings)
            self.log.append((name, path, other))
            return result

        return noted


def check_order(log, last):
    """Write, then fsync, then rename, and the rename of ``last`` when all else is durable."""
    renames = [(at, source, target) for at, (name, source, target) in enumerate(log) if name == "replace"]
    assert [target for _, _, target in renames].count(last) == 1
    assert renames[-1][2] == last
    publish = renames[-1][0]
    for index, source, target in renames:
        written = [at for at, call in enumerate(log) if call[:2] == ("write", source) and at < index]
        synced = [at for at, call in enumerate(log) if call[:2] == ("fsync", source) and at < index]
        assert written, target
        assert synced, target
        assert max(written) < max(synced), target
        folder = str(Path(target).parent)
        after = [at for at, call in enumerate(log) if call[:2] == ("fsync", folder) and at > index]
        assert after, target
        if target != last:
            assert min(after) < publish, target
    targets = {target for _, _, target in renames}
    assert not [call for call in log if call[0] == "write" and call[1] in targets]  # nothing in its place


@pytest.mark.parametrize(
    ("how", "last"), [("append", "episode_ends"), ("record", "episode_ends"), ("add_events", "events")]
)
def test_a_commit_writes_syncs_renames_and_publishes_last(tmp_path, how, last, monkeypatch):
    spec = Spec((Feature("camera0_rgb", (64, 64, 3), "uint8", kind="rgb"),), (Feature("action", (2,)),))
    store = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=10, streams=[Feature("force", (3,))])
    data = {"camera0_rgb": np.zeros((200, 64, 64, 3), np.uint8), "action": np.zeros((200, 2), np.float32)}
    force = Stream(np.zeros((9000, 3)), np.arange(9000))
    store.append_episode(data, streams={"force": force})
    with monkeypatch.context() as patch:
        calls = Calls(patch)
        if how == "append":
            store.append_episode(data, streams={"force": force}, events=[Event("remark", 0, 1)])
        elif how == "record":
            with Recorder(store) as recorder:
                recorder.start()
                for number in range(300):
                    recorder.step({key: rows[0] for key, rows in data.items()}, number)
                recorder.samples("force", force.value, force.time_ns)
                recorder.event(Event("remark", 0, 1))
                recorder.save()
        else:
            store.add_events([Event("remark", 0, 1, episode=0)])
    check_order(calls.log, str(store.path / "meta" / last / "zarr.json"))
