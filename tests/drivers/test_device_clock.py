"""Device time stamps on our clock: jitter, drift, jumps and wrapping counters."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_drivers.hosting.device_clock import DRIFT, DeviceClock

PERIOD_NS = 33_333_333
QUARTZ_PPM = 50e-6


@st.composite
def journeys(draw):
    """Returns (true times, device times, delays) [ns] of a camera whose clock has its own zero and rate."""
    count = draw(st.integers(2, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rate = draw(st.floats(-QUARTZ_PPM, QUARTZ_PPM))
    zero_ns = draw(st.integers(-(10**18), 2 * 10**18))
    begin_ns = draw(st.integers(0, 10**15))
    true_ns = [begin_ns + index * PERIOD_NS for index in range(count)]
    device_ns = [zero_ns + index * PERIOD_NS + round(rate * index * PERIOD_NS) for index in range(count)]
    least_ns = draw(st.integers(0, 50_000_000))
    delays_ns = least_ns + random.exponential(draw(st.floats(0, 5e6)), count).astype(int)
    return true_ns, device_ns, np.minimum(delays_ns, least_ns + 30_000_000).tolist()


def mapped(clock, device_ns, arrivals_ns):
    return [
        clock.monotonic_ns(device, arrival) for device, arrival in zip(device_ns, arrivals_ns, strict=True)
    ]


@given(journeys())
def test_a_time_is_the_true_one_plus_the_least_delay_of_late(journey):
    true_ns, device_ns, delays_ns = journey
    arrivals_ns = [true + delay for true, delay in zip(true_ns, delays_ns, strict=True)]
    times_ns = mapped(DeviceClock(), device_ns, arrivals_ns)
    rounding_ns = len(true_ns) + 10_000  # of each step, and of a delay's own share of the drift
    for index, time_ns in enumerate(times_ns):
        late_ns = time_ns - true_ns[index]
        elapsed_ns = np.array(true_ns[index]) - np.array(true_ns[: index + 1])
        most_ns = (np.array(delays_ns[: index + 1]) + (DRIFT + QUARTZ_PPM) * elapsed_ns).min()
        assert min(delays_ns[: index + 1]) - rounding_ns <= late_ns <= most_ns + rounding_ns


@given(journeys())
def test_a_time_is_not_later_than_the_arrival_and_later_than_the_one_before(journey):
    true_ns, device_ns, delays_ns = journey
    arrivals_ns = [true + delay for true, delay in zip(true_ns, delays_ns, strict=True)]
    times_ns = mapped(DeviceClock(), device_ns, arrivals_ns)
    assert all(time_ns <= arrival for time_ns, arrival in zip(times_ns, arrivals_ns, strict=True))
    assert all(earlier < later for earlier, later in pairwise(times_ns))


@pytest.mark.parametrize("rate", [-QUARTZ_PPM, 0.0, QUARTZ_PPM])
def test_an_hour_of_drift_is_followed(rate):
    """At 30 Hz with delays of 5 ms and more, 3 ms more on average."""
    random, clock = np.random.default_rng(0), DeviceClock()
    errors_ns = []
    for index in range(30 * 3600):
        true_ns = index * PERIOD_NS
        delay_ns = round(5e6 + random.exponential(3e6))
        time_ns = clock.monotonic_ns(true_ns + round(rate * true_ns), true_ns + delay_ns)
        errors_ns.append(time_ns - true_ns - 5_000_000)
    late = np.array(errors_ns[300:]) / 1e6
    print(f"{1e6 * rate:+.0f} ppm: p50 {np.median(late):.3f} ms, p99 {np.percentile(late, 99):.3f} ms")
    assert late.min() > -0.01
    assert late.max() < 2.0


@given(journeys(), st.integers(1, 10**17), st.booleans())
def test_after_a_jump_of_the_device_clock_times_go_on(journey, jump_ns, forward):
    """A clock that was set, a counter that wrapped around, a device that was restarted."""
    true_ns, device_ns, delays_ns = journey
    half = len(true_ns) // 2
    jump_ns = jump_ns if forward else -(jump_ns + PERIOD_NS + 1_000_000)
    device_ns = device_ns[:half] + [device + jump_ns for device in device_ns[half:]]
    arrivals_ns = [true + delay for true, delay in zip(true_ns, delays_ns, strict=True)]
    times_ns = mapped(DeviceClock(), device_ns, arrivals_ns)
    late_ns = np.array(times_ns) - np.array(true_ns)
    assert (late_ns >= min(delays_ns) - len(true_ns) - 10_000).all()
    assert (late_ns <= np.array(delays_ns)).all()


def test_a_burst_after_a_stall_keeps_its_own_times():
    """Frames that waited in a buffer while nobody read have the times at which they were taken."""
    clock = DeviceClock()
    mapped(clock, range(0, 30 * PERIOD_NS, PERIOD_NS), range(0, 30 * PERIOD_NS, PERIOD_NS))
    resumed_ns = 100 * PERIOD_NS
    times_ns = [clock.monotonic_ns(index * PERIOD_NS, resumed_ns + index) for index in range(30, 34)]
    errors_ns = [time_ns - index * PERIOD_NS for index, time_ns in enumerate(times_ns, 30)]
    assert max(errors_ns) <= DRIFT * (resumed_ns - 29 * PERIOD_NS) + 1
