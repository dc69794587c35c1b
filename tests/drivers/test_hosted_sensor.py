"""Sensors in processes of their own: what they remember, and what ends them."""

import numpy as np
import pytest
from device_targets import fails, wait_until

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.hosting.sensor import HostedSensor
from robopolicy_drivers.runtime.members import newest_of

COUNT = Feature("x", (), "int64", rate_hz=100)


def sensor(jump_s):
    return HostedSensor(
        "device_targets:JumpingSource", seconds_to_ns(jump_s), Spec((COUNT,), ()), name="practice sensor"
    )


@pytest.mark.parametrize(("jump_s", "words"), [(-1.0, "before the sample before it"), (5.0, "ahead of now")])
def test_a_clock_that_jumps_ends_the_sensor_and_nothing_of_it_is_seen(jump_s, words):
    with sensor(jump_s) as jumping:
        ring = jumping.ring
        assert wait_until(lambda: fails(None, jumping.read))
        for ask in (jumping.read, lambda: jumping.state_at(0)):
            with pytest.raises(DeviceError, match=f"practice sensor.*clock has jumped.*{words}"):
                ask()
        records = ring.history(30)
        assert [int(record.data["x"]) for record in records] == list(range(1, 21))
        assert (np.diff([record.time_ns for record in records]) > 0).all()


def test_a_sensor_that_falls_silent_keeps_its_age():
    with sensor(0.0) as silent:
        assert wait_until(lambda: silent.ring.latest == 20)
        newest_ns, sample = silent.read()
        assert newest_of(silent)[0] == newest_ns
        assert silent.state_at(newest_ns + seconds_to_ns(1.0)) == (newest_ns, sample)
        oldest = silent.ring.history(20)[0]
        assert silent.state_at(0) == (oldest.time_ns, {"x": 1})
