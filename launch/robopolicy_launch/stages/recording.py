"""Recording demonstrations on a robot, real or simulated, through its driver and in real time."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, RobopolicyError, StoreError
from robopolicy_datasets.store import DemoStore, EpisodeInfo
from robopolicy_datasets.store.summary import summarise
from robopolicy_drivers.interfaces import HasEmbodiment, IsComposed
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.runtime.commander import JumpLimit
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_drivers.runtime.observer import Observer
from robopolicy_drivers.runtime.records import StepRecord
from robopolicy_drivers.teleop.configs import Button
from robopolicy_drivers.teleop.layout import action_parts, action_space, measured_target
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name
from robopolicy_launch.stages.deploying import KnowsTask, ready_robot
from robopolicy_launch.stages.deployment_store import DeploymentStore
from robopolicy_launch.stages.teleoperating import teleop_of

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Camera, Robot, Teleop

Seen = tuple[int, dict[str, NDArray]]  # an observation and its time [ns, monotonic]

_DECISIONS = frozenset({Button.SUCCESS, Button.DISCARD, Button.END})


@dataclass
class RecordingSettings:
    """How demonstrations are recorded on a robot.

    Attributes:
        rate_hz: steps a second.
        instruction: what is demonstrated, in words, as it is kept with each episode.
        codecs: of the store, by key or kind.
    """

    rate_hz: float = 10.0
    instruction: str = ""
    codecs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz <= 1000:
            raise ConfigError(f"rate_hz is {self.rate_hz}; give a rate above 0, at most 1000.")


def record(
    teleop_config: Any,
    robot_config: Any,
    path: Path,
    *,
    episodes: int,
    seed: int,
    settings: RecordingSettings,
) -> dict[str, Any]:
    """Lets a person, or a script, demonstrate on a robot until there are enough episodes or they end it.

    Before an episode begins, the person can move the robot to where it is to begin; nothing of that is kept.

    Args:
        teleop_config: config of a teleoperation device.
        robot_config: config of a registered robot.
        path: the new store.
        episodes: how many.
        seed: of the scene of the first one, where the robot is simulated; those thrown away take none.
        settings: see there.

    Returns:
        The figures: episodes, discarded, steps, samples of streams and how many of them are
        missing, seconds, megabytes.

    Raises:
        StoreError: the store exists or cannot be written, or nothing was kept.
        DeviceError: the robot or the device failed; the robot holds, and what was kept stays.
    """
    if path.exists():
        raise StoreError(f"{path} exists already; give another output=..., or remove it.")
    started = time.monotonic()
    teleop_name = registered_name("teleop", teleop_config)
    with contextlib.ExitStack() as resources:
        name, robot, cameras = resources.enter_context(ready_robot(robot_config, []))
        teleop = teleop_of(teleop_config, robot)
        resources.enter_context(teleop)
        resources.callback(_remove_if_empty, path)
        metadata = {"teleop": teleop_name, "robot": name}
        store = resources.enter_context(
            DeploymentStore(path, robot, cameras, 1.0 / settings.rate_hz, metadata, settings.codecs)
        )
        embodiment = getattr(robot_config, "embodiment", "") or _embodiments(robot)
        info = EpisodeInfo(task=settings.instruction, operator=teleop_name, embodiment=embodiment)
        session = Session(robot, cameras, teleop, store, info, settings.rate_hz)
        progress = resources.enter_context(console.Progress(f"Recording on '{name}'", episodes))
        resources.enter_context(progress.showing(session.text))
        try:
            while session.kept < episodes and session.attempt(seed + session.kept):
                progress(session.kept, episodes)
        except BaseException as error:
            with contextlib.suppress(RobopolicyError):  # what went wrong first is what must be told
                robot.hold()
                error.add_note("The robot holds.")
            kept = f"{session.kept} of {episodes} demonstrations are in {path}, which can be used."
            error.add_note(kept if session.kept else "Nothing was stored.")
            raise
        robot.hold()
    if not session.kept:
        raise StoreError(f"teleop={teleop_name} kept no demonstration; nothing was stored.")
    stored = DemoStore.open(path)
    return {
        "episodes": len(stored),
        "discarded": session.discarded,
        "steps": stored.num_steps,
        "samples": store.samples,
        "missing_samples": store.missing,
        "seconds": time.monotonic() - started,
        "megabytes": summarise(stored).disk_bytes / 1e6,
    }


class Session:
    """A robot, a person who drives it, and the store that keeps what they do.

    Args:
        robot: connected.
        cameras: connected.
        teleop: connected.
        store: for the episodes.
        info: of each episode.
        rate_hz: steps a second.

    Attributes:
        kept: episodes so far.
        discarded: episodes that were thrown away.
    """

    def __init__(
        self,
        robot: Robot,
        cameras: Sequence[Camera],
        teleop: Teleop,
        store: DeploymentStore,
        info: EpisodeInfo,
        rate_hz: float,
    ) -> None:
        self.kept = self.discarded = 0
        self._robot, self._teleop, self._store, self._info = robot, teleop, store, info
        self._parts = action_parts(robot)
        self._observer = Observer(robot, cameras, robot.spec, 1)
        limits = RuntimeConfig()
        space = action_space(self._parts)
        self._limit = JumpLimit(space, limits.max_speed_m / rate_hz, limits.max_speed_rad / rate_hz)
        self._last: NDArray = self._measured()  # target that was commanded
        self._period_ns = seconds_to_ns(1.0 / rate_hz)
        self._loop = DeadlineLoop(rate_hz)
        self._steps: int | None = None  # of the episode that is recorded

    def text(self) -> str:
        """Returns what happens now, in words."""
        if self._steps is None:
            return f"not recording: 'take over' begins episode {self.kept + 1}"
        return f"episode {self.kept + 1}: {1e-9 * self._steps * self._period_ns:.1f} s"

    def attempt(self, seed: int) -> bool:
        """Waits until the person begins an episode and records it until they have decided.

        Args:
            seed: of the scene, where the robot can set one up.

        Returns:
            Whether the person goes on.
        """
        self._teleop.let_go()
        if isinstance(self._robot, KnowsTask):
            self._robot.reset(seed)
            self._last = self._measured()
        self._loop.restart()
        seen, pressed = self._look()
        while not pressed & {Button.TAKE_OVER, Button.END}:
            self._drive(seen)
            seen, pressed = self._look()
        if Button.END in pressed:
            return False
        decided = self._record(seen)
        if Button.SUCCESS in decided:
            self._store.finish(True)
            self.kept += 1
        else:
            self._store.drop()
            self.discarded += 1
        return Button.END not in decided

    def _record(self, seen: Seen) -> frozenset[str]:
        """Records from what is seen until the person, or the robot, has decided; returns what."""
        decided: frozenset[str] = frozenset()
        with self._store.episode(self._info, keep_broken=False):
            self._steps = 0
            try:
                while not decided:
                    sent = self._drive(seen)
                    self._store.step(StepRecord(self._steps, *seen, sent, "human"))
                    self._steps += 1
                    seen, pressed = self._look()
                    decided = (pressed | self._judged()) & _DECISIONS
            finally:
                self._steps = None
        return decided

    def _look(self) -> tuple[Seen, frozenset[str]]:
        """Waits for the next step; returns what is seen then, and the buttons that were pressed."""
        self._loop.wait()
        return self._observer.observe(), self._teleop.poll()

    def _drive(self, seen: Seen) -> NDArray:
        """Lets the robot go where the person wants it; returns what was sent."""
        target = self._limit.admit(self._teleop.command(seen[1], self._last), self._last)
        self._last = self._robot.command(target, now_ns() + self._period_ns)
        return self._last

    def _measured(self) -> NDArray:
        return measured_target(self._parts, self._robot.state()[1])

    def _judged(self) -> frozenset[str]:
        """Returns the button of success where the robot itself can tell that the task is done."""
        done = isinstance(self._robot, KnowsTask) and self._robot.success()
        return frozenset({Button.SUCCESS} if done else ())


def _embodiments(robot: Robot) -> str:
    """Returns the names of the bodies that a robot consists of."""
    parts = robot.parts.values() if isinstance(robot, IsComposed) else (robot,)
    return " + ".join(part.embodiment.name for part in parts if isinstance(part, HasEmbodiment))


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(StoreError):
        if not len(DemoStore.open(path)):
            shutil.rmtree(path)
