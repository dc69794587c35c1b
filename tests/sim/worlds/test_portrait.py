"""MuJoCo agrees with the kinematics of every embodiment; each can be drawn."""

import numpy as np
import pytest

from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_quaternion, pose_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import embodiment_names, load_embodiment
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.portrait import embodiment_model, portrait

NAMES = embodiment_names()


@pytest.mark.parametrize("name", NAMES)
def test_poses_and_jacobians_equal_mujoco_wherever_the_base_flies(name):
    mujoco = import_mujoco()
    embodiment = load_embodiment(name)
    kinematics = Kinematics(embodiment)
    model = embodiment_model(embodiment)
    data = mujoco.MjData(model)
    joints = [model.joint(joint) for joint in embodiment.joint_names]
    places = [int(joint.qposadr[0]) for joint in joints]
    columns = [int(joint.dofadr[0]) for joint in joints]
    site = model.site("tcp").id
    random = np.random.default_rng(0)
    for _ in range(20):
        base = np.eye(4)
        if embodiment.base:
            base = pose_matrix(random.normal(size=3), axis_angle_to_matrix(random.normal(size=3)))
            data.qpos[:7] = *base[:3, 3], *matrix_to_quaternion(base[:3, :3])
        positions = random.uniform(*embodiment.position_limits.T)
        data.qpos[places] = positions
        mujoco.mj_forward(model, data)
        found = pose_matrix(data.site_xpos[site], data.site_xmat[site].reshape(3, 3))
        pose, jacobian = kinematics.forward_and_jacobian(positions)
        np.testing.assert_allclose(base @ pose, found, atol=1e-9)
        linear, angular = np.zeros((2, 3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, site)
        turned = np.vstack([base[:3, :3] @ jacobian[:3], base[:3, :3] @ jacobian[3:]])
        np.testing.assert_allclose(turned, np.vstack([linear, angular])[:, columns], atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_mass_limits_and_cameras_are_the_embodiments(name):
    mujoco = import_mujoco()
    embodiment = load_embodiment(name)
    model = embodiment_model(embodiment)
    assert model.body_mass.sum() == pytest.approx(embodiment.mass)
    for joint in embodiment.joints:
        np.testing.assert_array_equal(model.joint(joint.name).range, joint.position_limits)
        assert model.actuator(joint.name).forcerange[1] == joint.effort_limit
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    tcp = Kinematics(embodiment).forward(embodiment.home_positions)
    for camera in embodiment.cameras:
        index = model.camera(camera.key.removesuffix("_rgb")).id
        pose = tcp @ camera.pose.matrix  # all of ours are at the tool
        np.testing.assert_allclose(data.cam_xpos[index], pose[:3, 3], atol=1e-9)
        axes = data.cam_xmat[index].reshape(3, 3) * (1, -1, -1)  # MuJoCo looks along -z, y up
        np.testing.assert_allclose(axes, pose[:3, :3], atol=1e-6)
        assert np.radians(model.cam_fovy[index]) == pytest.approx(camera.vertical_field)


@pytest.mark.parametrize("name", NAMES)
def test_a_portrait_shows_the_robot_in_its_middle(name):
    image = portrait(load_embodiment(name), width=64, height=64).astype(int)
    background = image[-1, 0]
    different = np.abs(image - background).sum(-1) > 60
    assert different[16:48, 16:48].mean() > 0.04
    assert not different[-3:].any()  # nothing is cut off below
