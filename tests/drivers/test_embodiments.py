"""Embodiment data: published kinematics, bodies that can exist, clear refusals."""

import copy
import json
from dataclasses import FrozenInstanceError
from importlib.resources import files

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import embodiment_from_json, embodiment_names, load_embodiment

NAMES = embodiment_names()
ROTORS = [name for name in NAMES if (base := load_embodiment(name).base) and base.rotors]
HALF = np.pi / 2
STANDARD_ALPHA = (HALF, 0, 0, HALF, -HALF, 0)

# Universal Robots' published standard Denavit-Hartenberg parameters: d [m], a [m].
STANDARD_DH = {
    "ur3e": ((0.15185, 0, 0, 0.13105, 0.08535, 0.0921), (0, -0.24355, -0.2132, 0, 0, 0)),
    "ur5e": ((0.1625, 0, 0, 0.1333, 0.0997, 0.0996), (0, -0.425, -0.3922, 0, 0, 0)),
    "ur10e": ((0.1807, 0, 0, 0.17415, 0.11985, 0.11655), (0, -0.6127, -0.57155, 0, 0, 0)),
}
# Franka's published parameters in Craig's convention, flange included: d [m], a [m], alpha [rad].
CRAIG_DH = {
    "fr3": (
        (0.333, 0, 0.316, 0, 0.384, 0, 0, 0.107),
        (0, 0, 0, 0.0825, -0.0825, 0, 0.088, 0),
        (0, -HALF, HALF, HALF, -HALF, HALF, HALF, 0),
    )
}


def turn(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(4)
    first, second = ((0, 1), (1, 2))[axis == "x"]
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def shift(x, z):
    matrix = np.eye(4)
    matrix[0, 3], matrix[2, 3] = x, z
    return matrix


def standard_flange(name, positions):
    pose = np.eye(4)
    for angle, d, a, alpha in zip(positions, *STANDARD_DH[name], STANDARD_ALPHA, strict=True):
        pose = pose @ turn("z", angle) @ shift(a, d) @ turn("x", alpha)
    return pose


def craig_flange(name, positions):
    pose = np.eye(4)
    for angle, d, a, alpha in zip((*positions, 0.0), *CRAIG_DH[name], strict=True):
        pose = pose @ turn("x", alpha) @ shift(a, 0) @ turn("z", angle) @ shift(0, d)
    return pose


def tool_of(name):
    """The TCP seen from the flange, whose frame in the published parameters is not turned."""
    embodiment = load_embodiment(name)
    flange = np.eye(4)
    flange[:3, 3] = embodiment.flange.position
    return np.linalg.inv(flange) @ embodiment.tcp.matrix


def data_of(name):
    return json.loads(files("robopolicy_drivers.embodiments").joinpath(f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "flange"),
    [*((name, standard_flange) for name in STANDARD_DH), *((name, craig_flange) for name in CRAIG_DH)],
)
def test_kinematics_equal_the_published_parameters(name, flange):
    kinematics = Kinematics(load_embodiment(name))
    for positions in np.random.default_rng(0).uniform(-np.pi, np.pi, (20, kinematics.num_joints)):
        expected = flange(name, positions) @ tool_of(name)
        np.testing.assert_allclose(kinematics.forward(positions), expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_small_says_where_its_numbers_come_from_and_is_found_by_its_name(name):
    embodiment = load_embodiment(name)
    assert embodiment.name == name
    assert embodiment.sources
    assert files("robopolicy_drivers.embodiments").joinpath(f"{name}.json").stat().st_size < 8000
    joints = len(embodiment.joints)
    assert embodiment.position_limits.shape == (joints, 2)
    assert embodiment.velocity_limits.shape == embodiment.effort_limits.shape == (joints,)
    assert embodiment.acceleration_limits.shape == embodiment.home_positions.shape == (joints,)
    assert embodiment.joint_transforms.shape == (joints, 4, 4)


@pytest.mark.parametrize("name", [name for name in NAMES if load_embodiment(name).gripper])
def test_the_tool_points_from_the_flange_to_the_tcp(name):
    embodiment = load_embodiment(name)
    seen = np.linalg.inv(embodiment.flange.matrix) @ embodiment.tcp.matrix
    np.testing.assert_allclose(seen[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(seen[:2, 3], 0, atol=1e-9)
    assert seen[2, 3] > 0.05


@pytest.mark.parametrize("name", ["ur3e", "ur5e", "ur10e", "fr3"])
def test_at_home_the_tool_points_down(name):
    embodiment = load_embodiment(name)
    pose = Kinematics(embodiment).forward(embodiment.home_positions)
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-4)


@pytest.mark.parametrize("name", ROTORS)
def test_the_rotors_carry_the_weight_with_room_and_without_a_torque(name):
    embodiment = load_embodiment(name)
    base = embodiment.base
    weight = np.array([0, 0, 9.81 * embodiment.mass, 0, 0, 0])
    thrusts = np.linalg.lstsq(base.wrench_matrix, weight, rcond=None)[0]
    np.testing.assert_allclose(base.wrench_matrix @ thrusts, weight, atol=1e-9)
    assert np.all((thrusts > 0.2 * base.thrust_limits) & (thrusts < 0.8 * base.thrust_limits))


def test_tilted_rotors_move_the_base_along_all_six_axes_and_level_ones_along_four():
    ranks = {name: np.linalg.matrix_rank(load_embodiment(name).base.wrench_matrix) for name in ROTORS}
    assert ranks == {"aerial_manipulator": 6, "quadrotor": 4}


def test_a_tool_without_joints_has_one_pose():
    embodiment = load_embodiment("flying_gripper")
    pose, jacobian = Kinematics(embodiment).forward_and_jacobian(np.zeros((3, 0)))
    np.testing.assert_array_equal(pose, np.broadcast_to(embodiment.tcp_transform, (3, 4, 4)))
    assert jacobian.shape == (3, 6, 0)


def test_an_embodiment_does_not_change():
    embodiment = load_embodiment("ur5e")
    with pytest.raises(FrozenInstanceError):
        embodiment.name = "other"
    with pytest.raises(ValueError, match="read-only"):
        embodiment.velocity_limits[0] = 9.0


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="ur5e"):
        load_embodiment("ur5")


def test_a_file_of_ones_own_is_found_by_its_path(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**data_of("so101"), "name": "mine"}))
    assert load_embodiment(str(path)).name == "mine"
    with pytest.raises(ConfigError, match=r"no embodiment file .*other\.json"):
        load_embodiment(str(tmp_path / "other.json"))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_embodiment(str(broken))


def test_a_gripper_is_optional_and_asking_for_it_says_so():
    data = data_of("ur5e")
    data.pop("gripper")
    embodiment = embodiment_from_json(data)
    with pytest.raises(ConfigError, match="'ur5e' has no gripper"):
        _ = embodiment.parallel_gripper


TOUCH = {"key": "robot0_tactile0_markers", "finger": "left", "size": [0.02, 0.02], "rate_hz": 30}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("home"), "lacks home"),
        (lambda data: data.update(home=[0.0, 0.0]), "6 joints but 2"),
        (lambda data: data["home"].__setitem__(2, 4.0), "home position 4 rad of joint 'elbow' .* limits"),
        (lambda data: data.update(joints=[], home=[]), "neither joints nor a flying base"),
        (lambda data: data["joints"][1].update(axis=[0, 0, 2]), "'shoulder_lift'.* length 1"),
        (lambda data: data["joints"][1].update(quaternion=[1, 1, 0, 0]), "quaternion .* length 1"),
        (lambda data: data["joints"][1].update(inertia=[1, 2]), r"joints\[1\].inertia has 2 entries; 3 are"),
        (lambda data: data["joints"][1].update(inertia=[0.1, 0.1, 0.3]), "triangle inequality"),
        (lambda data: data["joints"][1].update(inertia=[0.1, 0.1, 0]), "must be above 0"),
        (lambda data: data["joints"][1].update(mass=-1), "'shoulder_lift' has the mass -1"),
        (lambda data: data["joints"][1].update(position_limits=[1, -1]), "position limits cross"),
        (lambda data: data["joints"][1].update(colour="red"), "unknown field 'colour'"),
        (lambda data: data["joints"][1].update(vellocity_limit=1), "Allowed: velocity_limit"),
        (lambda data: data["joints"][1].update(capsules=3), "capsules is 3; a list is needed"),
        (lambda data: data["gripper"].pop("force"), "lacks force"),
        (lambda data: data["gripper"].update(min_width=0.2), "openings cross"),
        (lambda data: data.update(gripper=[]), "gripper is .*an object"),
        (
            lambda data: data["cameras"][0].update(frame="hand"),
            "frame is 'hand'. Allowed: base, tcp|tcp, base",
        ),
        (lambda data: data["cameras"][0].update(image_size=[2.5, 3]), r"image_size\[0\] is 2.5; a whole"),
        (lambda data: data["latencies"].update(camera=-0.1), "latencies cross"),
        (lambda data: data.update(touch=[{**TOUCH, "markers": [0, 9]}]), "markers cross"),
        (lambda data: data.update(name=3), "name is 3; a text is needed"),
    ],
)
def test_damaged_data_is_refused(change, message):
    data = data_of("ur5e")
    embodiment_from_json(data)
    change(data)
    with pytest.raises(ConfigError, match=message):
        embodiment_from_json(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": 0}, "flying base has the mass 0"),
        ({"inertia": [0.1, 0.1, 0.5]}, "triangle"),
        ({"tilt_limit": 0}, "tilt_limit"),
        ({"geofence_lower": [9, 9, 9]}, "geofence cross"),
        ({"rotors": 6}, "a list"),
    ],
)
def test_a_flying_base_that_cannot_be_is_refused(change, message):
    data = data_of("aerial_manipulator")
    data["base"].update(change)
    with pytest.raises(ConfigError, match=message):
        embodiment_from_json(data)


def places(data, path=()):
    """Yields the path of every number in plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))
    if isinstance(data, int | float):
        yield path


PLACES = [(name, path) for name in NAMES for path in places(data_of(name))]


@given(st.sampled_from(PLACES), st.sampled_from(["1", None, True, [1.0], {}, float("nan"), float("inf")]))
def test_whatever_stands_in_the_place_of_a_number_is_refused_by_its_place(place, value):
    name, path = place
    data = copy.deepcopy(data_of(name))
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    with pytest.raises(ConfigError) as refusal:
        embodiment_from_json(data)
    words = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    assert str(refusal.value).startswith(f"embodiment{words} is ")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """An installed package that registers two embodiments, of which one has a file."""
    package, metadata = tmp_path / "lab_bodies", tmp_path / "lab_bodies-0.1.dist-info"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lab_arm.json").write_text(json.dumps(data_of("fr3") | {"name": "lab_arm"}))
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-bodies\nVersion: 0.1\n")
    names = "".join(f"{name} = lab_bodies\n" for name in ("lab_arm", "lab_ghost", "ur5e"))
    (metadata / "entry_points.txt").write_text(f"[robopolicy.embodiments]\n{names}")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_other_packages_register_theirs(lab):
    assert {"lab_arm", "ur5e"} <= set(embodiment_names())
    assert load_embodiment("lab_arm").name == "lab_arm"
    assert load_embodiment("ur5e").name == "ur5e"  # nobody replaces ours
    with pytest.raises(ConfigError, match=r"'lab_bodies', where lab_ghost\.json is not found"):
        load_embodiment("lab_ghost")
