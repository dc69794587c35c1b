"""Pick and place seen without cameras: where cube and pad are is measured, as by a motion capture system."""

from __future__ import annotations

import gymnasium
import numpy as np

from robopolicy_datasets.geometry import matrix_to_axis_angle
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_sim.tasks.common import feature_space
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.manipulation import RATE_HZ, Observation
from robopolicy_sim.tasks.pick_place import PickPlaceEnv

OBJECTS = tuple(
    Feature(key, (3,), kind=kind, unit=unit, rate_hz=RATE_HZ, frame="world")
    for key, kind, unit in (
        ("cube_pos", "position", "m"),
        ("cube_rot_axis_angle", "axis_angle", "rad"),
        ("pad_pos", "position", "m"),
    )
)


class PickPlaceStateEnv(PickPlaceEnv):
    """As ``PickPlaceEnv``, with the places of cube and pad in place of the images."""

    def __init__(self, config: PickPlaceConfig | None = None, render_mode: str | None = None) -> None:
        super().__init__(config, render_mode)
        measured = tuple(feature for feature in self.data_spec.observation if not feature.is_image)
        self.data_spec = Spec((*measured, *OBJECTS), self.data_spec.action)
        self.observation_space = gymnasium.spaces.Dict(
            {feature.key: feature_space(feature) for feature in self.data_spec.observation}
        )

    def _state(self) -> Observation:
        cube = self.scene.cube_pose
        objects = (cube[:3, 3], matrix_to_axis_angle(cube[:3, :3]), self.scene.pad_position)
        pairs = zip(OBJECTS, objects, strict=True)
        return {
            **super()._state(),
            **{feature.key: np.asarray(value, np.float32) for feature, value in pairs},
        }
