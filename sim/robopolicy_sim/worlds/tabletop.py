"""An arm at a table with a cube and a goal pad. The world frame is the arm's base; the table is at z = 0."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SimulationError, unknown_name
from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import Embodiment, load_embodiment
from robopolicy_sim.rendering import import_mujoco, shared_renderer
from robopolicy_sim.worlds.tabletop_model import (
    CUBE_HALF_SIZE,
    PAD_HALF_SIZE,
    TIMESTEP,
    WORKSPACE_CENTER,
    tabletop_model,
)

CUBE_AREA = (0.20, 0.20)  # [m] x and y extent of the cube's starting places
CUBE_YAW = np.pi / 4  # [rad] largest turn to either side
PAD_AREA = (0.22, 0.26)  # [m] x and y extent of the pad's places
SUCCESS_DISTANCE = 0.03  # [m] of the cube from the pad's centre
SUCCESS_OPENING = 0.055  # [m] width that counts as open
SUCCESS_HEIGHT = 0.07  # [m] that the TCP must be above the table


class TabletopWorld:
    """The physics of the tabletop, commanded by joint positions as a real arm is.

    A control process calls ``set_targets`` and ``step``; another process that only draws mirrors it with
    ``get_physics_state`` and ``set_physics_state``. Pose targets become joint targets by
    ``DifferentialIK(world.kinematics, period_s=...)``.

    Args:
        embodiment: the arm's name, or its file.
    """

    timestep = TIMESTEP
    cameras = ("camera0", "camera1", "video")

    def __init__(self, embodiment: str = "ur5e") -> None:
        self.embodiment: Embodiment = load_embodiment(embodiment)
        self.kinematics = Kinematics(self.embodiment)
        self._mujoco = import_mujoco()
        self._model = tabletop_model(embodiment)
        self._gripper = self.embodiment.parallel_gripper
        self._data = self._mujoco.MjData(self._model)
        self._state_kind = self._mujoco.mjtState.mjSTATE_INTEGRATION.value
        self._lower, self._upper = self.embodiment.position_limits.T
        self._arm = slice(0, self.kinematics.num_joints)
        self._tcp = self._model.site("tcp").id
        self._cube_body = self._model.body("cube").id
        self._cube = int(self._model.joint("cube").qposadr[0])
        self._cube_velocity = int(self._model.joint("cube").dofadr[0])
        kinds = self._mujoco.mjtWarning
        self._instabilities = [
            self._data.warning[kind.value]
            for kind in (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
        ]
        self._camera_ids = {name: self._model.camera(name).id for name in self.cameras}
        self.reset(np.random.default_rng(0))

    def reset(self, random: np.random.Generator) -> None:
        """Starts anew: arm close to home, gripper open, cube and pad at random places apart from each other.

        Args:
            random: decides everything that varies.
        """
        data = self._data
        self._mujoco.mj_resetData(self._model, data)
        joints = self.embodiment.home_positions + random.uniform(-0.04, 0.04, self.kinematics.num_joints)
        cube = _place(random, CUBE_AREA)
        yaw = random.uniform(-CUBE_YAW, CUBE_YAW)
        pad = _place(random, PAD_AREA)
        while np.max(np.abs(pad - cube)) < PAD_HALF_SIZE + 1.5 * CUBE_HALF_SIZE:
            pad = _place(random, PAD_AREA)
        width = self._gripper.max_width
        data.qpos[self._arm] = joints
        data.qpos[self._arm.stop : self._arm.stop + 2] = 0.5 * width
        cube_pose = (*cube, CUBE_HALF_SIZE, np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw))
        data.qpos[self._cube : self._cube + 7] = cube_pose
        data.mocap_pos[0] = (*pad, 0.0)
        self.set_targets(joints, width)
        data.act[self._arm] = joints
        self._update_kinematics()

    def set_targets(self, joint_positions: Array, gripper_width: float) -> None:
        """Commands the servos; targets beyond the limits are clipped.

        Args:
            joint_positions: target joint positions ``[J]`` [rad].
            gripper_width: target opening [m].

        Raises:
            SimulationError: a target is not finite (MuJoCo would take all of them for zero).
        """
        if not (math.isfinite(gripper_width) and np.isfinite(joint_positions).all()):
            raise SimulationError(
                f"The targets {joint_positions} rad, {gripper_width} m are not finite; give joint positions "
                "and a width. Check what computes them."
            )
        gripper = self._gripper
        self._data.ctrl[self._arm] = np.minimum(np.maximum(joint_positions, self._lower), self._upper)
        self._data.ctrl[self._arm.stop] = min(max(gripper_width, gripper.min_width), gripper.max_width)

    def step(self, substeps: int = 1) -> None:
        """Advances the physics by ``substeps`` times ``timestep``.

        Raises:
            SimulationError: the physics became unstable.
        """
        self._mujoco.mj_step(self._model, self._data, substeps)
        self._update_kinematics()
        # MuJoCo resets an unstable state by itself and counts a warning; a NaN can also slip in from outside.
        if any(warning.number for warning in self._instabilities) or not np.isfinite(self._data.qpos).all():
            raise SimulationError(
                f"The physics became unstable at {self.time:.3f} s (bad position, velocity or acceleration). "
                "Reset the world; check that targets are finite and change smoothly."
            )

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Returns what the arm measures.

        Returns:
            ``robot0_eef_pos`` [3] m and ``robot0_eef_rot_axis_angle`` [3] rad of the tool center point in the
            world, ``robot0_gripper_width`` [1] m, ``robot0_joint_pos`` [J] rad.
        """
        pose = self.tcp_pose
        return {
            "robot0_eef_pos": pose[:3, 3].astype(np.float32),
            "robot0_eef_rot_axis_angle": self._tcp_axis_angle().astype(np.float32),
            "robot0_gripper_width": np.array([self.gripper_width], dtype=np.float32),
            "robot0_joint_pos": self.joint_positions.astype(np.float32),
        }

    @property
    def time(self) -> float:
        """Simulated time since the reset [s]."""
        return float(self._data.time)

    @property
    def joint_positions(self) -> Array:
        """Measured joint positions ``[J]`` [rad]."""
        return self._data.qpos[self._arm].copy()

    @property
    def joint_targets(self) -> Array:
        """Last commanded joint positions ``[J]`` [rad]."""
        return self._data.ctrl[self._arm].copy()

    @property
    def gripper_width(self) -> float:
        """Measured opening [m]."""
        return float(self._data.ten_length[0])

    @property
    def gripper_target(self) -> float:
        """Last commanded opening [m]."""
        return float(self._data.ctrl[self._arm.stop])

    @property
    def tcp_pose(self) -> Array:
        """Measured pose ``[4, 4]`` of the tool center point in the world."""
        return pose_matrix(self._data.site_xpos[self._tcp], self._data.site_xmat[self._tcp].reshape(3, 3))

    @property
    def cube_pose(self) -> Array:
        """True pose ``[4, 4]`` of the cube in the world; for experts and scores, no policy sees it."""
        rotation = self._data.xmat[self._cube_body].reshape(3, 3)
        return pose_matrix(self._data.xpos[self._cube_body], rotation)

    @property
    def pad_position(self) -> Array:
        """True position ``[3]`` of the goal pad in the world [m]; for experts and scores."""
        return self._data.mocap_pos[0].copy()

    def success(self) -> bool:
        """Returns whether the cube rests on the pad, let go, with the gripper clear of it."""
        cube = self._data.qpos[self._cube : self._cube + 3]
        speed = np.linalg.norm(self._data.qvel[self._cube_velocity : self._cube_velocity + 3])
        at_goal = np.linalg.norm(cube[:2] - self.pad_position[:2]) <= SUCCESS_DISTANCE
        resting = abs(cube[2] - CUBE_HALF_SIZE) < 0.005 and speed < 0.05
        clear = self.gripper_width > SUCCESS_OPENING and self.tcp_pose[2, 3] > SUCCESS_HEIGHT
        return bool(at_goal and resting and clear)

    def progress(self) -> float:
        """Returns how far the task is: 0.3 for reaching the cube, 0.6 for bringing it home, 1 at success."""
        if self.success():
            return 1.0
        cube = self._data.qpos[self._cube : self._cube + 3]
        reach = np.linalg.norm(self.tcp_pose[:3, 3] - cube)
        away = np.linalg.norm(cube[:2] - self.pad_position[:2])
        reached = float(np.clip(1.0 - reach / 0.3, 0.0, 1.0))
        brought = float(np.clip(1.0 - away / 0.3, 0.0, 1.0))
        return 0.3 * max(reached, brought) + 0.6 * brought

    def render(self, camera: str, width: int, height: int) -> NDArray[np.uint8]:
        """Draws what a camera sees.

        Args:
            camera: ``"camera0"`` (scene), ``"camera1"`` (wrist), or ``"video"`` (smooth, for people).
            width: of the image [px].
            height: of the image [px].

        Returns:
            RGB image ``[height, width, 3]``.

        Raises:
            UnknownNameError: there is no such camera.
        """
        if camera not in self._camera_ids:
            raise unknown_name("camera", camera, self._camera_ids)
        renderer = shared_renderer(self._model, smooth=camera == "video")
        return renderer.render(self._data, self._camera_ids[camera], width=width, height=height)

    def get_physics_state(self) -> Array:
        """Returns all that the physics needs to go on from here (targets and pad too), a vector ``[S]``."""
        state = np.empty(self._mujoco.mj_stateSize(self._model, self._state_kind))
        self._mujoco.mj_getState(self._model, self._data, state, self._state_kind)
        return state

    def set_physics_state(self, state: Array) -> None:
        """Goes to a state that ``get_physics_state`` returned, maybe in another process.

        Raises:
            SimulationError: the vector has the wrong size.
        """
        size = self._mujoco.mj_stateSize(self._model, self._state_kind)
        if np.shape(state) != (size,):
            raise SimulationError(
                f"A physics state of this world has the shape ({size},), not {np.shape(state)}; "
                "take it from a TabletopWorld with the same embodiment."
            )
        self._mujoco.mj_setState(
            self._model, self._data, np.asarray(state, dtype=np.float64), self._state_kind
        )
        self._update_kinematics()

    def _tcp_axis_angle(self) -> Array:
        """As ``matrix_to_axis_angle``, many times faster for one matrix."""
        quaternion, axis_angle = np.empty(4), np.empty(3)
        self._mujoco.mju_mat2Quat(quaternion, self._data.site_xmat[self._tcp])
        self._mujoco.mju_quat2Vel(axis_angle, quaternion, 1.0)
        return axis_angle

    def _update_kinematics(self) -> None:
        """Brings poses, cameras and the gripper's width up to date with the joint positions."""
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)
        self._mujoco.mj_tendon(self._model, self._data)


def _place(random: np.random.Generator, area: tuple[float, float]) -> Array:
    return np.array(WORKSPACE_CENTER) + 0.5 * random.uniform(-1.0, 1.0, 2) * np.array(area)
