"""Calibrates the joints of an arm of Feetech servos: a person moves each from stop to stop by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.feetech import servo_names
from robopolicy_drivers.arms.feetech_bus import (
    COUNTS_TURNS,
    HOMING_OFFSET,
    LOCK,
    MAX_POSITION,
    MIN_POSITION,
    PHASE,
    RETURN_DELAY,
    TURN,
    ServoBus,
)
from robopolicy_drivers.arms.so101 import So101Config
from robopolicy_drivers.calibration.joints import JointCalibration, RangeRecorder, save_joints
from robopolicy_drivers.embodiments import load_embodiment

_COVERED = 0.9  # of the range that the embodiment has
_GRIPPER_RANGE = 0.25 * np.pi  # that a gripper's servo turns by at least [rad]


class JointRecording:
    """Follows the joints of an arm whose torque is off.

    Args:
        config: of the arm; its ``calibration`` is the file that is written.
    """

    def __init__(self, config: So101Config) -> None:
        self._config, embodiment = config, load_embodiment(config.embodiment)
        self._names = servo_names(embodiment)
        self._bus = ServoBus(config.port, self._names)
        limits = embodiment.position_limits
        self._needed = [*(_COVERED * (limits[:, 1] - limits[:, 0])), _GRIPPER_RANGE]

    def open(self) -> None:
        """Opens the bus and switches the torque off: **the arm sinks**; support it.

        Raises:
            DeviceError: the bus cannot be used.
        """
        self._bus.open()
        self._bus.enable_torque(False)
        self._offsets = [self._bus.read(servo, HOMING_OFFSET) for servo in self._names]
        self._recorders = [
            RangeRecorder(name, servo, encoder)
            for (servo, name), encoder in zip(self._names.items(), self._encoders(), strict=True)
        ]

    def sample(self) -> dict[str, tuple[float, float]]:
        """Reads where the joints are.

        Returns:
            how far each was moved until now, and how far it must be at least [rad], by name.

        Raises:
            DeviceError: the bus is broken, or a joint was moved too fast or too far.
        """
        for recorder, encoder in zip(self._recorders, self._encoders(), strict=True):
            recorder.add(encoder)
        moved = [2 * np.pi / TURN * recorder.span for recorder in self._recorders]
        return {
            name: (way, needed)
            for name, way, needed in zip(self._names.values(), moved, self._needed, strict=True)
        }

    def finish(self) -> None:
        """Writes the ranges into the servos and into the file; the torque stays off.

        Raises:
            DeviceError: a joint was not moved far enough, or a servo did not keep what was written.
        """
        missing = [name for name, (way, needed) in self.sample().items() if way < needed]
        if missing:
            raise DeviceError(
                f"These joints were not moved through their ranges: {', '.join(missing)}. Nothing was "
                "written; move each from stop to stop."
            )
        joints = [
            recorder.result(-1 if name in self._config.reversed else 1)
            for name, recorder in zip(self._names.values(), self._recorders, strict=True)
        ]
        write_joints(self._bus, joints)
        save_joints(self._config.calibration, self._config.embodiment, joints)

    def close(self) -> None:
        """Closes the bus."""
        self._bus.close()

    def _encoders(self) -> list[int]:
        """Returns the counts of the encoders without their offsets, each within one turn."""
        _, states = self._bus.states()
        pairs = zip(states, self._offsets, strict=True)
        return [(state.position + offset) % TURN for state, offset in pairs]


def write_joints(bus: ServoBus, joints: Sequence[JointCalibration]) -> None:
    """Writes offsets and ranges into the servos, where they outlast the loss of power.

    Raises:
        DeviceError: a servo did not keep what was written.
    """
    for joint in joints:
        values = {
            RETURN_DELAY: 0,
            PHASE: bus.read(joint.servo, PHASE) & ~COUNTS_TURNS,
            HOMING_OFFSET: joint.offset,
            MIN_POSITION: joint.lower,
            MAX_POSITION: joint.upper,
        }
        bus.write(joint.servo, LOCK, 0)
        for register, value in values.items():
            bus.write(joint.servo, register, value)
        bus.write(joint.servo, LOCK, 1)
        kept = {register: bus.read(joint.servo, register) for register in values}
        if kept != values:
            raise DeviceError(
                f"The servo {joint.servo} ({joint.name}) did not keep its calibration: "
                f"{list(values.values())} was written, {list(kept.values())} is read. "
                "Switch the arm off and on, and calibrate again."
            )
