"""PyBullet moves what MuJoCo's model says: the same bodies, joints, servos and friction under another engine.

What differs is what the engines differ in: contacts, their solver, and how motors push (see ``servos``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from robopolicy_datasets.geometry import (
    Array,
    invert_pose,
    matrix_to_quaternion,
    pose_matrix,
    quaternion_to_matrix,
)
from robopolicy_sim.twin.client import Client
from robopolicy_sim.twin.loading import Tree, load_trees
from robopolicy_sim.twin.servos import Servos

# With Bullet's defaults (50 iterations, no inner steps) a held object slips out more often.
SOLVER_ITERATIONS = 200
INNER_STEPS = 2  # that Bullet divides a step of the model into


class BulletPhysics:
    """One simulation in PyBullet, beside the ``mujoco.MjData`` that it reads and writes.

    Args:
        model: a ``mujoco.MjModel``.
        data: its ``mujoco.MjData``; the simulation begins at its state.

    Raises:
        SimulationError: the model has what PyBullet has not.
    """

    def __init__(self, model: Any, data: Any) -> None:
        self._model, self._data = model, data
        self._servos = Servos(model)
        self._bullet = Client()
        self._bullet.setGravity(*map(float, model.opt.gravity))
        self._bullet.setPhysicsEngineParameter(
            fixedTimeStep=float(model.opt.timestep),
            numSolverIterations=SOLVER_ITERATIONS,
            numSubSteps=INNER_STEPS,
            deterministicOverlappingPairs=1,
        )
        self._trees = load_trees(self._bullet, model)
        self._owners = {body: tree for tree in self._trees for body in tree.links}
        self._jointed = [tree for tree in self._trees if tree.joints]
        self._free = [tree for tree in self._trees if tree.free is not None]
        self._carried = [tree for tree in self._trees if model.body_mocapid[tree.root] >= 0]
        # Where Bullet's frame of a body is, at its center of mass, in MuJoCo's.
        self._inertial = pose_matrix(model.body_ipos, quaternion_to_matrix(model.body_iquat))
        self._driven = []
        for tree in self._jointed:
            driven = np.flatnonzero(np.isin(self._servos.joints, list(tree.joints)))
            numbers = [tree.joints[joint] for joint in self._servos.joints[driven]]
            self._driven.append((tree.number, driven, numbers))
        for tree in self._trees:
            self._place(tree, model.body_pos[tree.root], model.body_quat[tree.root])
        self.put()

    def put(self) -> None:
        """Goes to the state of the ``mujoco.MjData``."""
        model, data = self._model, self._data
        for tree in self._jointed:
            positions, speeds = data.qpos[tree.positions].tolist(), data.qvel[tree.speeds].tolist()
            for number, position, speed in zip(tree.joints.values(), positions, speeds, strict=True):
                self._bullet.resetJointState(tree.number, number, position, speed)
        for tree in self._free:
            pose, velocity = _free_state(model, data, tree)
            rotation = self._place(tree, pose[:3], pose[3:])
            linear, angular = velocity[:3], rotation @ velocity[3:]
            linear = linear + np.cross(angular, rotation @ model.body_ipos[tree.root])
            self._bullet.resetBaseVelocity(tree.number, linear.tolist(), angular.tolist())
        self._carry()

    def advance(self, steps: int) -> None:
        """Moves on by steps of the model's ``timestep``, and writes where everything is then."""
        self._carry()
        for _ in range(steps):
            self._drive()
            self._push()
            self._bullet.stepSimulation()
            self._read_joints()
        self._read_free()
        self._data.time += steps * self._model.opt.timestep

    def _place(self, tree: Tree, position: Array, quaternion: Array) -> Array:
        """Puts a tree's first body somewhere; returns its orientation ``[3, 3]``."""
        pose = pose_matrix(position, quaternion_to_matrix(quaternion))
        center = pose @ self._inertial[tree.root]
        w, x, y, z = matrix_to_quaternion(center[:3, :3]).tolist()
        self._bullet.resetBasePositionAndOrientation(tree.number, center[:3, 3].tolist(), (x, y, z, w))
        return pose[:3, :3]

    def _carry(self) -> None:
        """Puts what hands carry, and what moves by itself, where it is in MuJoCo."""
        for tree in self._carried:
            place = self._model.body_mocapid[tree.root]
            self._place(tree, self._data.mocap_pos[place], self._data.mocap_quat[place])

    def _drive(self) -> None:
        """Sets the motors of the driven joints."""
        speeds, forces = self._servos.speeds(self._data), self._servos.forces
        for tree, driven, joints in self._driven:
            self._bullet.setJointMotorControlArray(
                tree,
                joints,
                self._bullet.VELOCITY_CONTROL,
                targetVelocities=speeds[driven].tolist(),
                forces=forces[driven].tolist(),
            )

    def _push(self) -> None:
        """Applies the outer forces at the bodies' centers of mass, for one step."""
        frame = self._bullet.WORLD_FRAME
        for body in np.flatnonzero(self._data.xfrc_applied.any(axis=1)).tolist():
            tree, wrench = self._owners[body], self._data.xfrc_applied[body].tolist()
            link, at = tree.links[body][0], self._data.xipos[body].tolist()
            self._bullet.applyExternalForce(tree.number, link, wrench[:3], at, frame)
            self._bullet.applyExternalTorque(tree.number, link, wrench[3:], frame)

    def _read_joints(self) -> None:
        """Writes Bullet's joints into MuJoCo's state."""
        for tree in self._jointed:
            states = self._bullet.getJointStates(tree.number, list(tree.joints.values()))
            self._data.qpos[tree.positions] = [state[0] for state in states]
            self._data.qvel[tree.speeds] = [state[1] for state in states]

    def _read_free(self) -> None:
        """Writes where free bodies are in Bullet into MuJoCo's state."""
        for tree in self._free:
            center, (x, y, z, w) = self._bullet.getBasePositionAndOrientation(tree.number)
            rotation = quaternion_to_matrix(np.array((w, x, y, z)))
            pose = pose_matrix(center, rotation) @ invert_pose(self._inertial[tree.root])
            linear, angular = map(np.array, self._bullet.getBaseVelocity(tree.number))
            linear = linear - np.cross(angular, pose[:3, :3] @ self._model.body_ipos[tree.root])
            state, velocity = _free_state(self._model, self._data, tree)
            state[:] = (*pose[:3, 3], *matrix_to_quaternion(pose[:3, :3]))
            velocity[:] = (*linear, *(pose[:3, :3].T @ angular))


def _free_state(model: Any, data: Any, tree: Tree) -> tuple[Array, Array]:
    """Returns views of the pose ``[7]`` and velocity ``[6]`` of a free tree's root in MuJoCo's state."""
    position, speed = int(model.jnt_qposadr[tree.free]), int(model.jnt_dofadr[tree.free])
    return data.qpos[position : position + 7], data.qvel[speed : speed + 6]
