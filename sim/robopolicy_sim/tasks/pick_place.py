"""Pick and place: a cube anywhere on the table goes onto a pad anywhere on the table, seen by two cameras."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import Array, pose_from_vector
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_sim.tasks.common import checked_max_steps, feature_space
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.worlds.tabletop import TabletopWorld

RATE_HZ = 10.0
RAMP_STEPS = 5  # joint targets sent to the servos in one control step

Observation = dict[str, NDArray[Any]]


def pick_place_spec(image_size: int) -> Spec:
    """Returns the task's Spec with square images of ``image_size`` [px]."""
    image = (image_size, image_size, 3)
    observation = (
        Feature("camera0_rgb", image, "uint8", kind="rgb", rate_hz=RATE_HZ),
        Feature("camera1_rgb", image, "uint8", kind="rgb", rate_hz=RATE_HZ),
        Feature("robot0_eef_pos", (3,), kind="position", unit="m", rate_hz=RATE_HZ, frame="world"),
        Feature(
            "robot0_eef_rot_axis_angle", (3,), kind="axis_angle", unit="rad", rate_hz=RATE_HZ, frame="world"
        ),
        Feature("robot0_gripper_width", (1,), kind="width", unit="m", rate_hz=RATE_HZ),
    )
    action = Feature("action", (7,), kind="pose_width", unit="m, rad", rate_hz=RATE_HZ, frame="world")
    return Spec(observation, (action,))


class PickPlaceEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """The task as a Gymnasium environment.

    An action is the absolute pose of the tool center point to reach by the end of the control step and the
    gripper's opening: ``[x, y, z, axis-angle 3, width]`` in m and rad, in the world. The reward is the gain
    in score. ``info`` has ``success``, ``score`` (best progress so far, 1 at success) and ``progress``.

    Attributes:
        data_spec: what is observed and commanded. (``spec`` is Gymnasium's own ``EnvSpec``.)
        dt: control step [s].
        max_steps: control steps until truncation.
        world: the physics.

    Args:
        config: the settings; the defaults where none is given.
        render_mode: ``"rgb_array"`` or None; ``render`` works with both.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}  # noqa: RUF012 (as in gymnasium.Env)

    def __init__(self, config: PickPlaceConfig | None = None, render_mode: str | None = None) -> None:
        self.config = config or PickPlaceConfig()
        self.render_mode = render_mode
        self.data_spec = pick_place_spec(self.config.image_size)
        self.dt = 1.0 / RATE_HZ
        self.max_steps = checked_max_steps(self.config.max_steps)
        self.world = TabletopWorld(self.config.embodiment)
        self._ik = DifferentialIK(self.world.kinematics, period_s=self.dt)
        self._substeps = round(self.dt / self.world.timestep / RAMP_STEPS)
        self._steps = 0
        self._score = 0.0
        self.observation_space: gymnasium.spaces.Space[Any] = gymnasium.spaces.Dict(
            {feature.key: feature_space(feature) for feature in self.data_spec.observation}
        )
        self.action_space = gymnasium.spaces.Box(*self._action_bounds(), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode, which ``seed`` decides fully.

        Args:
            seed: of everything that varies; None goes on with the previous random numbers.
            options: unused.

        Returns:
            The first observation and info.
        """
        super().reset(seed=seed)
        self.world.reset(self.np_random)
        self._steps = 0
        self._score = 0.0
        return self._observe(), self._info()

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves for one control step.

        Args:
            action: ``[7]``, see the class.

        Returns:
            Observation, reward, whether it succeeded, whether the time is over, info.

        Raises:
            SpecError: the action has a wrong shape or is not finite.
            SimulationError: the physics became unstable.
        """
        command = self._checked(action)
        start = self.world.joint_targets
        goal = self._ik.solve(pose_from_vector(command[None, :6]), start[None])[0]
        for fraction in np.linspace(0.0, 1.0, RAMP_STEPS + 1)[1:]:
            self.world.set_targets(start + fraction * (goal - start), command[6])
            self.world.step(self._substeps)
        self._steps += 1
        before = self._score
        info = self._info()
        success = info["success"]
        truncated = not success and self._steps >= self.max_steps
        return self._observe(), self._score - before, success, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """Returns a frame ``[360, 480, 3]`` for videos."""
        return self.world.render("video", 480, 360)

    def _observe(self) -> Observation:
        size = self.config.image_size
        state = self.world.state()
        observation: Observation = {}
        for feature in self.data_spec.observation:
            if feature.is_image:
                observation[feature.key] = self.world.render(feature.key.removesuffix("_rgb"), size, size)
            else:
                observation[feature.key] = state[feature.key]
        return observation

    def _info(self) -> dict[str, Any]:
        progress = self.world.progress()
        self._score = max(self._score, progress)
        return {"success": self.world.success(), "score": self._score, "progress": progress}

    def _checked(self, action: NDArray[Any]) -> Array:
        expected = self.data_spec["action"]
        given = np.asarray(action, dtype=np.float64)
        if given.shape != expected.shape:
            raise SpecError(
                f"The action has the shape {given.shape}; pick_place expects {expected.shape}: target "
                "position (3) [m], axis-angle (3) [rad] and gripper width (1) [m] in the world."
            )
        if not np.isfinite(given).all():
            raise SpecError(
                f"The action {given.tolist()} has numbers that are not finite; pick_place expects a pose and "
                "a width. Check the policy's normalizer and its training loss for NaN."
            )
        return given

    def _action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        gripper = self.world.embodiment.parallel_gripper
        reach = [1.0, 1.0, 1.0, np.pi, np.pi, np.pi]
        low = np.array([*(-np.array(reach)), gripper.min_width], dtype=np.float32)
        return low, np.array([*reach, gripper.max_width], dtype=np.float32)
