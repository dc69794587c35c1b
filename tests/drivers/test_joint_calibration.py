"""No joint that was calibrated can wrap around, wherever its encoder begins."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.calibration.joints import (
    TURN,
    WIDEST,
    JointCalibration,
    RangeRecorder,
    load_joints,
    save_joints,
)

JOINTS = [JointCalibration("pan", 1, 100, 900, 3196), JointCalibration("lift", 2, -2047, 1, 4095, -1)]
NAMES = {1: "pan", 2: "lift"}


def recorded(begin, ways):
    """Moves a joint from one place to the next in steps that a hand could make."""
    recorder, places = RangeRecorder("pan", 1, begin % TURN), [begin]
    for way in ways:
        end = places[-1] + way
        step = 300 if way > 0 else -300
        for place in [*range(places[-1], end, step), end]:
            recorder.add(place % TURN)
            places.append(place)
    return recorder, places


@given(begin=st.integers(-3 * TURN, 3 * TURN), up=st.integers(1, WIDEST), down=st.integers(0, WIDEST))
def test_a_recorded_range_never_wraps(begin, up, down):
    """Within it counts grow with the shaft, one by one, and lie between its ends."""
    down = min(down, WIDEST - up)
    recorder, places = recorded(begin, [up, -up - down])
    joint = recorder.result(1)
    lowest, highest = min(places), max(places)
    assert highest - lowest == up + down == joint.upper - joint.lower
    assert joint.lower == joint.told(lowest % TURN)
    for place in {lowest, (lowest + highest) // 2, begin, highest}:
        assert joint.told(place % TURN) == joint.lower + place - lowest
    assert abs(joint.middle - TURN / 2) <= 1


@given(begin=st.integers(0, TURN - 1), beyond=st.integers(WIDEST + 1, 3 * TURN))
def test_nearly_a_turn_is_refused_however_it_is_reached(begin, beyond):
    with pytest.raises(DeviceError, match="Begin again and turn it less"):
        recorded(begin, [beyond])


@given(begin=st.integers(0, TURN - 1), jump=st.integers(TURN // 4 + 1, TURN - TURN // 4 - 1))
def test_a_jump_is_refused(begin, jump):
    with pytest.raises(DeviceError, match="move it slower"):
        RangeRecorder("pan", 1, begin).add((begin + jump) % TURN)


@given(lower=st.integers(-TURN, 2 * TURN), upper=st.integers(-TURN, 2 * TURN))
def test_a_range_over_the_end_of_the_encoder_is_refused(lower, upper):
    if 0 <= lower < upper < TURN:
        assert JointCalibration("pan", 1, 0, lower, upper).middle == (lower + upper) / 2
    else:
        with pytest.raises(ConfigError, match="would turn the wrong way round"):
            JointCalibration("pan", 1, 0, lower, upper)


@pytest.mark.parametrize("numbers", [{"offset": 2048}, {"offset": -2048}, {"direction": 0}])
def test_what_no_servo_can_keep_is_refused(numbers):
    with pytest.raises(ConfigError, match=r"offset .* direction"):
        JointCalibration(**{"name": "pan", "servo": 1, "offset": 0, "lower": 0, "upper": 9} | numbers)


def test_a_file_comes_back_and_shows_every_change(tmp_path):
    file = tmp_path / "arm.json"
    save_joints(file, "so101", JOINTS)
    assert load_joints(file, "so101", NAMES) == JOINTS
    with pytest.raises(ConfigError, match=r"'so100' with .* is to be moved"):
        load_joints(file, "so100", NAMES)
    with pytest.raises(ConfigError, match="with the servos"):
        load_joints(file, "so101", {1: "pan", 3: "lift"})
    content = json.loads(file.read_text())
    content["joints"][0]["upper"] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"was changed after it was recorded: its checksum is"):
        load_joints(file, "so101", NAMES)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"checksum": "0", "joints": 3}'])
def test_what_is_no_calibration_is_named(tmp_path, text):
    file = tmp_path / "arm.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"arm\.json.*robopolicy devices calibrate joints"):
        load_joints(file, "so101", NAMES)
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        load_joints(tmp_path / "nowhere.json", "so101", NAMES)
