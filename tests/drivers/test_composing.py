"""A robot from names and settings: what the command line and its files say."""

import pytest
from practice_arm import PracticeArmConfig

from robopolicy_datasets import registry
from robopolicy_datasets.errors import ConfigError, SpecError, UnknownNameError
from robopolicy_drivers.composing import make_composite
from robopolicy_drivers.configs import CompositeConfig
from robopolicy_drivers.conformance import check_driver


@pytest.fixture(autouse=True)
def practice_driver(monkeypatch):
    """Registers the practice arm as the driver "practice"."""
    monkeypatch.setattr(
        registry.robots,
        "config_class",
        lambda name, other=registry.robots.config_class: (
            PracticeArmConfig if name == "practice" else other(name)
        ),
    )
    monkeypatch.setattr(registry.robots, "names", lambda: ["composite", "practice", "sim"])


def folder(tmp_path, name):
    (tmp_path / name).mkdir(exist_ok=True)
    return {"driver": "practice", "folder": str(tmp_path / name)}


def test_two_arms_from_settings_are_one_robot(tmp_path):
    parts = {"left": folder(tmp_path, "left"), "right": {**folder(tmp_path, "right"), "action": "joint"}}
    robot = make_composite(CompositeConfig(parts=parts))
    assert robot.layout == {"robot0": slice(0, 6), "robot1": slice(6, 12)}
    assert check_driver(lambda: robot)


def test_a_file_names_parts_and_arguments_come_on_top(tmp_path):
    path = tmp_path / "cell.yaml"
    path.write_text(f"arm: {{driver: practice, folder: {tmp_path}, safety: {{force: warn}}}}\n")
    robot = make_composite(CompositeConfig(file=str(path), parts={"arm": {"rate_hz": 50}}))
    arm = robot.parts["robot0"]
    assert arm.config.rate_hz == 50.0
    assert arm.config.safety.force == "warn"


def test_a_simulated_robot_brings_its_cameras_into_the_whole():
    robot = make_composite(CompositeConfig(parts={"arm": {"driver": "sim"}}))
    assert [feature.key for camera in robot.cameras for feature in camera.spec.observation] == [
        "camera0_rgb",
        "camera1_rgb",
    ]
    with pytest.raises(SpecError, match=r"several cameras deliver camera0_rgb|Several cameras"):
        make_composite(CompositeConfig(parts={"a": {"driver": "sim"}, "b": {"driver": "sim"}}))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({}, ConfigError, r"robot\.parts\.arm\.driver"),
        ({"arm": {"folder": "x"}}, ConfigError, r"robot\.parts\.arm\.driver=.*practice"),
        ({"arm": {"driver": "practise"}}, UnknownNameError, "practice"),
        ({"arm": {"driver": "composite"}}, UnknownNameError, "composite"),
        ({"arm": {"driver": "practice", "foldr": "x"}}, UnknownNameError, "folder"),
        ({"arm": {"driver": "practice", "rate_hz": "fast"}}, ConfigError, "part 'arm'.*fast"),
        ({"arm": {"driver": "practice", "rate_hz": -1}}, ConfigError, "above 0"),
        ({"arm": {"driver": "practice", "safety": {"forces": "off"}}}, ConfigError, "forces"),
    ],
)
def test_bad_parts_are_refused(parts, error, message):
    with pytest.raises(error, match=message):
        make_composite(CompositeConfig(parts=parts))


@pytest.mark.parametrize("text", ["arm: [1,", "- a\n- b\n", "arm: 3\n", None])
def test_bad_files_are_refused(tmp_path, text):
    path = tmp_path / "cell.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"cell\.yaml"):
        make_composite(CompositeConfig(file=str(path)))
