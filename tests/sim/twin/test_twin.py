"""The PyBullet twin: the same world as MuJoCo's in all but the physics."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError, UnknownNameError
from robopolicy_datasets.registry import load_target, tasks
from robopolicy_sim.conformance import check_env
from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv, PickPlaceScene
from robopolicy_sim.worlds.world import World

pybullet = pytest.importorskip("pybullet", reason="the extra 'pybullet' is not installed (Python 3.11 only)")

from robopolicy_sim.twin.client import Client  # noqa: E402 (they need it)
from robopolicy_sim.twin.physics import BulletPhysics  # noqa: E402 (they need it)
from robopolicy_sim.twin.urdf import tree_roots, tree_urdf  # noqa: E402 (they need it)
from robopolicy_sim.twin.world import PybulletWorld  # noqa: E402 (they need it)

mujoco = import_mujoco()
SMALL = PickPlaceConfig(image_size=8, simulator="pybullet")


@pytest.fixture(scope="module")
def world():
    return PybulletWorld(PickPlaceScene())


def simulation(bodies, options="", rest=""):
    """Returns a small MuJoCo model with its data, and PyBullet beside them."""
    text = f'<mujoco><option timestep="0.002" {options}/><worldbody>{bodies}</worldbody>{rest}</mujoco>'
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_the_urdf_of_an_arm_is_what_mujoco_made_it_from(world):
    """MuJoCo reads the text back: the same masses, and the hand at the same place in any posture."""
    model, root = world.model, world.robot.base_body
    text = tree_urdf(model, root)
    again = mujoco.MjModel.from_xml_string(
        text.replace("<link ", '<mujoco><compiler fusestatic="false"/></mujoco><link ', 1)
    )
    joints = [int(name.removeprefix("joint")) for name in (again.joint(i).name for i in range(again.njnt))]
    assert len(joints) == 8  # six and two fingers
    there, back = mujoco.MjData(model), mujoco.MjData(again)
    base = np.zeros(3)
    for random in map(np.random.default_rng, range(10)):
        for index, joint in enumerate(joints):
            low, high = model.jnt_range[joint]
            position = random.uniform(max(low, -3), min(high, 3))
            there.qpos[model.jnt_qposadr[joint]] = back.qpos[index] = position
        mujoco.mj_forward(model, there)
        mujoco.mj_forward(again, back)
        base = there.xpos[root]
        for body in (world.robot.hand_body, model.body("finger_left").id):
            found = back.body(f"body{body}")
            np.testing.assert_allclose(found.xpos + base, there.xpos[body], atol=1e-5)
            np.testing.assert_allclose(found.xmat, there.xmat[body], atol=1e-5)
            np.testing.assert_allclose(again.body(f"body{body}").mass, model.body_mass[body])


def test_it_begins_as_mujocos_does(world):
    twin, original = world, World(PickPlaceScene())
    for seed in (0, 5):
        twin.reset(np.random.default_rng(seed))
        original.reset(np.random.default_rng(seed))
        np.testing.assert_array_equal(twin.get_physics_state(), original.get_physics_state())
        assert twin.state().keys() == original.state().keys()
        np.testing.assert_array_equal(twin.render("camera0", 32, 32), original.render("camera0", 32, 32))


def test_pybullet_puts_every_body_where_mujoco_does(world):
    """Read from Bullet itself, for the arm and for the cube."""
    world.reset(np.random.default_rng(3))
    physics = world._physics
    for tree in physics._trees:
        for body, (link, *_) in tree.links.items():
            if link >= 0:
                found = physics._bullet.getLinkState(tree.number, link, computeForwardKinematics=1)[4]
                np.testing.assert_allclose(found, world.data.xpos[body], atol=1e-6)
    cube = next(tree for tree in physics._trees if tree.free is not None)
    found, _ = physics._bullet.getBasePositionAndOrientation(cube.number)
    np.testing.assert_allclose(found, world.scene.cube_pose[:3, 3], atol=1e-9)


def test_the_arm_holds_still_and_follows_targets_within_its_limits(world):
    world.reset(np.random.default_rng(2))
    before = world.robot.tcp_pose
    world.step(250)
    np.testing.assert_allclose(world.robot.tcp_pose, before, atol=1e-4)
    assert world.time == pytest.approx(1.0)
    target = world.robot.embodiment.home_positions + 0.1
    world.robot.set_targets(target, 0.0)
    opening = world.robot.gripper_width
    world.step(50)
    assert (opening - world.robot.gripper_width) / 0.2 <= 1.05 * world.robot.embodiment.gripper.speed
    world.step(250)
    np.testing.assert_allclose(world.robot.joint_positions, target, atol=2e-3)
    assert world.robot.gripper_width == pytest.approx(0.0, abs=2e-3)
    fingers = world.data.qpos[world.model.joint("finger_left").qposadr[0] :][:2]
    assert fingers[0] == pytest.approx(fingers[1], abs=1e-3)


def test_free_fall_is_free_fall_and_a_push_is_a_push():
    """A body with its center of mass beside its origin, turning: MuJoCo and PyBullet agree while nothing
    touches."""
    body = (
        '<body pos="0 0 3" euler="20 30 40"><freejoint/><inertial pos="0.1 0.05 -0.02" mass="2" '
        'diaginertia="0.03 0.02 0.04" euler="10 0 30"/></body>'
    )
    model, data = simulation(body, 'integrator="RK4"')
    data.qvel[:] = (0.3, -0.2, 1.0, 2.0, -1.0, 0.5)
    data.xfrc_applied[1] = (4.0, 0.0, 2.0, 0.0, 0.01, 0.02)
    other = mujoco.MjData(model)
    other.qvel[:], other.xfrc_applied[:] = data.qvel, data.xfrc_applied
    mujoco.mj_forward(model, data)
    physics = BulletPhysics(model, data)
    for _ in range(100):
        physics.advance(1)
        mujoco.mj_kinematics(model, data)  # for where the push is applied
        mujoco.mj_comPos(model, data)
    mujoco.mj_step(model, other, 100)
    np.testing.assert_allclose(data.qpos, other.qpos, atol=3e-3)
    np.testing.assert_allclose(data.qvel, other.qvel, atol=3e-2)
    assert abs(data.qpos[2] - 3) > 0.01


@pytest.mark.parametrize(("slope", "slides"), [(0.9, False), (1.1, True)])
@pytest.mark.parametrize("other", [0.5, 2.0])
def test_equal_surfaces_have_their_friction(slope, slides, other):
    """On a tilted plane, a block begins to slide where the tangent is the coefficient of friction of the foot
    that it stands on, whatever that of its head is."""
    friction, angle = 0.5, np.arctan(0.5 * slope)
    gravity = 9.81 * np.array([np.sin(angle), 0, -np.cos(angle)])
    bodies = (
        f'<geom type="box" size="1 1 0.1" pos="0 0 -0.1" friction="{friction}"/>'
        '<body pos="0 0 0.05"><freejoint/>'
        f'<geom type="box" size="0.1 0.1 0.04" pos="0 0 -0.01" friction="{friction}"/>'
        f'<geom type="box" size="0.05 0.05 0.01" pos="0 0 0.04" friction="{other}"/></body>'
    )
    model, data = simulation(bodies, 'gravity="{} {} {}"'.format(*gravity))
    BulletPhysics(model, data).advance(500)
    assert (data.qpos[0] > 0.02) == slides


def test_a_mesh_comes_to_rest_where_it_does_in_mujoco():
    """A pyramid of 10 cm, with its apex beside the middle, falls on its foot."""
    foot = "-0.05 -0.05 0  0.05 -0.05 0  0.05 0.05 0  -0.05 0.05 0"
    bodies = (
        '<geom type="box" size="1 1 0.1" pos="0 0 -0.1"/>'
        '<body pos="0 0 0.1"><freejoint/><geom type="mesh" mesh="pyramid" density="500"/></body>'
    )
    rest = f'<asset><mesh name="pyramid" vertex="{foot}  0.02 0.01 0.1"/></asset>'
    model, data = simulation(bodies, rest=rest)
    other = mujoco.MjData(model)
    BulletPhysics(model, data).advance(1000)
    mujoco.mj_step(model, other, 1000)
    np.testing.assert_allclose(data.qpos, other.qpos, atol=3e-3)
    assert data.qpos[2] < 0.05


def test_equal_seeds_give_equal_episodes_whatever_was_before():
    assert len(check_env(lambda: PickPlaceEnv(SMALL))) > 10


@pytest.mark.parametrize("task", ["pick_place", "push", "peg_in_hole"])
def test_experts_do_their_tasks_in_the_twin(task, count):
    config = tasks.config_class(task)(image_size=8, simulator="pybullet")
    env, expert = tasks.build(task, config), load_target(config.expert)
    infos = [
        collect_episode(env, expert, ScriptedConfig(), np.random.default_rng(seed))[1]
        for seed in range(count(5, 100))
    ]
    assert np.mean([info.success for info in infos]) >= 0.8


def test_a_state_can_be_taken_up_again(world):
    world.reset(np.random.default_rng(6))
    world.step(20)
    state = world.get_physics_state()
    world.step(100)
    world.set_physics_state(state)
    np.testing.assert_array_equal(world.get_physics_state(), state)
    world.step(1)
    np.testing.assert_allclose(world.data.qpos, state[1 : 1 + world.model.nq], atol=1e-3)


def test_targets_that_are_not_finite_are_refused(world):
    with pytest.raises(SimulationError, match="not finite"):
        world.robot.set_targets(np.full(6, np.nan), 0.05)


def test_unstable_physics_is_an_error_until_the_next_reset(world):
    world.reset(np.random.default_rng(0))
    world.data.xfrc_applied[world.robot.hand_body, :3] = np.nan
    with pytest.raises(SimulationError, match="unstable"):
        world.step(5)
    world.reset(np.random.default_rng(0))
    world.step(5)


def test_simulators_and_bodies_that_do_not_fit_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'pybullet'"):
        PickPlaceEnv(PickPlaceConfig(simulator="pybulet"))
    with pytest.raises(ConfigError, match="'flying_gripper' flies"):
        PybulletWorld(PickPlaceScene(), ["flying_gripper"])


@pytest.mark.parametrize(
    ("bodies", "rest", "reason"),
    [
        ('<body name="a"><joint type="ball"/><geom size="0.1"/></body>', "", "'a' has a ball joint"),
        ('<body name="a"><joint/><joint axis="0 1 0"/><geom size="0.1"/></body>', "", "'a' has 2 joints"),
        ('<geom type="ellipsoid" size="1 1 2"/>', "", "is of the kind 'ellipsoid'"),
        (
            '<body><joint name="j"/><geom size="0.1"/></body>',
            '<actuator><motor name="m" joint="j"/></actuator>',
            "'m' is no position servo",
        ),
        (
            '<body name="a"><freejoint/><geom size="0.1"/></body>',
            '<equality><weld name="w" body1="a"/></equality>',
            "The equality 'w'",
        ),
    ],
)
def test_what_pybullet_has_not_is_refused_with_the_reason(bodies, rest, reason):
    model, data = simulation(bodies, rest=rest)
    with pytest.raises(SimulationError, match=reason):
        BulletPhysics(model, data)


def test_simulations_end_with_their_objects():
    client = Client()
    number = client._number
    assert pybullet.isConnected(number)
    del client
    assert not pybullet.isConnected(number)


def test_urdf_is_text_that_names_every_body(world):
    for root in tree_roots(world.model):
        assert ElementTree.fromstring(tree_urdf(world.model, root)).tag == "robot"
