"""That the sensors are drivers, change nothing by being there, and what their images show."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from pad_world import PadWorld

from robopolicy_datasets.errors import UnknownNameError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import SimulatedRobot
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.touch import GelPad, touch_sensors
from robopolicy_sim.touch.pad import OUTPUTS
from robopolicy_sim.worlds.portrait import embodiment_model
from robopolicy_sim.worlds.world import World


def images(world):
    return GelPad(world.model, world.data, world.embodiment.touch[0], outputs=("rgb",))


def test_each_sensor_is_a_driver():
    world = World(PickPlaceScene(), ("fr3",))
    for number in range(3):
        assert check_sensor(
            lambda number=number: touch_sensors(
                world.model, world.data, world.robot.embodiment, outputs=OUTPUTS
            )[number]
        )


def test_their_features_fit_into_a_spec_and_into_a_robot():
    world = World(PickPlaceScene())
    sensors = touch_sensors(world.model, world.data, world.robot.embodiment, outputs=OUTPUTS)
    spec = Spec([feature for sensor in sensors for feature in sensor.spec.observation], ())
    assert spec.keys() == [
        "robot0_wrench",
        *(f"robot0_tactile0_{name}" for name in ("markers", "taxels", "rgb")),
        *(f"robot0_tactile1_{name}" for name in ("markers", "taxels", "rgb")),
    ]
    whole = CompositeRobot([SimulatedRobot(SimulatedRobotConfig()), *sensors])
    assert set(spec.keys()) < set(whole.spec.keys())


def test_the_second_robots_sensors_have_its_places_and_keys():
    class Pair(PickPlaceScene):
        num_robots = 2

        def base_pose(self, embodiment, number):
            pose = super().base_pose(embodiment, number)
            return replace(pose, position=(pose.position[0], 0.6 * number, 0.0))

        def start_pose(self, number):
            pose = super().start_pose(number).copy()
            pose[1, 3] += 0.6 * number
            return pose

        def reach_center(self, number):
            return (self.center[0], 0.6 * number, self.center[2])

    world = World(Pair(), ("ur5e", "ur5e"))
    sensors = touch_sensors(world.model, world.data, world.robots[1].embodiment, prefix="robot1_")
    keys = [feature.key for sensor in sensors for feature in sensor.spec.observation]
    assert keys == ["robot1_wrench", "robot1_tactile0_markers", "robot1_tactile1_markers"]
    cube, fingers = world.model.joint("cube"), world.model.joint("robot1_finger_left")
    world.data.qpos[cube.qposadr[0] : cube.qposadr[0] + 3] = world.robots[1].tcp_pose[:3, 3]
    world.data.qpos[fingers.qposadr[0] : fingers.qposadr[0] + 2] = 0.02
    world.robots[1].set_targets(world.robots[1].joint_targets, 0.0)
    world.step(50)
    felt = sensors[1].measure()["robot1_tactile0_markers"]
    unfelt = touch_sensors(world.model, world.data, world.robots[0].embodiment)[1].measure()
    assert felt.any()
    assert not unfelt["robot0_tactile0_markers"].any()


def test_an_unknown_output_is_refused():
    world = PadWorld()
    with pytest.raises(UnknownNameError, match="Did you mean 'markers'"):
        GelPad(world.model, world.data, world.embodiment.touch[0], outputs=("marker",))


@pytest.mark.parametrize("arm", ["ur5e", "fr3"])
def test_pads_lie_on_the_inner_faces_within_the_fingers_length(arm):
    body = load_embodiment(arm)
    model = embodiment_model(body)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)  # all joints at zero: the gripper is closed
    tool = data.site("tcp").xmat.reshape(3, 3)
    for side, out in (("left", -1), ("right", 1)):
        pad, finger = data.site(f"pad_{side}"), model.body(f"finger_{side}")
        axes = tool.T @ pad.xmat.reshape(3, 3)
        np.testing.assert_allclose(axes[:, 2], (0, out, 0), atol=1e-9)
        np.testing.assert_allclose(axes[:, 0], (0, 0, 1), atol=1e-9)
        place = tool.T @ (pad.xpos - data.site("tcp").xpos)
        assert abs(place[1]) < 1e-9
        tip = (tool.T @ (data.geom_xpos[finger.geomadr[0]] - data.site("tcp").xpos))[2]
        tip += model.geom_size[finger.geomadr[0]][2]
        assert place[2] + 0.5 * 0.0186 <= tip + 1e-9


def test_the_sensors_change_nothing_of_the_physics_and_the_pictures():
    """The world with every reading taken at each step is the world with none, bit for bit."""
    read, left_alone = World(PickPlaceScene()), World(PickPlaceScene())
    assert not read.model.nsensor
    sensors = touch_sensors(read.model, read.data, read.robot.embodiment, outputs=OUTPUTS)
    for _ in range(60):
        for world in (read, left_alone):
            world.robot.set_targets(world.robot.embodiment.home_positions + 0.1, 0.0)
            world.step()
        for sensor in sensors:
            sensor.measure()
    np.testing.assert_array_equal(read.get_physics_state(), left_alone.get_physics_state())
    for camera in ("camera0", "camera1"):
        before = left_alone.render(camera, 64, 48)
        sensors[1].measure()
        np.testing.assert_array_equal(read.render(camera, 64, 48), before)


def test_zeroing_takes_a_grip_for_none_and_leaves_images_alone():
    world = PadWorld("sphere", (0.008,), height=0.008)
    pad = GelPad(world.model, world.data, world.embodiment.touch[0], outputs=OUTPUTS)
    world.press((0, 0, -4))
    before = pad.measure()
    pad.zero()
    after = pad.measure()
    assert before["robot0_tactile0_markers"].any()
    assert not after["robot0_tactile0_markers"].any()
    assert not after["robot0_tactile0_taxels"].any()
    np.testing.assert_array_equal(after["robot0_tactile0_rgb"], before["robot0_tactile0_rgb"])


@pytest.mark.parametrize("grid", [(5, 5), (1, 1), (1, 4)])  # the first is a McTac's
def test_pads_may_have_any_grid(grid):
    world = PadWorld("sphere", (0.008,), height=0.008)
    pad = replace(world.embodiment.touch[0], markers=grid)
    sensor = GelPad(world.model, world.data, pad, outputs=OUTPUTS)
    world.press((0, 0, -4))
    reading = sensor.measure()
    assert reading["robot0_tactile0_markers"].shape == (grid[0] * grid[1], 2)
    assert reading["robot0_tactile0_taxels"].shape == grid
    assert np.isfinite(reading["robot0_tactile0_markers"]).all()
    assert reading["robot0_tactile0_taxels"].sum() == pytest.approx(4 + 0.2 * 9.81, rel=0.05)


def imprint(world):
    """Depth [m] of what is pushed into the gel, and where its pixels are along x and y of the pad [m]."""
    camera = images(world)._outputs[0]
    force = world.pad.measure()["robot0_tactile0_taxels"].sum()
    x, y = np.meshgrid((np.arange(320) - 159.5) * 0.0186 / 320, (np.arange(240) - 119.5) * 0.0143 / 240)
    return camera.imprint(float(force)), x, y


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.004, -0.002), (-0.003, 0.003)])
def test_the_imprint_is_where_the_object_is_and_carries_the_force(place):
    world = PadWorld("sphere", (0.006,), height=0.006)
    world.data.qpos[2:5] += world.pad_axes[:, :2] @ place
    mujoco.mj_forward(world.model, world.data)
    world.model.opt.gravity[:] = 0
    world.press((0, 0, -3), seconds=0.2)
    world.model.site_rgba[:] = 1  # what marks a place is nothing to touch
    depth, x, y = imprint(world)
    middle = np.array([(depth * x).sum(), (depth * y).sum()]) / depth.sum()
    np.testing.assert_allclose(middle, place, atol=0.0005)
    stiffness, pixel = 4 * 145e3 / 0.00425, 0.0186 / 320 * 0.0143 / 240
    assert depth.sum() * pixel * stiffness == pytest.approx(3, rel=0.05)
    # A sphere's depth falls off by the square of the distance over twice its radius.
    near = np.hypot(x - place[0], y - place[1]) < 0.0015
    paraboloid = depth.max() - ((x - place[0]) ** 2 + (y - place[1]) ** 2)[near] / 0.012
    np.testing.assert_allclose(depth[near], paraboloid, atol=0.00004)


def test_an_image_is_repeatable_changes_with_touch_and_has_its_markers():
    world = PadWorld(size=(0.003, 0.004, 0.003), height=0.003)
    camera, key = images(world), "robot0_tactile0_rgb"
    flat = camera.measure()[key]
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) < 800  # an even colour, and dots with soft edges
    rows, columns = (np.arange(7) + 0.5) * 240 / 7, (np.arange(9) + 0.5) * 320 / 9
    dots = flat[np.ix_(rows.astype(int), columns.astype(int))]
    assert (dots < 40).all()
    world.press((0, 0, -4))
    pressed = camera.measure()[key]
    assert np.abs(pressed.astype(int) - flat).max() > 40
    np.testing.assert_array_equal(camera.measure()[key], pressed)
    np.testing.assert_array_equal(images(world).measure()[key], pressed)
