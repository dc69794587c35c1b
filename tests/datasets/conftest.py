"""Stores that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo

Data = dict[str, np.ndarray]


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
