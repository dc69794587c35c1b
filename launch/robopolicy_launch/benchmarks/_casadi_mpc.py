"""The flying arm's control problem as casadi users write it: multiple shooting, solved by IPOPT."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.geometry import quaternion_to_matrix
from robopolicy_drivers.control.flying_arm import FlyingArmState
from robopolicy_drivers.control.flying_body import flying_base_of
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.mass_matrix import MassMatrix
from robopolicy_drivers.control.tracking import split_reference
from robopolicy_drivers.control.whole_body_mpc import MpcWeights

_BASE = 18  # position, rotation matrix, velocity, angular velocity


class CasadiMpc:
    """One robot's problem with ``WholeBodyMpc``'s default sizes, model, cost and limits.

    Args:
        casadi: the module.
        kinematics: of the robot.
        state: whose joints give the inertia ``[1, ...]``.
        steps: N.
        step_s: between two steps [s].
    """

    def __init__(
        self,
        casadi: ModuleType,
        kinematics: Kinematics,
        state: FlyingArmState,
        *,
        steps: int = 8,
        step_s: float = 0.08,
    ) -> None:
        self._casadi, self._steps, self._step_s = casadi, steps, step_s
        self._embodiment = kinematics.embodiment
        base = flying_base_of(self._embodiment)
        self._limits, self._wrench = base.thrust_limits, base.wrench_matrix
        self._inertia = MassMatrix(kinematics)(state.joints[0])[:6, :6]
        self._joints, self._rotors = kinematics.num_joints, len(base.rotors)
        weight = self._inertia[:, 2] * 9.81
        self._hover = np.linalg.pinv(self._wrench) @ weight / self._limits
        self._build()
        self._guess: NDArray[np.float64] | None = None

    def solve(self, reference: NDArray[np.floating], state: FlyingArmState) -> float:
        """Returns the least cost, from the last solution on."""
        positions, rotations = split_reference(reference)
        start = self._start(state)
        flat = [np.concatenate([p, r.T.ravel()]) for p, r in zip(positions[0], rotations[0], strict=True)]
        if self._guess is None:
            hovering = np.concatenate([self._hover, np.zeros(self._joints)])
            self._guess = np.tile(np.concatenate([hovering, start]), self._steps)
        found = self._solver(
            x0=self._guess,
            p=np.concatenate([start, *flat]),
            lbx=self._lower,
            ubx=self._upper,
            lbg=0,
            ubg=0,
        )
        self._guess = np.array(found["x"]).ravel()
        return float(found["f"])

    def _start(self, state: FlyingArmState) -> NDArray[np.float64]:
        rotation = quaternion_to_matrix(state.quaternion[0]).T.ravel()  # casadi's matrices go by columns
        motion = (state.linear_velocity[0], state.angular_velocity[0])
        parts = (state.position[0], rotation, *motion, state.joints[0], state.joint_targets[0])
        return np.concatenate(parts)

    def _build(self) -> None:
        ca, joints = self._casadi, self._joints
        inputs, size = self._rotors + joints, _BASE + 2 * joints
        start, goals = ca.SX.sym("start", size), ca.SX.sym("goals", 12 * self._steps)
        variables, gaps, cost, before = [], [], 0, start
        lower, upper = self._embodiment.position_limits.T
        free = np.full(_BASE + joints, np.inf)
        for step in range(self._steps):
            u, after = ca.SX.sym(f"u{step}", inputs), ca.SX.sym(f"x{step}", size)
            variables += [u, after]
            gaps.append(after - self._step(before, u))
            goal = goals[12 * step : 12 * step + 12]
            cost += self._cost(after, u, goal, last=step == self._steps - 1)
            before = after
        highest = np.concatenate([np.ones(inputs), free, upper])
        lowest = np.concatenate([np.zeros(self._rotors), -np.ones(joints), -free, lower])
        self._lower, self._upper = np.tile(lowest, self._steps), np.tile(highest, self._steps)
        problem = {
            "x": ca.vertcat(*variables),
            "p": ca.vertcat(start, goals),
            "f": cost,
            "g": ca.vertcat(*gaps),
        }
        quiet = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes"}
        warm = {"ipopt.warm_start_init_point": "yes", "ipopt.mu_init": 1e-4, "ipopt.tol": 1e-8}
        self._solver = ca.nlpsol("mpc", "ipopt", problem, {**quiet, **warm})

    def _step(self, x: Any, u: Any) -> Any:
        ca, step_s, joints = self._casadi, self._step_s, self._joints
        position, rotation, velocity, spin = x[:3], ca.reshape(x[3:12], 3, 3), x[12:15], x[15:18]
        now, target = x[_BASE : _BASE + joints], x[_BASE + joints :]
        lever = self._inertia[3:, :3]
        moment = ca.DM([lever[2, 1], lever[0, 2], lever[1, 0]])
        resistance = ca.vertcat(
            ca.cross(spin, ca.cross(spin, moment)), ca.cross(spin, self._inertia[3:, 3:] @ spin)
        )
        push = np.linalg.inv(self._inertia) @ (self._wrench @ (self._limits * u[: self._rotors]) - resistance)
        acceleration = rotation @ push[:3] - ca.DM([0, 0, 9.81])
        turn = step_s * spin + 0.5 * step_s**2 * push[3:]
        angle = ca.sqrt(ca.sumsqr(turn) + 1e-16)
        skew = ca.skew(turn)
        exponential = ca.DM.eye(3) + ca.sin(angle) / angle * skew
        exponential += (1 - ca.cos(angle)) / angle**2 * (skew @ skew)
        lag = np.array([joint.damping / joint.stiffness for joint in self._embodiment.joints])
        speed = self._embodiment.velocity_limits * u[self._rotors :]
        fade = np.exp(-step_s / lag)
        moved = target + step_s * speed
        behind = (target - now) * fade + speed * lag * (1 - fade)
        return ca.vertcat(
            position + step_s * velocity + 0.5 * step_s**2 * acceleration,
            ca.reshape(rotation @ exponential, 9, 1),
            velocity + step_s * acceleration,
            spin + step_s * push[3:],
            moved - behind,
            moved,
        )

    def _cost(self, x: Any, u: Any, goal: Any, *, last: bool) -> Any:
        ca, weights = self._casadi, MpcWeights()
        rotation, joints = ca.reshape(x[3:12], 3, 3), x[_BASE : _BASE + self._joints]
        arm, turned = ca.DM.zeros(3), ca.DM.eye(3)
        for index, transform in enumerate(self._embodiment.joint_transforms):
            arm, turned = arm + turned @ transform[:3, 3], turned @ transform[:3, :3]
            skew = ca.skew(ca.DM(self._embodiment.joint_axes[index]))
            angle = joints[index]
            turned = turned @ (ca.DM.eye(3) + ca.sin(angle) * skew + (1 - ca.cos(angle)) * (skew @ skew))
        tcp = self._embodiment.tcp_transform
        arm, turned = arm + turned @ tcp[:3, 3], turned @ tcp[:3, :3]
        tool, facing = x[:3] + rotation @ arm, rotation @ turned
        apart = ca.reshape(goal[3:], 3, 3).T @ facing
        error = 0.5 * ca.inv_skew(apart - apart.T)
        states = weights.position * ca.sumsqr(tool - goal[:3]) + weights.rotation * ca.sumsqr(error)
        states += weights.velocity * ca.sumsqr(x[12:15]) + weights.angular_velocity * ca.sumsqr(x[15:18])
        states += weights.tilt * ca.sumsqr(rotation[2, :2])
        states += weights.posture * ca.sumsqr(joints - self._embodiment.home_positions)
        inputs = weights.thrust * ca.sumsqr(u[: self._rotors] - self._hover)
        inputs += weights.joint_speed * ca.sumsqr(u[self._rotors :])
        return self._step_s * ((weights.terminal if last else 1.0) * states + inputs)
