"""Pinocchio, given the same record, agrees on poses, Jacobians and mass matrices."""

import numpy as np
import pytest

from robopolicy_datasets.geometry import axis_angle_to_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.mass_matrix import GRIPPER_SHARE, MassMatrix
from robopolicy_drivers.embodiments import embodiment_names, load_embodiment

pinocchio = pytest.importorskip("pinocchio", reason="pin is not installed (extra 'dev')")


def placement(pose):
    return pinocchio.SE3(pose.matrix[:3, :3], pose.matrix[:3, 3])


def model_of(embodiment):
    """Pinocchio's model of an embodiment, with a frame at the tool."""
    model, parent = pinocchio.Model(), 0
    if embodiment.base:
        parent = model.addJoint(0, pinocchio.JointModelFreeFlyer(), pinocchio.SE3.Identity(), "base")
        inertia = pinocchio.Inertia(embodiment.base.mass, np.zeros(3), np.diag(embodiment.base.inertia))
        model.appendBodyToJoint(parent, inertia, pinocchio.SE3.Identity())
    for joint, transform in zip(embodiment.joints, embodiment.joint_transforms, strict=True):
        turning = pinocchio.JointModelRevoluteUnaligned(np.array(joint.axis))
        at = pinocchio.SE3(transform[:3, :3], transform[:3, 3])
        parent = model.addJoint(parent, turning, at, joint.name)
        inertia = pinocchio.Inertia(joint.mass, np.array(joint.center_of_mass), np.diag(joint.inertia))
        model.appendBodyToJoint(parent, inertia, pinocchio.SE3.Identity())
    if embodiment.gripper:
        flange, tcp = np.array(embodiment.flange.position), np.array(embodiment.tcp.position)
        center = tcp + GRIPPER_SHARE * (flange - tcp)
        inertia = pinocchio.Inertia(embodiment.gripper.mass, center, np.zeros((3, 3)))
        model.appendBodyToJoint(parent, inertia, pinocchio.SE3.Identity())
    tool = pinocchio.Frame("tcp", parent, placement(embodiment.tcp), pinocchio.FrameType.OP_FRAME)
    return model, model.addFrame(tool)


@pytest.mark.parametrize("name", embodiment_names())
def test_poses_jacobians_and_mass_matrices_are_pinocchios(name):
    embodiment = load_embodiment(name)
    kinematics = Kinematics(embodiment)
    model, tool = model_of(embodiment)
    data = model.createData()
    random = np.random.default_rng(0)
    joints = random.uniform(*embodiment.position_limits.T, (20, kinematics.num_joints))
    poses, jacobians = kinematics.forward_and_jacobian(joints)
    inertias = MassMatrix(kinematics)(joints)
    first = 6 if embodiment.base else 0
    for row in range(len(joints)):
        base = pinocchio.SE3.Identity()
        if embodiment.base:
            base = pinocchio.SE3(axis_angle_to_matrix(random.normal(size=3)), random.normal(size=3))
        configuration = np.concatenate([pinocchio.SE3ToXYZQUAT(base)[: first + first // 6], joints[row]])
        pinocchio.framesForwardKinematics(model, data, configuration)
        seen = base.inverse() * data.oMf[tool]
        np.testing.assert_allclose(poses[row], seen.homogeneous, atol=1e-12)
        frame = pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        world = pinocchio.computeFrameJacobian(model, data, configuration, tool, frame)[:, first:]
        in_base = np.vstack([base.rotation.T @ world[:3], base.rotation.T @ world[3:]])
        np.testing.assert_allclose(jacobians[row], in_base, atol=1e-12)
        inertia = np.triu(pinocchio.crba(model, data, configuration))
        np.testing.assert_allclose(np.triu(inertias[row]), inertia, atol=1e-10)
        np.testing.assert_allclose(inertias[row], inertias[row].T, atol=1e-12)
