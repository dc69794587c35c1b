"""The doctor on what has a time of its own: streams and events."""

from __future__ import annotations

import numpy as np
import pytest

from robopolicy_datasets.doctor.check import check_store
from robopolicy_datasets.doctor.repair import repair_store
from robopolicy_datasets.doctor.statistics import statistics
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, Event, Stream, summarise

SECOND = 1_000_000_000
SPEC = Spec((Feature("pos", (3,)),), (Feature("action", (2,)),))
FORCE = Feature("force", (3,), rate_hz=100.0)


def steps():
    return {"pos": np.zeros((21, 3)), "action": np.zeros((21, 2))}  # two seconds at 10 Hz


def samples(start=0.0, end=2.0, rate_hz=100.0):
    times = (np.arange(start, end, 1 / rate_hz) * SECOND).astype(np.int64)
    return Stream(np.sin(np.outer(times / SECOND, [1, 2, 3])), times)


@pytest.fixture
def store(tmp_path):
    """Three sound episodes with one stream and events at their edges."""
    store = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10, streams=[FORCE])
    for _ in range(3):
        edges = [Event("remark", -5, 0), Event("remark", 2 * SECOND, 3 * SECOND)]
        store.append_episode(steps(), streams={"force": samples()}, events=edges)
    return store


def test_sound_streams_have_no_findings(store):
    assert check_store(store) == []


def without(stream, first, last):
    kept = np.r_[:first, last : len(stream.time_ns)]
    return Stream(stream.value[kept], stream.time_ns[kept])


def spoiled(stream, sample):
    stream.value[sample] = np.nan
    return stream


FAULTS = {
    "not_finite": (lambda: spoiled(samples(), 7), "error", "1 sample with NaN"),
    "time_gap": (
        lambda: without(samples(), 50, 62),
        "warning",
        "12 samples missing in 1 gap",
    ),
    "wrong_rate": (lambda: samples(rate_hz=50), "warning", "come at 50 Hz, but 100 Hz is declared"),
    "stream_short": (lambda: samples(start=0.4), "warning", "cover 80% of the episode"),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found(store, code):
    make, severity, text = FAULTS[code]
    store.append_episode(steps(), streams={"force": make()})
    (finding,) = check_store(store)
    assert (finding.code, finding.severity, finding.episode, finding.key) == (code, severity, 3, "force")
    assert text in finding.message


def test_a_stream_without_samples_is_short(store):
    store.append_episode(steps(), streams={"force": Stream(np.zeros((0, 3)), np.zeros(0, np.int64))})
    assert [finding.code for finding in check_store(store)] == ["stream_short"]


@pytest.mark.parametrize("start_ns", [-7 * SECOND, 3 * SECOND])
def test_an_event_outside_its_episode_is_found(store, start_ns):
    store.add_events([Event("takeover", start_ns, start_ns + SECOND // 2, episode=1)])
    (finding,) = check_store(store)
    assert (finding.code, finding.severity, finding.episode) == ("event_out_of_range", "warning", 1)
    assert "'takeover' lies" in finding.message
    assert f"{1 if start_ns > 0 else 6.5:g} s outside" in finding.message


def test_a_damaged_stream_makes_its_episodes_unreadable_and_repair_leaves_them_out(store, tmp_path):
    times = np.arange(3 * 4096) * 1000  # so that the stream of the next episode has blocks of its own
    store.append_episode(steps(), streams={"force": Stream(np.zeros((len(times), 3)), times)})
    file = store.path / "streams" / "force" / "value" / "c.1.0"
    file.write_bytes(file.read_bytes()[:-9])
    opened = DemoStore.open(store.path)
    findings = check_store(opened)
    assert [(finding.code, finding.episode) for finding in findings] == [("unreadable", 3)]
    repair_store(opened, tmp_path / "sound.zarr", findings)
    sound = DemoStore.open(tmp_path / "sound.zarr")
    assert len(sound) == 3
    assert check_store(sound) == []


def test_statistics_and_summary_tell_of_streams_and_events(store):
    force = np.concatenate([store.stream("force", episode).value for episode in range(3)])
    found = [figures for figures in statistics(store) if figures.key == "force"]
    np.testing.assert_allclose([figures.maximum for figures in found], force.max(axis=0))
    assert [figures.count for figures in found] == [600] * 3
    summary = summarise(store)
    assert ("samples", "600 of force") in summary.figures()
    assert ("events", "remark (6)") in summary.figures()
    assert ("force", "stream", "3", "float32", "generic", "", "100", "", "zstd:3") in summary.features()
