"""Push-T: the public ``gym-pusht`` environment in our words, for the Columbia human demonstrations.

The state task observes exactly what the recording's ``state`` columns hold, the image task what its
``img`` holds. Lengths are pixels of the 512 x 512 window.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import SimulationError, SpecError, missing_extra
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_sim.tasks.common import checked_max_steps, feature_space
from robopolicy_sim.tasks.pusht_mirror import WINDOW

if TYPE_CHECKING:
    from robopolicy_sim.tasks.configs import PushTImageConfig, PushTStateConfig

VIDEO_SIZE = 384
"""Side of the frames that ``render`` returns, px."""

STATE_SIZE = 5
"""Numbers in a recorded state: agent x, y, block x, y (px), block angle (rad)."""

CONTROL_RATE_HZ = 10.0


def make_spec(*, image_size: int | None = None) -> Spec:
    """Returns the Spec of a Push-T task.

    Args:
        image_size: side of the camera image in px for the image task; None for the state task.
    """
    rate = CONTROL_RATE_HZ
    agent = Feature("agent_pos", (2,), kind="position", unit="px", rate_hz=rate)
    action = Feature("action", (2,), kind="position", unit="px", rate_hz=rate)
    if image_size is not None:
        shape = (image_size, image_size, 3)
        return Spec((Feature("camera0_rgb", shape, "uint8", "rgb", rate_hz=rate), agent), (action,))
    block = Feature("block_pos", (2,), kind="position", unit="px", rate_hz=rate)
    angle = Feature("block_angle", (1,), kind="angle", unit="rad", rate_hz=rate)
    return Spec((agent, block, angle), (action,))


@functools.cache
def _simulation_class() -> Any:
    """Imports gym-pusht without a display or banner and returns its environment with a cheaper coverage."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        from gym_pusht.envs.pusht import PushTEnv as PublicPushTEnv
        from gym_pusht.envs.pusht import pymunk_to_shapely
    except ModuleNotFoundError as error:
        raise missing_extra("The task Push-T", "pusht") from error

    class Simulation(PublicPushTEnv):
        """The public environment, faster: the fixed goal is built once, and images are shrunk first.

        The public coverage adds the block's two parts in the order of a set, which makes its last bit
        differ from run to run; ours adds them in a fixed order. The images are the same.
        """

        def _setup(self) -> None:
            super()._setup()
            # The public handler only counts contacts for an info entry that we do not pass on.
            self.collision_handeler.post_solve = lambda arbiter, space, data: None
            goal = self.get_goal_pose_body(self.goal_pose)
            self._goal_geometry = pymunk_to_shapely(goal, self._block_shapes)
            self._goal_area = self._goal_geometry.area

        def _get_coverage(self) -> float:
            block = pymunk_to_shapely(self.block, self._block_shapes)
            return float(self._goal_geometry.intersection(block).area / self._goal_area)

        def _get_img(
            self, screen: Any, width: int, height: int, render_action: bool = False
        ) -> NDArray[np.uint8]:
            if render_action or screen.get_bitsize() != 32:
                return super()._get_img(screen, width, height, render_action)
            pixels = np.frombuffer(screen.get_buffer(), np.uint8).reshape(WINDOW, WINDOW, 4)
            red_green_blue = [shift // 8 for shift in screen.get_shifts()[:3]]
            shrunk = cv2.resize(pixels, (width, height))
            return np.ascontiguousarray(shrunk[..., red_green_blue], np.uint8)

        def set_recorded_state(self, state: NDArray[np.float64]) -> None:
            """Starts over from a recorded state; the angle first, because setting it moves the block."""
            self._setup()
            self._last_action = None
            self.agent.position = state[0:2].tolist()
            self.block.angle = float(state[4])
            self.block.position = state[2:4].tolist()
            self.space.step(self.dt)

    return Simulation


class PushTEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Push the T onto the goal. The action is the absolute target of the agent's position, px.

    ``reset(seed=s)`` gives the start of the public environment's ``reset(seed=s)``;
    ``reset(options={"state": [agent x, agent y, block x, block y, block angle]})`` starts from a
    recorded state, so that recorded actions replay to the recorded states.

    ``info`` holds ``coverage`` (share of the goal that the block covers), ``progress``
    (clip(coverage / threshold, 0, 1) now), ``score`` (the largest progress after any step so far) and
    ``success`` (coverage above the threshold; the episode then ends).

    Args:
        config: a ``PushTStateConfig`` (observes agent_pos, block_pos, block_angle) or a
            ``PushTImageConfig`` (observes camera0_rgb, agent_pos).

    Raises:
        MissingExtraError: gym-pusht is not installed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(CONTROL_RATE_HZ)}  # noqa: RUF012  (gymnasium's name)
    render_mode = "rgb_array"

    def __init__(self, config: PushTStateConfig | PushTImageConfig) -> None:
        image_size = getattr(config, "image_size", None)
        # Not named `spec` in gymnasium's sense: our Spec says more than its registry entry.
        self.data_spec = make_spec(image_size=image_size)
        self.dt = 1.0 / CONTROL_RATE_HZ
        self.max_steps = checked_max_steps(config.max_steps)
        self.success_threshold = config.success_threshold
        self._simulation = _simulation_class()(
            obs_type="state",
            observation_width=image_size or WINDOW,
            observation_height=image_size or WINDOW,
            visualization_width=VIDEO_SIZE,
            visualization_height=VIDEO_SIZE,
        )
        self._simulation.success_threshold = config.success_threshold
        self._observes_image = image_size is not None
        self._steps = 0
        self._score = 0.0
        self._started = False
        self.observation_space = spaces.Dict({f.key: feature_space(f) for f in self.data_spec.observation})
        self.action_space = spaces.Box(0.0, WINDOW, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: of the initial state; None continues the random stream.
            options: ``{"state": [5]}`` starts from that recorded state instead.

        Returns:
            The observation (keys of ``data_spec``) and info.

        Raises:
            SimulationError: the given state is not five finite numbers.
        """
        super().reset(seed=seed)
        self._simulation.reset(seed=seed)
        if options is not None and options.get("state") is not None:
            self._simulation.set_recorded_state(_check_state(options["state"]))
        self._steps = 0
        self._score = 0.0
        self._started = True
        return self._observation(), self._info(self._simulation._get_coverage(), success=False)

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Advances by ``dt``.

        Args:
            action: the agent's target [2], px.

        Returns:
            Observation, reward (= progress), terminated (success), truncated (after ``max_steps``), info.

        Raises:
            SimulationError: ``reset`` was not called.
            SpecError: the action is not two finite numbers.
        """
        if not self._started:
            raise SimulationError("Push-T was stepped before it was reset. Call reset(seed=...) first.")
        target = np.asarray(action, dtype=np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise SpecError(
                f"Push-T was given the action {np.array2string(target, threshold=8)} of shape "
                f"{target.shape}; an action is two finite numbers, the agent's target x and y in px. "
                "Check the policy's output."
            )
        # The observation is built once, below; the public one is the cheap state vector.
        _, progress, success, _, public_info = self._simulation.step(target)
        self._steps += 1
        self._score = max(self._score, float(progress))
        info = self._info(public_info["coverage"], success=bool(success))
        truncated = not success and self._steps >= self.max_steps
        return self._observation(), float(progress), bool(success), truncated, info

    def render(self) -> NDArray[np.uint8]:
        """Returns a frame [384, 384, 3] for videos; a red cross marks the last action."""
        return self._simulation.render()

    def close(self) -> None:
        """Frees the simulation."""
        self._simulation.close()

    def _observation(self) -> dict[str, NDArray[Any]]:
        state = self._simulation.get_obs().astype(np.float32)
        if self._observes_image:
            return {"camera0_rgb": self._simulation._render(), "agent_pos": state[0:2]}
        return {"agent_pos": state[0:2], "block_pos": state[2:4], "block_angle": state[4:5]}

    def _info(self, coverage: float, *, success: bool) -> dict[str, Any]:
        progress = float(np.clip(coverage / self.success_threshold, 0.0, 1.0))
        return {"success": success, "score": self._score, "coverage": float(coverage), "progress": progress}


def _check_state(state: ArrayLike) -> NDArray[np.float64]:
    """Returns the state as float64 [5] or raises SimulationError."""
    values = np.asarray(state, dtype=np.float64)
    if values.shape != (STATE_SIZE,) or not np.isfinite(values).all():
        raise SimulationError(
            f"Push-T cannot start from the state {np.array2string(values, threshold=8)} of shape "
            f"{values.shape}; give five finite numbers: agent x, agent y, block x, block y (px), block "
            "angle (rad)."
        )
    return values
