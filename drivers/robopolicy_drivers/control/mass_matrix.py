"""The mass matrix of an embodiment: of its joints and, where the base flies, of the base."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.rotation_group import cross, cross_matrix

GRIPPER_SHARE = 2.0 / 3.0  # of the way from the tool center point to the flange, where the gripper's mass is


class MassMatrix:
    """Joint-space inertia, batched over any leading axes. A gripper counts as a point mass.

    Args:
        kinematics: of the robot.
    """

    def __init__(self, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        embodiment = kinematics.embodiment
        self._base = embodiment.base
        joints = embodiment.joints
        self._links = list(range(len(joints)))
        masses = [joint.mass for joint in joints]
        centers = [joint.center_of_mass for joint in joints]
        inertias = [joint.inertia for joint in joints]
        if embodiment.gripper:
            flange, tcp = np.array(embodiment.flange.position), np.array(embodiment.tcp.position)
            self._links.append(len(joints) - 1)
            masses.append(embodiment.gripper.mass)
            centers.append(tuple(tcp + GRIPPER_SHARE * (flange - tcp)))
            inertias.append((0.0, 0.0, 0.0))
        self._masses = np.array(masses)
        self._centers = np.reshape(centers, (-1, 3, 1))
        self._inertias = np.reshape(inertias, (-1, 3, 1))
        moved = [[joint <= link for joint in range(len(joints))] for link in self._links]
        self._moved = np.reshape(moved, (len(self._links), len(joints)))

    def __call__(self, positions: Array) -> Array:
        """Returns the mass matrix at joint positions ``[..., J]`` [rad].

        Returns:
            ``[..., J, J]`` of a fixed base [kg m^2]; ``[..., 6 + J, 6 + J]`` of a flying one, whose first six
            are its linear and its angular velocity, in its own frame [kg, kg m, kg m^2].
        """
        positions = np.asarray(positions, dtype=np.float64)
        poses = self._poses(positions)
        centers = poses[..., :3, 3] + (poses[..., :3, :3] @ self._centers)[..., 0]
        linear, angular = self._jacobians(poses, centers, positions)
        turns = poses[..., :3, :3]
        inertias = turns @ (self._inertias * np.swapaxes(turns, -1, -2))
        weighted = self._masses[:, None, None] * linear
        products = np.swapaxes(linear, -1, -2) @ weighted + np.swapaxes(angular, -1, -2) @ inertias @ angular
        matrix = np.asarray(products.sum(axis=-3))
        if self._base:
            matrix[..., :3, :3] += self._base.mass * np.eye(3)
            matrix[..., 3:6, 3:6] += np.diag(self._base.inertia)
        return matrix

    def _poses(self, positions: Array) -> Array:
        """Poses of the links and, once more, of the link that carries the gripper."""
        if self._kinematics.num_joints:
            return self._kinematics.link_poses(positions)[..., self._links, :, :]
        return np.broadcast_to(np.eye(4), (*positions.shape[:-1], len(self._links), 4, 4))

    def _jacobians(self, poses: Array, centers: Array, positions: Array) -> tuple[Array, Array]:
        """Velocity of each center of mass and each link's angular velocity ``[..., L, 3, 6 + J]``."""
        joints = self._kinematics.num_joints
        origins = poses[..., None, :joints, :3, 3]
        axes = (poses[..., :joints, :3, :3] @ self._kinematics.embodiment.joint_axes[:, :, None])[..., 0]
        axes = axes[..., None, :, :] * self._moved[..., None]
        linear = np.swapaxes(cross(axes, centers[..., :, None, :] - origins), -1, -2)
        angular = np.swapaxes(axes, -1, -2)
        if not self._base:
            return linear, angular
        shape = (*centers.shape[:-1], 3, 3)
        one, none = np.broadcast_to(np.eye(3), shape), np.zeros(shape)
        return (
            np.concatenate([one, -cross_matrix(centers), linear], axis=-1),
            np.concatenate([none, one, angular], axis=-1),
        )
