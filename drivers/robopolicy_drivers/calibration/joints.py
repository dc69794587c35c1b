"""Which count of a joint's encoder is which angle: recorded by hand, kept in a file, safe from wrapping.

An encoder of one turn tells 0 after 4095. A joint whose range contains that place would be told to go the
long way round, through its own stops. So the place is moved out of the range: an offset, kept in the servo
itself, puts the middle of the range at 2048. So it lies within one turn, however the arm was put together.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.calibration.files import calibration_file

TURN = 4096  # counts
MIDDLE = TURN // 2
WIDEST = TURN - 128  # counts; about 349 degrees
_LARGEST_OFFSET = MIDDLE - 1  # what fits into the servo's register
_QUICKEST = TURN // 4  # between two samples: beyond it nobody knows which way the joint went
_COMMAND = "robopolicy devices calibrate joints robot=so101"


@dataclass(frozen=True)
class JointCalibration:
    """One joint.

    Attributes:
        name: of the joint.
        servo: its number on the bus.
        offset: what the servo subtracts from its encoder, in counts.
        lower: the lowest count of its range, with the offset.
        upper: the highest one.
        direction: 1 where counts grow with the angle, else -1.

    Raises:
        ConfigError: the range contains the place where the encoder begins anew, or the numbers make none.
    """

    name: str
    servo: int
    offset: int
    lower: int
    upper: int
    direction: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper < TURN:
            raise ConfigError(
                f"The range of the joint '{self.name}' goes from {self.lower} to {self.upper} counts. Its "
                f"ends lie within 0 to {TURN - 1}, the lower one first: otherwise the encoder begins anew "
                f"within the range, and the joint would turn the wrong way round. Calibrate with: {_COMMAND}"
            )
        if abs(self.offset) > _LARGEST_OFFSET or self.direction not in (1, -1):
            raise ConfigError(
                f"The joint '{self.name}' has the offset {self.offset} (allowed: {_LARGEST_OFFSET} counts "
                f"either way) and the direction {self.direction} (allowed: 1, -1)."
            )

    @property
    def middle(self) -> float:
        """The count in the middle of the range."""
        return (self.lower + self.upper) / 2

    def told(self, encoder: int) -> int:
        """Returns the count that the servo tells, with the offset, where its encoder stands at another."""
        return (encoder - self.offset) % TURN


class RangeRecorder:
    """Follows a joint that is moved by hand, and finds its range however often its encoder begins anew.

    Args:
        name: of the joint.
        servo: its number on the bus.
        encoder: where the encoder stands, without an offset.
    """

    def __init__(self, name: str, servo: int, encoder: int) -> None:
        self._name, self._servo = name, servo
        self._place = self._lower = self._upper = encoder  # going on beyond a turn

    @property
    def span(self) -> int:
        """How far the joint was moved, in counts."""
        return self._upper - self._lower

    def add(self, encoder: int) -> None:
        """Takes the next sample of the encoder, without an offset.

        Raises:
            DeviceError: it jumped by a quarter of a turn, or the joint was moved by nearly a turn.
        """
        step = (encoder - self._place + MIDDLE) % TURN - MIDDLE
        if abs(step) > _QUICKEST:
            raise DeviceError(
                f"The joint '{self._name}' jumped by {_degrees(abs(step)):.0f} degrees between two "
                "samples. Begin again, and move it slower; where it did not move, check its cable."
            )
        self._place += step
        self._lower, self._upper = min(self._lower, self._place), max(self._upper, self._place)
        if self.span > WIDEST:
            raise DeviceError(
                f"The joint '{self._name}' was turned by {_degrees(self.span):.0f} degrees; an encoder of "
                f"one turn can tell {_degrees(WIDEST):.0f}. Begin again and turn it less; where it went "
                "through its stops, its horn slips."
            )

    def result(self, direction: int) -> JointCalibration:
        """Returns the calibration with the middle of the range at half a turn."""
        offset = (self._lower + self._upper) // 2 - MIDDLE
        offset = (offset + MIDDLE) % TURN - MIDDLE
        offset = max(offset, -_LARGEST_OFFSET)
        lower = (self._lower - offset) % TURN
        return JointCalibration(self._name, self._servo, offset, lower, lower + self.span, direction)


def save_joints(path: str | Path, embodiment: str, joints: Sequence[JointCalibration]) -> None:
    """Writes a calibration with its checksum."""
    content: dict[str, Any] = {"embodiment": embodiment, "joints": [asdict(joint) for joint in joints]}
    content["checksum"] = _checksum(content)
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)  # recorded by hand, it must not be lost
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_joints(path: str | Path, embodiment: str, names: dict[int, str]) -> list[JointCalibration]:
    """Reads a calibration.

    Args:
        path: the file.
        embodiment: that it must be of.
        names: of the joints, by the numbers of their servos.

    Raises:
        ConfigError: the file is missing, was changed by hand, or is another arm's.
    """
    with calibration_file(path, "is not a calibration of joints", _COMMAND) as content:
        checksum = content.pop("checksum")
        if checksum != _checksum(content):
            raise ConfigError(
                f"The calibration '{path}' was changed after it was recorded: its checksum is {checksum}, "
                f"and that of its content {_checksum(content)}. Record it again with: {_COMMAND}"
            )
        joints = [JointCalibration(**joint) for joint in content["joints"]]
        found = {joint.servo: joint.name for joint in joints}
        if content["embodiment"] != embodiment or found != names:
            raise ConfigError(
                f"The calibration '{path}' is of the arm '{content['embodiment']}' with the servos {found}; "
                f"'{embodiment}' with {names} is to be moved. Record one with: {_COMMAND}"
            )
    return joints


def _checksum(content: dict[str, Any]) -> str:
    """Returns the CRC-32 of what is recorded."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _degrees(counts: int) -> float:
    return 360.0 * counts / TURN
