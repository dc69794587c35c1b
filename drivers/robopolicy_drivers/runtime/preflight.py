"""What is looked at before a policy may move a robot. Nothing is moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import DeviceError, RobopolicyError, SpecError
from robopolicy_datasets.history import offering
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.conformance import holding_target
from robopolicy_drivers.interfaces import Camera, ChunkPolicy, HasMembers, IsComposed, IsGuarded, Robot
from robopolicy_drivers.runtime.certificate import check_certificate
from robopolicy_drivers.runtime.members import newest_of
from robopolicy_drivers.runtime.observer import Observer
from robopolicy_drivers.runtime.streams import stream_features
from robopolicy_drivers.safety.configs import Mode

_PATIENCE_S = 1.0
_POLL_S = 0.002
_INFERENCES = 5
_STOP_REASON = "pre-flight: the stop is tried"


@dataclass(frozen=True)
class Candidate:
    """A policy that is to drive the robot.

    Attributes:
        policy: in this process or on a server.
        source: where it is from, for messages, e.g. ``"checkpoint 'runs/a'"``.
        checkpoint: its folder; None where it is on a server.
        name: told after what was looked at, where there are several.
    """

    policy: ChunkPolicy
    source: str
    checkpoint: Path | None = None
    name: str = ""


@dataclass(frozen=True)
class Finding:
    """What one look has shown.

    Attributes:
        name: what was looked at.
        passed: whether the robot may move; a warning passes.
        text: what was found, for people.
    """

    name: str
    passed: bool
    text: str


def preflight(robot: Robot, cameras: Sequence[Camera], candidates: Sequence[Candidate]) -> Iterator[Finding]:
    """Looks at everything that a deployment needs; yields each finding as it is there.

    Args:
        robot: connected, and ready to be commanded.
        cameras: connected.
        candidates: are asked for some chunks of what is seen now.
    """

    def each(what: str, look: Callable[[Candidate], str]) -> Iterator[tuple[str, Callable[[], str]]]:
        for candidate in candidates:
            yield f"{what} {candidate.name}".rstrip(), lambda c=candidate: look(c)  # type: ignore[misc]

    # What comes after needs these; and a stop that somebody has latched is not for us to release.
    fit = list(each("fit", lambda candidate: _fit(robot, cameras, candidate.policy)))
    commands = [("commands", lambda: _takes_commands(robot))]
    needed = {name for name, _ in (*fit, *commands)}
    for name, look in (
        *fit,
        *each("certificate", _certificate),
        ("state", lambda: _state(robot)),
        *((f"camera {number}", lambda c=camera: _camera(c)) for number, camera in enumerate(cameras)),
        *commands,
        ("stop", lambda: _stop(robot)),
        ("limits", lambda: _limits(robot)),
        *each("policy", lambda candidate: _policy(robot, cameras, candidate.policy)),
    ):
        try:
            finding = Finding(name, True, look())
        except RobopolicyError as error:
            finding = Finding(name, False, str(error))
        yield finding
        if name in needed and not finding.passed:
            return


def timed_inferences(
    robot: Robot, cameras: Sequence[Camera], policy: ChunkPolicy, count: int
) -> tuple[NDArray[np.floating], list[float]]:
    """Asks a policy again and again for a chunk of what is seen now, once before to warm up.

    Args:
        robot: connected.
        cameras: connected.
        policy: that is asked.
        count: how often, at least once.

    Returns:
        the last chunk ``[1, T, A]``, and how long each took [s].
    """
    observer = Observer(robot, cameras, policy.spec, policy.observation_steps)
    observer.observe()
    observation = observer.history()
    policy.reset()
    policy.infer(observation)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        actions = np.asarray(policy.infer(observation))
        took.append(time.perf_counter() - began)
    return actions, took


def require_fit(
    policy: ChunkPolicy, robot: Robot, cameras: Sequence[Camera], *, needs: str = "policy", name: str = ""
) -> None:
    """Checks that a robot with its cameras, connected or not, offers what a policy needs.

    Raises:
        SpecError: names both sides and every feature that does not fit.
    """
    offered = offering(offered_spec(robot, cameras), stream_features(robot, 1.0 / policy.dt), policy.spec)
    try:
        policy.spec.require(offered, needs=needs, provides=name or "robot with its cameras")
    except SpecError as error:
        raise SpecError(
            f"{error} Take a robot (or robot.task, robot.touch) that has these, or train with "
            "policy.observation_keys that this one has."
        ) from error


def offered_spec(robot: Robot, cameras: Sequence[Camera]) -> Spec:
    """Returns what a robot with its cameras measures at each step, and takes."""
    images = [feature for camera in cameras for feature in camera.spec.observation]
    return Spec((*robot.spec.observation, *images), robot.spec.action)


def _fit(robot: Robot, cameras: Sequence[Camera], policy: ChunkPolicy) -> str:
    require_fit(policy, robot, cameras)
    return f"the robot has all {len(policy.spec.observation)} features that the policy reads"


def _certificate(candidate: Candidate) -> str:
    if candidate.checkpoint is None:
        return "not known: the policy is on a server"
    return check_certificate(candidate.checkpoint)


def _state(robot: Robot) -> str:
    """Says how old the state of each device is."""
    if not isinstance(robot, HasMembers):
        return _lives("state", robot.state)
    return "; ".join(
        f"{member.name}: {_lives(f'state of {member.name}', partial(newest_of, member.device))}"
        for member in robot.members
    )


def _lives(what: str, read: Callable[[], tuple[int, dict[str, NDArray]]]) -> str:
    """Says how old the newest reading is, once a newer one than the first has come."""
    first_ns, values = read()
    began = time.monotonic()
    while (newest := read())[0] <= first_ns:
        if time.monotonic() - began > _PATIENCE_S:
            raise DeviceError(
                f"No newer {what} has come for {_PATIENCE_S:g} s. Check the device and its cable."
            )
        time.sleep(_POLL_S)
    time_ns, values = newest
    wrong = [key for key, value in values.items() if not np.isfinite(value).all()]
    if wrong:
        raise DeviceError(f"The {what} has numbers that are not finite: {', '.join(wrong)}.")
    return f"alive, {1e3 * ns_to_seconds(now_ns() - time_ns):.0f} ms old"


def _camera(camera: Camera) -> str:
    text = _lives("image", camera.read)
    flat = [key for key, image in camera.read()[1].items() if image.min() == image.max()]
    if flat:
        raise DeviceError(
            f"The image of {', '.join(flat)} has one colour only. Check the lens, the cable and the light."
        )
    return text


def _takes_commands(robot: Robot) -> str:
    target = holding_target(robot.spec, robot.state()[1])
    if target is None:
        return "not tried: for this kind of action no command is known that moves nothing"
    robot.command(target, now_ns())
    return "the robot takes commands"


def _stop(robot: Robot) -> str:
    robot.stop(_STOP_REASON)
    try:
        target = holding_target(robot.spec, robot.state()[1])
        if target is None:
            return "latches; not tried with a command"
        try:
            robot.command(target, now_ns())
        except DeviceError:
            return "a stop latches, and commands are refused until it is released"
        raise DeviceError("The robot took a command after a stop. Do not use it before its driver is mended.")
    finally:
        robot.release()


def _limits(robot: Robot) -> str:
    if isinstance(robot, IsComposed):
        return "; ".join(f"{name}: {_limits(part)}" for name, part in robot.parts.items())
    if not isinstance(robot, IsGuarded):
        return "the driver does not say what its safety gate enforces"
    modes = {name: value for name, value in vars(robot.safety).items() if isinstance(value, Mode)}
    lax = [f"{name}={mode}" for name, mode in modes.items() if mode in (Mode.OFF, Mode.WARN)]
    if lax:
        return f"NOT enforced: {', '.join(lax)}"
    return f"enforced: {', '.join(modes)}"


def _policy(robot: Robot, cameras: Sequence[Camera], policy: ChunkPolicy) -> str:
    actions, took = timed_inferences(robot, cameras, policy, _INFERENCES)
    if not np.isfinite(actions).all():
        raise DeviceError("The policy's actions for what is seen now are not finite. Check its training.")
    slowest, rows = max(took), actions.shape[1]
    text = f"{1e3 * float(np.median(took)):.0f} ms a chunk, {1e3 * slowest:.0f} ms at worst"
    if slowest >= rows * policy.dt:
        raise DeviceError(
            f"The policy takes {text}, and a chunk lasts {1e3 * rows * policy.dt:.0f} ms: all of it would "
            "come too late. Use a faster policy, fewer sampling steps or a GPU."
        )
    late = int(np.ceil(slowest / policy.dt))
    spare = rows - policy.action_steps
    if late > spare:
        return f"{text}: up to {late - spare} steps before each chunk hold the last target"
    return text
