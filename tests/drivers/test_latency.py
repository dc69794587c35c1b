"""Delays of synthetic signals, probe motions, and the file of the latency model."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, DeviceError, UnknownNameError
from robopolicy_drivers.calibration.delay import estimate_delay
from robopolicy_drivers.calibration.latency import DeviceLatency, LatencyModel, load_latency
from robopolicy_drivers.calibration.motion import ProbeMotion

MARGIN_S = 0.6


def sampled(random, motion, rate_hz, *, delay_s=0.0, missing=0.0, noise=0.0):
    """A motion as a device with a jittering clock, lost samples and noise tells it."""
    times = np.arange(-MARGIN_S, motion.seconds + MARGIN_S, 1 / rate_hz)
    times = times + random.uniform(-0.3, 0.3, times.size) / rate_hz
    times = times[random.random(times.size) >= missing]
    values = motion.displacement(times - delay_s) + random.normal(0, noise, times.size) * motion.amplitude
    return times, values


@settings(max_examples=100)
@given(
    delay_s=st.floats(0.0, 0.3),
    rates=st.tuples(st.floats(40, 250), st.floats(40, 250)),
    missing=st.floats(0.0, 0.3),
    noise=st.floats(0.0, 0.02),
    scale=st.floats(0.01, 100) | st.floats(-100, -0.01),
    offset=st.floats(-10, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_delay_is_recovered(delay_s, rates, missing, noise, scale, offset, seed):
    random, motion = np.random.default_rng(seed), ProbeMotion()
    times, values = sampled(random, motion, rates[0])
    later_times, later = sampled(random, motion, rates[1], delay_s=delay_s, missing=missing, noise=noise)
    start_s = 5e5  # a monotonic clock that has run for days
    found = estimate_delay(
        start_s + times, values, start_s + later_times, offset + scale * later, signed=scale > 0
    )
    assert abs(found.seconds - delay_s) < 0.002
    assert found.correlation > 0.98
    assert found.rival < 0.9


@settings(max_examples=20)
@given(delay_s=st.floats(-0.2, 0.3), seed=st.integers(0, 1000))
def test_exchanging_the_signals_changes_the_sign(delay_s, seed):
    random, motion = np.random.default_rng(seed), ProbeMotion()
    first = sampled(random, motion, 125)
    second = sampled(random, motion, 100, delay_s=delay_s)
    there, back = estimate_delay(*first, *second), estimate_delay(*second, *first)
    assert abs(there.seconds + back.seconds) < 0.001


def test_what_cannot_be_measured_is_refused():
    random, motion = np.random.default_rng(0), ProbeMotion()
    times, values = sampled(random, motion, 100)
    with pytest.raises(DeviceError, match="nothing moved"):
        estimate_delay(times, values, times, np.full_like(times, 0.3))
    with pytest.raises(DeviceError, match="do not resemble"):
        estimate_delay(times, values, times, random.normal(size=times.size))
    with pytest.raises(DeviceError, match="do not resemble"):
        estimate_delay(times, values, times, -values)
    with pytest.raises(DeviceError, match="rising times"):
        estimate_delay(times[::-1], values, times, values)
    with pytest.raises(DeviceError, match="rising times"):
        estimate_delay(times[:5], values[:5], times, values)
    with pytest.raises(DeviceError, match="too little time in common"):
        estimate_delay(times, values, times + 4.0, values)
    long = np.arange(-1.0, 6.0, 0.01)
    with pytest.raises(DeviceError, match="larger than the longest"):
        estimate_delay(times, values, long, motion.displacement(long - 0.52))


def test_a_motion_that_repeats_itself_is_ambiguous():
    times = np.arange(0.0, 6.0, 0.01)
    with pytest.raises(DeviceError, match="equally well"):
        estimate_delay(times, np.sin(20 * times), times, np.sin(20 * (times - 0.1)))


@given(
    amplitude=st.floats(-0.1, 0.1).filter(lambda value: abs(value) > 1e-3),
    seconds=st.floats(0.5, 20.0),
    cycles=st.integers(1, 12),
)
def test_a_probe_motion_stays_on_its_side_and_within_its_speed(amplitude, seconds, cycles):
    motion = ProbeMotion(amplitude, seconds, cycles)
    times = np.linspace(-1.0, seconds + 1.0, 4000)
    way = motion.displacement(times) / amplitude
    assert way.min() >= 0.0
    assert way.max() <= 1.0
    assert way.max() > 0.99
    np.testing.assert_allclose(motion.displacement([-1.0, 0.0, seconds, seconds + 1]), 0, atol=1e-12)
    speed = np.abs(np.diff(motion.displacement(times)) / np.diff(times))
    assert speed.max() <= motion.peak_speed * 1.0001
    assert speed[0] == speed[-1] == 0.0


def test_an_impossible_motion_is_refused():
    for wrong in ({"amplitude": 0.0}, {"seconds": 0.0}, {"cycles": 0}, {"amplitude": float("nan")}):
        with pytest.raises(ConfigError, match="is no motion"):
            ProbeMotion(**wrong)


def test_a_latency_model_survives_its_file(tmp_path):
    now = "2026-01-01T12:00:00+00:00"
    robot, camera = DeviceLatency.of([0.05, 0.06, 0.07], now), DeviceLatency.of([0.0], now)
    model = LatencyModel({"robot": robot, "camera0_rgb": camera})
    (tmp_path / "latency.json").write_text(model.to_json())
    assert load_latency(tmp_path / "latency.json") == model
    assert model["robot"].median_s == 0.06
    assert 0.06 < model["robot"].p95_s <= 0.07
    with pytest.raises(UnknownNameError, match="camera0_rgb"):
        model["camera0"]
    with pytest.raises(ConfigError, match="finite"):
        DeviceLatency.of([], "")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2, "devices": {}}', '{"version": 1, "devices": {"robot": {}}}']
    + [
        json.dumps({"version": 1, "devices": {"robot": {**good, **wrong}}})
        for good in ({"median_s": 0.1, "p95_s": 0.1, "samples": 1, "measured": ""},)
        for wrong in ({"median_s": float("nan")}, {"p95_s": "soon"}, {"samples": None})
    ],
)
def test_what_is_no_latency_model_is_refused(tmp_path, text):
    (tmp_path / "latency.json").write_text(text)
    with pytest.raises(ConfigError, match=r"is not a latency model.*devices latency"):
        load_latency(tmp_path / "latency.json")
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        load_latency(tmp_path / "absent.json")
