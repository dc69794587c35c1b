"""Meta-World in one Gymnasium environment that obeys its seed, with the scripted expert of each task.

Runs in the foreign interpreter. Importing this module registers ``robopolicy/MetaWorld-v0``.
"""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium
import metaworld
import numpy as np
from metaworld.policies import ENV_POLICY_MAP

# Meta-World's vector of 39 holds what is now, what was a step before, and the goal.
PARTS = {
    "hand_position": slice(0, 3),  # m
    "gripper_opening": slice(3, 4),  # 0 to 1
    "objects": slice(4, 18),  # position [m] and quaternion of each of two
    "goal": slice(36, 39),  # m
}


class MetaWorld(gymnasium.Env):
    """A task of Meta-World with its goal in the observation.

    ``reset(seed=s)`` decides everything that varies, which Meta-World's own ``reset`` leaves to other means.

    Args:
        name: of the task, e.g. ``reach-v3``.
        size: height and width of pictures [px].
        camera: Meta-World's name of the camera.
        render_mode: as in Meta-World.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012 (as in gymnasium.Env)

    def __init__(self, name: str, size: int, camera: str, render_mode: str | None = None) -> None:
        if name not in ENV_POLICY_MAP:
            near = difflib.get_close_matches(name, ENV_POLICY_MAP, n=3)
            raise ValueError(
                f"Meta-World has no task '{name}'. Nearest: {', '.join(near) or 'none'}; all: "
                f"{', '.join(sorted(ENV_POLICY_MAP))}."
            )
        task = metaworld.ALL_V3_ENVIRONMENTS[name]
        self._task = task(render_mode=render_mode, camera_name=camera, width=size, height=size)
        self.render_mode = render_mode
        self._turned = camera.startswith("corner")
        # Without shadows and multisampling a picture takes a tenth of the time.
        quality = self._task.model.vis.quality
        quality.shadowsize = quality.offsamples = 0
        self._task._partially_observable = False
        del (
            self._task.sawyer_observation_space
        )  # cached with a goal that is hidden, to which steps would clip
        self._task._freeze_rand_vec = False
        self._task._set_task_called = True
        self._task.seeded_rand_vec = True
        self._expert = ENV_POLICY_MAP[name]()
        self._vector = np.zeros(39)
        self.action_space = self._task.action_space
        self.observation_space = gymnasium.spaces.Dict(
            {
                key: gymnasium.spaces.Box(-np.inf, np.inf, (part.stop - part.start,), np.float32)
                for key, part in PARTS.items()
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._task.seed(seed)
            np.random.seed(seed)  # some tasks draw from it
        vector, info = self._task.reset()
        return self._observe(vector), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Moves for 1/80 s."""
        vector, reward, terminated, truncated, info = self._task.step(action)
        return self._observe(vector), float(reward), terminated, truncated, info

    def render(self) -> np.ndarray:
        """Returns a frame [size, size, 3]; Meta-World's corner cameras hang upside down."""
        frame = self._task.render()
        return np.ascontiguousarray(frame[::-1, ::-1] if self._turned else frame)

    def close(self) -> None:
        """Frees the simulation."""
        self._task.close()

    def expert_action(self) -> np.ndarray:
        """Returns what Meta-World's scripted expert does in the present state, whatever led there [4]."""
        return np.clip(self._expert.get_action(self._vector), -1.0, 1.0).astype(np.float32)

    def _observe(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        self._vector = vector
        return {key: vector[part].astype(np.float32) for key, part in PARTS.items()}


gymnasium.register(
    id="robopolicy/MetaWorld-v0", entry_point="robopolicy_metaworld:MetaWorld", max_episode_steps=500
)
