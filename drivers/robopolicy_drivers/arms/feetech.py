"""The SO-101 arm: six Feetech STS3215 servos on one bus, the last of which is the gripper's."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.feetech_bus import (
    ACCELERATION,
    ATTEMPTS,
    COUNTS_TURNS,
    HOMING_OFFSET,
    MAX_POSITION,
    MIN_POSITION,
    OPERATING_MODE,
    PHASE,
    STATUS_BITS,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
    TURN,
    LostAnswerError,
    ServoBus,
    ServoState,
)
from robopolicy_drivers.arms.link import ArmReading
from robopolicy_drivers.arms.so101 import So101Config
from robopolicy_drivers.calibration.joints import JointCalibration, load_joints
from robopolicy_drivers.embodiments import Embodiment, load_embodiment

GRIPPER = "gripper"
_RADIANS = 2 * np.pi / TURN  # of a count
_SLACK = 60  # counts, about 5 degrees: how far stops and plastic give way beyond the calibrated range
_REMEMBERED = 20  # set points: an answer may be a late one, to a question before
_QUICKEST = 254  # acceleration: the gate's limits are below it
_FULL_TORQUE = 1000


def servo_names(embodiment: Embodiment) -> dict[int, str]:
    """Returns the names of an arm's servos by their numbers: 1 for the joint at the base, and so on."""
    return dict(enumerate((*embodiment.joint_names, GRIPPER), 1))


class JointScale:
    """Turns counts into joint angles and a gripper's opening, and back.

    The middle of a joint's calibrated range is the middle of the embodiment's limits. The opening grows in
    proportion to the gripper's angle, although its jaw turns.

    Args:
        joints: calibrated, with the gripper as the last.
        embodiment: the arm.
    """

    def __init__(self, joints: Sequence[JointCalibration], embodiment: Embodiment) -> None:
        *arm, gripper = joints
        self._middle = np.array([joint.middle for joint in arm])
        self._step = np.array([joint.direction for joint in arm]) * _RADIANS
        self._center = embodiment.position_limits.mean(axis=1)
        self._widths = embodiment.parallel_gripper.min_width, embodiment.parallel_gripper.max_width
        self._closed, self._opened = (gripper.lower, gripper.upper)[:: gripper.direction]
        self._lower = np.array([joint.lower for joint in joints])
        self._upper = np.array([joint.upper for joint in joints])

    def angles(self, counts: NDArray) -> NDArray[np.float64]:
        """Returns joint angles ``[J]`` [rad] of counts ``[J + 1]``."""
        return np.asarray(self._center + self._step * (counts[:-1] - self._middle))

    def velocities(self, counts: NDArray) -> NDArray[np.float64]:
        """Returns joint velocities ``[J]`` [rad/s] of velocities in counts/s ``[J + 1]``."""
        return np.asarray(self._step * counts[:-1])

    def width(self, counts: NDArray) -> float:
        """Returns the opening [m] of counts ``[J + 1]``."""
        share = (counts[-1] - self._closed) / (self._opened - self._closed)
        low, high = self._widths
        return float(low + (high - low) * np.clip(share, 0.0, 1.0))

    def counts(self, angles: NDArray, width: float) -> NDArray[np.int64]:
        """Returns the counts ``[J + 1]`` of angles ``[J]`` [rad] and an opening [m], within the ranges."""
        low, high = self._widths
        last = self._closed + (width - low) / (high - low) * (self._opened - self._closed)
        wanted = np.append(self._middle + (angles - self._center) / self._step, last)
        return np.clip(np.rint(wanted), self._lower, self._upper).astype(np.int64)

    def outside(self, counts: NDArray) -> list[int]:
        """Returns which of the counts ``[J + 1]`` lie clearly outside of the calibrated ranges."""
        beyond = np.maximum(self._lower - counts, counts - self._upper)
        return np.flatnonzero(beyond > _SLACK).tolist()


class Reading(NamedTuple):
    """What the servos of an arm tell.

    Attributes:
        time_ns: when they were asked [ns, monotonic].
        states: of all of them.
        counts: their positions ``[J + 1]``.
    """

    time_ns: int
    states: list[ServoState]
    counts: NDArray[np.int64]


class CalibratedServos:
    """An arm's bus with its calibration: what a follower and a leader have in common.

    Args:
        port: of the bus.
        calibration: file of the joints.
        embodiment: name of the arm.

    Attributes:
        bus: the servos.
        scale: from counts to angles.
    """

    def __init__(self, port: str, calibration: str, embodiment: str) -> None:
        body = load_embodiment(embodiment)
        self._names = servo_names(body)
        self._joints = load_joints(calibration, embodiment, self._names)
        self._calibration = calibration
        self._before: NDArray[np.int64] | None = None
        self.bus, self.scale = ServoBus(port, self._names), JointScale(self._joints, body)

    def open(self) -> None:
        """Opens the bus, and makes sure that the calibration is that of its servos.

        Raises:
            DeviceError: the bus cannot be used, or was calibrated differently; or a joint stands where it
                was never calibrated.
        """
        self.bus.open()
        for joint in self._joints:
            kept = {
                "offset": self.bus.read(joint.servo, HOMING_OFFSET),
                "lower": self.bus.read(joint.servo, MIN_POSITION),
                "upper": self.bus.read(joint.servo, MAX_POSITION),
            }
            counts_turns = self.bus.read(joint.servo, PHASE) & COUNTS_TURNS
            if counts_turns or any(getattr(joint, name) != value for name, value in kept.items()):
                raise DeviceError(
                    f"The servo {joint.servo} ({joint.name}) on '{self.bus.port}' keeps {kept}, and the file "
                    f"'{self._calibration}' says offset {joint.offset}, lower {joint.lower}, upper "
                    f"{joint.upper}{' (and it counts turns)' if counts_turns else ''}. This is another arm, "
                    "or a servo was replaced: calibrate again."
                )
        self._require_within(self.read().counts)

    def read(self, attempts: int = ATTEMPTS) -> Reading:
        """Returns what the servos tell; ``attempts`` as of ``ServoBus.states``.

        Raises:
            DeviceError: the bus is broken, or a joint has gone past the end of its encoder.
        """
        time_ns, states = self.bus.states(attempts)
        counts = np.array([state.position for state in states])
        before, self._before = self._before, counts
        if before is not None and (wrapped := np.flatnonzero(np.abs(counts - before) > TURN // 2)).size:
            joint = self._joints[int(wrapped[0])]
            self.bus.write(joint.servo, TORQUE_ENABLE, 0)  # its set point would lead the wrong way round
            raise DeviceError(
                f"The joint '{joint.name}' went past the end of its encoder, far outside of its calibrated "
                "range; its servo was let go. Bring the joint back by hand, and calibrate again where its "
                "horn has slipped."
            )
        return Reading(time_ns, states, counts)

    def _require_within(self, counts: NDArray[np.int64]) -> None:
        if outside := self.scale.outside(counts):
            told = ", ".join(f"{self._joints[i].name} at {counts[i]}" for i in outside)
            raise DeviceError(
                f"Joints stand outside of their calibrated ranges: {told} counts. A horn has slipped, or the "
                "calibration did not reach the stops: calibrate again."
            )


class FeetechLink:
    """The ``GrippingLink`` of an SO-101. Its servos hold their last set points when nobody sends any.

    Args:
        config: the settings.
    """

    def __init__(self, config: So101Config) -> None:
        self._config = config
        self._servos = CalibratedServos(config.port, config.calibration, config.embodiment)
        self._bus, self._scale = self._servos.bus, self._servos.scale
        self._sent: deque[list[int]] = deque(maxlen=_REMEMBERED)
        self.gripper = _Gripper(self, max(self._bus.names))

    def open(self) -> None:
        """See ``ArmLink``. The arm is held from here on, where it stands."""
        self._servos.open()
        self._newest = self._servos.read()
        self.width = self.opening()[1]
        self._hold()

    def read(self) -> ArmReading:
        """See ``ArmLink``. An answer that is lost or damaged is made up for by the one before."""
        try:
            self._newest = self._servos.read(attempts=1)
        except LostAnswerError:
            if now_ns() - self._newest.time_ns > seconds_to_ns(self._config.silence_s):
                raise
        time_ns, states, counts = self._newest
        velocities = np.array([state.velocity for state in states])
        return ArmReading(time_ns, self._scale.angles(counts), self._scale.velocities(velocities))

    def send(self, positions: NDArray) -> None:
        """See ``ArmLink``."""
        self._send(self._scale.counts(positions, self.width))

    def fault(self) -> str:
        """See ``ArmLink``."""
        return next(filter(None, map(self.servo_fault, self._bus.names)), "")

    def servo_fault(self, servo: int) -> str:
        """Returns why a servo does not follow; empty while it does."""
        index, name = servo - 1, self._bus.names[servo]
        state = self._newest.states[index]
        reasons = [text for bit, text in STATUS_BITS.items() if state.status & bit]
        if reasons:
            return f"the servo {name} reports: {'; '.join(reasons)}"
        if not state.torque:
            return (
                f"the servo {name} does not hold any more: it was without power, or another program let "
                "it go. Support the arm"
            )
        if all(state.goal != goals[index] for goals in self._sent):
            return (
                f"another program commands the servo {name}: it goes to {state.goal}, and "
                f"{self._sent[-1][index]} was sent. End that program"
            )
        return ""

    def recover(self) -> None:
        """See ``ArmLink``. The arm is held where it stands; so is the gripper, where it had let go."""
        self._newest = self._servos.read()
        if self.gripper.fault():
            self.width = self.opening()[1]
        self._hold()
        if reason := self.fault():
            raise DeviceError(f"The stop is not released: {reason}.")

    def close(self) -> None:
        """See ``ArmLink``. The servos go on holding, so that the arm does not fall."""
        self._bus.close()

    def opening(self) -> tuple[int, float]:
        """Returns when the gripper was read last [ns, monotonic], and its opening [m]."""
        time_ns, _, counts = self._newest
        return time_ns, self._scale.width(counts)

    def _hold(self) -> None:
        """Makes the arm hold where it stands; the gripper goes to its opening.

        What is set here, servos forget without power.
        """
        for servo, name in self._bus.names.items():
            torque = self._config.gripper_torque if name == GRIPPER else 1.0
            self._bus.write(servo, OPERATING_MODE, 0)
            self._bus.write(servo, ACCELERATION, _QUICKEST)
            self._bus.write(servo, TORQUE_LIMIT, round(torque * _FULL_TORQUE))
        self._send(self._scale.counts(self._scale.angles(self._newest.counts), self.width))
        self._bus.enable_torque(True)
        self._newest = self._servos.read()

    def _send(self, counts: NDArray[np.int64]) -> None:
        goals: list[int] = counts.tolist()
        self._bus.send(goals)
        self._sent.append(goals)


class _Gripper:
    """The gripper's side of the link: it is read and sent with the arm."""

    def __init__(self, link: FeetechLink, servo: int) -> None:
        self._link, self._servo = link, servo

    def open(self) -> None:
        """Is opened with the arm."""

    def read(self) -> tuple[int, float]:
        return self._link.opening()

    def send(self, width: float) -> None:
        self._link.width = width

    def fault(self) -> str:
        return self._link.servo_fault(self._servo)

    def recover(self) -> None:
        """Rests where it stands: what it was to do before its fault is forgotten."""
        self._link.width = self._link.opening()[1]

    def close(self) -> None:
        """Is closed with the arm."""
