"""Import of robomimic's and ALOHA's HDF5 files: every value, and nothing that a file must not do."""

from __future__ import annotations

import json
import os

import cv2
import h5py
import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, MissingExtraError, StoreError
from robopolicy_datasets.exchange import aloha, robomimic
from robopolicy_datasets.exchange.configs import AlohaFormatConfig, RobomimicFormatConfig
from robopolicy_datasets.exchange.hdf5_reader import Hdf5Reader
from robopolicy_datasets.registry import formats
from robopolicy_datasets.store.codecs import jpeg_size

LENGTHS = {"demo_0": 4, "demo_2": 6, "demo_10": 3}
ENVIRONMENT = {"env_name": "Lift", "env_kwargs": {"control_freq": 20, "reward_shaping": False}}


def demo(name):
    generator, length = np.random.default_rng(LENGTHS[name]), LENGTHS[name]
    return {
        "actions": generator.normal(size=(length, 7)),
        "rewards": np.arange(length) * (name == "demo_2") / length,
        "obs/object": generator.normal(size=(length, 10)).astype(">f4"),
        "obs/agentview_image": generator.integers(0, 256, (length, 6, 8, 3), dtype=np.uint8),
        "next_obs/object": generator.normal(size=(length, 10)),
    }


def write_robomimic(path, change=lambda file: None):
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(ENVIRONMENT)
        for name in LENGTHS:
            group = file["data"].create_group(name)
            group.attrs["num_samples"] = LENGTHS[name]
            group.attrs["model_file"] = "<mujoco/>"
            for key, values in demo(name).items():
                compressed = {"compression": "gzip", "chunks": (2, 6, 8, 3)} if "image" in key else {}
                group.create_dataset(key, data=values, **compressed)
        file["mask/train"] = np.array([b"demo_10", b"demo_0"])
        file["mask/valid"] = np.array([b"demo_2"])
        change(file)
    return path


@pytest.fixture
def lift(tmp_path):
    return write_robomimic(tmp_path / "lift.hdf5")


def test_every_value_of_robomimic_arrives_by_number(lift, tmp_path, assert_same):
    calls = []
    config = RobomimicFormatConfig(operator="human")
    store = formats.build(
        "robomimic", config, lift, tmp_path / "new.zarr", progress=lambda *call: calls.append(call)
    )
    assert (store.rate_hz, calls[-1]) == (20, (3, 3))
    for episode, name in zip(store, LENGTHS, strict=True):
        original = demo(name)
        expected = {
            "action": original["actions"],
            "object": original["obs/object"].astype(np.float32),
            "agentview_image": original["obs/agentview_image"],
        }
        assert_same(episode.data, expected)
        assert episode.info.task == "Lift"
        assert episode.info.operator == "human"
        assert episode.info.success is (name == "demo_2")
    assert store.spec["agentview_image"].kind == "rgb"
    assert store.attributes["masks"] == {"train": [2, 0], "valid": [1]}


def test_a_mask_and_a_layout_choose(lift, tmp_path):
    layout = {"obs/object": {"cube": [0, 3]}, "actions": "action", "rewards": "reward"}
    config = RobomimicFormatConfig(mask="train", layout=layout, rate_hz=10, task="lift the cube")
    store = robomimic.import_store(config, lift, tmp_path / "new.zarr")
    assert (len(store), store.rate_hz, store.episode_info(0).task) == (2, 10, "lift the cube")
    np.testing.assert_array_equal(store.episode(1).data["cube"], demo("demo_10")["obs/object"][:, :3])
    assert store.attributes["masks"] == {"train": [1, 0], "valid": []}


def test_an_action_is_made_of_several_keys_of_the_next_step(lift, tmp_path):
    layout = {"obs/object": "object", "action": ["obs/object", "rewards"]}
    config = RobomimicFormatConfig(layout=layout, next_step=["action"])
    store = robomimic.import_store(config, lift, tmp_path / "new.zarr")
    for episode, name in zip(store, LENGTHS, strict=True):
        parts = np.hstack([demo(name)["obs/object"], demo(name)["rewards"][:, None]])
        np.testing.assert_array_equal(episode.data["action"], [*parts[1:], parts[-1]])
        np.testing.assert_array_equal(episode.data["object"], parts[:, :10].astype(np.float32))


def test_keys_of_unequal_lengths_are_not_joined(tmp_path):
    def shorten(file):
        del file["data/demo_2/rewards"]
        file["data/demo_2/rewards"] = np.zeros(3)

    source = write_robomimic(tmp_path / "lift.hdf5", shorten)
    config = RobomimicFormatConfig(layout={"action": ["obs/object", "rewards"]})
    with pytest.raises(StoreError, match=r"In demo_2: 'rewards' has 3 steps where others .* have 6"):
        robomimic.import_store(config, source, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()


def test_success_is_an_attribute_or_not_known(tmp_path):
    def change(file):
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"reward_shaping": True}})
        file["data/demo_2"].attrs["success"] = False

    source = write_robomimic(tmp_path / "lift.hdf5", change)
    store = robomimic.import_store(RobomimicFormatConfig(rate_hz=10), source, tmp_path / "new.zarr")
    assert [store.episode_info(index).success for index in range(3)] == [None, False, None]


def test_groups_that_are_no_demos_are_told(tmp_path, caplog):
    source = write_robomimic(tmp_path / "lift.hdf5", lambda file: file["data"].create_group("dem_3"))
    assert len(robomimic.import_store(RobomimicFormatConfig(), source, tmp_path / "new.zarr")) == 3
    assert "data holds dem_3, which are no demos" in caplog.text


BAD_CONFIGS = {
    "an unknown mask": ({"mask": "trian"}, "has no filter mask/trian. It has: train, valid"),
    "an unknown source": (
        {"layout": {"obs/objects": "x"}},
        "source key 'obs/objects'. The store has: obs/obj",
    ),
    "no action": ({"layout": {"obs/object": "x"}}, "no 'action'"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_config_that_does_not_fit_is_named(lift, tmp_path, case):
    settings, message = BAD_CONFIGS[case]
    with pytest.raises(ConfigError, match=message):
        robomimic.import_store(RobomimicFormatConfig(**settings), lift, tmp_path / "new.zarr")


def replace(file, key, values, **settings):
    del file[key]
    file.create_dataset(key, data=values, **settings)


def put_in_other_files(file):
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_dataset(
        "actions", (4, 7), "f8", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    )


def make_virtual(file):
    layout = h5py.VirtualLayout((4, 7), "f8")
    layout[:] = h5py.VirtualSource("other.hdf5", "actions", (4, 7))
    del file["data/demo_0/actions"]
    file.create_virtual_dataset("data/demo_0/actions", layout)


def make_link(file, link):
    del file["data/demo_0/actions"]
    file["data/demo_0/actions"] = link


def never_written(file, **settings):
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_dataset("actions", (4, 7), "f8", **settings)


ACTIONS = "data/demo_0/actions"
HOSTILE = {
    "an external link": (lambda file: make_link(file, h5py.ExternalLink("x.h5", "/a")), "it is a link"),
    "a soft link": (lambda file: make_link(file, h5py.SoftLink("/data/demo_2/actions")), "it is a link"),
    "a demo that is a link": (
        lambda file: file.__setitem__("data/demo_3", h5py.ExternalLink("x.h5", "/data/demo_0")),
        "data/demo_3 cannot be read: it is a link",
    ),
    "data in other files": (put_in_other_files, "its data lie in other files"),
    "a virtual dataset": (make_virtual, "its data lie in other files"),
    "texts": (lambda file: replace(file, ACTIONS, ["a", "b"]), "it holds object, not numbers"),
    "structures": (
        lambda file: replace(file, ACTIONS, np.zeros(4, [("a", "f4")])),
        "not numbers",
    ),
    "a scalar": (lambda file: replace(file, ACTIONS, 1.0), "expected is one row a step"),
    "another filter": (
        lambda file: replace(file, ACTIONS, np.zeros((4, 7), int), scaleoffset=0, chunks=(4, 7)),
        r"it uses the filters \[6\]; allowed are deflate",
    ),
    "values never written": (never_written, "never written"),
    "chunks never written": (
        lambda file: never_written(file, chunks=(1, 7)) or file[ACTIONS].__setitem__(0, 1.0),
        "3 of its 4 chunks were never written",
    ),
    "a size that is not stored": (
        lambda file: (
            never_written(file, chunks=(1, 7), maxshape=(None, 7)) or file[ACTIONS].resize((10**9, 7))
        ),
        "declares 56000000000 bytes but 0 are stored",
    ),
    "absurd chunks": (
        lambda file: never_written(file, chunks=(1 << 22, 70), maxshape=(None, 70)),
        "never written",
    ),
    "fewer actions than samples": (
        lambda file: replace(file, ACTIONS, np.zeros((3, 7))),
        "In demo_0: num_samples is 4 but there are 3 actions",
    ),
    "keys of different lengths": (
        lambda file: replace(file, "data/demo_2/obs/object", np.zeros((5, 10), ">f4")),
        "the same number of steps",
    ),
    "another width": (
        lambda file: replace(file, "data/demo_2/obs/object", np.zeros((6, 11), ">f4")),
        r"In demo_2: 'obs/object' is float32\[11\] a step, but float32\[10\] in the first episode",
    ),
    "a key that is missing": (
        lambda file: file.__delitem__("data/demo_10/obs/object"),
        "In demo_10: 'obs/object' is missing",
    ),
    "NaN": (lambda file: file["data/demo_2/actions"].__setitem__((3, 1), np.nan), "Episode 1.*not finite"),
    "no actions": (lambda file: file.__delitem__(ACTIONS), "first demo has no 'actions'"),
    "no demos": (lambda file: file.__delitem__("data"), "is not a robomimic file"),
    "an environment that is not JSON": (
        lambda file: file["data"].attrs.__setitem__("env_args", "{"),
        "env_args .* is not JSON",
    ),
    "an environment that is no text": (
        lambda file: file["data"].attrs.__setitem__("env_args", np.zeros(3)),
        "the attribute 'env_args' is a ndarray",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_file_is_refused(tmp_path, case):
    change, message = HOSTILE[case]
    source = write_robomimic(tmp_path / "lift.hdf5", change)
    with pytest.raises(StoreError, match=message) as caught:
        robomimic.import_store(RobomimicFormatConfig(rate_hz=10), source, tmp_path / "new.zarr")
    assert "lift.hdf5" in str(caught.value)
    assert not (tmp_path / "new.zarr").exists()


# --- ALOHA --------------------------------------------------------------------------------------------------

CAMERAS = ("cam_high", "cam_wrist")  # recorded in another order than HDF5 lists them


def recording(steps, seed):
    generator = np.random.default_rng(seed)
    smooth = np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3)
    images = np.stack([np.roll(smooth, seed + step, axis=2) for step in range(steps)]).astype(np.uint8)
    return {
        "action": generator.normal(size=(steps, 14)),
        "observations/qpos": generator.normal(size=(steps, 14)),
        "observations/qvel": generator.normal(size=(steps, 14)),
        **{f"observations/images/{name}": np.roll(images, number, 1) for number, name in enumerate(CAMERAS)},
    }


def write_aloha(path, steps, seed, *, compress, change=lambda file: None):
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = not compress, compress
        data = recording(steps, seed)
        lengths = np.zeros((len(CAMERAS), steps))
        for key, values in data.items():
            if compress and "images" in key:
                encoded = [cv2.imencode(".jpg", image[..., ::-1])[1] for image in values]
                row = len(CAMERAS) - 1 - CAMERAS.index(key.rpartition("/")[2])
                lengths[row] = [len(image) for image in encoded]
                values = np.zeros((steps, max(map(len, encoded)) + 9), np.uint8)
                for number, image in enumerate(encoded):
                    values[number, : len(image)] = image
                file.create_dataset(key, data=values, chunks=(1, values.shape[1]))
            else:
                file[key] = values
        if compress:
            file["compress_len"] = lengths
        change(file)
    return path


@pytest.fixture(params=[False, True], ids=["raw", "jpeg"])
def recordings(request, tmp_path):
    folder = tmp_path / "transfer"
    folder.mkdir()
    for number, steps in ((0, 3), (2, 5), (10, 2)):
        write_aloha(folder / f"episode_{number}.hdf5", steps, number, compress=request.param)
    (folder / "notes.txt").write_text("x")
    return folder, request.param


def test_every_value_of_aloha_arrives_by_number(recordings, tmp_path):
    folder, compress = recordings
    config = AlohaFormatConfig(task="transfer the cube")
    store = formats.build("aloha", config, folder, tmp_path / "new.zarr")
    assert (store.rate_hz, store.attributes["sim"]) == (50, not compress)
    assert (store.episode_info(0).task, store.episode_info(0).embodiment) == ("transfer the cube", "aloha")
    for episode, (number, steps) in zip(store, ((0, 3), (2, 5), (10, 2)), strict=True):
        original = recording(steps, number)
        assert set(episode.data) == {key.rpartition("/")[2] for key in original}
        for key, values in original.items():
            found = episode.data[key.rpartition("/")[2]]
            if compress and "images" in key:
                error = np.abs(found.astype(int) - values)
                assert found.shape == values.shape
                assert error.mean() < 20, key  # red and blue exchanged would give over 80
            else:
                np.testing.assert_array_equal(found, values)
    assert store.spec["cam_high"].kind == "rgb"


def test_jpeg_images_arrive_as_their_decoder_gives_them(tmp_path):
    source = write_aloha(tmp_path / "episode_0.hdf5", 3, 1, compress=True)
    layout = {"observations/images/cam_high": "camera0_rgb", "action": "action"}
    for swap in (False, True):
        config = AlohaFormatConfig(layout=layout, swap_red_blue=swap)
        store = aloha.import_store(config, source, tmp_path / f"{swap}.zarr")
        with h5py.File(source) as file:
            rows = file["observations/images/cam_high"][:]
        decoded = np.stack([cv2.imdecode(row, cv2.IMREAD_COLOR) for row in rows])
        expected = decoded if swap else decoded[..., ::-1]
        np.testing.assert_array_equal(store.array("camera0_rgb"), expected)


def cut_off(file):
    rows = file["observations/images/cam_high"]
    row = rows[1]
    row[np.flatnonzero(row)[-40] :] = 0
    rows[1] = row


def other_size(file):
    rows = file["observations/images/cam_high"]
    encoded = cv2.imencode(".jpg", np.zeros((8, 24, 3), np.uint8))[1]
    rows[1] = np.pad(encoded, (0, rows.shape[1] - len(encoded)))
    file["compress_len"][:, 1] = len(encoded)


BAD_ALOHA = {
    "an image cut off": (cut_off, "row 1 of 'observations/images/cam_high' .* compress_len does not say"),
    "an image cut off that nothing tells of": (
        lambda file: file.__delitem__("compress_len") or cut_off(file),
        "row 1 of 'observations/images/cam_high' .* is cut off",
    ),
    "an image of another size": (other_size, "is cut off, or not 16 x 24"),
    "no image": (
        lambda file: file["observations/images/cam_high"].__setitem__(0, 1),
        "row 0 of 'observations/images/cam_high' .* is no JPEG image",
    ),
    "lengths of another shape": (
        lambda file: replace(file, "compress_len", np.zeros(3)),
        r"compress_len has the shape \[3\]",
    ),
    "no action": (lambda file: file.__delitem__("action"), "there is no 'action'"),
    "no observations": (lambda file: file.__delitem__("observations"), "is not an ALOHA recording"),
    "a linked camera": (
        lambda file: file.__setitem__("observations/images/cam_left", h5py.ExternalLink("x.h5", "/a")),
        "'observations/images/cam_left' cannot be read: it is a link",
    ),
}


@pytest.mark.parametrize("case", BAD_ALOHA)
def test_a_damaged_recording_is_refused(tmp_path, case):
    change, message = BAD_ALOHA[case]
    source = write_aloha(tmp_path / "episode_0.hdf5", 3, 0, compress=True, change=change)
    with pytest.raises(StoreError, match=message) as caught:
        aloha.import_store(AlohaFormatConfig(), source, tmp_path / "new.zarr")
    assert "episode_0.hdf5" in str(caught.value)
    assert not (tmp_path / "new.zarr").exists()


def test_a_folder_of_recordings_is_checked(recordings, tmp_path):
    folder, compress = recordings
    with pytest.raises(StoreError, match="holds no ALOHA recordings"):
        aloha.import_store(AlohaFormatConfig(), tmp_path, tmp_path / "new.zarr")
    outside = write_aloha(tmp_path / "outside.hdf5", 2, 1, compress=compress)
    (folder / "episode_3.hdf5").symlink_to(outside)
    with pytest.raises(StoreError, match="link that leaves the folder"):
        aloha.import_store(AlohaFormatConfig(), folder, tmp_path / "new.zarr")
    (folder / "episode_3.hdf5").unlink()
    os.mkfifo(folder / "episode_3.hdf5")
    with pytest.raises(StoreError, match=r"There is no HDF5 file at .*episode_3"):
        aloha.import_store(AlohaFormatConfig(), folder, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()


def test_the_size_of_a_jpeg_is_known_before_it_is_decoded():
    for settings in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]):
        encoded = cv2.imencode(".jpg", np.zeros((24, 40, 3), np.uint8), settings)[1].tobytes()
        assert jpeg_size(encoded) == (24, 40)
    for damaged in (b"\xff\xd8\xff\xe0\x00\x00" + bytes(20), encoded[:20], b""):
        with pytest.raises(ValueError, match=r".+"):
            jpeg_size(damaged)


# --- the process that reads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("importer", [robomimic, aloha])
def test_without_h5py_the_extra_is_named(lift, tmp_path, monkeypatch, importer):
    monkeypatch.setattr("robopolicy_datasets.exchange.hdf5_reader.find_spec", lambda name: None)
    config = RobomimicFormatConfig() if importer is robomimic else AlohaFormatConfig()
    with pytest.raises(MissingExtraError, match="formats"):
        importer.import_store(config, lift, tmp_path / "new.zarr")


FAULTS = {
    "c._File.open = lambda self, path: [None for _ in iter(int, 1)]": "does not come to an end",
    "import os; c._File.open = lambda self, path: os.abort()": "crashes over it, code -6",
    "c._File.open = lambda self, path: bytearray(1 << 40)": "cannot be read: MemoryError",
    "c._File.open = lambda self, path: 1 / 0": "crashes over it, code 1",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_library_that_hangs_or_crashes_is_an_error(lift, monkeypatch, fault):
    command = f"from robopolicy_datasets.exchange import hdf5_child as c; {fault}; c.main()"
    monkeypatch.setattr("robopolicy_datasets.exchange.hdf5_reader._COMMAND", command)
    with Hdf5Reader(answer_seconds=1) as reader, pytest.raises(StoreError, match=FAULTS[fault]) as caught:
        reader.open(lift)
    assert "lift.hdf5" in str(caught.value)
