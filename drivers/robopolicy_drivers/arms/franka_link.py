"""A Franka arm as an ``ArmLink``: set points become the reference of a joint impedance controller at 1 kHz.

franky (libfranka) computes torques from the reference in a thread of its own, in C++, so a late tick of ours
costs smoothness and not the connection. Its position and velocity motions are not used: planned anew at
every tick they are later, and break the arm's limits of jerk (see docs/drivers/franka.md).
"""

from __future__ import annotations

import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.franka import FrankaConfig
from robopolicy_drivers.arms.link import ArmReading
from robopolicy_drivers.fci import connect, connection_errors, lost, punctual_threads, sdk

if TYPE_CHECKING:
    import franky

logger = logging.getLogger(__name__)

_REALTIME_KERNEL = Path("/sys/kernel/realtime")
_IDLE = "Idle"
_OPENING_S = 5.0  # that clearing errors may take
_RECOVERY_S = 0.25  # longer, and the process would seem stuck
_NEWS_S = 0.1  # from an answer to a state that shows it
_STOPPING_S = 1.5  # until the arm must rest after the last set point
_NAMES = re.compile(r'"([a-z_]+)"')  # of errors, in the texts of libfranka
_FREE_IT = "free the arm and see why"
_ADVICE = {
    "communication_constraints_violation": "too many commands came late, so connect the arm by a cable of "
    "its own to a computer with a real-time kernel that has nothing else to do",
}
_UNREADY = {  # by the mode of the arm
    "Other": "its joints are locked, or FCI is not active: unlock and activate them in Desk",
    "Guiding": "somebody guides it by hand: let go of the buttons at its flange",
    "UserStopped": "its stop button is pressed: release the button",
}


class FrankaLink:
    """See the module text, and ``ArmLink``.

    Args:
        config: of the arm.
    """

    def __init__(self, config: FrankaConfig) -> None:
        self._config, self._franky, self._broken = config, sdk(), connection_errors()
        self._robot: franky.Robot | None = None
        self._motion = self._new_motion()
        self._sent: NDArray[np.float64] = np.zeros(7)
        self._told_s = -1.0  # the arm's own time of the newest state
        self._reading: ArmReading | None = None
        self._fault, self._follows = "", False
        self._threads = ThreadPoolExecutor(1, "recovery")
        self._recovery: Future[bool] | None = None

    def open(self) -> None:
        """See ``ArmLink``; clears what had stopped the arm before.

        Raises:
            DeviceError: it cannot be reached or is not ready; with what to do.
        """
        self._robot = connect(self._connected, self._config.host)
        self._recover(_OPENING_S)

    def read(self) -> ArmReading:
        """See ``ArmLink``. The time is when the state was first seen, at most a tick and 1 ms late."""
        if self._recovery is not None and self._reading is not None:
            return self._reading  # libfranka is busy
        self.fault()  # where the connection is lost, asking for a state would wait for a second
        state = self._state()
        told_s = state.time.to_sec()
        if self._reading is None or told_s != self._told_s:
            self._told_s = told_s
            self._reading = ArmReading(now_ns(), state.q, state.dq, state.O_F_ext_hat_K)
        return self._reading

    def send(self, positions: NDArray) -> None:
        """See ``ArmLink``. The velocity of the reference is that since the set point before."""
        if not self._follows:
            self._follow()
        velocity = (positions - self._sent) * self._config.rate_hz
        self._motion.set_reference(self._franky.JointReference(q=positions, dq=velocity))
        self._sent = positions

    def fault(self) -> str:
        """See ``ArmLink``.

        Raises:
            DeviceError: the connection is lost.
        """
        if self._follows and not (self._fault or self._opened().is_in_control):
            self._fault = self._why_it_ended()
        return self._fault

    def recover(self) -> None:
        """See ``ArmLink``."""
        self._recover(_RECOVERY_S)

    def close(self) -> None:
        """See ``ArmLink``. An arm that moves brakes."""
        robot, self._robot = self._robot, None
        if robot is None or not robot.is_in_control:
            return
        try:
            robot.move(self._franky.TorqueStopMotion(), asynchronous=True)
            if not robot.join_motion(_STOPPING_S):
                logger.warning("The Franka at %s did not come to rest in time.", self._config.host)
        except (*self._broken, self._franky.ControlException) as error:
            logger.warning("The Franka at %s was left while it moved: %s", self._config.host, error)

    def _connected(self, host: str) -> franky.Robot:
        realtime = self._franky.RealtimeConfig
        return self._franky.Robot(
            host,
            default_torque_threshold=self._config.collision_torque,
            default_force_threshold=self._config.collision_force,
            realtime_config=realtime.Enforce if _REALTIME_KERNEL.exists() else realtime.Ignore,
        )

    def _opened(self) -> franky.Robot:
        if self._robot is None:
            raise DeviceError(f"The Franka at {self._config.host} is not connected; call open() first.")
        return self._robot

    def _recover(self, timeout_s: float) -> None:
        """Clears the errors of the arm, where it has any."""
        robot, host = self._opened(), self._config.host
        try:
            if self._recovery is None:
                self._recovery = self._begun_recovery(robot)
            self._recovery.result(timeout_s)
            self._recovery = None
            self._await_idle(robot)
        except TimeoutError as error:  # the recovery goes on
            raise DeviceError(
                f"The Franka at {host} is recovering; release the stop again in a second."
            ) from error
        except self._broken as error:
            raise lost(host, error) from error
        except self._franky.CommandException as error:
            self._recovery = None
            raise DeviceError(f"The Franka at {host} does not recover: {error}.") from error
        self._fault, self._follows = "", False

    def _begun_recovery(self, robot: franky.Robot) -> Future[bool]:
        """Begins to clear errors in a thread: until the arm has settled, a second may pass."""
        mode = robot.state.robot_mode.name
        if mode in _UNREADY:
            raise DeviceError(
                f"The Franka at {self._config.host} is not ready: {_UNREADY[mode]}. Then try again."
            )
        done: Future[bool] = Future()
        if mode == _IDLE:
            done.set_result(True)
            return done
        return self._threads.submit(robot.recover_from_errors)

    def _await_idle(self, robot: franky.Robot) -> None:
        """Waits until the states tell that the arm has recovered; its answer comes a little before them."""
        deadline_ns = now_ns() + seconds_to_ns(_NEWS_S)
        while (mode := robot.state.robot_mode.name) != _IDLE:
            if now_ns() > deadline_ns:
                raise DeviceError(
                    f"The Franka at {self._config.host} does not recover (its mode is {mode}); see what Desk "
                    "says of it."
                )

    def _new_motion(self) -> franky.JointImpedanceTrackingMotion:
        return self._franky.JointImpedanceTrackingMotion(stiffness=np.array(self._config.stiffness))

    def _state(self) -> franky.RobotState:
        try:
            return self._opened().state
        except self._broken as error:
            raise lost(self._config.host, error) from error

    def _follow(self) -> None:
        """Starts the controller where the arm stands, not before a loop is there to feed it."""
        state = self._state()
        if (mode := state.robot_mode.name) != _IDLE:
            self._fault = _explained(f"{mode} {state.current_errors}")
            return
        self._sent, self._motion = np.array(state.q), self._new_motion()
        self._motion.set_reference(self._franky.JointReference(q=self._sent))
        with punctual_threads():  # libfranka's, which must answer the arm every millisecond
            self._opened().move(self._motion, asynchronous=True)
        self._follows = True

    def _why_it_ended(self) -> str:
        """Returns why the arm is not controlled any more."""
        try:
            self._opened().poll_motion()
        except self._broken as error:
            raise lost(self._config.host, error) from error
        except (self._franky.ControlException, self._franky.CommandException) as error:
            return _explained(str(error))
        return "The Franka's controller has ended the motion. See what Desk says, then release the stop"


def _explained(text: str) -> str:
    """Returns what an error of libfranka means for who reads it."""
    if names := _NAMES.findall(text):
        advice = "; ".join(_ADVICE[name] for name in names if name in _ADVICE)
        return (
            f"The Franka has stopped itself by a reflex ({', '.join(names)}): {advice or _FREE_IT}, then "
            "release the stop"
        )
    if re.search("User ?Stop", text):
        return "The stop button of the Franka is pressed. Release the button, then the stop"
    return f"The Franka has stopped: {text.splitlines()[0]}. See what Desk says, then release the stop"
