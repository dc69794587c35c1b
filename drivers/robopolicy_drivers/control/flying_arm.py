"""A flying arm over N steps to come: from its inputs to poses of its tool, with derivatives.

The base is a ``FlyingBody``, the joints a ``JointLag``. Inputs ``[B, n]`` are shares of limits: first the
thrusts of all rotors at all steps (0 to 1), then the speeds of all joint targets (-1 to 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import Array, quaternion_to_matrix
from robopolicy_drivers.control.flying_body import STATE_SIZE, BaseState, FlyingBody, flying_base_of
from robopolicy_drivers.control.joint_lag import JointLag
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.rotation_group import cross_matrix
from robopolicy_drivers.control.tracking import require_finite


@dataclass(frozen=True)
class FlyingArmState:
    """Where B flying arms are.

    Attributes:
        position: of the base in the world ``[B, 3]`` [m].
        quaternion: its orientation ``[B, 4]`` (wxyz).
        linear_velocity: in the world ``[B, 3]`` [m/s].
        angular_velocity: in the base's frame ``[B, 3]`` [rad/s].
        joints: joint positions ``[B, J]`` [rad].
        joint_targets: the joint positions that were commanded last ``[B, J]`` [rad].
    """

    position: Array
    quaternion: Array
    linear_velocity: Array
    angular_velocity: Array
    joints: Array
    joint_targets: Array

    def rows(self, index: NDArray[np.integer]) -> FlyingArmState:
        """Returns some of the B states."""
        return FlyingArmState(**{name: value[index] for name, value in vars(self).items()})

    def checked(self, batch: int, joints: int) -> FlyingArmState:
        """Returns it in double precision.

        Raises:
            SpecError: a shape does not fit, or a number is not finite.
        """
        sizes = {"quaternion": 4, "joints": joints, "joint_targets": joints}
        values = {name: np.asarray(value, dtype=np.float64) for name, value in vars(self).items()}
        for name, value in values.items():
            if value.shape != (batch, sizes.get(name, 3)):
                raise SpecError(
                    f"The state's '{name}' has the shape {list(value.shape)}; "
                    f"{[batch, sizes.get(name, 3)]} is needed beside a reference of {batch}."
                )
            require_finite(f"The state's '{name}'", value)
        return FlyingArmState(**values)


@dataclass(frozen=True)
class Start:
    """The present, as a prediction begins with it.

    Attributes:
        body: the base with what it carries ``[B, 1]``; the axis is that of the steps.
        base: its state ``[B, 1]``.
        free_joints: where the joints go if their targets stand ``[B, N, J]`` [rad].
    """

    body: FlyingBody
    base: BaseState
    free_joints: Array


@dataclass(frozen=True)
class Prediction:
    """The N steps to come.

    Attributes:
        before: of the base at the begin of each step ``[B, N, ...]``.
        after: of the base at the end of each step.
        thrusts: during each step ``[B, N, R]`` [N].
        joints: at the end of each step ``[B, N, J]`` [rad].
        arm: pose of the tool in the base's frame ``[B, N, 4, 4]``.
        arm_jacobian: of it ``[B, N, 6, J]``.
        tools: pose of the tool in the world ``[B, N, 4, 4]``.
    """

    before: BaseState
    after: BaseState
    thrusts: Array
    joints: Array
    arm: Array
    arm_jacobian: Array
    tools: Array


class FlyingArm:
    """See the module text.

    Args:
        kinematics: of a robot with a flying base and a tool.
        steps: N.
        step_s: time of a step [s].

    Attributes:
        lowest: of all inputs ``[n]``; the highest is 1.
        target_matrix: how far the inputs have moved each joint's target at each step ``[N * J, n]`` [rad].

    Raises:
        ConfigError: the robot's base stands.
    """

    def __init__(self, kinematics: Kinematics, steps: int, step_s: float) -> None:
        self.kinematics, self.steps, self.step_s = kinematics, steps, step_s
        base = flying_base_of(kinematics.embodiment)
        self.thrust_limits, self.speed_limits = base.thrust_limits, kinematics.embodiment.velocity_limits
        self.rotors, self.joints = len(base.rotors), kinematics.num_joints
        self.split = steps * self.rotors
        self.lowest = np.repeat([0.0, -1.0], [self.split, steps * self.joints])
        self._lag = JointLag(kinematics.embodiment, steps, step_s)
        speeds = np.tile(self.speed_limits, steps)
        self._joint_matrix = self._lag.position_matrix * speeds
        self.target_matrix = np.hstack(
            [np.zeros((len(speeds), self.split)), self._lag.target_matrix * speeds]
        )

    def start(self, state: FlyingArmState) -> Start:
        """Returns the present of a state, with joint targets that keep their limits."""
        rotation = quaternion_to_matrix(state.quaternion)
        values = (state.position, rotation, state.linear_velocity, state.angular_velocity)
        base = BaseState(*(value[:, None] for value in values))
        body = FlyingBody(self.kinematics, state.joints[:, None])
        return Start(body, base, self._lag.free_response(state.joints, state.joint_targets))

    def hovering(self, start: Start) -> Array:
        """Returns inputs that hover and let the joint targets stand ``[B, n]``."""
        thrusts = np.tile(start.body.hover_thrusts[:, 0] / self.thrust_limits, self.steps)
        rates = np.zeros((len(thrusts), self.steps * self.joints))
        return np.clip(np.concatenate([thrusts, rates], axis=1), self.lowest, 1.0)

    def predict(self, start: Start, inputs: Array) -> Prediction:
        """Returns where inputs ``[B, n]`` lead to."""
        batch = len(inputs)
        thrusts = self.thrust_limits * inputs[:, : self.split].reshape(batch, self.steps, self.rotors)
        states = [start.base]
        for step in range(self.steps):
            states.append(start.body.step(states[-1], thrusts[:, step : step + 1], self.step_s))
        moves = (inputs[:, self.split :] @ self._joint_matrix.T).reshape(batch, self.steps, self.joints)
        joints = start.free_joints + moves
        arm, arm_jacobian = self.kinematics.forward_and_jacobian(joints)
        after = _joined(states[1:])
        tools = np.array(arm)
        tools[..., :3, :3] = after.rotation @ arm[..., :3, :3]
        tools[..., :3, 3] = after.position + (after.rotation @ arm[..., :3, 3:])[..., 0]
        return Prediction(_joined(states[:-1]), after, thrusts, joints, arm, arm_jacobian, tools)

    def base_derivatives(self, start: Start, prediction: Prediction) -> Array:
        """Returns the derivatives of the base's states by the thrusts' shares ``[B, N, 12, N * R]``."""
        of_state, of_thrusts = start.body.derivatives(prediction.before, prediction.thrusts, self.step_s)
        of_thrusts = of_thrusts * self.thrust_limits
        found = np.zeros((len(of_state), self.steps, STATE_SIZE, self.split))
        for step in range(self.steps):
            known, new = step * self.rotors, (step + 1) * self.rotors
            found[:, step, :, known:new] = of_thrusts[:, step]
            if step:
                found[:, step, :, :known] = of_state[:, step] @ found[:, step - 1, :, :known]
        return found

    def joint_derivatives(self) -> Array:
        """Returns the derivatives of the joints by their targets' shares of speed ``[N, J, N * J]`` [rad]."""
        return self._joint_matrix.reshape(self.steps, self.joints, -1)

    def tool_derivatives(self, prediction: Prediction, of_base: Array) -> tuple[Array, Array]:
        """Returns how the tool moves with the inputs.

        Args:
            prediction: at the inputs.
            of_base: its ``base_derivatives``.

        Returns:
            Its position in the world [m] and its turn in its own frame [rad], each ``[B, N, 3, n]``.
        """
        rotation, arm = prediction.after.rotation, prediction.arm
        of_joints = prediction.arm_jacobian @ self.joint_derivatives()
        by_turn = -rotation @ cross_matrix(arm[..., :3, 3])
        position = [of_base[..., :3, :] + by_turn @ of_base[..., 6:9, :], rotation @ of_joints[..., :3, :]]
        turn = np.swapaxes(arm[..., :3, :3], -1, -2) @ np.concatenate(
            [of_base[..., 6:9, :], of_joints[..., 3:, :]], axis=-1
        )
        return np.concatenate(position, axis=-1), turn


def _joined(states: list[BaseState]) -> BaseState:
    return BaseState(
        np.concatenate([state.position for state in states], axis=1),
        np.concatenate([state.rotation for state in states], axis=1),
        np.concatenate([state.velocity for state in states], axis=1),
        np.concatenate([state.angular_velocity for state in states], axis=1),
    )
