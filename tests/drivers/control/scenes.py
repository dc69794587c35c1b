"""Random states of the flying arm and references near them; a finer model of flight to fly against."""

import numpy as np

from robopolicy_datasets.geometry import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    matrix_to_rot6d,
    pose_matrix,
)
from robopolicy_drivers.control.flying_arm import FlyingArmState
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.mass_matrix import MassMatrix
from robopolicy_drivers.embodiments import load_embodiment

ARM = Kinematics(load_embodiment("aerial_manipulator"))
TICK_S = 2e-3


def random_scene(batch, seed, *, steps=8, way=0.1):
    """A state of each of ``batch`` flying arms, and references that lead about ``way`` m away from it."""
    random = np.random.default_rng(seed)
    embodiment = ARM.embodiment
    lower, upper = embodiment.position_limits.T

    def near(values, spread):
        return np.clip(values + random.normal(0, spread, (batch, len(lower))), lower, upper)

    joints = near(embodiment.home_positions, 0.2)
    position, velocity, spin = random.normal(0, 0.1, (3, batch, 3))
    rotation = axis_angle_to_matrix(random.normal(0, 0.1, (batch, 3)))
    quaternion = matrix_to_quaternion(rotation)
    state = FlyingArmState(position, quaternion, velocity, spin, joints, near(joints, 0.02))
    tool = pose_matrix(position, rotation) @ ARM.forward(joints)
    share = (np.arange(1, steps + 1) / steps)[:, None]
    moves, turns = random.normal(0, way, (batch, 1, 3)), random.normal(0, 2 * way, (batch, 1, 3))
    positions = tool[:, None, :3, 3] + share * moves + random.normal(0, 0.01, (batch, steps, 3))
    shaken = axis_angle_to_matrix(share * turns + random.normal(0, 0.02, (batch, steps, 3)))
    rot6d = matrix_to_rot6d(shaken @ tool[:, None, :3, :3])
    return np.concatenate([positions, rot6d], axis=-1), state


class Flight:
    """A rigid body in short explicit steps, with rotors and joints that lag, apart from the controllers.

    The joints are quasi-static, as their accelerations are small beside the base's mass.
    """

    def __init__(self, kinematics, position=(0, 0, 0)):
        self.kinematics, self.inertia = kinematics, MassMatrix(kinematics)
        embodiment = kinematics.embodiment
        self.base = embodiment.base
        self.position, self.velocity, self.spin = np.array(position, float), np.zeros(3), np.zeros(3)
        self.rotation = np.eye(3)
        self.joints = np.array(embodiment.home_positions)
        self.targets = self.joints.copy()
        self.thrusts = np.full(len(self.base.rotors), 9.81 * embodiment.mass / len(self.base.rotors))
        self.rotor_lag = np.array([rotor.time_constant for rotor in self.base.rotors])
        self.joint_lag = np.array([joint.damping / joint.stiffness for joint in embodiment.joints])

    def fly(self, thrusts, seconds, *, targets=None, force=0.0):
        targets = self.joints if targets is None else np.asarray(targets)
        begin = self.targets
        for tick in range(ticks := round(seconds / TICK_S)):
            self.targets = begin + (targets - begin) * (tick + 1) / ticks
            self.joints = self.joints + (self.targets - self.joints) * TICK_S / self.joint_lag
            self.thrusts = self.thrusts + (thrusts - self.thrusts) * TICK_S / self.rotor_lag
            self._tick(force)

    def _tick(self, force):
        inertia = self.inertia(self.joints)[:6, :6]
        moment, turning = inertia[3:, :3], inertia[3:, 3:]
        center = np.array([moment[2, 1], moment[0, 2], moment[1, 0]])
        wrench = self.base.wrench_matrix @ self.thrusts
        wrench[:3] += self.rotation.T @ np.broadcast_to(force, 3)
        wrench[:3] -= np.cross(self.spin, np.cross(self.spin, center))
        wrench[3:] -= np.cross(self.spin, turning @ self.spin)
        push = np.linalg.solve(inertia, wrench)
        self.velocity = self.velocity + TICK_S * (self.rotation @ push[:3] - [0, 0, 9.81])
        self.position = self.position + TICK_S * self.velocity
        self.spin = self.spin + TICK_S * push[3:]
        self.rotation = self.rotation @ axis_angle_to_matrix(TICK_S * self.spin)

    @property
    def tool(self):
        return pose_matrix(self.position, self.rotation) @ self.kinematics.forward(self.joints)

    @property
    def state(self):
        quaternion = matrix_to_quaternion(self.rotation)
        values = (self.position, quaternion, self.velocity, self.spin, self.joints, self.targets)
        return FlyingArmState(*(value[None] for value in values))


def standing_reference(pose, steps):
    step = np.concatenate([pose[:3, 3], matrix_to_rot6d(pose[:3, :3])])
    return np.broadcast_to(step, (1, steps, 9))
