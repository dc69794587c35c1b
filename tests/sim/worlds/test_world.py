"""The table of pick and place: kinematics are the embodiment's, physics holds, states can be mirrored."""

import json
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError, UnknownNameError
from robopolicy_datasets.geometry import pose_from_vector, pose_matrix
from robopolicy_drivers import embodiments
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.embodiments import embodiment_names, load_embodiment
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks import pick_place
from robopolicy_sim.tasks.pick_place import CUBE_HALF_SIZE, PickPlaceScene
from robopolicy_sim.worlds.model import world_xml
from robopolicy_sim.worlds.world import World


def tabletop(name="ur5e"):
    return World(PickPlaceScene(), [name])


def new_world(seed=0):
    world = tabletop()
    world.reset(np.random.default_rng(seed))
    return world


def go(world, position, width, *, yaw=0.0, seconds=1.0):
    """Moves the tool in a straight line at 50 Hz."""
    ik = DifferentialIK(world.robot.kinematics, period_s=0.02)
    start = world.robot.kinematics.forward(world.robot.joint_targets)[:3, 3]
    rotation = np.pi * np.array([np.cos(yaw / 2), np.sin(yaw / 2), 0.0])
    for fraction in np.linspace(0, 1, round(seconds / 0.02) + 1)[1:]:
        pose = pose_from_vector(np.concatenate([start + fraction * (position - start), rotation]))
        world.robot.set_targets(ik.solve(pose[None], world.robot.joint_targets[None])[0], width)
        world.step(5)


def cube_in_tool(world):
    tool = world.robot.tcp_pose
    return tool[:3, :3].T @ (world.scene.cube_pose[:3, 3] - tool[:3, 3])


def grasp(world):
    cube = world.scene.cube_pose
    yaw = np.arctan2(cube[1, 0], cube[0, 0])
    opening = world.robot.embodiment.gripper.max_width
    go(world, cube[:3, 3] + np.array([0, 0, 0.1]), opening, yaw=yaw)
    go(world, cube[:3, 3], opening, yaw=yaw)
    go(world, cube[:3, 3], 0.0, yaw=yaw, seconds=0.5)
    return yaw


def test_kinematics_and_jacobian_equal_mujoco():
    mujoco = import_mujoco()
    world = tabletop()
    model = world.model
    data = mujoco.MjData(model)
    site = model.site("tcp").id
    for positions in np.random.default_rng(0).uniform(-3, 3, (20, 6)):
        data.qpos[:6] = positions
        mujoco.mj_forward(model, data)
        expected = pose_matrix(data.site_xpos[site], data.site_xmat[site].reshape(3, 3))
        linear, angular = np.zeros((2, 3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, site)
        pose, jacobian = world.robot.kinematics.forward_and_jacobian(positions)
        np.testing.assert_allclose(pose, expected, atol=1e-9)
        np.testing.assert_allclose(jacobian, np.vstack([linear, angular])[:, :6], atol=1e-9)


def test_reset_is_decided_by_the_random_numbers_and_covers_the_areas():
    np.testing.assert_array_equal(new_world(5).get_physics_state(), new_world(5).get_physics_state())
    world = tabletop()
    random = np.random.default_rng(0)
    cubes, yaws, pads = [], [], []
    for _ in range(400):
        world.reset(random)
        cube = world.scene.cube_pose
        cubes.append(cube[:2, 3])
        yaws.append(np.arctan2(cube[1, 0], cube[0, 0]))
        pads.append(world.scene.pad_position[:2])
        assert not world.success()
    for places, area in ((cubes, pick_place.CUBE_AREA), (pads, pick_place.PAD_AREA)):
        extent = np.ptp(np.array(places), axis=0)
        assert np.all(extent <= area)
        assert np.all(extent > 0.95 * np.array(area))
        np.testing.assert_allclose(np.mean(places, axis=0), PickPlaceScene.center[:2], atol=0.02)
    assert np.ptp(yaws) > 0.95 * np.pi / 2
    assert np.max(np.abs(yaws)) <= np.pi / 4
    apart = np.max(np.abs(np.array(cubes) - np.array(pads)), axis=1)
    assert apart.min() >= 0.07


def test_state_speaks_of_what_the_arm_measures():
    world = new_world(1)
    state = world.state()
    assert set(state) == {
        "robot0_eef_pos",
        "robot0_eef_rot_axis_angle",
        "robot0_gripper_width",
        "robot0_joint_pos",
    }
    assert all(value.dtype == np.float32 for value in state.values())
    pose = world.robot.kinematics.forward(world.robot.joint_positions)
    np.testing.assert_allclose(state["robot0_eef_pos"], pose[:3, 3], atol=1e-6)
    np.testing.assert_allclose(
        pose_from_vector(np.r_[0, 0, 0, state["robot0_eef_rot_axis_angle"]]),
        pose_matrix(np.zeros(3), pose[:3, :3]),
        atol=1e-6,
    )
    assert state["robot0_gripper_width"][0] == pytest.approx(0.085)


def test_the_arm_holds_still_and_follows_targets():
    world = new_world(2)
    before = world.robot.tcp_pose
    world.step(250)
    np.testing.assert_allclose(world.robot.tcp_pose, before, atol=1e-4)
    assert world.time == pytest.approx(1.0)
    target = np.array([0.5, -0.1, 0.15])
    go(world, target, 0.03)
    world.step(100)
    np.testing.assert_allclose(world.robot.tcp_pose[:3, 3], target, atol=5e-4)
    assert world.robot.gripper_width == pytest.approx(0.03, abs=1e-3)
    np.testing.assert_allclose(world.robot.joint_positions, world.robot.joint_targets, atol=2e-3)


@pytest.mark.parametrize("name", [n for n in embodiment_names() if load_embodiment(n).base_type == "fixed"])
def test_every_arm_stands_at_the_table_and_its_servos_follow(name):
    world = tabletop(name)
    world.reset(np.random.default_rng(0))
    target = world.robot.embodiment.home_positions + 0.1
    world.robot.set_targets(target, 0.0)
    world.step(375)
    np.testing.assert_allclose(world.robot.joint_positions, target, atol=2e-3)
    assert world.robot.gripper_width == pytest.approx(world.robot.embodiment.gripper.min_width, abs=2e-3)
    world.step(250)
    np.testing.assert_allclose(world.robot.joint_positions, target, atol=2e-3)
    assert world.render("camera1", 8, 8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gripper": None}, "'narrow' has no gripper, and pick_place needs one"),
        ({"cameras": ()}, "'narrow' has no camera 'camera1_rgb' .it has: none"),
        ({"short": True}, "'narrow' cannot do pick_place: its tool does not reach .* m from its base"),
    ],
)
def test_a_body_that_cannot_do_the_task_is_refused_with_the_reason(changes, reason, tmp_path):
    data = json.loads(Path(embodiments.__file__).with_name("ur5e.json").read_text())
    data["name"] = "narrow"
    if changes.get("short"):
        for joint, home in zip(data["joints"], data["home"], strict=True):
            joint["position_limits"] = [home - 0.1, home + 0.1]
    path = tmp_path / "narrow.json"
    path.write_text(json.dumps({**data, **{key: changes[key] for key in changes if key != "short"}}))
    with pytest.raises(ConfigError, match=reason):
        tabletop(str(path))


def test_a_number_of_robots_that_the_scene_does_not_take_is_refused():
    with pytest.raises(ConfigError, match=r"pick_place takes 1 robot\(s\), and 2 were given: ur5e, fr3"):
        World(PickPlaceScene(), ["ur5e", "fr3"])


def test_small_arms_stand_nearer_and_work_in_a_smaller_area():
    large, small = tabletop("ur5e"), tabletop("ur3e")
    np.testing.assert_allclose(large.robot.base_pose, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(small.robot.tcp_pose[:2, 3], large.robot.tcp_pose[:2, 3], atol=0.03)
    assert (large.scene.scale, small.scene.scale) == (1.0, 0.58)


def test_a_carried_gripper_goes_where_it_is_carried_and_holds_still():
    world = tabletop("flying_gripper")
    goal = world.robot.base_pose
    goal[:3, 3] += [0.1, -0.05, 0.05]
    world.robot.carry(goal)
    world.step(250)
    np.testing.assert_allclose(world.robot.base_pose, goal, atol=1e-3)


def test_the_rotors_of_an_aerial_manipulator_carry_it_from_the_first_moment():
    world = tabletop("aerial_manipulator")
    before = world.robot.base_pose
    world.step(50)  # 0.2 s; in free fall these would be 20 cm
    np.testing.assert_allclose(world.robot.base_pose[:3, 3], before[:3, 3], atol=0.01)
    assert np.all(world.robot.thrusts > 0)


def test_targets_beyond_the_limits_are_clipped():
    world = new_world()
    world.robot.set_targets(np.full(6, 100.0), 1.0)
    np.testing.assert_array_equal(world.robot.joint_targets, world.robot.embodiment.position_limits[:, 1])
    assert world.robot.gripper_target == world.robot.embodiment.gripper.max_width


def test_the_gripper_keeps_its_speed_and_force_limits():
    world = new_world()
    model = world.model
    world.robot.set_targets(world.robot.joint_targets, 0.0)
    before = world.robot.gripper_width
    world.step(50)
    assert (before - world.robot.gripper_width) / 0.2 <= 1.05 * world.robot.embodiment.gripper.speed
    assert model.actuator("gripper").forcerange[1] == world.robot.embodiment.gripper.force


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_grasped_cube_stays_where_it_is_held(seed):
    world = new_world(seed)
    yaw = grasp(world)
    held = cube_in_tool(world)
    start = world.robot.tcp_pose[:3, 3]
    go(world, start + np.array([0, 0, 0.12]), 0.0, yaw=yaw, seconds=0.4)
    for _ in range(3):  # faster than any demonstration
        go(world, start + np.array([-0.1, 0.1, 0.14]), 0.0, yaw=yaw, seconds=0.4)
        go(world, start + np.array([0.0, 0.0, 0.12]), 0.0, yaw=yaw, seconds=0.4)
    assert world.scene.cube_pose[2, 3] > 0.1
    np.testing.assert_allclose(cube_in_tool(world), held, atol=0.006)
    world.step(125)
    still = cube_in_tool(world)
    world.step(250)
    np.testing.assert_allclose(cube_in_tool(world), still, atol=1e-3)


def test_success_needs_all_of_its_conditions():
    world = new_world(4)
    yaw = grasp(world)
    over_pad = world.scene.pad_position + np.array([0, 0, 0.12])
    progress = [world.progress()]
    go(world, world.robot.tcp_pose[:3, 3] + np.array([0, 0, 0.1]), 0.0, yaw=yaw)
    go(world, over_pad, 0.0, yaw=yaw)
    progress.append(world.progress())
    assert not world.success()  # held in the air
    go(world, world.scene.pad_position + np.array([0, 0, CUBE_HALF_SIZE]), 0.0, yaw=yaw)
    assert not world.success()  # held on the table
    go(world, world.scene.pad_position + np.array([0, 0, CUBE_HALF_SIZE]), 0.085, yaw=yaw)
    assert not world.success()  # fingers still around it
    go(world, over_pad, 0.085, yaw=yaw)
    assert world.success()
    progress.append(world.progress())
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert (
        np.linalg.norm(world.scene.cube_pose[:2, 3] - world.scene.pad_position[:2])
        <= pick_place.SUCCESS_DISTANCE
    )


def test_another_world_goes_on_from_a_state_bit_for_bit_and_draws_the_same():
    first, mirror = new_world(6), new_world(7)
    go(first, np.array([0.5, 0.0, 0.1]), 0.05, seconds=0.3)
    mirror.set_physics_state(first.get_physics_state())
    for camera in ("camera0", "camera1"):
        np.testing.assert_array_equal(mirror.render(camera, 48, 48), first.render(camera, 48, 48))
    np.testing.assert_array_equal(mirror.robot.joint_targets, first.robot.joint_targets)
    np.testing.assert_array_equal(mirror.scene.pad_position, first.scene.pad_position)
    assert mirror.time == first.time
    for world in (first, mirror):
        go(world, np.array([0.45, 0.1, 0.12]), 0.0, seconds=0.3)
    np.testing.assert_array_equal(mirror.get_physics_state(), first.get_physics_state())


def test_a_state_of_another_size_is_refused():
    with pytest.raises(SimulationError, match="shape"):
        new_world().set_physics_state(np.zeros(7))


@pytest.mark.parametrize(("joints", "width"), [(np.full(6, np.nan), 0.05), (np.zeros(6), np.inf)])
def test_targets_that_are_not_finite_are_refused_and_leave_the_arm_alone(joints, width):
    world = new_world()
    before = world.robot.joint_targets
    with pytest.raises(SimulationError, match="not finite"):
        world.robot.set_targets(joints, width)
    np.testing.assert_array_equal(world.robot.joint_targets, before)


@pytest.mark.parametrize("value", [np.nan, 1e12])
def test_unstable_physics_is_an_error_until_the_next_reset(value):
    world = new_world()
    state = world.get_physics_state()
    state[20:23] = value
    world.set_physics_state(state)
    with pytest.raises(SimulationError, match="unstable"):
        world.step(5)
    world.reset(np.random.default_rng(0))
    world.step(5)


def test_cameras_see_cube_pad_and_fingers():
    red, green, orange = 0, 0, 0
    for seed in range(10):
        world = new_world(seed)
        scene = world.render("camera0", 64, 64).astype(int)
        red += np.sum((scene[..., 0] > 150) & (scene[..., 1] < 80)) > 8
        green += np.sum((scene[..., 1] > 120) & (scene[..., 0] < 80)) > 8
        wrist = world.render("camera1", 64, 64).astype(int)
        orange += np.sum((wrist[..., 0] > 90) & (wrist[..., 1] > 50) & (wrist[..., 2] < 40)) > 50
    assert (red, green, orange) == (10, 10, 10)


def test_the_wrist_camera_sees_a_grasped_cube_between_the_fingers():
    world = new_world(3)
    grasp(world)
    image = world.render("camera1", 64, 64).astype(int)
    rows, columns = np.nonzero((image[..., 0] > 100) & (image[..., 1] < 80) & (image[..., 2] < 80))
    assert len(rows) > 60
    assert abs(columns.mean() - 32) < 6


def test_names_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError, match="camera0"):
        new_world().render("camera", 8, 8)
    with pytest.raises(UnknownNameError, match="ur5e"):
        tabletop("ur5f")


def test_the_model_is_plain_text_without_meshes():
    text = world_xml(PickPlaceScene(), [load_embodiment("ur5e")])
    assert "mesh" not in text
    assert text == world_xml(PickPlaceScene(), [load_embodiment("ur5e")])
