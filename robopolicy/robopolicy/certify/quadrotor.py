"""A hovering quadrotor: twelve states, four inputs, and the saturated LQR that holds it; batched numpy.

The state is position [m], velocity [m/s], roll, pitch and yaw [rad] and body rates [rad/s]; the command is
the thrust beyond the weight [N] and the body torques [N m]. Equations: Beard and McLain, "Small Unmanned
Aircraft", chapter 3, with z upwards.
"""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.lqr import SaturatedLqr

STATES, COMMANDS = 12, 4
PERIOD_S = 0.01
MASS_KG, GRAVITY = 1.0, 9.81
INERTIA = np.array([0.01, 0.01, 0.02])  # kg m^2
LIMITS = np.array([MASS_KG * GRAVITY, 0.5, 0.5, 0.25])
"""Largest commands: from no thrust to twice the weight."""
STATE_WEIGHTS = np.diag([1.0] * 3 + [0.5] * 3 + [5.0] * 3 + [1.0] * 3)
COMMAND_WEIGHTS = np.diag([0.1, 10.0, 10.0, 400.0])
START = np.array([1.0] * 3 + [1.0] * 3 + [0.5] * 3 + [1.0] * 3)
"""Half sides of the box of first states, centred at hover."""
FARTHEST = 50.0  # numbers of the state are kept within: a crash costs much, and no infinity
_LEAST_COSINE = 0.05  # of the pitch: roll, pitch and yaw are no coordinates of a nose-up body


def next_state(state: Array, command: Array) -> Array:
    """Returns the states ``[B, 12]`` one period later, by the semi-implicit Euler method.

    It is affine in the command.

    Args:
        state: ``[B, 12]``.
        command: ``[B, 4]``; limits are for the caller to see to.
    """
    position, velocity, angles, rates = np.split(state, 4, axis=-1)
    upward = (MASS_KG * GRAVITY + command[:, :1]) / MASS_KG
    velocity = velocity + PERIOD_S * (_body_up(angles) * upward - [0.0, 0.0, GRAVITY])
    gyroscopic = np.cross(rates, INERTIA * rates)
    rates = rates + PERIOD_S * (command[:, 1:] - gyroscopic) / INERTIA
    angles = angles + PERIOD_S * _angle_rates(angles, rates)
    following = np.concatenate([position + PERIOD_S * velocity, velocity, angles, rates], axis=-1)
    return np.clip(following, -FARTHEST, FARTHEST)


def command_jacobian(state: Array) -> Array:
    """Returns how the next state depends on the command ``[B, 12, 4]``: exact, for it is affine."""
    nothing = np.zeros((len(state), COMMANDS))
    base = next_state(state, nothing)
    return np.stack([next_state(state, nothing + unit) - base for unit in np.eye(COMMANDS)], axis=-1)


def expert() -> SaturatedLqr:
    """Returns the regulator of the linearization at hover, its commands clipped to the limits."""
    hover, step = np.zeros((1, STATES)), 1e-6
    nothing = np.zeros((1, COMMANDS))
    columns = [
        next_state(hover + step * unit, nothing) - next_state(hover - step * unit, nothing)
        for unit in np.eye(STATES)
    ]
    dynamics = np.concatenate(columns).T / (2 * step)
    return SaturatedLqr.design(
        (dynamics, command_jacobian(hover)[0]),
        (STATE_WEIGHTS, COMMAND_WEIGHTS),
        lower=-LIMITS,
        upper=LIMITS,
    )


def first_states(count: int, rng: np.random.Generator) -> Array:
    """Draws ``[count, 12]`` states from the box."""
    return rng.uniform(-1.0, 1.0, (count, STATES)) * START


def step_cost(state: Array, command: Array) -> Array:
    """Returns the LQR's cost ``[B]`` of states ``[B, 12]`` and commands ``[B, 4]``."""
    return np.einsum("bi,ij,bj->b", state, STATE_WEIGHTS, state) + np.einsum(
        "bi,ij,bj->b", command, COMMAND_WEIGHTS, command
    )


def _body_up(angles: Array) -> Array:
    """Returns the body's upward axis in the world ``[B, 3]``."""
    (sin_roll, sin_pitch, sin_yaw), (cos_roll, cos_pitch, cos_yaw) = np.sin(angles).T, np.cos(angles).T
    return np.stack(
        [
            cos_yaw * sin_pitch * cos_roll + sin_yaw * sin_roll,
            sin_yaw * sin_pitch * cos_roll - cos_yaw * sin_roll,
            cos_pitch * cos_roll,
        ],
        axis=-1,
    )


def _angle_rates(angles: Array, rates: Array) -> Array:
    """Returns the rates of roll, pitch and yaw ``[B, 3]`` for body rates ``[B, 3]``."""
    roll, pitch = angles[:, 0], angles[:, 1]
    cosine = np.cos(pitch)
    cosine = np.where(np.abs(cosine) < _LEAST_COSINE, np.copysign(_LEAST_COSINE, cosine), cosine)
    turning = np.sin(roll) * rates[:, 1] + np.cos(roll) * rates[:, 2]
    return np.stack(
        [
            rates[:, 0] + np.sin(pitch) / cosine * turning,
            np.cos(roll) * rates[:, 1] - np.sin(roll) * rates[:, 2],
            turning / cosine,
        ],
        axis=-1,
    )
