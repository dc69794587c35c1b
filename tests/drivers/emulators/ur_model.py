"""The inside of the own UR controller emulator: safety, ur_rtde's control program, joints that follow.

What it knows of the control program is the register protocol by which ``ur_rtde`` talks to the script that it
uploads: the command in input integer register 0, arguments in the input double registers, the answer
(1 ready, 2 done) in output integer register 0. URScript itself is not interpreted.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

# d, a, alpha of each joint [m, rad], as published by Universal Robots ("DH parameters for calculations of
# kinematics and dynamics").
_TWISTS = (np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0)
_LENGTHS = {
    "UR3e": ((0.15185, 0.0, 0.0, 0.13105, 0.08535, 0.0921), (0.0, -0.24355, -0.2132, 0.0, 0.0, 0.0)),
    "UR5e": ((0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996), (0.0, -0.425, -0.3922, 0.0, 0.0, 0.0)),
    "UR10e": ((0.1807, 0.0, 0.0, 0.17415, 0.11985, 0.11655), (0.0, -0.6127, -0.57155, 0.0, 0.0, 0.0)),
}
MODELS = tuple(_LENGTHS)
_VELOCITY = np.pi  # rad/s
_ACCELERATION = 40.0  # rad/s^2
_BRAKING = 20.0  # rad/s^2


class Safety(IntEnum):
    """The RTDE output ``safety_mode``."""

    NORMAL = 1
    REDUCED = 2
    PROTECTIVE_STOP = 3
    SAFEGUARD_STOP = 5
    ROBOT_EMERGENCY_STOP = 7
    SYSTEM_THREE_POSITION_ENABLING_STOP = 13


_SAFETY_BITS = {
    Safety.NORMAL: 1 << 0,
    Safety.REDUCED: 1 << 1,
    Safety.PROTECTIVE_STOP: 1 << 2 | 1 << 10,
    Safety.SAFEGUARD_STOP: 1 << 4 | 1 << 10,
    Safety.ROBOT_EMERGENCY_STOP: 1 << 6 | 1 << 7 | 1 << 10,
    Safety.SYSTEM_THREE_POSITION_ENABLING_STOP: 1 << 10,
}


class Runtime(IntEnum):
    """The RTDE output ``runtime_state``."""

    STOPPED = 1
    PLAYING = 2
    PAUSED = 4


class RobotMode(IntEnum):
    """The RTDE output ``robot_mode``."""

    POWER_OFF = 3
    RUNNING = 7


class Command(IntEnum):
    """Commands of ur_rtde's control program that the emulator obeys."""

    NONE = 0
    SERVO_JOINTS = 11
    SERVO_STOP = 16
    SET_PAYLOAD = 17
    PROTECTIVE_STOP = 31
    SET_WATCHDOG = 35
    KICK_WATCHDOG = 99
    STOP_SCRIPT = 255


def forward(model: str, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the flange's pose ``[4, 4]`` in UR's base frame at joint positions ``[6]`` [rad]."""
    pose = np.eye(4)
    for angle, offset, length, twist in zip(positions, *_LENGTHS[model], _TWISTS, strict=True):
        cos, sin, cos_twist, sin_twist = np.cos(angle), np.sin(angle), np.cos(twist), np.sin(twist)
        pose = pose @ np.array(
            [
                [cos, -sin * cos_twist, sin * sin_twist, length * cos],
                [sin, cos * cos_twist, -cos * sin_twist, length * sin],
                [0.0, sin_twist, cos_twist, offset],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
    return pose


class Joints:
    """Joints that follow a servo target like a critically damped spring, with limited acceleration.

    On a ramp they lag by the look-ahead time, whatever the gain: a simplification of ``servoj``.
    """

    def __init__(self, start: NDArray[np.float64]) -> None:
        self.positions, self.velocities = start.copy(), np.zeros(6)

    def follow(self, target: NDArray[np.float64], lookahead_s: float, period_s: float) -> None:
        stiffness = 2.0 / lookahead_s
        wanted = stiffness**2 * (target - self.positions) - 2.0 * stiffness * self.velocities
        self._accelerate(np.clip(wanted, -_ACCELERATION, _ACCELERATION), period_s)

    def brake(self, period_s: float) -> None:
        self._accelerate(-np.clip(self.velocities / period_s, -_BRAKING, _BRAKING), period_s)

    def _accelerate(self, acceleration: NDArray[np.float64], period_s: float) -> None:
        self.velocities = np.clip(self.velocities + acceleration * period_s, -_VELOCITY, _VELOCITY)
        self.positions = self.positions + self.velocities * period_s


class Controller:
    """A controller with its arm; ``step`` is one of its periods.

    Attributes:
        inputs: RTDE inputs by name, as clients have written them.
        remote: whether it takes programs from the network.
        speed_slider: fraction at which it stands.
        force: at the tool, in the base's frame ``[6]`` [N, N m].
    """

    def __init__(
        self, model: str, version: tuple[int, int, int, int], start: list[float], unlock_after_s: float
    ) -> None:
        self.model, self.version = model, version
        self.period_s = 0.002 if version[0] >= 5 else 0.008
        self.joints = Joints(np.array(start))
        self.inputs: dict[str, float | list[float]] = {}
        self.remote = True
        self.speed_slider = 1.0
        self.payload, self.payload_cog = 0.0, [0.0, 0.0, 0.0]
        self.force = np.zeros(6)
        self.safety, self.mode, self.runtime = Safety.NORMAL, RobotMode.RUNNING, Runtime.STOPPED
        self.time_s = 0.0
        self._stopped_s, self._unlock_after_s = 0.0, unlock_after_s
        self._program_state = 0  # output integer register 0
        self._executing = False
        self._servo: tuple[NDArray[np.float64], float] | None = None
        self._waiting_for_rest = False
        self._watchdog_s, self._written_s = 0.0, 0.0

    # What happens to it from outside.

    def write(self, name: str, value: float | list[float]) -> None:
        """An RTDE client writes an input."""
        self.inputs[name] = value
        self._written_s = self.time_s

    def run_program(self, text: str) -> None:
        """A program has been sent; it replaces the one that runs."""
        if not self.remote or self.safety is not Safety.NORMAL or self.mode is not RobotMode.RUNNING:
            return
        self._end_program()
        if text.startswith("def rtde_control()"):
            self.runtime, self._program_state, self._executing = Runtime.PLAYING, 1, False

    def stop_program(self) -> None:
        self._end_program()

    def protective_stop(self) -> None:
        self.safety, self._stopped_s = Safety.PROTECTIVE_STOP, self.time_s
        if self.runtime is Runtime.PLAYING:
            self.runtime = Runtime.PAUSED

    def unlock(self) -> str:
        """Answers the dashboard's ``unlock protective stop``."""
        if self.time_s - self._stopped_s < self._unlock_after_s:
            return (
                "Cannot unlock protective stop until 5s after occurrence. Always inspect cause of protective "
                "stop before unlocking"
            )
        if self.safety is Safety.PROTECTIVE_STOP:
            self.safety = Safety.NORMAL
        return "Protective stop releasing"

    def emergency_stop(self) -> None:
        self.safety, self.mode = Safety.ROBOT_EMERGENCY_STOP, RobotMode.POWER_OFF
        self._end_program()

    def power_on(self) -> None:
        """The button is pulled, and a person powers the arm on and releases its brakes."""
        self.safety, self.mode = Safety.NORMAL, RobotMode.RUNNING

    # What it does by itself.

    def step(self) -> None:
        self.time_s += self.period_s
        if self.runtime is Runtime.PLAYING:
            self._watch()
            self._obey()
        scaled_s = self.period_s * self.speed_slider
        if self._servo is not None and self.runtime is Runtime.PLAYING:
            self.joints.follow(*self._servo, scaled_s)
        else:
            self.joints.brake(self.period_s)

    def _watch(self) -> None:
        if self._watchdog_s and self.time_s - self._written_s > self._watchdog_s:
            self._end_program()

    def _obey(self) -> None:
        """One cycle of the control program's main loop."""
        number = int(self._input(0, "int"))
        if number == Command.SERVO_JOINTS:
            target = np.array([self._input(index) for index in range(6)])
            self._servo, self._program_state = (target, self._input(9)), 1
        elif number == Command.NONE:
            self._executing, self._program_state = False, 1
        elif not self._executing:
            self._executing = True
            self._commands[Command(number)]()
        elif self._waiting_for_rest and not self.joints.velocities.any():
            self._waiting_for_rest, self._program_state = False, 2

    @property
    def _commands(self) -> dict[Command, Callable[[], None]]:
        return {
            Command.SERVO_STOP: self._servo_stop,
            Command.SET_PAYLOAD: self._set_payload,
            Command.PROTECTIVE_STOP: self.protective_stop,
            Command.SET_WATCHDOG: self._set_watchdog,
            Command.KICK_WATCHDOG: self._done,
            Command.STOP_SCRIPT: self._end_program,
        }

    def _servo_stop(self) -> None:
        self._servo, self._waiting_for_rest = None, True

    def _set_payload(self) -> None:
        self.payload, *self.payload_cog = [self._input(index) for index in range(4)]
        self._done()

    def _set_watchdog(self) -> None:
        self._watchdog_s = 1.0 / self._input(0)
        self._done()

    def _done(self) -> None:
        self._program_state = 2

    def _end_program(self) -> None:
        self.runtime, self._program_state = Runtime.STOPPED, 0
        self._servo, self._waiting_for_rest, self._watchdog_s = None, False, 0.0

    def _input(self, index: int, kind: str = "double") -> float:
        value = self.inputs.get(f"input_{kind}_register_{index}", 0.0)
        return float(np.ravel(value)[0])

    def output(self, name: str) -> tuple[str, float | NDArray[np.float64] | list[float]] | None:
        """Returns the RTDE type and value of an output; None for one that it does not have."""
        make = self._outputs.get(name)
        if make is not None:
            return make()
        if name.startswith("output_int_register_"):
            return "INT32", self._program_state if name.endswith("_0") else 0
        if name.startswith("output_double_register_"):
            return "DOUBLE", 0.0
        return None

    @property
    def _outputs(self) -> dict[str, Callable[[], tuple[str, float | NDArray[np.float64] | list[float]]]]:
        return {
            "timestamp": lambda: ("DOUBLE", self.time_s),
            "actual_q": lambda: ("VECTOR6D", self.joints.positions),
            "actual_qd": lambda: ("VECTOR6D", self.joints.velocities * self.speed_slider),
            "actual_TCP_pose": lambda: ("VECTOR6D", pose_vector(forward(self.model, self.joints.positions))),
            "actual_TCP_force": lambda: ("VECTOR6D", self.force),
            "robot_mode": lambda: ("INT32", self.mode),
            "safety_mode": lambda: ("INT32", self.safety),
            "safety_status_bits": lambda: ("UINT32", _SAFETY_BITS[self.safety]),
            "robot_status_bits": lambda: (
                "UINT32",
                (self.mode is RobotMode.RUNNING) | 2 * (self.runtime is Runtime.PLAYING),
            ),
            "runtime_state": lambda: ("UINT32", self.runtime),
            "speed_scaling": lambda: ("DOUBLE", self.speed_slider),
            "target_speed_fraction": lambda: ("DOUBLE", self.speed_slider),
            "payload": lambda: ("DOUBLE", self.payload),
            "payload_cog": lambda: ("VECTOR3D", self.payload_cog),
        }


def pose_vector(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns position [m] and axis-angle [rad] ``[6]`` of a pose ``[4, 4]``."""
    return np.concatenate([pose[:3, 3], Rotation.from_matrix(pose[:3, :3]).as_rotvec()])
