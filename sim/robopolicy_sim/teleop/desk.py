"""Demonstrations by a person at the keyboard, or with another device, in a window and in real time.

The keys always count; a device that steers by changes may be used beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.store import EpisodeInfo
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.teleop.configs import Button, Frame, KeyboardConfig, SteeringConfig
from robopolicy_drivers.teleop.keys import buttons_of, twist_of
from robopolicy_drivers.teleop.steered import SteeringDevice, device_name
from robopolicy_drivers.teleop.steering import NewPresses
from robopolicy_drivers.teleop.target import LEAD_S, SteeringTarget, ToolTarget
from robopolicy_drivers.teleop.window import Inputs, Window
from robopolicy_sim.tasks.manipulation import POSE_WIDTH, ManipulationEnv, Observation
from robopolicy_sim.teleop.picture import Pictures

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


@dataclass(frozen=True)
class Wish:
    """What a person wants at one control step.

    Attributes:
        twist: see ``Steering``.
        pressed: buttons, since the step before.
        drag: of the mouse, see ``Inputs``.
        closed: whether the window was closed.
    """

    twist: NDArray[np.float64]
    pressed: frozenset[Button]
    drag: tuple[float, float]
    closed: bool


class Hands:
    """A person's hands: on the keys and the mouse, and on a device where there is one.

    Args:
        window: whose keys are read.
        device: connected; None: the keys alone.
    """

    def __init__(self, window: Window, device: SteeringDevice | None = None) -> None:
        self._window, self._device = window, device
        self._new_presses = NewPresses()

    def poll(self) -> Wish:
        """Returns what the person has wanted since the last call.

        Raises:
            DeviceError: the device was lost.
        """
        inputs: Inputs = self._window.poll()
        twist, pressed = twist_of(inputs.held), buttons_of(inputs.pressed)
        if self._device is not None:
            steering = self._device.steering()
            pressed |= self._new_presses.of(steering.presses)
            if steering.engaged:
                twist = np.clip(twist + steering.twist, -1.0, 1.0)
        return Wish(twist, pressed, inputs.drag, inputs.closed)


def collect(config: SteeringConfig, task_config: Any, seeds: Iterable[int]) -> Iterator[Episode]:
    """Lets a person demonstrate one episode a seed, until ``seeds`` or the person ends it.

    Equal seeds give the same beginnings as with scripted experts. The task's ``max_steps`` means nothing
    here: an episode takes as long as it takes.

    Args:
        config: of the keyboard, or of a device that is used beside it.
        task_config: of a manipulation task.
        seeds: one an episode.

    Yields:
        The data, ``[T, ...]`` for every key of the environment's Spec, and what is known of the episode.

    Raises:
        ConfigError: it is no manipulation task.
        DeviceError: there is no screen, or no such device, or it was lost.
    """
    env = load_target(task_config.target)(task_config)
    if not isinstance(env, ManipulationEnv):
        raise ConfigError(
            f"A person moves robots' tools, and {type(env).__name__} has none. Give a manipulation task, "
            "such as task=pick_place."
        )
    with ExitStack() as resources:
        window = Window(f"robopolicy: {env.scene.task_text}")
        resources.callback(window.close)
        device = None
        if not isinstance(config, KeyboardConfig):
            device = resources.enter_context(SteeringDevice(config))
        desk = Desk(env, window, Hands(window, device), config)
        for number, seed in enumerate(seeds, start=1):
            while (decision := desk.attempt(seed, number)) is Decision.ANEW:
                pass
            if decision is Decision.END:
                return
            yield desk.episode


class Desk:
    """Where a person sits: a window that shows the task, and keys that move its robots.

    Args:
        env: the task.
        window: on the screen.
        hands: what the person wants.
        config: how fast, and along whose axes.

    Attributes:
        episode: the last one that was kept.
    """

    episode: Episode

    def __init__(self, env: ManipulationEnv, window: Window, hands: Hands, config: SteeringConfig) -> None:
        self._window, self._hands, self._config = window, hands, config
        self._env = env
        self._pictures = Pictures(env.world)
        self._loop = DeadlineLoop(1.0 / env.dt)
        self._operator = device_name(config)
        self._step = env.dt * np.repeat([config.speed, config.turn_speed], 3)  # [m, rad] in a control step

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
            wish = self._look(observation, f"Episode {number}: {state}")
            if decision := _decision(wish, begun=bool(rows.actions)):
                break
            # Nothing moves and nothing is recorded before the person begins.
            if not self._steer(wish) and not rows.actions:
                continue
            action = np.concatenate([target.command for target in self._target.tools])
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
        lead = (LEAD_S * self._config.speed, LEAD_S * self._config.turn_speed)
        targets = [
            ToolTarget(robot.tcp_pose, float(upper[6]), lower, upper, lead)
            for robot, (lower, upper) in zip(self._env.world.robots, limits, strict=True)
        ]
        frames = Frame(self._config.move_frame), Frame(self._config.turn_frame)
        self._target = SteeringTarget(targets, *frames)
        self._loop.restart()
        return observation

    def _look(self, observation: Observation, text: str) -> Wish:
        """Shows how things are, waits for the next control step, and returns what the person wants."""
        active = self._target.active
        if len(self._target.tools) > 1:
            text += "    all robots" if len(active) > 1 else f"    robot {1 + active[0]}"
        tool_view = observation[f"camera{1 + active[0]}_rgb"]
        self._window.show(self._pictures.draw(tool_view, text, HELP))
        self._loop.wait()
        return self._hands.poll()

    def _steer(self, wish: Wish) -> bool:
        """Moves the targets; returns whether the person asked for anything."""
        if Button.NEXT in wish.pressed:
            self._target.next_tools()
        tools = [robot.tcp_pose for robot in self._env.world.robots]
        drag = self._pictures.shift(wish.drag, tools[self._target.active[0]][:3, 3])
        self._target.steer(self._step * wish.twist, self._pictures.axes, tools, drag)
        if Button.GRIPPER in wish.pressed:
            self._target.toggle_grippers()
        return bool(wish.twist.any() or drag.any() or Button.GRIPPER in wish.pressed)

    def _enjoy(self, observation: Observation, text: str) -> Decision:
        """Shows a success for a short while, in which it can be thrown away."""
        for _ in range(round(SUCCESS_SECONDS / self._env.dt)):
            wish = self._look(observation, text)
            if wish.closed or Button.END in wish.pressed:
                break
            if Button.DISCARD in wish.pressed:
                return Decision.ANEW
        return Decision.KEEP

    def _info(self, *, success: bool) -> EpisodeInfo:
        world = self._env.world
        embodiment = world.robot.embodiment.name
        return EpisodeInfo(
            task=world.scene.task_text, success=success, operator=self._operator, embodiment=embodiment
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


def _decision(wish: Wish, *, begun: bool) -> Decision | None:
    if wish.closed or Button.END in wish.pressed:
        return Decision.END
    if Button.DISCARD in wish.pressed:
        return Decision.ANEW
    return Decision.KEEP if Button.SUCCESS in wish.pressed and begun else None
