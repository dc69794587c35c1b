"""Depth, segmentation and the parameters of cameras, against geometry that is known in closed form."""

import json

import numpy as np
import pytest

from robopolicy_datasets.errors import UnknownNameError
from robopolicy_datasets.geometry import invert_pose
from robopolicy_sim.rendering import Renderer, import_mujoco
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv, PickPlaceScene
from robopolicy_sim.worlds.cameras import camera_parameters, camera_pose
from robopolicy_sim.worlds.world import World

mujoco = import_mujoco()
WIDTH, HEIGHT = 64, 48
HEIGHT_OF_EYE = 2.0
MODEL = f"""
<mujoco>
  <statistic extent="1"/>
  <visual><map znear="0.01" zfar="20"/></visual>
  <worldbody>
    <camera name="down" pos="0.1 0.2 {HEIGHT_OF_EYE}" fovy="50"/>
    <camera name="tilted" pos="-1.2 0.3 1.5" xyaxes="0 -1 0 0.5 0 1" fovy="60"/>
    <geom type="plane" size="20 20 1"/>
    <body name="box" pos="0.3 0.1 0.25"><geom type="box" size="0.2 0.1 0.25"/></body>
    <body name="ball" pos="3 3 1"><geom type="sphere" size="0.2"/></body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def view():
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model)
    yield model, data, renderer
    renderer.close()


def points(model, data, camera, depth):
    """Returns where in the world the pixels of a depth image are [H, W, 3]."""
    matrix = camera_parameters(model, camera, WIDTH, HEIGHT).intrinsics
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(matrix).T
    pose = camera_pose(data, camera)
    return (rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]


def test_depth_is_distance_along_the_view_and_segmentation_names_the_bodies(view):
    """From straight above: the plane everywhere at the eye's height, the box's top nearer by its height."""
    model, data, renderer = view
    depth = renderer.depth(data, 0, width=WIDTH, height=HEIGHT)
    bodies = renderer.segmentation(data, 0, width=WIDTH, height=HEIGHT)
    box = bodies == model.body("box").id
    assert set(np.unique(bodies)) == {0, model.body("box").id}
    np.testing.assert_allclose(depth[~box], HEIGHT_OF_EYE, atol=1e-4)
    top = box & (depth < HEIGHT_OF_EYE - 0.49)
    np.testing.assert_allclose(depth[top], HEIGHT_OF_EYE - 0.5, atol=1e-4)
    assert top.sum() > 50


@pytest.mark.parametrize("camera", [0, 1])
def test_every_pixel_lies_on_the_plane_or_on_the_box(view, camera):
    model, data, renderer = view
    depth = renderer.depth(data, camera, width=WIDTH, height=HEIGHT)
    bodies = renderer.segmentation(data, camera, width=WIDTH, height=HEIGHT)
    found = points(model, data, camera, depth.astype(np.float64))
    plane = (bodies == 0) & (depth < 15)
    np.testing.assert_allclose(found[plane][:, 2], 0.0, atol=2e-3)
    # On the surface of the box, the largest excess over its half sizes is zero.
    inside = found[bodies == model.body("box").id] - data.body("box").xpos
    excess = np.max(np.abs(inside) - (0.2, 0.1, 0.25), axis=1)
    assert len(excess) > 50
    np.testing.assert_allclose(excess, 0.0, atol=3e-3)


def test_nothing_is_at_the_farthest_distance_and_is_no_body(view):
    model, _, renderer = view
    up = mujoco.MjData(model)
    mujoco.mj_forward(model, up)
    up.cam_xmat[0] = np.diag([1.0, -1.0, -1.0]).ravel()  # looks at the sky
    assert np.all(renderer.segmentation(up, 0, width=8, height=8) == -1)
    np.testing.assert_allclose(renderer.depth(up, 0, width=8, height=8), 20.0, rtol=1e-5)


def test_color_images_are_the_same_afterwards(view):
    _, data, renderer = view
    before = renderer.render(data, 1, width=WIDTH, height=HEIGHT)
    renderer.segmentation(data, 1, width=WIDTH, height=HEIGHT)
    renderer.depth(data, 1, width=WIDTH, height=HEIGHT)
    np.testing.assert_array_equal(renderer.render(data, 1, width=WIDTH, height=HEIGHT), before)


@pytest.mark.parametrize("camera", ["camera0", "camera1"])
def test_a_worlds_cameras_see_the_cube_where_their_parameters_say(camera):
    world = World(PickPlaceScene())
    world.reset(np.random.default_rng(2))
    cube = world.model.body("cube").id
    seen = world.segmentation(camera, 96, 72) == cube
    parameters = world.camera_parameters(camera, 96, 72)
    place = invert_pose(world.camera_pose(camera)) @ world.scene.cube_pose[:, 3]
    column, row, _ = parameters.intrinsics @ (place[:3] / place[2])
    rows, columns = np.nonzero(seen)
    assert abs(columns.mean() - column) < 3
    assert abs(rows.mean() - row) < 3
    depth = world.depth(camera, 96, 72)[seen]
    assert place[2] - 0.04 < depth.min() <= depth.max() < place[2] + 0.04


def test_an_environment_tells_its_cameras_as_plain_data():
    env = PickPlaceEnv(PickPlaceConfig(image_size=32))
    cameras = json.loads(json.dumps(env.metadata))["cameras"]
    assert set(cameras) == {"camera0_rgb", "camera1_rgb"}
    assert (cameras["camera0_rgb"]["frame"], cameras["camera1_rgb"]["frame"]) == ("world", "hand")
    assert np.shape(cameras["camera0_rgb"]["intrinsics"]) == (3, 3)
    mount = env.world.robot.embodiment.cameras[0]
    np.testing.assert_allclose(cameras["camera1_rgb"]["pose"], mount.pose.matrix, atol=1e-6)
    hand = env.world.robot.tcp_pose
    np.testing.assert_allclose(
        hand @ cameras["camera1_rgb"]["pose"], env.world.camera_pose("camera1"), atol=1e-6
    )
    assert "cameras" not in PickPlaceEnv.metadata


@pytest.mark.parametrize("method", ["depth", "segmentation", "camera_parameters"])
def test_cameras_that_do_not_exist_are_refused(method):
    with pytest.raises(UnknownNameError, match="camera0"):
        getattr(World(PickPlaceScene()), method)("camera", 8, 8)
