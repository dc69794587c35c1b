"""A demo store: what goes in comes out, for us and for any zarr reader."""

from __future__ import annotations

import multiprocessing
import warnings

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, NewEpisode, summarise
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.layout import ArrayLayout, to_json_bytes

INFO = EpisodeInfo("pick up the cübe", True, "scripted", "ur5e", 1_700_000_000_000_000_000)


def test_episodes_come_back_as_they_went_in(tmp_path, arm_spec, make_episode, assert_same):
    path = tmp_path / "new" / "a.zarr"
    store = DemoStore.create(path, arm_spec, rate_hz=20, metadata={"seed": 3})
    lengths = [7, 1, 150, 30]  # one longer than a shard
    time_ns = np.cumsum(np.arange(1, 151)).astype(np.int64)
    for number, length in enumerate(lengths):
        times = time_ns if length == 150 else None
        assert store.append_episode(make_episode(length, number), INFO, time_ns=times) == number
    for opened in (store, DemoStore.open(path), DemoStore.open(path, "a")):
        assert len(opened) == 4
        assert opened.num_steps == sum(lengths)
        assert opened.episode_ends.tolist() == np.cumsum(lengths).tolist()
        assert (opened.spec, opened.rate_hz, dict(opened.attributes)) == (arm_spec, 20, {"seed": 3})
        for number, episode in enumerate(opened):
            assert (episode.index, episode.length, episode.info) == (number, lengths[number], INFO)
            assert_same(episode.data, make_episode(lengths[number], number))
        np.testing.assert_array_equal(opened.episode(0).time_ns, np.arange(7) * 50_000_000)
        np.testing.assert_array_equal(opened.episode(2).time_ns, time_ns)


def test_bulk_arrays_hold_all_rows_and_cannot_be_written(arm_store, make_episode):
    array = arm_store.array("camera0_rgb")
    expected = np.concatenate([make_episode(length, n)["camera0_rgb"] for n, length in enumerate((5, 1, 9))])
    np.testing.assert_array_equal(array, expected)
    assert arm_store.array("camera0_rgb") is array
    for values in (array, arm_store.episode(0).data["action"], arm_store.episode_ends):
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0
    arm_store.append_episode(make_episode(4, 9))
    assert len(arm_store.array("camera0_rgb")) == 19


def test_an_empty_store_is_a_store(tmp_path, arm_spec):
    DemoStore.create(tmp_path / "a.zarr", arm_spec, rate_hz=10)
    store = DemoStore.open(tmp_path / "a.zarr")
    assert (len(store), store.num_steps, list(store)) == (0, 0, [])
    assert store.array("action").shape == (0, 7)
    assert summarise(store).success_rate is None


def test_any_zarr_reader_opens_it(arm_store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(arm_store.path, mode="r", zarr_format=3)
        assert {name for name, _ in group.members()} == {"data", "meta"}
        assert set(dict(group["data"].members())) == {*arm_store.keys(), "time_ns"}
        assert set(dict(group["meta"].members())) == {"episodes", "episode_ends", "events"}
    for key in [*arm_store.keys()]:
        np.testing.assert_array_equal(group[f"data/{key}"][:], arm_store.array(key))
        np.testing.assert_array_equal(group[f"data/{key}"][4:7], arm_store.array(key)[4:7])
    np.testing.assert_array_equal(group["meta/episode_ends"][:], arm_store.episode_ends)
    assert EpisodeInfo.from_text(str(group["meta/episodes"][2])) == EpisodeInfo(task="task 2")
    assert group.attrs["rate_hz"] == 10


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["generic", "depth"])
def test_every_dtype_is_laid_out_as_zarr_does(tmp_path, dtype, kind):
    layout = ArrayLayout.of_feature(Feature("x", (2, 3), dtype, kind=kind))
    values = np.random.default_rng(0).integers(0, 2, (300, 2, 3)).astype(dtype)
    for path, data in BlockArray(tmp_path, layout).extended(0, values).items():
        path.write_bytes(data)
    (tmp_path / "zarr.json").write_bytes(to_json_bytes(layout.metadata(300)))
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], values)
    assert ArrayLayout.from_metadata(tmp_path) == (layout, 300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.integers(1, 23), min_size=1, max_size=6),
    sharded=st.booleans(),
    bounds=st.tuples(st.integers(0, 140), st.integers(0, 140)),
)
def test_appended_rows_read_back_in_any_range(tmp_path_factory, parts, sharded, bounds):
    folder = tmp_path_factory.mktemp("rows")
    array = BlockArray(folder, ArrayLayout((2,), "int64", 8, sharded))
    values = np.arange(2 * sum(parts)).reshape(-1, 2)
    committed = 0
    for part in parts:
        # an unfinished episode's rows, which the next append must replace
        for path, data in array.extended(committed, np.full((9, 2), -1)).items():
            path.write_bytes(data)
        for path, data in array.extended(committed, values[committed : committed + part]).items():
            path.write_bytes(data)
        committed += part
    start, stop = sorted(min(bound, committed) for bound in bounds)
    np.testing.assert_array_equal(array.read(start, stop), values[start:stop])


def test_several_episodes_are_one_commit(tmp_path, arm_spec, make_episode, assert_same):
    store = DemoStore.create(tmp_path / "a.zarr", arm_spec, rate_hz=10)
    bad = make_episode(4, 1) | {"action": np.full((4, 7), np.nan)}
    with pytest.raises(StoreError, match="'action' is not finite"):
        store.append_episodes([NewEpisode(make_episode(3)), NewEpisode(bad)])
    assert len(DemoStore.open(store.path)) == 0
    assert store.append_episodes(
        [NewEpisode(make_episode(3)), NewEpisode(make_episode(4, 1), INFO)]
    ) == range(2)
    assert_same(DemoStore.open(store.path).episode(1).data, make_episode(4, 1))
    assert store.episode_info(1) == INFO


def test_a_reader_keeps_its_view_while_a_writer_appends(arm_store, make_episode, assert_same):
    reader = DemoStore.open(arm_store.path)
    for number in range(20):
        arm_store.append_episode(make_episode(40, number))
    assert len(reader) == 3
    assert_same(reader.episode(2).data, make_episode(9, 2))
    assert len(DemoStore.open(arm_store.path)) == 23


def _append_ten(path, data):
    store = DemoStore.open(path, "a")
    for number in range(10):
        store.append_episode(data, EpisodeInfo(task=str(number)))


def test_two_processes_may_append(arm_store, make_episode, assert_same):
    context = multiprocessing.get_context("spawn")
    data = make_episode(11, 5)
    writers = [context.Process(target=_append_ten, args=(arm_store.path, data)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert arm_store.append_episode(data) == 23  # sees what the others did
    assert [arm_store.episode_info(0).task, arm_store.episode_info(23).task] == ["task 0", ""]
    tasks = sorted(arm_store.episode_info(index).task for index in range(3, 23))
    assert tasks == sorted(2 * [str(number) for number in range(10)])
    for episode in list(DemoStore.open(arm_store.path))[3:]:
        assert_same(episode.data, data)


def test_the_fingerprint_follows_data_boundaries_and_spec(tmp_path, arm_spec, make_episode):
    def prints(name, episodes, spec=arm_spec):
        store = DemoStore.create(tmp_path / name, spec, rate_hz=10)
        for data in episodes:
            store.append_episode(data)
        return store.fingerprint()

    whole = make_episode(6)
    changed = whole | {"action": whole["action"] + np.float32(1e-6)}
    halves = [{key: values[part] for key, values in whole.items()} for part in (slice(0, 3), slice(3, 6))]
    renamed = Spec(arm_spec.observation, (Feature("action", (7,), unit="m"),))
    found = [prints("a", [whole]), prints("b", [changed]), prints("c", halves), prints("d", [whole], renamed)]
    assert len(set(found)) == 4
    assert prints("e", [whole]) == found[0] == DemoStore.open(tmp_path / "a").fingerprint()


def test_float64_data_is_stored_as_the_spec_says(tmp_path, arm_spec, make_episode):
    store = DemoStore.create(tmp_path / "a.zarr", arm_spec, rate_hz=10)
    data = make_episode(3)
    store.append_episode(data | {"action": data["action"].astype(np.float64)})
    np.testing.assert_array_equal(store.episode(0).data["action"], data["action"])


def test_the_summary_counts_what_is_there(tmp_path, arm_spec, make_episode):
    store = DemoStore.create(tmp_path / "a.zarr", arm_spec, rate_hz=2)
    for length, task, success in ((3, "push", True), (9, "push", False), (24, "pull", None)):
        store.append_episode(make_episode(length), EpisodeInfo(task=task, success=success))
    summary = summarise(store)
    assert (summary.episodes, summary.steps, summary.hours) == (3, 36, pytest.approx(0.005))
    assert (summary.shortest, summary.median, summary.longest) == (3, 9, 24)
    assert (summary.success_rate, summary.judged) == (0.5, 2)
    assert summary.tasks == {"push": 2, "pull": 1}
    assert summary.disk_bytes > store.array("camera0_rgb").nbytes / 2
    assert summary.features()[0][:5] == ("camera0_rgb", "observation", "6 x 8 x 3", "uint8", "rgb")
    assert ("success", "50.0% (1 of 2)") in summary.figures()
    assert summary.to_json()["features"][-1]["key"] == "action"
