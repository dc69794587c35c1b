"""Several devices are one robot: arms, grippers, vehicles and sensors, each with its own driver and gate."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.interfaces import (
    Camera,
    GoesHome,
    HasMembers,
    Member,
    RecallsStates,
    ReportsLateness,
    Robot,
    Sensor,
)
from robopolicy_drivers.realtime.statistics import LatenessSummary

if TYPE_CHECKING:
    from robopolicy_datasets.store.events import Event

State = dict[str, NDArray]

_NUMBERED = re.compile(r"^robot(\d+)(?=_|$)")


class CompositeRobot:
    """Joins devices into one robot.

    The parts are given in order. The robots among them, except plain grippers, are ``robot0``, ``robot1`` and
    so on; a plain gripper (its action is of the kind ``width``) and a sensor (it has no action) belong to the
    robot before them. Keys and frames that begin with ``robot`` and a number are renumbered so. The actions
    become one feature ``action``, in the order of the parts; ``layout`` says what is where.

    A state is that of the first robot, with every other part as it was then: where it is slower, its newest.
    How old each is, is asked of the ``members``.

    A command goes to all parts or, where one refuses, to none: those that had taken it hold. Each part keeps
    its own safety gate; a stop of the whole stops every part.

    Args:
        parts: disconnected robots and sensors, of which the first is a robot.
        cameras: disconnected cameras, which stay by themselves: each is connected and closed for itself.

    Attributes:
        spec: of the whole, without the cameras' images.
        cameras: as given.
        layout: the slice of the action that each part takes, by ``"robot0"``, ``"robot0_gripper"``, ...

    Raises:
        ConfigError: there are no parts, or the first is no robot.
        SpecError: the parts cannot be joined: equal keys, or not one vector of actions each.
    """

    def __init__(self, parts: Sequence[Robot | Sensor], cameras: Sequence[Camera] = ()) -> None:
        self._parts = _numbered(parts)
        self.cameras = tuple(cameras)
        _require_different_images(self.cameras)
        self._robots = [part for part in self._parts if part.size]
        observation = [
            part.renamed(feature) for part in self._parts for feature in part.device.spec.observation
        ]
        self.spec = Spec(tuple(observation), (_joined_action(self._robots),))
        ends = np.cumsum([part.size for part in self._robots])
        self.layout = {
            part.name: slice(int(end) - part.size, int(end))
            for part, end in zip(self._robots, ends, strict=True)
        }

    @property
    def parts(self) -> dict[str, Robot]:
        """The robots that it consists of, by name."""
        return {part.name: part.device for part in self._robots}

    @property
    def members(self) -> tuple[Member, ...]:
        """The devices that it consists of, sensors too; a sensor is called by its first key."""
        return tuple(member for part in self._parts for member in part.members())

    def connect(self) -> None:
        """Connects the parts in their order; where one fails, those before it are closed again."""
        with ExitStack() as undo:
            for part in self._parts:
                part.device.connect()
                undo.callback(part.device.close)
            undo.pop_all()

    def state(self) -> tuple[int, State]:
        """Returns the newest state of the first part and its time [ns, monotonic], and the others' then."""
        return self._joined(*self._parts[0].device.state())

    def state_at(self, time_ns: int) -> tuple[int, State]:
        """Returns the states nearest to ``time_ns`` [ns, monotonic], and the time of the first part's.

        Of parts that recall no states it is the newest.
        """
        first_ns, state = _recalled(self._parts[0].device, time_ns)
        return first_ns, self._joined(time_ns, state)[1]

    def command(self, target: NDArray, at_ns: int) -> NDArray:
        """Asks every part to be at its share of ``target`` ``[A]`` at the time ``at_ns`` [ns, monotonic].

        Returns:
            what was really sent ``[A]``.

        Raises:
            SpecError: the target has a wrong shape or is not finite; no part was asked.
            DeviceError: a part refuses, e.g. because it was stopped; the others hold.
        """
        expected = self.spec.action[0]
        given = np.asarray(target, np.float64)
        if given.shape != expected.shape or not np.isfinite(given).all():
            layout = ", ".join(f"{name} [{part.start}:{part.stop}]" for name, part in self.layout.items())
            raise SpecError(
                f"The target {given.tolist()} was not sent; {expected.size} finite numbers are needed: "
                f"{layout}."
            )
        sent: list[NDArray] = []
        with ExitStack() as undo:
            for part in self._robots:
                sent.append(part.device.command(given[self.layout[part.name]], at_ns))
                undo.callback(part.device.hold)
            undo.pop_all()
        return np.concatenate(sent)

    def hold(self) -> None:
        """Drops all pending targets of every part."""
        self._each(self._robots, "hold", lambda device: device.hold())

    def go_home(self) -> None:
        """Brings every part that has a home there, one after another.

        Raises:
            DeviceError: a part does not arrive; those after it have not moved.
        """
        for part in self.parts.values():
            if isinstance(part, GoesHome):
                part.go_home()

    def stop(self, reason: str) -> None:
        """Stops every part, whatever happens to the others.

        Raises:
            DeviceError: the reasons of all parts that could not be stopped; the others were.
        """
        self._each(self._robots, "be stopped", lambda device: device.stop(reason))

    def release(self) -> None:
        """Releases the stop of every part."""
        self._each(self._robots, "be released", lambda device: device.release())

    def safety_events(self) -> list[Event]:
        """Returns the events of all parts by their beginning; ``data["robot"]`` names the part."""
        events = [
            replace(event, data={**event.data, "robot": part.name})
            for part in self._robots
            for event in part.device.safety_events()
        ]
        return sorted(events, key=lambda event: event.start_ns)

    def lateness(self) -> LatenessSummary:
        """Returns how late the ticks of all parts that count them were; without any all figures are 0."""
        reports = [robot.lateness() for robot in self.parts.values() if isinstance(robot, ReportsLateness)]
        return LatenessSummary.joined(reports)

    def close(self) -> None:
        """Closes every part, the last one first; calling it again does nothing."""
        self._each(self._parts[::-1], "be closed", lambda device: device.close())

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _joined(self, time_ns: int, first: State) -> tuple[int, State]:
        """Joins the first part's state of a time with what the others recall of it; returns both."""
        joined = dict(first)
        for part in self._parts[1:]:
            _, state = _recalled(part.device, time_ns)
            joined |= {part.rename(key): value for key, value in state.items()}
        return time_ns, joined

    @staticmethod
    def _each(parts: Sequence[_Part], what: str, action: Callable[[Any], None]) -> None:
        """Does the same with all parts, also with those after one that fails."""
        failures = []
        for part in parts:
            try:
                action(part.device)
            except Exception as error:  # whatever it is, the next part comes first
                failures.append((part.name, error))
        if failures:
            reasons = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures)
            raise DeviceError(f"Of {len(parts)} parts these could not {what}: {reasons}") from failures[0][1]


@dataclass(frozen=True)
class _Part:
    """A device in its place: the number of its first robot, its name, and the size of its action."""

    device: Any
    number: int
    name: str
    size: int

    def rename(self, text: str) -> str:
        """Renumbers a key or frame."""
        return _renumbered(text, self.number)

    def members(self) -> list[Member]:
        """Returns the device, or those that it consists of."""
        if not isinstance(self.device, HasMembers):
            return [Member(self.name, self.device, self.rename)]
        return [
            Member(self.rename(inner.name), inner.device, partial(self._rename_of, inner))
            for inner in self.device.members
        ]

    def _rename_of(self, inner: Member, text: str) -> str:
        return self.rename(inner.rename(text))

    def renamed(self, feature: Feature) -> Feature:
        return replace(feature, key=self.rename(feature.key), frame=self.rename(feature.frame))


def _renumbered(text: str, first: int) -> str:
    """Returns a key or frame of a robot, or a part's name, where the first robot has the number ``first``."""
    return _NUMBERED.sub(lambda match: f"robot{int(match[1]) + first}", text)


def _require_different_images(cameras: Sequence[Camera]) -> None:
    keys = [feature.key for camera in cameras for feature in camera.spec.observation]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise SpecError(
            f"Several cameras deliver {', '.join(twice)}; give each a key of its own, e.g. camera1_rgb."
        )


def _is_sensor(device: Any) -> bool:
    return not device.spec.action


def _recalled(device: Any, time_ns: int) -> tuple[int, State]:
    """Returns the state of a device at a time, or its newest where it recalls none, and when that was."""
    if isinstance(device, RecallsStates):
        return device.state_at(time_ns)
    newest: tuple[int, State] = device.read() if _is_sensor(device) else device.state()
    return newest


def _numbered(devices: Sequence[Robot | Sensor]) -> list[_Part]:
    """Gives each device its number: robots count on, grippers and sensors belong to the one before."""
    if not devices or _is_sensor(devices[0]):
        raise ConfigError(
            "A composite robot begins with a robot; give sensors after the one that they belong to."
        )
    parts: list[_Part] = []
    following = 0
    for device in devices:
        action = device.spec.action
        size = _vector_size(action)
        gripper = bool(action) and action[0].kind == "width"
        if parts and (gripper or not action):
            number = following - 1
        else:
            number, following = following, following + _robots_in(device.spec)
        own = "robot0_gripper" if gripper and parts else "robot0" if action else device.spec.keys()[0]
        parts.append(_Part(device, number, _renumbered(own, number), size))
    names = [part.name for part in parts if part.size]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(
            f"More than one gripper for one arm ({', '.join(twice)}); list each after its own arm."
        )
    return parts


def _vector_size(action: tuple[Feature, ...]) -> int:
    if len(action) > 1 or any(len(feature.shape) != 1 for feature in action):
        described = "; ".join(feature.describe() for feature in action)
        raise SpecError(f"A part of a composite robot has one vector of actions, not: {described}.")
    return action[0].size if action else 0


def _robots_in(spec: Spec) -> int:
    """Returns how many numbers a robot's own keys use up; a composite is a part like any other."""
    keys = [feature.key for feature in spec.observation]
    found = (_NUMBERED.match(key) for key in keys)
    return 1 + max((int(match[1]) for match in found if match), default=0)


def _joined_action(parts: Sequence[_Part]) -> Feature:
    features = [part.renamed(part.device.spec.action[0]) for part in parts]
    # An arm's pose and the width of the gripper after it are one Cartesian command.
    kinds = set(" ".join(feature.kind for feature in features).replace("pose width", "pose_width").split())
    frames = {feature.frame for feature in features if feature.kind != "width"}
    units = dict.fromkeys(unit for feature in features for unit in feature.unit.split(", ") if unit)
    rates = [feature.rate_hz for feature in features if feature.rate_hz]
    return Feature(
        "action",
        (sum(feature.size for feature in features),),
        dtype=np.result_type(*(feature.dtype for feature in features)).name,
        kind=kinds.pop() if len(kinds) == 1 else "generic",
        unit=", ".join(units),
        rate_hz=min(rates, default=0.0),
        frame=frames.pop() if len(frames) == 1 else "",
    )
