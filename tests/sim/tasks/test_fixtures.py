"""Peg in hole, open and retrieve, rotate valve: scenes, success, contact forces, and their experts."""

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_datasets.registry import load_target, tasks
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.fixtures import largest_turn
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks import open_and_retrieve, peg_in_hole, rotate_valve
from robopolicy_sim.tasks.manipulation import task_world
from robopolicy_sim.tasks.pick_place import CUBE_MASS, PickPlaceScene
from robopolicy_sim.worlds.contacts import ContactForce
from robopolicy_sim.worlds.world import World

NAMES = ("peg_in_hole", "open_and_retrieve", "rotate_valve")


def make(name, body="ur5e", **settings):
    config_class = tasks.config_class(name)
    env = load_target(config_class.target)(config_class(embodiment=body, image_size=8, **settings))
    return env, load_target(config_class.expert)


def watch_joints(world, record):
    """Calls ``record(share of the speed limits, share of the range that positions are beyond)``."""
    robot, step = world.robot, world.step
    lower, upper = robot.embodiment.position_limits.T

    def watched(substeps):
        for _ in range(substeps):
            step()
            beyond = np.maximum(lower - robot.joint_positions, robot.joint_positions - upper)
            record(
                np.max(np.abs(robot.joint_velocities) / robot.embodiment.velocity_limits),
                np.max(beyond / (upper - lower)),
            )

    world.step = watched


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", ["ur5e", "fr3", "flying_gripper"])
def test_the_expert_succeeds_within_the_limits(name, body, count):
    env, expert = make(name, body)
    measured = [(0.0, 0.0)]
    if env.world.robot.embodiment.joints:
        watch_joints(env.world, lambda *shares: measured.append(shares))
    episodes = count(2, 100)
    infos = [
        collect_episode(env, expert, ScriptedConfig(), np.random.default_rng(seed))[1]
        for seed in range(episodes)
    ]
    assert np.mean([info.success for info in infos]) >= 0.95
    speed, beyond = np.max(measured, axis=0)
    assert speed <= 1.01
    assert beyond <= 0.01


def run(env, expert, random, steps):
    """Lets the expert act; returns whether it succeeded and how progress went."""
    acting = expert(env.world, ScriptedConfig(recovery_rate=0.0), random)
    progress = [env.world.progress()]
    for _ in range(steps):
        *_, terminated, _, info = env.step(acting.disturbed(acting.act()))
        progress.append(info["progress"])
        if terminated:
            return True, np.array(progress)
    return False, np.array(progress)


@pytest.mark.parametrize("name", NAMES)
def test_experts_take_up_again_from_wherever_they_were_pushed(name):
    """An expert is stopped in the middle of its work; the tool is carried elsewhere and opened."""
    env, expert = make(name, "flying_gripper")
    for seed in range(4):
        random = np.random.default_rng(seed)
        env.reset(seed=seed)
        run(env, expert, random, int(random.integers(4, 8)))  # before a peg could be dropped
        pushed = env.world.robot.tcp_pose[:3, 3] + random.uniform([-0.15, -0.1, -0.02], [-0.05, 0.1, 0.1])
        away = np.concatenate([pushed, [0.0, 0.5 * np.pi, 0.0], [0.1]])
        for _ in range(8):
            env.step(away)
        assert run(env, expert, random, 250)[0]


@pytest.mark.parametrize("name", NAMES)
def test_progress_rises_to_success_without_jumps(name):
    env, expert = make(name, "flying_gripper")
    env.reset(seed=5)
    success, progress = run(env, expert, np.random.default_rng(5), 250)
    assert success
    assert progress[0] < 0.45
    assert progress[-1] == 1.0
    assert np.max(np.abs(np.diff(progress))) < 0.25


@pytest.mark.parametrize("name", NAMES)
def test_success_counts_only_once_it_has_lasted_and_is_mirrored_with_the_state(name):
    """The states of the objects are set by hand; the tool, where it matters, is at the object."""
    world, mirror = task_world(name, "flying_gripper"), task_world(name, "flying_gripper")
    world.reset(np.random.default_rng(0))
    do(world)
    assert world.scene.done()
    assert not world.success()
    for _ in range(5):  # ticks of 0.02 s
        assert not world.success()
        world.scene.advance(0.02)
    assert world.success()
    mirror.set_physics_state(world.get_physics_state())
    assert mirror.success()
    world.reset(np.random.default_rng(0))
    assert not world.success()
    world.scene.advance(0.02)
    assert world.data.userdata[0] == 0.0


def do(world):
    """Puts the objects where they are when the task is done."""
    scene, data = world.scene, world.data
    if scene.name == "rotate_valve":
        data.joint("valve").qpos[0] = rotate_valve.SUCCESS_ANGLE + 0.01
    elif scene.name == "peg_in_hole":
        up = peg_in_hole.TIP - peg_in_hole.SUCCESS_DEPTH - 0.005
        data.joint("peg").qpos[:3] = np.add(scene.hole, (0.0, 0.0, up))
    else:
        data.joint("can").qpos[:3] = world.robot.tcp_pose[:3, 3]
    world.set_physics_state(world.get_physics_state())


@pytest.mark.parametrize("name", NAMES)
def test_what_varies_is_in_the_physics_state(name):
    world, mirror = task_world(name, "flying_gripper"), task_world(name, "flying_gripper")
    world.reset(np.random.default_rng(1))
    mirror.reset(np.random.default_rng(2))
    before = mirror.render("camera0", 32, 32)
    mirror.set_physics_state(world.get_physics_state())
    np.testing.assert_array_equal(mirror.scene.fixture_pose, world.scene.fixture_pose)
    np.testing.assert_array_equal(mirror.render("camera0", 32, 32), world.render("camera0", 32, 32))
    assert not np.array_equal(mirror.render("camera0", 32, 32), before)


def test_a_peg_beside_the_hole_slides_down_its_slopes():
    world = task_world("peg_in_hole", "flying_gripper")
    world.reset(np.random.default_rng(0))
    scene = world.scene
    beside = (0.5 * peg_in_hole.CHAMFER, -0.3 * peg_in_hole.CHAMFER, peg_in_hole.TIP + 0.02)
    world.data.joint("peg").qpos[:3] = np.add(scene.hole, beside)
    assert not scene.done()
    world.step(250)
    assert scene.done()


def test_a_closed_door_keeps_the_can_in_and_stops_at_its_ends():
    world = task_world("open_and_retrieve", "flying_gripper")
    world.reset(np.random.default_rng(0))
    for push in (30.0, -30.0):
        world.data.joint("door").qfrc_applied[0] = push
        world.step(250)
        end = open_and_retrieve.TRAVEL if push > 0 else 0.0
        assert world.scene.opening == pytest.approx(end, abs=0.005)
    world.data.xfrc_applied[world.model.body("can").id, 0] = -2.0
    world.step(250)
    assert world.scene.can_position[0] > 0.0


def test_a_valve_stays_where_it_was_left():
    world = task_world("rotate_valve", "flying_gripper")
    world.reset(np.random.default_rng(0))
    before = world.scene.angle
    world.step(250)
    assert world.scene.angle == pytest.approx(before, abs=1e-3)
    world.data.joint("valve").qfrc_applied[0] = 2 * rotate_valve.FRICTION
    world.step(250)
    assert world.scene.angle > before + 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_does_not_reach_is_refused_with_the_reason(name):
    with pytest.raises(ConfigError, match=f"'so101' cannot do {name}: its tool does not reach"):
        task_world(name, "so101")


def test_no_body_is_asked_to_roll_its_tool_faster_than_it_can():
    hand, drone = map(load_embodiment, ("flying_gripper", "aerial_manipulator"))
    assert largest_turn(drone) == pytest.approx(0.1 * drone.joints[-1].velocity_limit)
    assert largest_turn(hand) == pytest.approx(0.6)


# --- contact forces -----------------------------------------------------------------------------------------


def test_the_table_carries_the_weight_of_the_cube():
    world = World(PickPlaceScene(), ["ur5e"])
    carried = ContactForce(world.model, world.data, ["world"], ["cube"])
    pressed = ContactForce(world.model, world.data, ["cube"], ["world"])
    world.step(250)
    weight = CUBE_MASS * 9.81
    np.testing.assert_allclose(carried(), [0.0, 0.0, weight], atol=0.01 * weight)
    np.testing.assert_array_equal(pressed(), -carried())
    world.data.xfrc_applied[world.model.body("cube").id, :3] = (0.2, -0.1, -3.0)
    world.step(250)
    np.testing.assert_allclose(carried(), [-0.2, 0.1, weight + 3.0], atol=0.05 * weight)
    assert not ContactForce(world.model, world.data, ["hand"], ["cube"])().any()


def test_what_hangs_on_a_body_counts_and_an_unknown_one_is_refused():
    world = task_world("open_and_retrieve", "flying_gripper")
    world.reset(np.random.default_rng(0))
    import_mujoco().mj_forward(world.model, world.data)
    on_can = ContactForce(world.model, world.data, ["fixture"], ["can"])
    world.step(250)
    np.testing.assert_allclose(on_can(), [0, 0, 9.81 * open_and_retrieve.CAN_MASS], atol=0.01)
    with pytest.raises(UnknownNameError, match="Did you mean 'fixture'"):
        ContactForce(world.model, world.data, ["fixtur"], ["can"])
