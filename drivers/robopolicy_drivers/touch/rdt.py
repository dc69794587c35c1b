"""RDT (raw data transfer), the UDP protocol of ATI's Net F/T: bytes in, words out.

Source: ATI Industrial Automation, Network Force/Torque Sensor System Manual, 9620-05-NET FT: requests and
records of RDT, and the bits of the status word.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from robopolicy_datasets.errors import DeviceError

PORT = 49152
STOP = 0x0000
START_REAL_TIME = 0x0002

_HEADER = 0x1234
_REQUEST = struct.Struct("!HHI")
_RECORD = struct.Struct("!IIIiiiiii")
_NUMBERS = 2**32  # after which sequence numbers begin again

_STATUS_BITS = {
    30: "CPU or RAM error",
    29: "digital board error",
    28: "analog board error",
    27: "serial link error between the boards",
    26: "program memory error",
    25: "halted by configuration errors",
    24: "settings are not valid",
    23: "settings do not fit the calibration",
    22: "network failure",
    21: "CAN bus error",
    20: "RDT error",
    19: "EtherNet/IP failure",
    18: "DeviceNet failure",
    17: "transducer saturated, or A/D converter error",
    14: "watchdog",
    13: "stack error",
    12: "EEPROM failure",
    11: "flash memory failure",
    10: "analog board watchdog",
    9: "strain gage excitation current too high",
    8: "strain gage excitation current too low",
    7: "analog ground out of range",
    6: "analog power too high",
    5: "analog power too low",
    4: "serial link data missing",
    3: "reference voltage or power monitor error",
    2: "internal temperature error",
    1: "HTTP failure",
}
# Bit 31 is set where any other is; 16 is a threshold that the user has set, and no fault of the sensor.
_FAULTS = (_NUMBERS - 1) & ~(1 << 31 | 1 << 16)


class RdtRecord(NamedTuple):
    """One measurement.

    Attributes:
        sequence: number of the record in this transmission, from 1.
        ft_sequence: number of the sensor's own sample that it holds.
        status: bits, see ``faults``.
        counts: force (3) and torque (3).
    """

    sequence: int
    ft_sequence: int
    status: int
    counts: tuple[int, ...]


def request(command: int, count: int = 0) -> bytes:
    """Returns the request to begin or end a transmission.

    Args:
        command: ``START_REAL_TIME`` or ``STOP``.
        count: of the records to send; 0 for as many as come until ``STOP``.
    """
    return _REQUEST.pack(_HEADER, command, count)


def parse_record(packet: bytes) -> RdtRecord:
    """Returns the record in a packet.

    Raises:
        DeviceError: it is none.
    """
    if len(packet) != _RECORD.size:
        raise DeviceError(
            f"A packet of {len(packet)} bytes came; an RDT record has {_RECORD.size}. Check that the address "
            "is that of a Net F/T, and that its RDT buffer size is 1."
        )
    sequence, ft_sequence, status, *counts = _RECORD.unpack(packet)
    return RdtRecord(sequence, ft_sequence, status, tuple(counts))


def faults(status: int) -> list[str]:
    """Returns the names of the faults in a status word; none where the measurement can be used."""
    found = status & _FAULTS
    return [_STATUS_BITS.get(bit, f"reserved bit {bit}") for bit in range(32) if found >> bit & 1]


def missing_between(sequence: int, following: int) -> int:
    """Returns how many records were lost between two that came; negative where they came in wrong order."""
    ahead = (following - sequence) % _NUMBERS
    return ahead - 1 if ahead < _NUMBERS // 2 else ahead - _NUMBERS
