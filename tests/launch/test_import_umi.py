"""From UMI's zip to a trained policy, with the layout preset."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest
import zarr

from robopolicy_datasets.store import DemoStore
from robopolicy_launch import command

ENDS = np.array([40, 70, 120])


def arrays():
    """Smooth motion of one hand, as UMI stores it."""
    time = np.linspace(0, 8, ENDS[-1])[:, None]
    pixels = time[:, :, None, None] + np.linspace(0, 6, 32)[:, None, None] + np.linspace(0, 3, 32)[:, None]
    pose = np.hstack([0.4 + 0.2 * np.sin(time * [1, 1.3, 0.7]), 0.3 * np.sin(time * [0.5, 1.1, 0.9])])
    return {
        "camera0_rgb": (128 + 100 * np.sin(pixels * [1, 0.5, 0.2])).astype(np.uint8),
        "robot0_eef_pos": pose[:, :3].astype(np.float32),
        "robot0_eef_rot_axis_angle": pose[:, 3:].astype(np.float32),
        "robot0_gripper_width": (0.04 + 0.04 * np.sin(time)).astype(np.float32),
        "robot0_demo_start_pose": np.repeat(pose[:1], len(pose), axis=0),
        "robot0_demo_end_pose": np.repeat(pose[-1:], len(pose), axis=0),
    }


@pytest.fixture
def umi(tmp_path):
    """``dataset.zarr.zip``, written by zarr and imagecodecs as UMI writes it."""
    from imagecodecs.numcodecs import Jpegxl

    numcodecs.register_codec(Jpegxl)
    path = tmp_path / "dataset.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w") as files:
        group = zarr.open_group(files, mode="w", zarr_format=2)
        for key, values in arrays().items():
            image = values.ndim == 4
            group.create_array(
                f"data/{key}",
                shape=values.shape,
                dtype=values.dtype,
                chunks=(1, *values.shape[1:]) if image else values.shape,
                compressors=Jpegxl(lossless=True) if image else None,
            )[:] = values
        group.create_array("meta/episode_ends", data=ENDS, compressors=None)
    return path


def test_a_zip_of_umi_becomes_a_store_that_a_policy_learns_from(umi, tmp_path, capsys):
    target = tmp_path / "umi.zarr"
    assert command.main(["data", "import", str(umi), str(target), "layout=umi", "format.task=wave"]) == 0
    store, original = DemoStore.open(target), arrays()
    parts = ["robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width"]
    assert store.keys() == ["camera0_rgb", *parts, "action"]
    for key in ("camera0_rgb", *parts):
        np.testing.assert_array_equal(store.array(key), original[key])
    reached = np.concatenate([original[key] for key in parts], axis=1)
    following = np.minimum(np.arange(ENDS[-1]) + 1, np.repeat(ENDS, np.diff(ENDS, prepend=0)) - 1)
    np.testing.assert_array_equal(store.array("action"), reached[following])
    action = store.spec["action"]
    assert (action.kind, action.unit, action.dtype) == ("pose_width", "m, rad", "float32")
    assert (store.rate_hz, store.episode_info(2).embodiment) == (59.94, "umi")

    words = ["recipe=none", "trainer.steps=2", "trainer.batch_size=8", "policy.observation_steps=2"]
    words += ["policy.pose_representation=relative", f"runs={tmp_path}"]
    assert command.main(["train", f"data={target}", *words]) == 0
    assert "train_loss" in capsys.readouterr().out


def test_the_preset_is_only_a_beginning(umi, tmp_path):
    """Single settings after it: another rate, UMI's own alignment, one more key."""
    words = ["layout=umi", "format.rate_hz=60", "format.next_step=[]"]
    words += ["format.layout.robot0_demo_start_pose=robot0_demo_start_pose"]
    assert command.main(["data", "import", str(umi), str(tmp_path / "umi.zarr"), *words]) == 0
    store, original = DemoStore.open(tmp_path / "umi.zarr"), arrays()
    np.testing.assert_array_equal(store.array("action")[:, :3], original["robot0_eef_pos"])
    start = "robot0_demo_start_pose"
    np.testing.assert_array_equal(store.array(start), original[start])
    assert store.rate_hz == 60
