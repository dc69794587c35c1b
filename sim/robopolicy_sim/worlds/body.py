"""A robot in a world: what it measures and what it can be commanded. MJCF of it: ``arm_model.add_robot``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import SimulationError
from robopolicy_datasets.geometry import Array, invert_pose, matrix_to_quaternion, pose_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import Embodiment
from robopolicy_sim.rendering import import_mujoco

ARM_ACCELERATION = 3.0  # [m/s^2] of a tool that counts as full pace


class Body:
    """One robot of a ``World``.

    Args:
        model: the ``mujoco.MjModel``.
        data: its ``mujoco.MjData``.
        embodiment: the robot's.
        prefix: before its names in the model.
        number: its keys begin with ``robot<number>_``.

    Attributes:
        prefix: see above.
        embodiment: the robot's.
        kinematics: of its tool, in the frame of its base.
        number: see above.
        base_body: index of its base among the model's bodies.
        hand_body: index of the body at its tool center point.
    """

    def __init__(self, model: Any, data: Any, embodiment: Embodiment, prefix: str, number: int) -> None:
        self.embodiment = embodiment
        self.kinematics = Kinematics(embodiment)
        self.prefix, self.number = prefix, number
        self._mujoco = import_mujoco()
        self._data = data
        self._lower, self._upper = embodiment.position_limits.T
        self._stiffness = np.array([joint.stiffness for joint in embodiment.joints])
        self._tcp = model.site(f"{prefix}tcp").id
        self.base_body = model.body(f"{prefix}base").id
        self.hand_body = model.body(f"{prefix}hand").id
        self._joints = self._speeds = self._servos = self._servo_states = slice(0, 0)
        if embodiment.joints:
            count, first = len(embodiment.joints), prefix + embodiment.joint_names[0]
            joint, servo = model.joint(first), model.actuator(first)
            self._joints, self._speeds = _slice(joint.qposadr, count), _slice(joint.dofadr, count)
            self._servos, self._servo_states = _slice(servo.id, count), _slice(servo.actadr, count)
        self._gripper = embodiment.gripper
        if embodiment.gripper:
            self._fingers = _slice(model.joint(f"{prefix}finger_left").qposadr, 2)
            self._finger_servo = model.actuator(f"{prefix}gripper").id
            self._opening = model.tendon(f"{prefix}gripper").id
        if embodiment.base:
            joint = model.joint(f"{prefix}base")
            self._float, self._twist = _slice(joint.qposadr, 7), _slice(joint.dofadr, 6)
        if self.carried:
            self._carrier = int(model.body(f"{prefix}carrier").mocapid[0])
        elif embodiment.base:
            first_rotor, count = model.actuator(f"{prefix}rotor0"), len(embodiment.base.rotors)
            self._rotors, self._rotor_states = (
                _slice(first_rotor.id, count),
                _slice(first_rotor.actadr, count),
            )

    @property
    def carried(self) -> bool:
        """Whether an ideal hand moves it: a flying base without rotors."""
        return self.embodiment.base is not None and not self.embodiment.base.rotors

    @property
    def pace(self) -> float:
        """How fast it moves beside an arm, up to 1: as fast as the acceleration of a flying base allows."""
        base = self.embodiment.base
        return min(1.0, base.acceleration_limit / ARM_ACCELERATION) if base else 1.0

    @property
    def joint_positions(self) -> Array:
        """Measured joint positions ``[J]`` [rad]."""
        return self._data.qpos[self._joints].copy()

    @property
    def joint_velocities(self) -> Array:
        """Measured joint velocities ``[J]`` [rad/s]."""
        return self._data.qvel[self._speeds].copy()

    @property
    def joint_targets(self) -> Array:
        """Last commanded joint positions ``[J]`` [rad]."""
        return self._data.ctrl[self._servos].copy()

    @property
    def gripper_width(self) -> float:
        """Measured opening [m]."""
        return float(self._data.ten_length[self._opening])

    @property
    def gripper_target(self) -> float:
        """Last commanded opening [m]."""
        return float(self._data.ctrl[self._finger_servo])

    @property
    def tcp_pose(self) -> Array:
        """Measured pose ``[4, 4]`` of the tool center point in the world."""
        return pose_matrix(self._data.site_xpos[self._tcp], self._data.site_xmat[self._tcp].reshape(3, 3))

    @property
    def base_pose(self) -> Array:
        """Measured pose ``[4, 4]`` of the base in the world."""
        return pose_matrix(self._data.xpos[self.base_body], self._data.xmat[self.base_body].reshape(3, 3))

    @property
    def base_twist(self) -> Array:
        """Velocity ``[6]`` of a flying base: linear in the world [m/s], angular in its own frame [rad/s]."""
        return self._data.qvel[self._twist].copy()

    @property
    def contact_wrench(self) -> Array:
        """What a flying robot's touching does to its base ``[6]``, in the base's frame [N, N m]."""
        wrench = self._data.qfrc_constraint[self._twist].copy()  # force in the world; inner forces cancel out
        wrench[:3] = self.base_pose[:3, :3].T @ wrench[:3]
        return wrench

    @property
    def sag(self) -> Array:
        """How far the arm's own weight keeps its servos from their targets ``[J]`` [rad]."""
        return self._data.qfrc_bias[self._speeds] / self._stiffness

    @property
    def thrusts(self) -> Array:
        """What the rotors give ``[R]`` [N]."""
        return self._data.act[self._rotor_states].copy()

    def start(self, joints: ArrayLike, width: float, base_pose: Array | None = None) -> None:
        """Puts the robot somewhere, at rest, its servos holding it there. Rotors give nothing yet.

        Args:
            joints: positions ``[J]`` [rad].
            width: of the gripper, where there is one [m].
            base_pose: of a flying base in the world ``[4, 4]``.
        """
        self._data.qpos[self._joints] = joints
        if base_pose is not None:
            self._data.qpos[self._float] = (*base_pose[:3, 3], *matrix_to_quaternion(base_pose[:3, :3]))
            if self.carried:
                self.carry(base_pose)
        if self._gripper is not None:
            self._data.qpos[self._fingers] = 0.5 * width
        self.set_targets(joints, width)
        self._data.act[self._servo_states] = joints

    def set_targets(self, joint_positions: ArrayLike, gripper_width: float) -> None:
        """Commands the servos; targets beyond the limits are clipped.

        Args:
            joint_positions: target joint positions ``[J]`` [rad].
            gripper_width: target opening [m]; means nothing without a gripper.

        Raises:
            SimulationError: a target is not finite (MuJoCo would take all of them for zero).
        """
        if not (math.isfinite(gripper_width) and np.isfinite(joint_positions).all()):
            raise SimulationError(
                f"The targets {np.asarray(joint_positions).tolist()} rad, {gripper_width} m are not finite; "
                "give joint positions and a width. Check what computes them."
            )
        self._data.ctrl[self._servos] = np.minimum(np.maximum(joint_positions, self._lower), self._upper)
        gripper = self._gripper
        if gripper is not None:
            width = min(max(gripper_width, gripper.min_width), gripper.max_width)
            self._data.ctrl[self._finger_servo] = width

    def set_thrusts(self, thrusts: ArrayLike) -> None:
        """Commands the rotors ``[R]`` [N]; what they cannot give is clipped, and they follow with a lag.

        Raises:
            SimulationError: a thrust is not finite.
        """
        wanted = np.asarray(thrusts, np.float64)
        if not np.isfinite(wanted).all():
            raise SimulationError(
                f"The thrusts {wanted.tolist()} N are not finite. Check what computes them."
            )
        self._data.ctrl[self._rotors] = np.clip(wanted, 0.0, self.embodiment.flying_base.thrust_limits)

    def carry(self, base_pose: Array) -> None:
        """Moves the hand that carries the robot: its base follows to ``base_pose [4, 4]``."""
        self._data.mocap_pos[self._carrier] = base_pose[:3, 3]
        self._data.mocap_quat[self._carrier] = matrix_to_quaternion(base_pose[:3, :3])

    def hover(self) -> None:
        """Lets rotors and servos carry the weight at once, as if they had done so for long."""
        self._data.ctrl[self._servos] += self.sag
        self._data.act[self._servo_states] = self._data.ctrl[self._servos]
        held = self._data.qfrc_bias[self._twist].copy()  # force in the world, torque in the base
        held[:3] = self.base_pose[:3, :3].T @ held[:3]
        self.set_thrusts(np.linalg.pinv(self.embodiment.flying_base.wrench_matrix) @ held)
        self._data.act[self._rotor_states] = self._data.ctrl[self._rotors]

    def in_base(self, pose: Array) -> Array:
        """Returns a pose ``[4, 4]`` of the world in the frame of the base."""
        return invert_pose(self.base_pose) @ pose

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Returns what the robot measures.

        Returns:
            ``robot0_eef_pos`` [3] m and ``robot0_eef_rot_axis_angle`` [3] rad of the tool center point in the
            world, ``robot0_gripper_width`` [1] m where it has one, ``robot0_joint_pos`` [J] rad.
        """
        name = f"robot{self.number}"
        state = {
            f"{name}_eef_pos": self._data.site_xpos[self._tcp].astype(np.float32),
            f"{name}_eef_rot_axis_angle": self._tcp_axis_angle().astype(np.float32),
            f"{name}_joint_pos": self.joint_positions.astype(np.float32),
        }
        if self._gripper is not None:
            state[f"{name}_gripper_width"] = np.array([self.gripper_width], dtype=np.float32)
        return state

    def _tcp_axis_angle(self) -> Array:
        """As ``matrix_to_axis_angle``, many times faster for one matrix."""
        quaternion, axis_angle = np.empty(4), np.empty(3)
        self._mujoco.mju_mat2Quat(quaternion, self._data.site_xmat[self._tcp])
        self._mujoco.mju_quat2Vel(axis_angle, quaternion, 1.0)
        return axis_angle


def _slice(first: Any, count: int) -> slice:
    start = int(np.asarray(first).item())
    return slice(start, start + count)
