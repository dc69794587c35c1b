"""What the tests of the learning floor share: tiny Specs, policies and stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robopolicy.policies.configs import (
    ChunkPolicyConfig,
    DiffusionConfig,
    FlowConfig,
    ImageEncoderConfig,
    MlpConfig,
    TransformerConfig,
    UnetConfig,
)
from robopolicy_datasets.language import language_feature
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore

POSE = (
    Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="world"),
    Feature("robot0_eef_rot_axis_angle", (3,), kind="axis_angle", unit="rad", frame="world"),
    Feature("robot0_gripper_width", (1,), kind="width", unit="m"),
)
POSE_ACTION = Feature("action", (7,), kind="pose_width", unit="m, rad", frame="world")
ARM_SPEC = Spec(POSE, (POSE_ACTION,))
PLANE_SPEC = Spec(
    (
        Feature("agent_pos", (2,), kind="position", unit="px"),
        Feature("block_angle", (1,), kind="angle", unit="rad"),
    ),
    (Feature("action", (2,), kind="position", unit="px"),),
)
IMAGE_SPEC = Spec(
    (Feature("camera0_rgb", (16, 16, 3), "uint8", "rgb"), PLANE_SPEC["agent_pos"]), PLANE_SPEC.action
)
FELT_SPEC = Spec(
    (
        PLANE_SPEC["agent_pos"],
        Feature("robot0_wrench", (10, 6), kind="wrench", unit="N, N m"),
        language_feature(size=16),
    ),
    PLANE_SPEC.action,
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny nets are fastest on one thread, and the bits do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(config_class: type[ChunkPolicyConfig], **settings: Any) -> Any:
    """Returns the settings of a policy that trains in a moment; sizes of what it lacks are left out."""
    defaults: dict[str, Any] = {
        "horizon": 8,
        "action_steps": 4,
        "encoder": ImageEncoderConfig(channels=[8], features=16),
        "unet": UnetConfig(channels=[32, 64], kernel_size=3, groups=4, embedding=32),
        "mlp": MlpConfig(width=96, blocks=2, embedding=32),
        "transformer": TransformerConfig(width=32, layers=2, heads=2, embedding=32),
    }
    known = {field.name for field in dataclasses.fields(config_class)}
    return config_class(**{name: value for name, value in defaults.items() if name in known} | settings)


CONFIGS = {"diffusion": DiffusionConfig, "flow": FlowConfig}


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., DemoStore]:
    """Builds a store of smooth random motions in the plane or of an arm."""

    def make(
        name: str = "demos.zarr",
        *,
        episodes: int = 6,
        steps: int = 30,
        spec: Spec = PLANE_SPEC,
        seed: int = 0,
    ) -> DemoStore:
        store = DemoStore.create(tmp_path / name, spec, rate_hz=10.0)
        for index in range(episodes):
            store.append_episode(episode(spec, steps, seed=index))
        return store

    return make


def episode(spec: Spec, steps: int, *, seed: int) -> dict[str, np.ndarray]:
    """Returns one episode of slow random walks for every feature."""
    rng = np.random.default_rng(seed)
    data = {}
    for feature in spec.features:
        shape = (steps, *feature.shape)
        if feature.is_image:
            data[feature.key] = rng.integers(0, 256, shape).astype(np.uint8)
        else:
            data[feature.key] = (np.cumsum(rng.normal(0, 0.05, shape), axis=0)).astype(feature.dtype)
    return data
