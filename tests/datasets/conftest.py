"""Stores that the tests of this folder share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, NewEpisode
from robopolicy_datasets.store.blocks import BlockArray

Data = dict[str, np.ndarray]

sys.path.append(str(Path(__file__).parent))  # the parts of the fuzzing import each other in its processes too


@pytest.fixture(scope="session")
def arm_spec() -> Spec:
    """A camera, a position, a scalar and an action."""
    return Spec(
        (
            Feature("camera0_rgb", (6, 8, 3), "uint8", kind="rgb"),
            Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="world"),
            Feature("contact", (), "bool"),
        ),
        (Feature("action", (7,), kind="pose_width", unit="m, rad", frame="world"),),
    )


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Data]:
    """``make_episode(length, seed)``: data that fits ``arm_spec``."""

    def make(length: int, seed: int = 0) -> Data:
        random = np.random.default_rng(seed)
        return {
            "camera0_rgb": random.integers(0, 256, (length, 6, 8, 3), dtype=np.uint8),
            "robot0_eef_pos": random.normal(size=(length, 3)).astype(np.float32),
            "contact": random.integers(0, 2, length).astype(bool),
            "action": random.normal(size=(length, 7)).astype(np.float32),
        }

    return make


@pytest.fixture
def arm_store(tmp_path: Path, arm_spec: Spec, make_episode: Callable[..., Data]) -> DemoStore:
    """Three episodes of 5, 1 and 9 steps."""
    store = DemoStore.create(tmp_path / "arm.zarr", arm_spec, rate_hz=10)
    for number, length in enumerate((5, 1, 9)):
        store.append_episode(make_episode(length, number), EpisodeInfo(task=f"task {number}"))
    return store


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Any, Any], None]:
    """``assert_same(found, expected)``: equal values, shape and dtype for every key."""

    def check(found: Any, expected: Any) -> None:
        assert set(found) == set(expected)
        for key, values in expected.items():
            assert found[key].dtype == values.dtype, key
            np.testing.assert_array_equal(found[key], values, err_msg=key)

    return check


# --- sound recordings and ways to spoil them ----------------------------------------------------------------


@pytest.fixture(scope="session")
def recording_spec() -> Spec:
    """A camera, an arm with a gripper, and a Cartesian action."""
    return Spec(
        (
            Feature("camera0_rgb", (12, 16, 3), "uint8", kind="rgb"),
            Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="world"),
            Feature("robot0_eef_rot_axis_angle", (3,), kind="axis_angle", unit="rad", frame="world"),
            Feature("robot0_joint_pos", (6,), kind="joint", unit="rad"),
            Feature("robot0_gripper_width", (1,), kind="width", unit="m"),
        ),
        (Feature("action", (7,), kind="pose_width", unit="m, rad", frame="world"),),
    )


@pytest.fixture(scope="session")
def record() -> Callable[..., Data]:
    """``record(length, seed)``: smooth motion, a rotation beyond pi, a gripper that closes, a live image."""

    def make(length: int = 40, seed: int = 0) -> Data:
        random = np.random.default_rng(seed)
        phase = np.linspace(0, 3, length)[:, None] + random.uniform(0, 0.3)
        position = 0.4 + 0.2 * np.sin(phase * [1.0, 1.3, 0.7])
        angle = np.pi - 0.5 + 0.3 * phase[:, 0]
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi  # jumps from pi to -pi, which is no motion
        rotation = wrapped[:, None] * np.array([0.0, 0.0, 1.0])
        width = np.where(np.arange(length) < length // 2, 0.08, 0.0)[:, None]
        return {
            "camera0_rgb": random.integers(20, 200, (length, 12, 16, 3), dtype=np.uint8),
            "robot0_eef_pos": position.astype(np.float32),
            "robot0_eef_rot_axis_angle": rotation.astype(np.float32),
            "robot0_joint_pos": np.cos(phase * np.arange(1, 7) / 4).astype(np.float32),
            "robot0_gripper_width": width.astype(np.float32),
            "action": np.concatenate([position, rotation, width], axis=1).astype(np.float32),
        }

    return make


@pytest.fixture
def recording(tmp_path: Path, recording_spec: Spec, record: Callable[..., Data]) -> DemoStore:
    """Seven sound episodes of 40 to 46 steps at 10 Hz."""
    store = DemoStore.create(tmp_path / "recording.zarr", recording_spec, rate_hz=10)
    infos = [EpisodeInfo(task="put it away", operator="ada", success=number != 3) for number in range(7)]
    store.append_episodes([NewEpisode(record(40 + n, n), info) for n, info in enumerate(infos)])
    return store


@pytest.fixture(scope="session")
def spoil() -> Callable[..., DemoStore]:
    """``spoil(store, episode, key, steps, values)``: overwrites steps on disk and opens the store anew.

    ``values`` may be a function of the steps' old values.
    """

    def overwrite(store: DemoStore, episode: int, key: str, steps: slice, values: Any) -> DemoStore:
        rows = store.array(key).copy()
        start = int(store.episode_ends[episode - 1]) if episode else 0
        mine = rows[start : int(store.episode_ends[episode])]
        mine[steps] = values(mine[steps]) if callable(values) else values
        array = BlockArray.open(store.path / "data" / key)
        for path, data in array.extended(0, rows).items():
            path.write_bytes(data)
        return DemoStore.open(store.path)

    return overwrite
