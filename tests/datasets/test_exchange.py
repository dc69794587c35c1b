"""Import of diffusion_policy stores: every value, and nothing that a store must not do."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
import zarr

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.diffusion_policy import import_store
from robopolicy_datasets.registry import formats
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store import DemoStore

ENDS = np.array([4, 5, 17, 30])
PUSHT = {
    "layout": {
        "img": "camera0_rgb",
        "state": {"agent_pos": [0, 2], "block_pos": [2, 4], "block_angle": [4, 5]},
        "action": "action",
    },
    "features": {
        "camera0_rgb": {"kind": "rgb"},
        "agent_pos": {"kind": "position", "unit": "px"},
        "block_pos": {"kind": "position", "unit": "px"},
        "block_angle": {"kind": "angle", "unit": "rad"},
        "action": {"kind": "position", "unit": "px"},
    },
}


def arrays(rows=30):
    random = np.random.default_rng(0)
    return {
        "img": random.integers(0, 256, (rows, 6, 6, 3)).astype(np.float32),
        "state": random.normal(size=(rows, 5)).astype(np.float32),
        "action": random.normal(size=(rows, 2)).astype(np.float32),
        "n_contacts": np.zeros((rows, 1), np.float32),
    }


@pytest.fixture(params=[2, 3])
def source(request, tmp_path):
    return write(tmp_path / "source.zarr", arrays(), ENDS, request.param)


def write(path, data, ends, zarr_format=2):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for key, values in data.items():
        group.create_array(f"data/{key}", data=values, chunks=(7, *values.shape[1:]))
    group.create_array("meta/episode_ends", data=np.asarray(ends))
    return path


def test_every_value_and_boundary_arrives(source, tmp_path):
    calls = []
    config = DiffusionPolicyFormatConfig(rate_hz=10, task="push the T", operator="human", **PUSHT)
    store = formats.build(
        "diffusion_policy", config, source, tmp_path / "new.zarr", progress=lambda *call: calls.append(call)
    )
    assert store.path == tmp_path / "new.zarr"
    assert calls[-1] == (4, 4)
    np.testing.assert_array_equal(store.episode_ends, ENDS)
    original = arrays()
    expected = {
        "camera0_rgb": original["img"],
        "agent_pos": original["state"][:, :2],
        "block_pos": original["state"][:, 2:4],
        "block_angle": original["state"][:, 4:5],
        "action": original["action"],
    }
    assert store.keys() == list(expected)
    for key, values in expected.items():
        np.testing.assert_array_equal(store.array(key), values)
    assert (store.spec["camera0_rgb"].dtype, store.spec["block_angle"].kind) == ("uint8", "angle")
    assert (store.spec["agent_pos"].unit, store.rate_hz) == ("px", 10)
    assert (store.episode_info(3).task, store.episode_info(3).operator) == ("push the T", "human")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new.zarr", "source.zarr"]


def test_without_a_layout_every_key_is_kept(source, tmp_path):
    store = import_store(DiffusionPolicyFormatConfig(), source, tmp_path / "new.zarr")
    for key, values in arrays().items():
        assert store.array(key).dtype == values.dtype
        np.testing.assert_array_equal(store.array(key), values)


def test_such_a_store_opens_in_place_read_only(source):
    store = DemoStore.open(source)
    assert (len(store), store.num_steps, store.rate_hz) == (4, 30, 0)
    assert store.spec.action[0].key == "action"
    assert store.episode(1).time_ns is None
    np.testing.assert_array_equal(store.episode(2).data["state"], arrays()["state"][5:17])
    np.testing.assert_array_equal(store.array("img"), arrays()["img"])
    with pytest.raises(StoreError, match="robopolicy data import"):
        DemoStore.open(source, "a")


def test_umi_keys_are_understood(tmp_path):
    data = {
        "camera0_rgb": np.zeros((3, 4, 4, 3), np.uint8),
        "robot0_eef_rot_axis_angle": np.zeros((3, 3)),
        "robot0_gripper_width": np.zeros((3, 1)),
        "action": np.zeros((3, 2)),
    }
    spec = DemoStore.open(write(tmp_path / "umi.zarr", data, [3])).spec
    kinds = [spec[key].kind for key in data]
    assert kinds == ["rgb", "axis_angle", "width", "generic"]


BAD_LAYOUTS = {
    "an unknown source": ({"layout": {"image": "camera0_rgb"}}, "source key 'image'. The store has: img"),
    "columns beyond the end": ({"layout": {"state": {"a": [3, 6]}}}, r"columns \[3, 6\] of 'state'.*<= 5"),
    "columns that are none": ({"layout": {"state": {"a": "all"}}}, "'all'"),
    "an unknown source in a list": (
        {"layout": {"action": ["state", "acton"]}},
        "source key 'acton'. The store has: action",
    ),
    "a list of nothing": ({"layout": {"action": []}}, r"maps 'action' to \[\]"),
    "a next step of nothing": ({"next_step": ["actoin"]}, "next_step names 'actoin'.* only action"),
    "a destination that is none": ({"layout": {"state": 3}}, "maps 'state' to 3"),
    "no action": ({"layout": {"state": "state"}}, "makes state but no 'action'"),
    "a key made twice": ({"layout": {"state": "action", "action": "action"}}, "more than once: action"),
    "a description of nothing": ({"features": {"actoin": {"unit": "m"}}}, "'actoin'.* only action"),
    "an unknown description": ({"features": {"action": {"units": "m"}}}, "allowed are kind, unit"),
    "an unknown kind": ({"features": {"action": {"kind": "positoin"}}}, "Allowed: position"),
}


@pytest.mark.parametrize("case", BAD_LAYOUTS)
def test_a_bad_layout_is_named(tmp_path, case):
    settings, message = BAD_LAYOUTS[case]
    source = write(tmp_path / "source.zarr", arrays(), ENDS)
    with pytest.raises(ConfigError, match=message):
        import_store(DiffusionPolicyFormatConfig(**settings), source, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()


def test_a_key_can_be_made_of_several_and_of_the_next_step(source, tmp_path):
    """``action`` beside its parts, and over the borders of batches and episodes."""
    layout = {"state": "state", "action": ["state", "n_contacts", "action"]}
    config = DiffusionPolicyFormatConfig(layout=layout, next_step=["action"])
    store = import_store(config, source, tmp_path / "new.zarr")
    original = arrays()
    parts = np.concatenate([original[key] for key in layout["action"]], axis=1)
    assert store.spec.action == (Feature("action", (8,), "float32"),)
    for episode in store:
        stop = int(ENDS[episode.index])
        mine = parts[stop - episode.length : stop]
        np.testing.assert_array_equal(episode.data["action"], [*mine[1:], mine[-1]])
        np.testing.assert_array_equal(episode.data["state"], mine[:, :5])


def test_what_is_joined_takes_the_widest_type_and_flat_numbers(tmp_path):
    data = {"a": np.arange(6, dtype=np.int16), "b": np.ones((6, 2, 2)), "c": np.full((6, 1), 0.1, np.float32)}
    source = write(tmp_path / "source.zarr", data, [6])
    settings = {"layout": {"action": ["a", "b", "c"]}}
    store = import_store(DiffusionPolicyFormatConfig(**settings), source, tmp_path / "new.zarr")
    expected = np.concatenate([data[key].reshape(6, -1).astype(np.float64) for key in "abc"], axis=1)
    assert store.array("action").dtype == np.float64
    np.testing.assert_array_equal(store.array("action"), expected)


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, np.nan])
def test_pixels_that_are_no_bytes_are_refused(tmp_path, value):
    data = arrays()
    data["img"][13, 2, 3, 1] = value
    source = write(tmp_path / "source.zarr", data, ENDS)
    with pytest.raises(StoreError, match="in row 13 a value is not a whole number from 0 to 255"):
        import_store(DiffusionPolicyFormatConfig(**PUSHT), source, tmp_path / "new.zarr")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source.zarr"]


def test_nan_actions_are_refused(tmp_path):
    data = arrays()
    data["action"][6, 0] = np.nan
    with pytest.raises(
        StoreError, match=r"source\.zarr cannot be imported\. Episode 2: 'action' is not finite.*step 1"
    ):
        import_store(
            DiffusionPolicyFormatConfig(), write(tmp_path / "source.zarr", data, ENDS), tmp_path / "new.zarr"
        )


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_by_link(path, destination):
    path.unlink()
    path.symlink_to(destination)


HOSTILE = {
    "code in a filter": (
        lambda path: edit(path / "data/action/.zarray", filters=[{"id": "pickle"}]),
        "codec pickle, which is not read",
    ),
    "objects": (lambda path: edit(path / "data/action/.zarray", dtype="|O"), "not a number's"),
    "structures": (lambda path: edit(path / "data/action/.zarray", dtype=[["a", "<f4"]]), "not a number's"),
    "an absurd length": (
        lambda path: edit(path / "data/action/.zarray", shape=[10**15, 2]),
        "metadata is damaged",
    ),
    "an absurd chunk": (
        lambda path: edit(path / "data/action/.zarray", chunks=[10**12, 2]),
        "at most 1073741824 are read",
    ),
    "a size below zero": (lambda path: edit(path / "data/action/.zarray", shape=[-3, 2]), "not allowed"),
    "a link to a file outside": (
        lambda path: replace_by_link(path / "data/action/0.0", "/etc/hostname"),
        "link that leaves the store",
    ),
    "a folder linked from outside": (
        lambda path: (path / "data" / "evil").symlink_to(path.parent),
        "link that leaves the store",
    ),
    "ends beyond the data": (
        lambda path: write(path, arrays(), [4, 31]),
        "has 30 steps but meta/episode_ends says 31",
    ),
    "ends that are no integers": (lambda path: write(path, arrays(), [1.5, 30.0]), "expected are integers"),
    "no ends": (lambda path: (path / "meta/episode_ends/.zarray").unlink(), "not a diffusion_policy store"),
    "bytes that are no zstd": (
        lambda path: (path / "data/action/0.0").write_bytes(os.urandom(50)),
        "action cannot be decoded",
    ),
    "a codec's settings that are none": (
        lambda path: edit(path / "data/action/.zarray", filters=[{"id": "delta", "configuration": "x"}]),
        "metadata that cannot be understood",
    ),
    "bytes that are no zlib": (
        lambda path: edit(path / "data/action/.zarray", compressor={"id": "zlib", "level": 1}),
        "action cannot be decoded",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_store_is_refused(tmp_path, case):
    change, message = HOSTILE[case]
    source = write(tmp_path / "source.zarr", arrays(), ENDS)
    change(source)
    with pytest.raises(StoreError, match=message):
        import_store(DiffusionPolicyFormatConfig(**PUSHT), source, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()


def test_rows_after_the_last_episode_are_told_and_left_out(tmp_path, caplog):
    source = write(tmp_path / "source.zarr", arrays(), ENDS[:-1])
    store = import_store(DiffusionPolicyFormatConfig(**PUSHT), source, tmp_path / "new.zarr")
    assert store.num_steps == 17
    assert "13 rows of 'action' after the last episode are ignored" in caplog.text


def test_chunks_that_are_not_there_are_told(tmp_path, caplog):
    source = write(tmp_path / "source.zarr", arrays(), ENDS)
    chunks = sorted((source / "data" / "action").glob("[0-9]*"))
    chunks[1].unlink()
    store = import_store(DiffusionPolicyFormatConfig(**PUSHT), source, tmp_path / "new.zarr")
    zeros = np.flatnonzero((store.array("action") == 0).all(axis=1))
    told = f"{len(zeros)} of 30 rows of 'action' have no file"
    assert f"{told} and are read as its fill value (the first: {zeros[0]} to {zeros[-1]})" in caplog.text
    assert "agent_pos" not in caplog.text


def test_what_a_killed_import_left_goes_with_the_next(source, tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    pids = (process.pid, os.getppid())
    leftover, running = (tmp_path / f".new.zarr.{pid}.partial" for pid in pids)
    unborn, created = (
        tmp_path / f".{folder.name}.{pid}.new" for folder, pid in zip((leftover, running), pids, strict=True)
    )
    for folder in (leftover, running, unborn, created):
        folder.mkdir()
    import_store(DiffusionPolicyFormatConfig(**PUSHT), source, tmp_path / "new.zarr")
    assert not leftover.exists()
    assert not unborn.exists()
    assert created.exists()
    assert running.exists()


def test_source_and_target_are_checked(source, tmp_path):
    config = DiffusionPolicyFormatConfig(**PUSHT)
    with pytest.raises(StoreError, match="no demo store at"):
        import_store(config, tmp_path / "nowhere", tmp_path / "new.zarr")
    with pytest.raises(StoreError, match="not a diffusion_policy store"):
        import_store(config, tmp_path, tmp_path / "new.zarr")
    imported = import_store(config, source, tmp_path / "new.zarr")
    with pytest.raises(StoreError, match="exists already"):
        import_store(config, source, imported.path)
    with pytest.raises(StoreError, match="needs no import"):
        import_store(config, imported.path, tmp_path / "newer.zarr")


def test_the_human_pusht_demonstrations(shared_data, tmp_path):
    source = shared_data / "pusht_columbia" / "pusht_cchi_v7_replay.zarr"
    if not source.is_dir():
        pytest.skip(f"{source} is missing")
    store = import_store(DiffusionPolicyFormatConfig(**PUSHT), source, tmp_path / "pusht.zarr")
    original = zarr.open_group(source, mode="r", zarr_format=2)
    assert (len(store), store.num_steps) == (206, 25_650)
    np.testing.assert_array_equal(store.episode_ends, original["meta/episode_ends"][:])
    state = original["data/state"][:]
    for key, columns in PUSHT["layout"]["state"].items():
        np.testing.assert_array_equal(store.array(key), state[:, slice(*columns)])
    np.testing.assert_array_equal(store.array("action"), original["data/action"][:])
    images = store.array("camera0_rgb")
    assert images.dtype == np.uint8
    for first in range(0, 25_650, 161 * 8):  # the whole as float32 would take 2.8 GB
        expected = original["data/img"][first : first + 161 * 8]
        np.testing.assert_array_equal(images[first : first + 161 * 8], expected)
