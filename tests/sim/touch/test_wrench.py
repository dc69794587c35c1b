"""The wrist's force-torque sensor against known wrenches on the tool, in any posture."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robopolicy_datasets.errors import SimulationError
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv
from robopolicy_sim.touch import WristWrench, touch_sensors
from robopolicy_sim.worlds.portrait import embodiment_model

GRAVITY = 9.81


class Arm:
    """A robot at rest in some posture, with a wrench on the hand."""

    def __init__(self, name, seed, **options):
        self.embodiment = load_embodiment(name)
        self.model = embodiment_model(self.embodiment)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
        count = len(self.embodiment.joints)
        self.data.qpos[:count] += np.random.default_rng(seed).uniform(-0.5, 0.5, count)
        self.data.ctrl[:count] = self.data.act[:count] = self.data.qpos[:count]
        self.data.ctrl[count] = self.embodiment.parallel_gripper.max_width
        self.sensor = WristWrench(self.model, self.data, self.embodiment.force_torque, **options)

    def push(self, force, torque, seconds=3.0):
        """Applies a wrench at the TCP along its present axes; returns it along the axes where it ends."""
        hand, tcp = self.data.body("hand"), self.data.site("tcp")
        axes = tcp.xmat.reshape(3, 3).copy()
        steps = round(seconds / self.model.opt.timestep)
        for _ in range(20):
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            world = axes @ np.array(force, float)
            hand.xfrc_applied[:3] = world
            hand.xfrc_applied[3:] = axes @ np.array(torque, float) + np.cross(tcp.xpos - hand.xipos, world)
            mujoco.mj_step(self.model, self.data, steps // 20)
        turned = tcp.xmat.reshape(3, 3).T @ axes
        return np.concatenate([turned @ force, turned @ torque])

    def reading(self):
        return self.sensor.measure()["robot0_wrench"]


@pytest.mark.parametrize("name", ["ur5e", "fr3", "ur3e"])
def test_a_known_wrench_is_measured_in_the_frame_of_the_tcp(name):
    arm, random = Arm(name, seed=5), np.random.default_rng(2)
    mujoco.mj_forward(arm.model, arm.data)
    for _ in range(3):
        applied = arm.push(random.uniform(-10, 10, 3), random.uniform(-1, 1, 3))
        np.testing.assert_allclose(arm.reading(), applied, rtol=0.05, atol=0.02)


def test_the_weight_of_the_tool_is_removed_in_any_posture_or_where_it_was_zeroed():
    for seed in range(5):
        arm = Arm("ur5e", seed)
        mujoco.mj_forward(arm.model, arm.data)
        arm.push(np.zeros(3), np.zeros(3))
        np.testing.assert_allclose(arm.reading(), 0, atol=0.02)
        raw = WristWrench(arm.model, arm.data, arm.embodiment.force_torque, subtract_weight=False)
        weight = arm.embodiment.parallel_gripper.mass * GRAVITY
        down = arm.data.site("tcp").xmat.reshape(3, 3).T @ (0, 0, -weight)
        np.testing.assert_allclose(raw.measure()["robot0_wrench"][:3], down, atol=0.02)
        raw.zero()
        assert not raw.measure()["robot0_wrench"].any()


def test_each_axis_of_the_sensor_saturates_at_its_range():
    arm = Arm("ur5e", 0, subtract_weight=False)
    mujoco.mj_forward(arm.model, arm.data)
    applied = arm.push((70.0, 5.0, 0.0), (0, 0, 0), seconds=0.2)
    assert applied[0] > 60
    assert np.abs(arm.reading()[:3]).max() == pytest.approx(50, rel=1e-6)


def test_a_held_cube_weighs_what_it_weighs():
    """Grasped and lifted by the fingers, in the world of the task."""
    env = PickPlaceEnv(PickPlaceConfig(image_size=8))
    env.reset(seed=1)
    world = env.world
    pose = world.robot.tcp_pose
    cube = world.model.joint("cube")
    world.data.qpos[cube.qposadr[0] : cube.qposadr[0] + 3] = pose[:3, 3]
    gravity = world.model.opt.gravity.copy()
    try:
        world.model.opt.gravity[:] = 0
        for _ in range(200):
            world.robot.set_targets(world.robot.joint_targets, 0.0)
            world.step()
    finally:
        world.model.opt.gravity[:] = gravity
    wrist, *pads = touch_sensors(world.model, world.data, world.robot.embodiment, outputs=("taxels",))
    world.step(400)
    force = pose[:3, :3] @ wrist.measure()["robot0_wrench"][:3]
    assert force[2] == pytest.approx(-0.08 * GRAVITY, rel=0.05)
    np.testing.assert_allclose(force[:2], 0, atol=0.1)
    for number, pad in enumerate(pads):
        squeezed = pad.measure()[f"robot0_tactile{number}_taxels"].sum()
        assert squeezed == pytest.approx(world.robot.embodiment.parallel_gripper.force, rel=0.05)


def test_a_model_without_the_sensor_is_refused():
    model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><site name="tcp"/></worldbody></mujoco>')
    data = mujoco.MjData(model)
    with pytest.raises(SimulationError, match=r"no site 'wrist'.*its sites: tcp"):
        WristWrench(model, data, load_embodiment("ur5e").force_torque)
    model = embodiment_model(load_embodiment("ur3e"))  # has no pads
    with pytest.raises(SimulationError, match="no site 'pad_left'"):
        touch_sensors(model, mujoco.MjData(model), load_embodiment("ur5e"))
