"""Demonstrations by a person at the keyboard, in real time."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.store import EpisodeInfo
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_sim.tasks.manipulation import POSE_WIDTH, ManipulationEnv, Observation
from robopolicy_sim.teleop.configs import KeyboardConfig
from robopolicy_sim.teleop.picture import Pictures
from robopolicy_sim.teleop.steering import LARGEST_LEAD, MOVES, TURNS, ToolTarget, direction
from robopolicy_sim.teleop.window import Inputs, Window

SUCCESS_SECONDS = 1.0  # [s] in which a success can still be thrown away
HELP = (
    "W S A D R F, mouse: move    Q E: turn    Z X, C V: tilt    Shift: slowly",
    "Space: gripper    Tab: robot    Enter: keep    Backspace: anew    Esc: end",
)

Episode = tuple[dict[str, NDArray[Any]], EpisodeInfo]

_log = logging.getLogger(__name__)


class Decision(Enum):
    """What becomes of an episode."""

    KEEP = "keep"
    ANEW = "anew"
    END = "end"  # of the collection


def collect(config: KeyboardConfig, task_config: Any, seeds: Iterable[int]) -> Iterator[Episode]:
    """Lets a person demonstrate one episode a seed, until ``seeds`` or the person ends it.

    Equal seeds give the same beginnings as with scripted experts. The task's ``max_steps`` means nothing
    here: an episode takes as long as it takes.

    Args:
        config: of the keyboard.
        task_config: of a manipulation task.
        seeds: one an episode.

    Yields:
        The data, ``[T, ...]`` for every key of the environment's Spec, and what is known of the episode.

    Raises:
        ConfigError: a setting is out of range, it is no manipulation task, or this is a worker's process.
        DeviceError: there is no screen.
    """
    if not (config.speed > 0 and config.turn_speed > 0):
        raise ConfigError(
            f"teleop=keyboard got speed={config.speed} and turn_speed={config.turn_speed}; give both above 0."
        )
    if multiprocessing.parent_process() is not None:
        raise ConfigError("teleop=keyboard has one window for one person; give workers=1.")
    env = load_target(task_config.target)(task_config)
    if not isinstance(env, ManipulationEnv):
        raise ConfigError(
            f"teleop=keyboard moves robots' tools, and {type(env).__name__} has none. Give a manipulation "
            "task, such as task=pick_place."
        )
    desk = Desk(env, Window(f"robopolicy: {env.scene.task_text}"), config)
    try:
        for number, seed in enumerate(seeds, start=1):
            while (decision := desk.attempt(seed, number)) is Decision.ANEW:
                pass
            if decision is Decision.END:
                return
            yield desk.episode
    finally:
        desk.window.close()


class Desk:
    """Where a person sits: a window that shows the task, and keys that move its robots.

    Args:
        env: the task.
        window: on the screen.
        config: how fast.

    Attributes:
        window: see above.
        episode: the last one that was kept.
    """

    episode: Episode

    def __init__(self, env: ManipulationEnv, window: Window, config: KeyboardConfig) -> None:
        self.window = window
        self._env = env
        self._pictures = Pictures(env.world)
        self._loop = DeadlineLoop(1.0 / env.dt)
        self._steps = (config.speed * env.dt, config.turn_speed * env.dt)  # [m, rad] in a control step
        self._targets: list[ToolTarget] = []
        self._active = range(0)  # the robots that the keys move

    def attempt(self, seed: int, number: int) -> Decision:
        """Begins an episode and goes on until the person has decided or the task is done.

        Args:
            seed: of the beginning.
            number: of the episode, to be shown.
        """
        env, rows, success = self._env, _Rows(), False
        observation = self._begin(seed)
        while not success:
            state = f"{len(rows.actions) * env.dt:.1f} s" if rows.actions else "any key that moves begins"
            inputs = self._look(observation, f"Episode {number}: {state}")
            if decision := _decision(inputs, begun=bool(rows.actions)):
                break
            # Nothing moves and nothing is recorded before the person begins.
            if not self._steer(inputs) and not rows.actions:
                continue
            action = np.concatenate([target.command for target in self._targets])
            rows.add(observation, action)
            try:
                observation, _, _, _, info = env.step(action)
            except SimulationError as error:
                _log.warning("Episode %d begins anew: %s", number, error)
                return Decision.ANEW
            success = info["success"]
        else:
            decision = self._enjoy(observation, f"Episode {number}: success, kept. Backspace: anew")
        if decision is Decision.KEEP:
            self.episode = rows.data(), self._info(success=success)
        return decision

    def _begin(self, seed: int) -> Observation:
        # As the scripted experts' episodes begin.
        observation, _ = self._env.reset(seed=int(np.random.default_rng(seed).integers(2**31)))
        space: Any = self._env.action_space
        limits = zip(space.low.reshape(-1, POSE_WIDTH), space.high.reshape(-1, POSE_WIDTH), strict=True)
        lead = (LARGEST_LEAD * self._steps[0], LARGEST_LEAD * self._steps[1])
        self._targets = [
            ToolTarget(robot.tcp_pose, lower, upper, lead)
            for robot, (lower, upper) in zip(self._env.world.robots, limits, strict=True)
        ]
        self._active = range(1)
        self._loop.restart()
        return observation

    def _look(self, observation: Observation, text: str) -> Inputs:
        """Shows how things are, waits for the next control step, and returns what the person wants."""
        if len(self._targets) > 1:
            text += "    all robots" if len(self._active) > 1 else f"    robot {1 + self._active[0]}"
        tool_view = observation[f"camera{1 + self._active[0]}_rgb"]
        self.window.show(self._pictures.draw(tool_view, text, HELP))
        self._loop.wait()
        return self.window.poll()

    def _steer(self, inputs: Inputs) -> bool:
        """Moves the targets; returns whether the person asked for anything."""
        if "tab" in inputs.pressed:
            self._active = self._next_robots()
        tools = [robot.tcp_pose for robot in self._env.world.robots]
        shift = self._steps[0] * self._pictures.axes @ direction(inputs.held, MOVES)
        shift = shift + self._pictures.shift(inputs.drag, tools[self._active[0]][:3, 3])
        turn = self._steps[1] * direction(inputs.held, TURNS)
        for number in self._active:
            self._targets[number].move(shift, turn, tools[number])
            if "space" in inputs.pressed:
                self._targets[number].toggle_gripper()
        return bool(shift.any() or turn.any() or "space" in inputs.pressed)

    def _next_robots(self) -> range:
        """Returns the next single robot; after the last one all of them together, and then the first."""
        count, following = len(self._targets), self._active[-1] + 1
        if following < count:
            return range(following, following + 1)
        return range(count) if len(self._active) == 1 else range(1)

    def _enjoy(self, observation: Observation, text: str) -> Decision:
        """Shows a success for a short while, in which it can be thrown away."""
        for _ in range(round(SUCCESS_SECONDS / self._env.dt)):
            inputs = self._look(observation, text)
            if inputs.closed:
                break
            if "backspace" in inputs.pressed:
                return Decision.ANEW
        return Decision.KEEP

    def _info(self, *, success: bool) -> EpisodeInfo:
        world = self._env.world
        embodiment = world.robot.embodiment.name
        return EpisodeInfo(
            task=world.scene.task_text, success=success, operator="keyboard", embodiment=embodiment
        )


class _Rows:
    """What was seen and what was wanted then, step by step."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.actions: list[NDArray[np.float32]] = []

    def add(self, observation: Observation, action: NDArray[Any]) -> None:
        self.observations.append(observation)
        self.actions.append(action.astype(np.float32))

    def data(self) -> dict[str, NDArray[Any]]:
        """Returns ``[T, ...]`` for each key."""
        seen = {key: np.stack([row[key] for row in self.observations]) for key in self.observations[0]}
        return {**seen, "action": np.stack(self.actions)}


def _decision(inputs: Inputs, *, begun: bool) -> Decision | None:
    if inputs.closed:
        return Decision.END
    if "backspace" in inputs.pressed:
        return Decision.ANEW
    return Decision.KEEP if "return" in inputs.pressed and begun else None
