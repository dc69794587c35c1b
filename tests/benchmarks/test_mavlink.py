"""The suite of the vehicle over MAVLink in small: that it runs and what it returns, never how fast."""

import math

import pytest

from robopolicy_launch.benchmarks import mavlink

FIGURES = ("set_points", "longest_step", "rate", "error_mean", "error_max", "error_without_lag_max", "lag")


def test_mavlink():
    for module, extra in (("pymavlink", "mavlink"), ("mavsdk", "autopilot")):
        pytest.importorskip(module, reason=f"{module} is not installed (extra '{extra}')")
    rows = {row.name: row for row in mavlink.run(kinds=("position",), seconds=1.0)}
    losses = ["mavlink_silent_vehicle_stops_us", "mavlink_killed_driver_fail_safe"]
    assert list(rows) == [*(f"mavlink_position_{name}" for name in FIGURES), *losses]
    assert all(math.isfinite(row.ratio) for row in rows.values())
    sent_and_arrived = rows["mavlink_position_set_points"]
    assert abs(sent_and_arrived.ours - sent_and_arrived.reference) <= 2  # none was lost, but at both ends
