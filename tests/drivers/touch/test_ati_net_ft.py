"""ATI Net F/T: our client, an own emulator in a process of its own, and NetFT 2.0.1 beside them."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
from device_targets import wait_until
from hypothesis import given
from hypothesis import strategies as st
from sensor_faults import noticed

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_quaternion
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.touch import rdt
from robopolicy_drivers.touch.ati_net_ft import KEY, AtiNetFt, AtiNetFtSource, wrench_transform
from robopolicy_drivers.touch.configs import AtiNetFtConfig

pytestmark = pytest.mark.realtime

HOST = "127.0.0.1"
NUMBER = st.integers(0, 2**32 - 1)
COUNT = st.integers(-(2**31), 2**31 - 1)


@pytest.fixture
def box(emulator):
    """An emulator, and the config that reaches it."""
    started = emulator("net_ft", HOST, 1000)
    port, web_port = map(int, started.told)
    started.config = AtiNetFtConfig(host=HOST, port=port, web_port=web_port)
    return started


def first_wrench(config):
    """The first wrench that a source brings, without a process of its own."""
    source = AtiNetFtSource(config)
    try:
        source.open()
        while (sample := source.read()) is None:
            pass
        return sample[1][KEY]
    finally:
        source.close()


def netft_sensor(host):
    netft = pytest.importorskip("NetFT", reason="the package NetFT is not installed")
    return netft.Sensor(host)


# --- the protocol -------------------------------------------------------------------------------------------


@given(sequence=NUMBER, sample=NUMBER, status=NUMBER, counts=st.tuples(*[COUNT] * 6))
def test_records_are_read_as_they_were_written(sequence, sample, status, counts):
    packet = b"".join(number.to_bytes(4, "big") for number in (sequence, sample, status))
    packet += b"".join(count.to_bytes(4, "big", signed=True) for count in counts)
    assert rdt.parse_record(packet) == (sequence, sample, status, counts)


@given(st.binary(max_size=200).filter(lambda packet: len(packet) != 36))
def test_what_is_no_record_is_refused(packet):
    with pytest.raises(DeviceError, match=f"{len(packet)} bytes came; an RDT record has 36"):
        rdt.parse_record(packet)


@given(sequence=NUMBER, missing=st.integers(0, 2**31 - 2))
def test_gaps_are_counted_across_the_end_of_the_numbers(sequence, missing):
    following = (sequence + 1 + missing) % 2**32
    assert rdt.missing_between(sequence, following) == missing
    assert rdt.missing_between(following, sequence) < 0


@given(NUMBER)
def test_every_bit_of_the_status_is_named(status):
    bits = {bit for bit in range(31) if status >> bit & 1} - {16}
    assert len(rdt.faults(status)) == len(bits)
    assert rdt.faults(0x80010000) == []  # a threshold of the user's
    assert rdt.faults(0x80020000) == ["transducer saturated, or A/D converter error"]


@pytest.mark.parametrize("ours", [rdt.request(rdt.START_REAL_TIME), rdt.request(rdt.STOP)])
def test_requests_are_those_of_netft_byte_for_byte(ours, monkeypatch):
    """NetFT cannot be given a port: its messages are caught where it sends them."""
    sensor, sent = netft_sensor(HOST), []
    sensor.sock.close()
    sensor.sock = type("Socket", (), {"send": lambda self, message: sent.append(message)})()
    if ours == rdt.request(rdt.STOP):
        monkeypatch.setattr("NetFT.sleep", lambda seconds: None)
        sensor.stopStreaming()
    else:
        sensor.startStreaming(handler=False)
    assert sent == [ours]


def test_netft_reads_the_emulator_as_we_do(box):
    sensor = netft_sensor(HOST)
    sensor.sock.connect((HOST, box.config.port))
    box.tell("load 1000000 -2000000 3000000 4000000 -5000000 6000000")
    theirs = np.array(sensor.getMeasurement()) / np.repeat([1e6, 2e6], 3)
    sensor.sock.close()
    np.testing.assert_allclose(theirs, [1.0, -2.0, 3.0, 2.0, -2.5, 3.0])
    np.testing.assert_allclose(first_wrench(box.config), theirs, rtol=1e-6)


# --- the wrench at the tool ---------------------------------------------------------------------------------


@given(*[st.tuples(*[st.floats(-1, 1)] * 3) for _ in range(4)])
def test_the_wrench_is_moved_as_the_power_of_any_motion_asks(position, turn, force, torque):
    """The power of a wrench does not depend on the frame that it and the velocity are told in."""
    quaternion = matrix_to_quaternion(axis_angle_to_matrix(np.array(turn)))
    moved = wrench_transform(list(position), quaternion.tolist()) @ np.concatenate([force, torque])
    rotation = axis_angle_to_matrix(np.array(turn))
    for velocity in np.eye(6):  # of the TCP, linear (3) and angular (3), in its own frame
        at_sensor = rotation.T @ (velocity[:3] + np.cross(velocity[3:], position))
        power = at_sensor @ np.array(force) + rotation.T @ velocity[3:] @ np.array(torque)
        assert moved @ velocity == pytest.approx(power, abs=1e-9)


def test_a_sensor_above_the_tool_gives_the_wrench_at_the_tcp(box):
    box.config.sensor_position = [0.0, 0.0, -0.1]
    box.tell("load 2000000 0 0 0 0 0")
    np.testing.assert_allclose(first_wrench(box.config), [2.0, 0.0, 0.0, 0.0, -0.2, 0.0], atol=1e-6)


# --- the driver ---------------------------------------------------------------------------------------------


def test_it_conforms(box):
    assert check_sensor(lambda: AtiNetFt(box.config))


def test_every_record_arrives_at_the_rate_of_the_sensor(box):
    with AtiNetFt(box.config) as sensor:
        first = sensor.ring.latest
        begun = time.monotonic()
        time.sleep(1.0)
        rate = (sensor.ring.latest - first) / (time.monotonic() - begun)
        records = sensor.ring.history(900)
    samples = np.array([record.data[KEY][0] * 1e6 for record in records])
    gaps = np.diff([record.time_ns for record in records]) / 1e6
    p50, p99 = np.percentile(gaps, [50, 99])
    print(f"ATI Net F/T: {rate:.0f} Hz of 1000; between records p50 {p50:.2f}, p99 {p99:.2f} ms")
    assert np.all(np.rint(np.diff(samples)) == 1)  # none is missing


def test_zero_takes_the_present_load_for_none(box):
    box.tell("load 5000000 0 -7000000 0 2000000 0")
    with AtiNetFt(box.config) as sensor:
        time.sleep(0.25)
        sensor.zero()
        np.testing.assert_allclose(sensor.read()[1][KEY], np.zeros(6), atol=1e-5)
        box.tell("load 6000000 0 -7000000 0 2000000 0")
        assert wait_until(lambda: abs(sensor.read()[1][KEY][0] - 1.0) < 1e-5)


def test_lost_records_are_counted(box, caplog):
    source = AtiNetFtSource(box.config)
    source.open()
    box.tell("lose 7")
    assert wait_until(lambda: source.read() and source.lost == 7)
    source.close()
    assert "7 records were lost" in caplog.text


def test_counts_can_be_given_where_the_box_has_no_web_page(box):
    config = AtiNetFtConfig(host=HOST, port=box.config.port, counts_per_force=1e6, counts_per_torque=2e6)
    box.tell("load 1000000 0 0 2000000 0 0")
    assert first_wrench(config)[[0, 3]].tolist() == [1.0, 1.0]
    with pytest.raises(ConfigError, match="both"):
        AtiNetFtConfig(counts_per_force=1e6)


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("status 80020000", "transducer saturated"),
        ("garble", "32 bytes came; an RDT record has 36"),
    ],
)
def test_a_fault_that_the_sensor_tells_ends_the_reading(box, reaction, fault, words):
    with AtiNetFt(box.config) as sensor:
        box.tell(fault)
        reaction(f"'{fault}'", noticed(sensor, words))


def test_a_threshold_of_the_users_is_no_fault(box):
    box.tell("status 80010000")
    assert np.isfinite(first_wrench(box.config)).all()


def test_a_sensor_that_dies_is_noticed(box, reaction):
    with AtiNetFt(box.config) as sensor:
        box.kill()
        reaction("a killed sensor", noticed(sensor, "power"))


def test_a_cut_cable_is_noticed(box, reaction):
    with AtiNetFt(box.config) as sensor:
        box.freeze()
        reaction("a cut cable", noticed(sensor, "Its cable or power is gone"))


def test_another_program_that_asks_for_the_records_is_noticed(box, reaction):
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.connect((HOST, box.config.port))
    with AtiNetFt(box.config) as sensor, other:
        other.send(rdt.request(rdt.START_REAL_TIME))
        reaction("a second reader", noticed(sensor, "to the last who asked"))


@pytest.mark.parametrize(
    "settings",
    [
        {"sensor_position": [0.0, 0.0]},
        {"sensor_quaternion": [1.0, 0.0, 0.0]},
        {"sensor_quaternion": [0.0] * 4},
    ],
)
def test_a_place_that_is_none_is_refused(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} is .*; give"):
        AtiNetFtConfig(**settings)


def test_a_missing_sensor_is_refused():
    with pytest.raises(DeviceError, match=r"does not tell its calibration.*counts_per_force"):
        AtiNetFtSource(AtiNetFtConfig(host=HOST, web_port=9)).open()
    with pytest.raises(DeviceError, match=r"nothing listens there.*ping"):
        AtiNetFtSource(AtiNetFtConfig(host=HOST, port=9, counts_per_force=1e6, counts_per_torque=1e6)).open()


def test_a_silent_address_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        config = AtiNetFtConfig(
            host=HOST, port=silent.getsockname()[1], counts_per_force=1e6, counts_per_torque=1e6
        )
        with pytest.raises(DeviceError, match=r"did not answer.*RDT is enabled"):
            AtiNetFtSource(config).open()


def test_a_sensor_that_is_set_up_otherwise_is_refused(box):
    box.config.rate_hz = 500.0
    with pytest.raises(DeviceError, match=r"sends at 1000 Hz, but rate_hz is 500.*rate_hz=1000"):
        AtiNetFtSource(box.config).open()
    box.config.rate_hz = 1000.0
    box.tell("units lbf lbf-in")
    with pytest.raises(DeviceError, match=r"'lbf' and 'lbf-in'.*Set its units to N and N-m"):
        AtiNetFtSource(box.config).open()
    for page in ("hello", "<netFTApi></netFTApi>", "<netFTApi><cfgcpf>many</cfgcpf></netFTApi>"):
        box.tell(f"page {page}")
        with pytest.raises(DeviceError, match=r"does not tell its calibration|'' and ''"):
            AtiNetFtSource(box.config).open()
