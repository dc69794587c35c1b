"""Forward kinematics and Jacobian of a chain of joints, batched over any leading axes."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.rotation_group import cross, cross_matrix
from robopolicy_drivers.embodiments import Embodiment


class Kinematics:
    """Poses of an embodiment's tool center point (TCP), in the frame of its base.

    A tool that is fixed to the base, with no joints between, has one pose and an empty Jacobian.

    Args:
        embodiment: the robot's body.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self.embodiment = embodiment
        self.num_joints = len(embodiment.joints)
        self._axes = embodiment.joint_axes[:, :, None]
        self._tcp = embodiment.tcp_transform
        turn = np.zeros((self.num_joints, 4, 4))
        turn[:, :3, :3] = cross_matrix(embodiment.joint_axes)
        # Rodrigues: fixed R(q) = fixed + sin(q) fixed K + (1 - cos(q)) fixed K^2; the products are made once.
        self._fixed = embodiment.joint_transforms
        self._sine = self._fixed @ turn
        self._cosine = self._sine @ turn

    def link_poses(self, positions: Array) -> Array:
        """Returns the pose of every link's frame, which sits at the link's joint.

        Args:
            positions: joint positions ``[..., J]`` [rad].

        Returns:
            Transforms ``[..., J, 4, 4]``.
        """
        angle = np.asarray(positions, dtype=np.float64)[..., None, None]
        poses = self._fixed + np.sin(angle) * self._sine + (1.0 - np.cos(angle)) * self._cosine
        for joint in range(1, self.num_joints):
            poses[..., joint, :, :] = poses[..., joint - 1, :, :] @ poses[..., joint, :, :]
        return poses

    def forward(self, positions: Array) -> Array:
        """Returns the TCP pose ``[..., 4, 4]`` at joint positions ``[..., J]`` [rad]."""
        return self._tool(self.link_poses(positions))

    def jacobian(self, positions: Array) -> Array:
        """Returns the TCP's geometric Jacobian at joint positions ``[..., J]`` [rad].

        Returns:
            ``[..., 6, J]`` in the base frame: linear [m/rad] above angular [rad/rad].
        """
        return self.forward_and_jacobian(positions)[1]

    def forward_and_jacobian(self, positions: Array) -> tuple[Array, Array]:
        """Returns ``forward`` and ``jacobian`` at joint positions ``[..., J]`` [rad] for the price of one."""
        links = self.link_poses(positions)
        tcp = self._tool(links)
        axes = (links[..., :3, :3] @ self._axes)[..., 0]
        arms = tcp[..., None, :3, 3] - links[..., :3, 3]
        jacobian = np.empty((*tcp.shape[:-2], 6, self.num_joints))
        jacobian[..., :3, :] = np.swapaxes(cross(axes, arms), -1, -2)
        jacobian[..., 3:, :] = np.swapaxes(axes, -1, -2)
        return tcp, jacobian

    def _tool(self, links: Array) -> Array:
        if self.num_joints == 0:
            return np.broadcast_to(self._tcp, (*links.shape[:-3], 4, 4))
        return links[..., -1, :, :] @ self._tcp
