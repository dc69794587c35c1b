"""The doctor's checks: every planted fault is found where it is, and sound data is left in peace."""

from __future__ import annotations

import numpy as np
import pytest

from robopolicy_datasets.doctor import time_checks
from robopolicy_datasets.doctor.check import check_store
from robopolicy_datasets.doctor.findings import Severity
from robopolicy_datasets.doctor.frames import FrameFigures
from robopolicy_datasets.doctor.limits import Limits
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.diffusion_policy import import_store
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.layout import to_json_bytes


def test_sound_recordings_have_no_findings(recording):
    calls = []
    assert check_store(recording, progress=lambda *call: calls.append(call)) == []
    assert calls[-1] == (7, 7)


def test_an_empty_store_has_no_findings(tmp_path, recording_spec):
    assert check_store(DemoStore.create(tmp_path / "a.zarr", recording_spec, rate_hz=10)) == []


FAULTS = {
    # code: (episode, key, steps, values, steps reported, severity)
    "time_duplicate": (2, "time_ns", slice(5, None), lambda old: old - 100_000_000, (5, 5), "error"),
    "time_gap": (1, "time_ns", slice(20, None), lambda old: old + 350_000_000, (20, 20), "warning"),
    "not_finite": (3, "robot0_joint_pos", slice(7, 9), np.nan, (7, 8), "error"),
    "black_images": (4, "camera0_rgb", slice(0, 3), 1, (0, 2), "warning"),
    "frozen_images": (5, "camera0_rgb", slice(10, 25), 77, (11, 24), "warning"),
    "action_jump": (
        6,
        "action",
        slice(30, 31),
        lambda old: old + np.array([0.0, 0.4, 0, 0, 0, 0, 0]),
        (30, 31),
        "warning",
    ),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found_where_it_is(recording, spoil, code):
    episode, key, steps, values, reported, severity = FAULTS[code]
    (finding,) = check_store(spoil(recording, episode, key, steps, values))
    assert (finding.code, finding.severity, finding.episode) == (code, severity, episode)
    assert finding.steps == reported
    assert finding.key == ("" if key == "time_ns" else key)
    assert "`robopolicy data" in finding.message
    assert finding.to_json()["steps"] == list(reported)


def test_time_that_runs_back_is_an_error(recording, spoil):
    spoiled = spoil(recording, 2, "time_ns", slice(25, None), lambda old: old - 10_000_000_000)
    (finding,) = check_store(spoiled)
    assert (finding.code, finding.steps) == (time_checks.BACKWARD, (25, 25))
    assert "9.9 s" in finding.message


def test_a_wrong_rate_is_told_once_and_makes_no_gaps(tmp_path, recording_spec, record):
    store = DemoStore.create(tmp_path / "a.zarr", recording_spec, rate_hz=30)
    for number in range(3):
        store.append_episode(record(40, number), time_ns=np.arange(40) * 100_000_000)
    (finding,) = check_store(store)
    assert (finding.code, finding.episode) == ("wrong_rate", None)
    assert "100 ms" in finding.message


UNITS = {
    "robot0_joint_pos": ("looks_like_degrees", lambda old: np.degrees(old)),
    "robot0_eef_rot_axis_angle": ("looks_like_degrees", lambda old: np.degrees(old)),
    "robot0_eef_pos": ("looks_like_millimetres", lambda old: 1000 * old),
    "robot0_gripper_width": ("width_range", lambda old: 1000 * old),
}


@pytest.mark.parametrize("key", UNITS)
def test_suspicious_units_are_told_for_the_whole_store(tmp_path, recording_spec, record, key):
    code, change = UNITS[key]
    store = DemoStore.create(tmp_path / "a.zarr", recording_spec, rate_hz=10)
    for number in range(3):
        data = record(40, number)
        store.append_episode(data | {key: change(data[key])})
    (finding,) = check_store(store)
    assert (finding.code, finding.key, finding.episode) == (code, key, None)


def test_a_negative_gripper_width_is_told(recording, spoil):
    spoiled = spoil(recording, 0, "robot0_gripper_width", slice(0, 4), -0.01)
    assert [finding.code for finding in check_store(spoiled)] == ["width_range"]


def test_pixels_are_not_taken_for_millimetres(tmp_path):
    spec = Spec((Feature("agent_pos", (2,), kind="position", unit="px"),), (Feature("action", (2,)),))
    store = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=10)
    path = np.linspace(0, 500, 60).reshape(30, 2).astype(np.float32)
    store.append_episode({"agent_pos": path, "action": path})
    assert check_store(store) == []


def test_saturated_cameras_are_told_for_the_whole_store(tmp_path, recording_spec, record):
    store = DemoStore.create(tmp_path / "a.zarr", recording_spec, rate_hz=10)
    for number in range(3):
        data = record(40, number)
        data["camera0_rgb"][:, 1:] = 255
        data["camera0_rgb"][:, 0, 1:] = 255
        store.append_episode(data)
    assert [finding.code for finding in check_store(store)] == ["saturated_images"]


@pytest.mark.parametrize(("length", "word"), [(6, "short"), (200, "long")])
def test_episodes_of_unusual_length_are_told(recording, record, length, word):
    severity = Severity.WARNING if word == "short" else Severity.NOTE
    recording.append_episode(record(length, 9))
    findings = check_store(recording)
    (finding,) = [finding for finding in findings if finding.code == "length_outlier"]
    assert (finding.episode, finding.severity) == (7, severity)
    assert word in finding.message


def test_steps_of_an_unfinished_episode_are_told(recording):
    array = BlockArray.open(recording.path / "data" / "action")
    (array.folder / "zarr.json").write_bytes(to_json_bytes(array.layout.metadata(array.rows + 11)))
    (finding,) = check_store(DemoStore.open(recording.path))
    assert (finding.code, finding.severity) == ("unfinished", Severity.WARNING)
    assert "11 steps" in finding.message


@pytest.mark.parametrize("key", ["camera0_rgb", "action"])
def test_damaged_bytes_are_findings_and_the_rest_is_checked(recording, spoil, key):
    spoiled = spoil(recording, 6, "robot0_eef_pos", slice(4, 5), np.inf)
    block = sorted((recording.path / "data" / key).glob("c.*"))[0]
    content = bytearray(block.read_bytes())
    content[20:40] = b"x" * 20
    block.write_bytes(content)
    findings = check_store(spoiled)
    damaged = [finding.episode for finding in findings if finding.code == "unreadable"]
    assert damaged == ([0] if key == "camera0_rgb" else list(range(7)))  # one frame, or the block of all
    assert all(str(block) in finding.message for finding in findings if finding.code == "unreadable")
    rest = [finding.episode for finding in findings if finding.code == "not_finite"]
    assert rest == ([6] if key == "camera0_rgb" else [])


def test_limits_can_be_changed(recording, spoil):
    spoiled = spoil(recording, 1, "time_ns", slice(20, None), lambda old: old + 350_000_000)
    assert check_store(spoiled, Limits(gap_periods=5)) == []


def test_images_that_do_not_change_while_nothing_moves_are_fine(tmp_path, recording_spec, record):
    store = DemoStore.create(tmp_path / "a.zarr", recording_spec, rate_hz=10)
    data = record(60)
    still = {key: np.concatenate([np.repeat(values[:1], 30, axis=0), values]) for key, values in data.items()}
    store.append_episode(still)
    assert check_store(store) == []


def test_depth_images_are_checked_for_nan_and_for_no_distance(tmp_path):
    depth = Feature("camera0_depth", (8, 8), kind="depth", unit="m")
    store = DemoStore.create(tmp_path / "a.zarr", Spec((depth,), (Feature("action", (1,)),)), rate_hz=10)
    distance = np.random.default_rng(0).uniform(0.3, 2, (20, 8, 8)).astype(np.float32)
    distance[5] = 0
    store.append_episode({"camera0_depth": distance, "action": np.linspace(0, 1, 20)[:, None]})
    (finding,) = check_store(store)
    assert (finding.code, finding.steps) == ("black_images", (5, 5))
    figures = FrameFigures.empty(20)
    figures.measure(store, depth, 0, 20)
    assert figures.finite.all()


def test_blocks_of_images_join_without_a_seam(recording, monkeypatch):
    feature = recording.spec["camera0_rgb"]
    whole, parts = (FrameFigures.empty(recording.num_steps) for _ in range(2))
    whole.measure(recording, feature, 0, 40)
    monkeypatch.setattr("robopolicy_datasets.doctor.frames._BLOCK_BYTES", 3 * feature.size)
    parts.measure(recording, feature, 0, 40)
    for name in ("brightness", "saturated", "repeats", "finite"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_the_human_pusht_demonstrations_are_sound(shared_data, tmp_path):
    source = shared_data / "pusht_columbia" / "pusht_cchi_v7_replay.zarr"
    if not source.is_dir():
        pytest.skip(f"{source} is missing")
    layout = {
        "img": "camera0_rgb",
        "state": {"agent_pos": [0, 2], "block_pos": [2, 4], "block_angle": [4, 5]},
        "action": "action",
    }
    features = {
        "camera0_rgb": {"kind": "rgb"},
        **{key: {"kind": "position", "unit": "px"} for key in ("agent_pos", "block_pos", "action")},
        "block_angle": {"kind": "angle", "unit": "rad"},
    }
    config = DiffusionPolicyFormatConfig(rate_hz=10, layout=layout, features=features)
    assert check_store(import_store(config, source, tmp_path / "pusht.zarr")) == []
