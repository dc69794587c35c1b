"""Embodiment data: published kinematics, clear refusals."""

import json
from dataclasses import FrozenInstanceError
from importlib.resources import files

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import embodiment_from_json, embodiment_names, load_embodiment

# Published standard Denavit-Hartenberg rows of the UR5e: d [m], a [m], alpha [rad].
UR5E_DH = [
    (0.1625, 0.0, np.pi / 2),
    (0.0, -0.425, 0.0),
    (0.0, -0.3922, 0.0),
    (0.1333, 0.0, np.pi / 2),
    (0.0997, 0.0, -np.pi / 2),
    (0.0996, 0.0, 0.0),
]


def dh_pose(positions):
    pose = np.eye(4)
    for angle, (d, a, alpha) in zip(positions, UR5E_DH, strict=True):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        row = [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        pose = pose @ np.array(row)
    return pose


def ur5e_data():
    return json.loads(files("robopolicy_drivers.embodiments").joinpath("ur5e.json").read_text())


def test_ur5e_matches_the_published_kinematics():
    embodiment = load_embodiment("ur5e")
    kinematics = Kinematics(embodiment)
    flange_to_tcp = np.eye(4)
    flange_to_tcp[2, 3] = embodiment.tcp[0][2] - embodiment.flange[0][2]
    for positions in np.random.default_rng(0).uniform(-np.pi, np.pi, (20, 6)):
        np.testing.assert_allclose(
            kinematics.forward(positions), dh_pose(positions) @ flange_to_tcp, atol=1e-12
        )


def test_home_is_within_limits_and_points_down():
    embodiment = load_embodiment("ur5e")
    lower, upper = embodiment.position_limits.T
    assert np.all((embodiment.home_positions > lower) & (embodiment.home_positions < upper))
    np.testing.assert_allclose(
        Kinematics(embodiment).forward(embodiment.home_positions)[:3, 2], [0, 0, -1], atol=1e-4
    )
    assert embodiment.velocity_limits.shape == embodiment.effort_limits.shape == (6,)
    assert embodiment.acceleration_limits.shape == (6,)
    assert embodiment.joint_names[0] == "shoulder_pan"


def test_an_embodiment_does_not_change():
    embodiment = load_embodiment("ur5e")
    with pytest.raises(FrozenInstanceError):
        embodiment.name = "other"
    with pytest.raises(ValueError, match="read-only"):
        embodiment.velocity_limits[0] = 9.0


def test_an_unknown_name_gets_the_nearest():
    assert "ur5e" in embodiment_names()
    with pytest.raises(UnknownNameError, match="ur5e"):
        load_embodiment("ur5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("home"), "home"),
        (lambda data: data.update(home=[0.0, 0.0]), "6 joints but 2"),
        (lambda data: data["joints"][1].update(axis=[0, 0, 2]), "length 1"),
        (lambda data: data["joints"][1].update(inertia=[1, 2]), "'inertia'; 3 are needed"),
        (lambda data: data["joints"][1].update(colour="red"), "colour"),
        (lambda data: data["gripper"].pop("force"), "force"),
    ],
)
def test_damaged_data_is_refused(change, message):
    data = ur5e_data()
    change(data)
    with pytest.raises(ConfigError, match=message):
        embodiment_from_json(data)
