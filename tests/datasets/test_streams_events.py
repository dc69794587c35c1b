"""Sensors with a rate of their own, and what happened in episodes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from robopolicy_datasets.doctor.copying import EpisodeCopy, copy_episodes
from robopolicy_datasets.doctor.merge import merge_stores
from robopolicy_datasets.doctor.statistics import statistics
from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, Event, Stream
from robopolicy_datasets.store.transaction import commit

SPEC = Spec((Feature("pos", (3,)),), (Feature("action", (2,)),))
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", unit="N, N m", rate_hz=1000)
TOUCH = Feature("touch_rgb", (16, 16, 3), "uint8", kind="rgb", rate_hz=60)


def make_store(path):
    return DemoStore.create(path, SPEC, rate_hz=10, streams=(WRENCH, TOUCH), codecs={"touch_rgb": "lz4"})


def samples(seed, length=None):
    random = np.random.default_rng(seed)
    length = int(random.integers(100, 3000)) if length is None else length
    time = np.cumsum(random.integers(1, 2_000_000, length))
    wrench = random.normal(size=(length, 6)).astype(np.float32)
    frames = random.integers(0, 256, (length // 20, 16, 16, 3), dtype=np.uint8)
    return {"robot0_wrench": Stream(wrench, time), "touch_rgb": Stream(frames, time[: length // 20])}


def steps(length=5):
    return {"pos": np.zeros((length, 3), np.float32), "action": np.zeros((length, 2), np.float32)}


def assert_streams(found, expected):
    assert set(found) == set(expected)
    for key, stream in expected.items():
        np.testing.assert_array_equal(found[key].value, stream.value)
        np.testing.assert_array_equal(found[key].time_ns, stream.time_ns)
        assert found[key].value.dtype == np.asarray(stream.value).dtype


def test_every_sample_comes_back(tmp_path):
    store = make_store(tmp_path / "a.zarr")
    for seed in range(6):
        store.append_episode(steps(), streams=samples(seed, 0 if seed == 2 else None))
    for opened in (store, DemoStore.open(store.path)):
        assert opened.streams == (WRENCH, TOUCH)
        for seed, episode in enumerate(opened):
            assert_streams(episode.streams, samples(seed, 0 if seed == 2 else None))
    group = zarr.open_group(store.path, mode="r")
    ends = group["streams/robot0_wrench/episode_ends"][:]
    assert len(ends) == 6
    assert group["streams/robot0_wrench/value"].shape[0] == ends[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"touch_rgb": None}, "has the streams robot0_wrench; the store holds robot0_wrench, touch_rgb"),
        ({"other": Stream([], [])}, "has the streams other, robot0_wrench, touch_rgb"),
        ({"robot0_wrench": Stream(np.zeros((2, 5)), np.array([1, 2]))}, r"shape \[2, 5\] but \[2, 6\]"),
        ({"robot0_wrench": Stream(np.zeros((2, 6)), np.array([2, 2]))}, "sample 1 does not"),
        ({"robot0_wrench": Stream(np.zeros((2, 6)), np.array([1.0, 2.0]))}, "float64"),
        ({"robot0_wrench": Stream(np.zeros((2, 6), complex), np.array([1, 2]))}, "is complex128 but float32"),
    ],
)
def test_streams_that_do_not_fit_are_refused(changes, message, tmp_path):
    store = make_store(tmp_path / "a.zarr")
    streams = {key: value for key, value in (samples(0) | changes).items() if value is not None}
    with pytest.raises(StoreError, match=message):
        store.append_episode(steps(), streams=streams)
    assert len(DemoStore.open(store.path)) == 0


def test_steps_may_show_a_stream_under_its_key(tmp_path):
    shown = replace(WRENCH, rate_hz=10)
    spec = Spec((*SPEC.observation, shown), SPEC.action)
    store = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=10, streams=(WRENCH,))
    rows = {**steps(), WRENCH.key: np.ones((len(steps()["pos"]), *WRENCH.shape), np.float32)}
    wrench = samples(0)[WRENCH.key]
    store.append_episode(rows, streams={WRENCH.key: wrench})
    copy = copy_episodes(
        [EpisodeCopy(store, 0)],
        tmp_path / "b.zarr",
        spec,
        rate_hz=10,
        metadata={},
        done="copied",
        streams=store.streams,
    )
    for kept in (DemoStore.open(store.path), copy):
        np.testing.assert_array_equal(kept.array(WRENCH.key), rows[WRENCH.key])
        np.testing.assert_array_equal(kept.stream(WRENCH.key, 0).value, wrench.value)
        named = {one.key: one.count for one in statistics(kept)}
        assert named[WRENCH.key] == len(rows[WRENCH.key])
        assert named[f"streams/{WRENCH.key}"] == len(wrench.time_ns)


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ((Feature("pos", (7,)),), "'pos' has the key of a step's feature but is another one: .*own"),
        ((WRENCH, WRENCH), "more than once: robot0_wrench"),
    ],
)
def test_a_key_means_one_thing(streams, message, tmp_path):
    with pytest.raises(StoreError, match=message):
        DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10, streams=streams)


@pytest.mark.parametrize("part", ["value", "time_ns", "episode_ends"])
def test_a_lost_part_is_named(part, tmp_path):
    store = make_store(tmp_path / "a.zarr")
    store.append_episode(steps(), streams=samples(0))
    shutil.rmtree(store.path / "streams" / "robot0_wrench" / part)
    with pytest.raises(StoreError, match="robot0_wrench"):
        DemoStore.open(store.path)


def takeover(episode=-1, text="pulled it free"):
    return Event("takeover", 1_000, 2_000, text, "ann", {"policy": "v3", "actions": [[1.5, 2.0]]}, episode)


def test_events_belong_to_their_episode(tmp_path):
    store = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    store.append_episode(steps(), events=[takeover()])
    store.append_episode(steps())
    store.append_episode(steps(), events=[takeover(text="again"), Event("gap", 5, 5)])
    store.add_events([takeover(1, "said later")])
    for opened in (store, DemoStore.open(store.path)):
        found = [[event.text for event in episode.events] for episode in opened]
        assert found == [["pulled it free"], ["said later"], ["again", ""]]
        assert opened.episode(0).events == (takeover(0),)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event("gap", 5, 4, episode=0), "an end not before its start"),
        (Event("gap", 5, 5, data={"x": object()}, episode=0), "plain JSON data"),
        (Event("gap", 5, 5, episode=1), "no episode 1"),
    ],
)
def test_events_that_do_not_fit_are_refused(event, message, tmp_path):
    store = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    store.append_episode(steps())
    with pytest.raises(StoreError, match=message):
        store.add_events([takeover(0), event])
    assert DemoStore.open(store.path).events() == []


def test_an_append_that_was_not_committed_leaves_nothing(tmp_path, monkeypatch):
    store = make_store(tmp_path / "a.zarr")
    store.append_episode(steps(), streams=samples(0), events=[takeover()])

    def killed_before_the_last_rename(staging, files, last):
        names = list(files)
        commit(staging, {name: files[name] for name in names[:-1]}, (names[-1], files[names[-1]]))

    with monkeypatch.context() as patched:
        patched.setattr("robopolicy_datasets.store.native.commit", killed_before_the_last_rename)
        DemoStore.open(store.path, "a").append_episode(
            steps(), streams=samples(1), events=[takeover(text="lost")]
        )
    opened = DemoStore.open(store.path, "a")
    assert len(opened) == 1
    assert opened.events() == [takeover(0)]
    opened.append_episode(steps(), streams=samples(2))
    found = DemoStore.open(store.path)
    assert [event.text for event in found.events()] == ["pulled it free"]
    assert_streams(found.episode(1).streams, samples(2))


def test_stores_of_the_first_schema_take_events(tmp_path):
    store = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    store.append_episode(steps())
    shutil.rmtree(store.path / "meta" / "events")
    metadata = store.path / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"]["robopolicy_schema"] = 1
    del content["attributes"]["codec_by_content"], content["attributes"]["streams"]
    metadata.write_text(json.dumps(content))
    old = DemoStore.open(store.path, "a")
    assert old.events() == []
    old.add_events([takeover(0)])
    assert DemoStore.open(store.path).episode(0).events == (takeover(0),)


def lively_store(path):
    """Two episodes of 20 steps at 10 Hz with a stream at 100 Hz and an event from 1.0 to 1.5 s."""
    store = DemoStore.create(path, SPEC, rate_hz=10, streams=(WRENCH,))
    time = np.arange(200) * 10_000_000
    for number in range(2):
        wrench = np.full((200, 6), number, np.float32)
        event = Event("takeover", 1_000_000_000, 1_500_000_000, f"number {number}")
        store.append_episode(steps(20), streams={WRENCH.key: Stream(wrench, time)}, events=[event])
    return store


def test_edits_keep_streams_and_events(tmp_path):
    store = lively_store(tmp_path / "a.zarr")
    merged = merge_stores([store, store], tmp_path / "merged.zarr")
    assert merged.streams == (WRENCH,)
    for episode in merged:
        assert (episode.streams[WRENCH.key].value == episode.index % 2).all()
        assert [event.text for event in episode.events] == [f"number {episode.index % 2}"]
        assert [event.episode for event in episode.events] == [episode.index]


def test_trimming_cuts_streams_and_events_in_time(tmp_path):
    store = lively_store(tmp_path / "a.zarr")
    plan = [EpisodeCopy(store, 1, np.arange(12, 18)), EpisodeCopy(store, 0, np.arange(5))]
    cut = copy_episodes(
        plan,
        tmp_path / "cut.zarr",
        store.spec,
        rate_hz=10,
        metadata={},
        done="trimmed",
        streams=store.streams,
    )
    first, second = cut
    expected = np.arange(120, 171) * 10_000_000  # from step 12 to step 17
    np.testing.assert_array_equal(first.streams[WRENCH.key].time_ns, expected)
    assert [(event.start_ns, event.end_ns) for event in first.events] == [(1_200_000_000, 1_500_000_000)]
    assert len(second.streams[WRENCH.key].time_ns) == 41
    assert second.events == ()


def test_stores_with_other_streams_are_merged_only_on_demand(tmp_path):
    store = lively_store(tmp_path / "a.zarr")
    other = DemoStore.create(tmp_path / "b.zarr", SPEC, rate_hz=10)
    other.append_episode(steps())
    with pytest.raises(StoreError, match=r"the same stream robot0_wrench.*drop=true"):
        merge_stores([store, other], tmp_path / "merged.zarr")
    assert merge_stores([store, other], tmp_path / "merged.zarr", drop=True).streams == ()


def test_what_others_call_events_is_not_read(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("data/action", data=np.zeros((5, 2), np.float32))
    group.create_array("meta/episode_ends", data=np.array([2, 5]))
    group.create_array("meta/events", data=np.arange(9))
    store = DemoStore.open(tmp_path / "a.zarr")
    assert store.events() == []
    assert [episode.length for episode in store] == [2, 3]
