"""Exports as replay buffers and robomimic files: read by zarr and h5py, and imported again to the bit."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, MissingExtraError, StoreError
from robopolicy_datasets.exchange import diffusion_policy, diffusion_policy_export, robomimic_export
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig, RobomimicFormatConfig
from robopolicy_datasets.registry import formats
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, NewEpisode, Stream

SPEC = Spec(
    (
        Feature("camera0_rgb", (6, 8, 3), "uint8", kind="rgb"),
        Feature("camera0_depth", (6, 8), "uint16", kind="depth", unit="m"),
        Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="robot0_base"),
        Feature("markers", (4, 2), "float64", kind="touch"),
        Feature("ticks", (), "int64"),
        Feature("contact", (1,), "bool"),
    ),
    (Feature("action", (7,), kind="pose_width", unit="m, rad"),),
)
FORMATS = [("diffusion_policy", "out.zarr"), ("diffusion_policy", "out.zarr.zip"), ("robomimic", "out.hdf5")]


KEYS = SPEC.keys()


def values(feature, length, random):
    shape, dtype = (length, *feature.shape), np.dtype(feature.dtype)
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    high = 2 if dtype.kind == "b" else np.iinfo(dtype).max
    return random.integers(0, high, shape).astype(dtype)


def fill(store, lengths, infos, seed=0):
    random = np.random.default_rng(seed)
    for length, info in zip(lengths, infos, strict=True):
        data = {feature.key: values(feature, length, random) for feature in store.spec.features}
        time_ns = 2**60 + np.cumsum(random.integers(1, 10**9, length))
        store.append_episode(data, info, time_ns=time_ns)
    return store


@pytest.fixture
def store(tmp_path):
    store = DemoStore.create(tmp_path / "store.zarr", SPEC, rate_hz=12.5, metadata={"site": "lab"})
    infos = [
        EpisodeInfo("push the Ä block", True, "ada", "arm", 1_700_000_000_123_456_789),
        EpisodeInfo("", None),
        EpisodeInfo("lift it", False, "bob"),
    ]
    return fill(store, (5, 1, 70), infos)


def config(name):
    return formats.config_class(name)()


def export(name, source, target):
    formats.load_exporter(name)(config(name), source, target)
    return target


def assert_same_store(found, expected):
    assert (found.spec, found.rate_hz) == (expected.spec, expected.rate_hz)
    assert dict(found.attributes) == dict(expected.attributes)
    np.testing.assert_array_equal(found.episode_ends, expected.episode_ends)
    for key in [*expected.keys(), "time_ns"]:
        assert found.array(key).dtype == expected.array(key).dtype
        assert found.array(key).tobytes() == expected.array(key).tobytes(), key
    assert [found.episode_info(n) for n in range(len(found))] == [
        expected.episode_info(n) for n in range(len(expected))
    ]


@pytest.mark.parametrize(("name", "target"), FORMATS)
def test_a_round_trip_gives_the_same_store(store, tmp_path, name, target):
    calls = []
    exporter = formats.load_exporter(name)
    exporter(config(name), store.path, tmp_path / target, lambda *call: calls.append(call))
    assert calls[-1] == (3, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["store.zarr", target])
    new = formats.build(name, config(name), tmp_path / target, tmp_path / "new.zarr")
    assert_same_store(new, store)
    assert_same_store(new, DemoStore.open(store.path))


@pytest.mark.parametrize(("name", "target"), FORMATS)
@settings(max_examples=8, deadline=None)
@given(
    infos=st.lists(
        st.builds(
            EpisodeInfo,
            task=st.text(max_size=9),
            success=st.sampled_from([None, True, False]),
            operator=st.text(max_size=9),
            wall_time_ns=st.integers(0, 2**62),
        ),
        min_size=1,
        max_size=3,
    ),
    lengths=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    rate_hz=st.floats(0.01, 1e4),
    seed=st.integers(0, 2**32),
)
def test_any_store_comes_back(tmp_path_factory, name, target, infos, lengths, rate_hz, seed):
    folder = tmp_path_factory.mktemp("any")
    store = DemoStore.create(folder / "store.zarr", SPEC, rate_hz=rate_hz, metadata={"n": [1, None, "x"]})
    fill(store, lengths[: len(infos)], infos, seed)
    export(name, store.path, folder / target)
    assert_same_store(formats.build(name, config(name), folder / target, folder / "new.zarr"), store)
    shutil.rmtree(folder)


def test_a_replay_buffer_is_what_zarr_and_diffusion_policy_expect(store, tmp_path):
    """As its ``copy_from_path`` goes through it: every array of ``data`` as long as the last end."""
    for target in ("out.zarr", "out.zarr.zip"):
        path = export("diffusion_policy", store.path, tmp_path / target)
        files = zarr.storage.ZipStore(path, mode="r") if path.suffix == ".zip" else path
        root = zarr.open_group(files, mode="r", zarr_format=2)
        assert sorted(root.group_keys()) == ["data", "meta"]
        np.testing.assert_array_equal(root["meta/episode_ends"][:], store.episode_ends)
        assert root["meta/episode_ends"].dtype == np.int64
        assert sorted(root["data"].array_keys()) == sorted(KEYS)
        for key in KEYS:
            array = root["data"][key]
            assert array.metadata.compressor.cname == "zstd"
            np.testing.assert_array_equal(array[:], store.array(key))
        assert root["data/camera0_rgb"].chunks == (1 if path.suffix == ".zip" else 76, 6, 8, 3)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert len(set(names)) == len(names)
        assert {".zgroup", "data/.zgroup", "meta/.zgroup"} < set(names)
    assert np.array_equal(DemoStore.open(path).array("markers"), store.array("markers"))


def test_large_arrays_are_written_in_whole_chunks(tmp_path, monkeypatch, store):
    monkeypatch.setattr(diffusion_policy_export, "_CHUNK_BYTES", 1000)
    monkeypatch.setattr(diffusion_policy_export, "_BLOCK_BYTES", 5000)
    path = export("diffusion_policy", store.path, tmp_path / "out.zarr.zip")
    with zipfile.ZipFile(path) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist())  # else a chunk was written twice
    new = diffusion_policy.import_store(DiffusionPolicyFormatConfig(), path, tmp_path / "new.zarr")
    assert_same_store(new, store)


def test_a_robomimic_file_is_what_robomimic_expects(store, tmp_path):
    with h5py.File(export("robomimic", store.path, tmp_path / "out.hdf5")) as file:
        data = file["data"]
        assert data.attrs["total"] == 76
        environment = json.loads(data.attrs["env_args"])
        assert (environment["env_name"], environment["type"]) == ("push the Ä block", 2)
        assert environment["env_kwargs"] == {"control_freq": 12.5}
        for episode in store:
            demo, length = data[f"demo_{episode.index}"], episode.length
            assert demo.attrs["num_samples"] == length
            np.testing.assert_array_equal(demo["actions"][:], episode.data["action"])
            for feature in SPEC.observation:
                found = demo[f"obs/{feature.key}"][:]
                assert found.dtype == feature.dtype
                np.testing.assert_array_equal(
                    found.reshape(length, *feature.shape), episode.data[feature.key]
                )
            succeeded = [0.0] * (length - 1) + [float(episode.info.success is True)]
            assert demo["rewards"][:].tolist() == succeeded
            assert demo["dones"][:].tolist() == [0] * (length - 1) + [1]
        assert "success" not in data["demo_1"].attrs


def test_several_actions_become_one_for_robomimic(tmp_path):
    arms = tuple(Feature(f"arm{number}", (number + 1,), kind="joint", unit="rad") for number in range(2))
    store = DemoStore.create(tmp_path / "store.zarr", Spec(SPEC.observation, arms), rate_hz=10)
    fill(store, (4,), [EpisodeInfo()])
    path = export("robomimic", store.path, tmp_path / "out.hdf5")
    with h5py.File(path) as file:
        parts = [store.array(arm.key) for arm in arms]
        np.testing.assert_array_equal(file["data/demo_0/actions"][:], np.hstack(parts))
    assert_same_store(formats.build("robomimic", config("robomimic"), path, tmp_path / "new.zarr"), store)
    mixed = Spec((), (arms[0], Feature("grip", (1,), "int64")))
    store = fill(DemoStore.create(tmp_path / "mixed.zarr", mixed, rate_hz=10), (4,), [EpisodeInfo()])
    with pytest.raises(ConfigError, match=r"one action.*arm0: .*grip: int64"):
        export("robomimic", store.path, tmp_path / "mixed.hdf5")
    assert not (tmp_path / "mixed.hdf5").exists()


def strip(path):
    """Takes away what the export has kept: then it is as if others had written it."""
    if path.suffix == ".hdf5":
        with h5py.File(path, "a") as file:
            del file["robopolicy"]
    elif path.is_dir():
        (path / ".zattrs").write_text("{}")


@pytest.mark.parametrize(("name", "target"), [FORMATS[0], FORMATS[2]])
def test_without_our_record_it_is_read_as_any_other(store, tmp_path, name, target):
    path = export(name, store.path, tmp_path / target)
    strip(path)
    new = formats.build(name, config(name), path, tmp_path / "new.zarr")
    for key in KEYS:
        found = new.array(key).reshape(store.array(key).shape)
        np.testing.assert_array_equal(found, store.array(key))
    np.testing.assert_array_equal(new.episode_ends, store.episode_ends)
    assert new.episode_info(0).success is (True if name == "robomimic" else None)


@pytest.mark.parametrize(("name", "target"), FORMATS)
def test_a_layout_stands_above_what_was_kept(store, tmp_path, name, target):
    path = export(name, store.path, tmp_path / target)
    prefix, action = ("obs/", "actions") if name == "robomimic" else ("", "action")
    changed = config(name)
    changed.layout = {f"{prefix}robot0_eef_pos": "p", action: "action"}
    changed.task, changed.rate_hz = "other", 5.0
    new = formats.build(name, changed, path, tmp_path / "new.zarr")
    assert (new.keys(), new.rate_hz, new.episode_info(2).task) == (["p", "action"], 5.0, "other")
    np.testing.assert_array_equal(new.array("p"), store.array("robot0_eef_pos"))


@pytest.mark.parametrize(("name", "target"), FORMATS)
def test_settings_without_effect_are_refused(store, tmp_path, name, target):
    path, given = export(name, store.path, tmp_path / target), config(name)
    given.task = "other"
    with pytest.raises(ConfigError, match=r"import of what robopolicy exported.* format\.task"):
        formats.build(name, given, path, tmp_path / "new.zarr")
    with pytest.raises(ConfigError, match=r"An export does not use format\.task"):
        formats.load_exporter(name)(given, store.path, tmp_path / "second")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["store.zarr", target])


def edit_record(change):
    def edit(path):
        if path.suffix == ".hdf5":
            with h5py.File(path, "a") as file:
                content = json.loads(file["robopolicy"][:].tobytes())
                change(content)
                del file["robopolicy"]
                file["robopolicy"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
        else:
            content = json.loads((path / ".zattrs").read_text())
            change(content["robopolicy"])
            (path / ".zattrs").write_text(json.dumps(content))

    return edit


CHANGES = {
    "an episode less": (lambda record: record["episodes"].pop(), "2 episodes where 3 were found"),
    "an entry that is missing": (lambda record: record.pop("spec"), "does not fit the rest .*'spec'"),
    "another size": (
        lambda record: record["spec"]["action"][0].update(shape=[3]),
        "its layout and its Spec differ",
    ),
    "infos that are none": (lambda record: record.update(episodes=[1, 2, 3]), "does not fit the rest"),
    "a newer schema": (lambda record: record.update(robopolicy_schema=9), "newer robopolicy"),
}


@pytest.mark.parametrize(("name", "target"), [FORMATS[0], FORMATS[2]])
@pytest.mark.parametrize("case", CHANGES)
def test_a_record_that_does_not_fit_is_refused(store, tmp_path, name, target, case):
    change, message = CHANGES[case]
    path = export(name, store.path, tmp_path / target)
    edit_record(change)(path)
    with pytest.raises(StoreError, match=message) as refused:
        formats.build(name, config(name), path, tmp_path / "new.zarr")
    assert str(path) in str(refused.value)
    assert not (tmp_path / "new.zarr").exists()


def test_times_that_are_missing_are_refused(store, tmp_path):
    path = export("diffusion_policy", store.path, tmp_path / "out.zarr")
    array = zarr.open_array(path / "meta/time_ns", mode="r+", zarr_format=2)
    array.resize((75,))
    with pytest.raises(StoreError, match=r"meta/time_ns is int64\[75\]"):
        formats.build("diffusion_policy", config("diffusion_policy"), path, tmp_path / "new.zarr")
    path = export("robomimic", store.path, tmp_path / "out.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_1/time_ns"]
    with pytest.raises(StoreError, match="In demo_1: 'time_ns' is missing"):
        formats.build("robomimic", config("robomimic"), path, tmp_path / "new.zarr")


@pytest.mark.parametrize(("name", "target"), FORMATS)
def test_what_no_format_has_a_place_for_is_told(tmp_path, caplog, name, target):
    wrench = Feature("robot0_wrench", (6,), kind="wrench", rate_hz=100.0)
    spec = Spec((), (Feature("action", (2,)),))
    store = DemoStore.create(tmp_path / "store.zarr", spec, rate_hz=10, streams=[wrench])
    samples = Stream(np.zeros((3, 6), np.float32), np.arange(3))
    episode = NewEpisode({"action": np.zeros((2, 2), np.float32)}, streams={"robot0_wrench": samples})
    store.append_episodes([episode])
    store.add_events([Event("takeover", 0, 1, episode=0)])
    export(name, store.path, tmp_path / target)
    assert "the stream 'robot0_wrench', 1 events cannot be exported" in caplog.text


@pytest.mark.parametrize(("name", "target"), FORMATS)
def test_a_failing_export_leaves_nothing(store, tmp_path, name, target):
    (tmp_path / target).write_text("x")
    with pytest.raises(StoreError, match="exists already"):
        export(name, store.path, tmp_path / target)
    (tmp_path / target).unlink()
    block = max((store.path / "data/camera0_rgb").glob("c.*"))
    block.write_bytes(block.read_bytes()[:-40] + bytes(40))
    with pytest.raises(StoreError, match=r"store\.zarr cannot be exported\. .*camera0_rgb"):
        export(name, store.path, tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]
    empty = DemoStore.create(tmp_path / "empty.zarr", SPEC, rate_hz=10)
    with pytest.raises(StoreError, match="it has no episodes"):
        export(name, empty.path, tmp_path / target)


def test_without_h5py_the_extra_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match="formats"):
        robomimic_export.export_store(RobomimicFormatConfig(), store.path, tmp_path / "out.hdf5")


def test_the_human_pusht_demonstrations_and_back(shared_data, tmp_path):
    """The replay buffer that comes out holds what the one that went in held, key by key."""
    source = shared_data / "pusht_columbia" / "pusht_cchi_v7_replay.zarr"
    if not source.is_dir():
        pytest.skip(f"{source} is missing")
    layout = {"state": "state", "keypoint": "keypoint", "n_contacts": "n_contacts", "action": "action"}
    given = DiffusionPolicyFormatConfig(layout=layout)
    store = diffusion_policy.import_store(given, source, tmp_path / "store.zarr")
    path: Path = export("diffusion_policy", store.path, tmp_path / "out.zarr")
    before, after = (zarr.open_group(one, mode="r", zarr_format=2) for one in (source, path))
    for key in [*(f"data/{key}" for key in layout), "meta/episode_ends"]:
        assert before[key].dtype == after[key].dtype
        np.testing.assert_array_equal(before[key][:], after[key][:])
