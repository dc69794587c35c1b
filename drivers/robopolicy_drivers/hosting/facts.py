"""What is known of a driver before anything is connected: for ``robopolicy devices list`` and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Evidence(StrEnum):
    """What a driver was tested against."""

    THIRD_PARTY_PEER = "third-party peer"
    """The other side of the protocol was written by somebody else."""
    OWN_EMULATOR = "own emulator"
    """We wrote the other side too, from the vendor's documents: weaker evidence."""
    UNTESTED = "untested"
    """Nothing has answered it yet."""


@dataclass(frozen=True)
class DeviceFacts:
    """What a device's config class says of its driver, as the class attribute ``device``.

    Attributes:
        protocol: that is spoken, e.g. ``"Modbus RTU, serial or TCP"``.
        sdk: the vendor's or community's package that speaks it, or ``"own"``.
        rates: of states and commands, e.g. ``"100 Hz to 1 kHz"``.
        evidence: what the driver was tested against.
        tested_against: its name and version.
        modules: of extras, that the driver imports in its own process, e.g. ``("franky",)``.
    """

    protocol: str
    sdk: str
    rates: str
    evidence: Evidence
    tested_against: str = ""
    modules: tuple[str, ...] = ()
