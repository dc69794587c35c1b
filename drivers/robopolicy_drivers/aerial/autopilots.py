"""What differs between autopilots, as data. Imports no package of any vendor.

Sources: PX4's ``px4_custom_mode.h`` (main and sub modes), ArduCopter's ``mode.h`` (mode numbers), and their
documents on offboard control and guided mode. The tests compare the numbers with pymavlink's tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A flight mode.

    Attributes:
        main: second parameter of ``MAV_CMD_DO_SET_MODE``.
        sub: its third parameter.
        custom_mode: what the heartbeat of a vehicle in this mode says.
    """

    main: int
    sub: int
    custom_mode: int


@dataclass(frozen=True)
class Autopilot:
    """How an autopilot is spoken to.

    Attributes:
        number: its ``MAV_AUTOPILOT``.
        guided: the mode in which it follows set points.
        hold: the mode in which it stays where it is, wherever the sticks of a transmitter stand.
        own: what the heartbeats of a vehicle say that takes off, lands or returns because it was told to, or
            holds; any other mode in the middle of that is somebody else's wish.
        guided_before_arming: whether it arms and takes off in that mode only.
        rises_by_set_points: whether it takes off by following set points upward. PX4's own command to take
            off counts its height from the sea level, and so needs a global position.
    """

    number: int
    guided: Mode
    hold: Mode
    own: frozenset[int]
    guided_before_arming: bool
    rises_by_set_points: bool


def _px4(main: int, sub: int = 0) -> Mode:
    return Mode(main, sub, main << 16 | sub << 24)


def _arducopter(number: int) -> Mode:
    return Mode(number, 0, number)


_OFFBOARD, _LOITER, _TAKEOFF, _RETURN, _LAND = _px4(6), _px4(4, 3), _px4(4, 2), _px4(4, 5), _px4(4, 6)
_PX4_OWN = frozenset(mode.custom_mode for mode in (_OFFBOARD, _LOITER, _TAKEOFF, _RETURN, _LAND))
# Not its LOITER, in which it sinks where the throttle stick of a transmitter rests at the bottom.
_GUIDED, _BRAKE = _arducopter(4), _arducopter(17)
_COPTER_OWN = frozenset((_GUIDED.custom_mode, _BRAKE.custom_mode, 6, 9))  # RTL, LAND

AUTOPILOTS: Mapping[str, Autopilot] = {
    # One that does not say what it is is taken to know PX4's modes, as MAVSDK's does.
    "generic": Autopilot(0, _OFFBOARD, _LOITER, _PX4_OWN, False, False),
    "ardupilot": Autopilot(3, _GUIDED, _BRAKE, _COPTER_OWN, True, False),
    "px4": Autopilot(12, _OFFBOARD, _LOITER, _PX4_OWN, True, True),
}


def autopilot_numbered(number: int) -> str:
    """Returns the name of the autopilot with this ``MAV_AUTOPILOT``; of one that is not known, generic."""
    return next((name for name, autopilot in AUTOPILOTS.items() if autopilot.number == number), "generic")
