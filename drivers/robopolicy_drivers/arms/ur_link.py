"""Universal Robots arms: joint set points by ``servoj`` through ur_rtde, states through RTDE.

``servol`` is not used: inverse kinematics and gate run here, so what is streamed is joints already gated.

On the controller runs the program that ur_rtde sends to it. It keeps following the last set point; where set
points stay away for ``1 / WATCHDOG_HZ``, the controller's own watchdog ends it, and the arm brakes. So a
killed process or a cut cable stops the arm by the controller's word alone.

Sources: "Real-Time Data Exchange (RTDE) Guide" and "Dashboard Server e-Series" of Universal Robots for the
outputs, their values and the answers; the source of ur_rtde 1.6.5 for how its calls wait.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.arms.link import ArmReading
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.arms.ur_greeting import ControllerVersion, greet
from robopolicy_drivers.arms.ur_program import CALL_ERRORS, WATCHDOG_HZ, UrProgram
from robopolicy_drivers.hosting.device_clock import DeviceClock
from robopolicy_drivers.realtime.scheduling import request_fifo

logger = logging.getLogger(__name__)

_OUTPUTS = (
    "timestamp",
    "actual_q",
    "actual_qd",
    "actual_TCP_force",
    "robot_mode",
    "safety_mode",
    "runtime_state",
    "target_speed_fraction",
)
_ROBOT_RUNNING = 7  # robot_mode
_PROGRAM_PLAYING = 2  # runtime_state
_PROTECTIVE_STOP = 3  # safety_mode
_SAFE = (1, 2)  # safety_mode: normal, reduced
_SAFETY_FAULTS = {  # safety_mode
    _PROTECTIVE_STOP: "The controller has made a protective stop. Look for its cause (what does the pendant "
    "say?), make sure that nothing is clamped, wait 5 s and release the stop",
    4: "The arm is outside of its safety limits (recovery mode). Move it back by hand at the pendant",
    5: "The safeguard stop is active. Close the safeguard, and reset it where it asks for that",
    6: "The system's emergency stop is pressed. Unlock it, power on and release the brakes at the pendant",
    7: "The emergency stop is pressed. Unlock it, power on and release the brakes at the pendant",
    8: "The controller reports a safety violation. Restart the safety system at the pendant",
    9: "The controller reports a fault. See the pendant's log, and restart the controller",
}
_RECOVERY_S = 0.35  # that a release may take; longer, and the process would seem stuck
_ANSWER_S = 0.5  # until a set point must have been taken; usually some periods
_CLOSING_S = 1.5  # less than what the process is given to end by itself
_ADVICE = {  # what the texts of ur_rtde's errors mean for who reads them
    "Unlock protective stop": "The protective stop is not unlocked yet. Look for its cause, wait until 5 s "
    "after it, and release again",
    "already in use": "Another program or a fieldbus of the controller writes the RTDE input registers. End "
    "that program, or disable EtherNet/IP, PROFINET and MODBUS in the installation on the pendant",
    "control script": "The controller did not start the program. Is it in remote control (icon at the top "
    "right of the pendant), powered on, and without a popup?",
}


class UrLink:
    """See the module text, and ``ArmLink``.

    Args:
        config: of the arm.
    """

    def __init__(self, config: UrConfig) -> None:
        self._config = config
        self._receive: Any = None
        self._program: UrProgram | None = None
        self._clock = DeviceClock()
        self._stamp_s = -1.0
        self._reading: ArmReading | None = None
        self._sent: NDArray[np.float64] | None = None
        self._slider = 1.0

    def open(self) -> None:
        """See ``ArmLink``.

        Raises:
            DeviceError: the controller does not answer, is not ready, is another model, or is in use.
        """
        host, rate_hz = self._config.host, self._config.rate_hz
        version = greet(host)
        if rate_hz > version.rate_hz:
            raise DeviceError(
                f"The controller at {host} (version {version}) takes at most {version.rate_hz:g} set points "
                f"a second; robot.rate_hz is {rate_hz:g}."
            )
        self._check_dashboard(version)
        flags, threads = load_target("rtde_control:RTDEControlInterface").Flags, _threads()
        # States come as fast as there are any, so that they are fresh at whatever rate set points go.
        self._receive = self._made("rtde_receive:RTDEReceiveInterface", host, version.rate_hz, list(_OUTPUTS))
        self.read()
        if hindrance := self._hindrance():
            raise DeviceError(f"The arm at {host} cannot be moved: {hindrance}.")
        control = self._made(
            "rtde_control:RTDEControlInterface",
            host,
            rate_hz,
            # The register of an external force-torque sensor is left to who has one.
            flags.FLAG_UPLOAD_SCRIPT.value | flags.FLAG_NO_EXT_FT.value,
        )
        # ur_rtde receives in ordinary threads; where they are starved, the controller seems silent.
        for thread in _threads() - threads:
            request_fifo(thread=thread)
        self._program = UrProgram(control, self._config)

    def read(self) -> ArmReading:
        """See ``ArmLink``. The wrench is that at the tool center point that is set at the pendant.

        Raises:
            DeviceError: the connection is lost.
        """
        receive = self._receive
        failure = self._program.failure if self._program else ""
        if failure or not receive.isConnected():
            raise DeviceError(
                f"The connection to the controller at {self._config.host} is lost. Is it still on, and its "
                f"cable plugged in? The arm has stopped by itself{failure and f' ({failure})'}"
            )
        stamp_s = receive.getTimestamp()
        while self._reading is None or stamp_s != self._stamp_s:
            self._stamp_s, arrival_ns = stamp_s, now_ns()
            positions, velocities = np.array(receive.getActualQ()), np.array(receive.getActualQd())
            wrench = np.array(receive.getActualTCPForce())
            stamp_s = receive.getTimestamp()
            if stamp_s == self._stamp_s:  # all of it is of one package
                time_ns = self._clock.monotonic_ns(seconds_to_ns(stamp_s), arrival_ns)
                self._reading = ArmReading(time_ns, positions, velocities, wrench)
        return self._reading

    def send(self, positions: NDArray) -> None:
        """See ``ArmLink``."""
        self._sent = np.array(positions, np.float64)
        self._running().follow(self._sent)

    def fault(self) -> str:
        """See ``ArmLink``."""
        self._warn_of_slider()
        if hindrance := self._silence() or self._hindrance():
            return hindrance
        if self._sent is None:
            return ""
        if not self._playing():
            return (
                "The control program does not run on the controller any more: it was ended at the pendant or "
                f"by another client, or no set point came for {1.0 / WATCHDOG_HZ:g} s. Releasing the stop "
                "starts it again"
            )
        if (untaken_s := self._running().untaken_s) > _ANSWER_S:
            return f"The controller has taken no set point for {untaken_s:.1f} s. See its log on the pendant"
        return self._lag(self._sent - self.read().positions)

    def recover(self) -> None:
        """See ``ArmLink``. Where the controller takes longer than a release may, it has to be released again.

        Raises:
            DeviceError: see ``ArmLink``.
        """
        deadline_ns = now_ns() + seconds_to_ns(_RECOVERY_S)
        receive = self._receive
        self._sent = None
        _wait(lambda: not self._silence(), deadline_ns)
        if receive.getSafetyMode() == _PROTECTIVE_STOP:
            self._unlock()
            _wait(lambda: receive.getSafetyMode() != _PROTECTIVE_STOP, deadline_ns)
        if hindrance := self._silence() or self._hindrance():
            raise DeviceError(f"The arm at {self._config.host} cannot be moved: {hindrance}.")
        program = self._running()
        if not self._playing() and not program.restarting:
            program.restart()
        if not _wait(lambda: self._playing() and not program.restarting, deadline_ns):
            raise DeviceError(f"{_ADVICE['control script']} Look there, and release again.")

    def close(self) -> None:
        """See ``ArmLink``. ur_rtde may wait for a controller that answers no more: not for long."""
        if self._receive is None:
            return
        patience_s = _CLOSING_S if self._receive.isConnected() else 0.0
        closed = [threading.Event()]
        threading.Thread(target=_disconnect, args=(self._receive, closed[0]), daemon=True).start()
        if self._program is not None:
            self._program.close()
            closed.append(self._program.closed)
        self._receive = self._program = None
        deadline_ns = now_ns() + seconds_to_ns(patience_s)
        for done in closed:
            done.wait(max(0.0, ns_to_seconds(deadline_ns - now_ns())))

    def _check_dashboard(self, version: ControllerVersion) -> None:
        """Raises DeviceError where the controller is another model than the embodiment, or in local mode."""
        dashboard = self._dashboard()
        model = self._translated(dashboard.getRobotModel)
        told = version.model(model)
        if re.fullmatch(r"ur\d+e?", self._config.embodiment) and told != self._config.embodiment:
            raise DeviceError(
                f"The controller at {self._config.host} moves a '{model}' (version {version}), which is the "
                f"embodiment '{told}'; robot.embodiment is '{self._config.embodiment}'. Set it to the arm "
                "that is there."
            )
        if version.has_local_mode and not self._translated(dashboard.isInRemoteControl):
            raise DeviceError(
                f"The controller at {self._config.host} is in local control. Switch it to remote control "
                "with the icon at the top right of the pendant; it is allowed in Settings > System."
            )
        dashboard.disconnect()

    def _dashboard(self) -> Any:
        dashboard = self._made("dashboard_client:DashboardClient", self._config.host)
        self._translated(dashboard.connect)
        return dashboard

    def _unlock(self) -> None:
        dashboard = self._dashboard()
        self._translated(dashboard.closeSafetyPopup)
        self._translated(dashboard.unlockProtectiveStop)
        dashboard.disconnect()

    def _silence(self) -> str:
        """Returns since when the controller has told nothing; what it told before may not be so any more."""
        age_s = ns_to_seconds(now_ns() - self.read().time_ns)
        if age_s <= self._config.safety.stale_state_s:
            return ""
        return f"The controller has told nothing for {age_s:.2f} s. Check its cable and the network"

    def _hindrance(self) -> str:
        """Returns what a person must mend at the arm."""
        if (mode := self._receive.getSafetyMode()) not in _SAFE:
            # Newer controllers have more of them: stops by an enabling device, by a fieldbus, ...
            other = f"The controller's safety system has stopped the arm (mode {mode}). See the pendant"
            return _SAFETY_FAULTS.get(mode, other)
        if self._receive.getRobotMode() != _ROBOT_RUNNING:
            return "The arm is not running. Power it on and release its brakes at the pendant"
        if self._receive.getTargetSpeedFraction() <= 0.0:
            return "The speed slider stands at 0 %. Move it up at the pendant"
        return ""

    def _lag(self, ahead: NDArray[np.float64]) -> str:
        joint = int(np.abs(ahead).argmax())
        if abs(ahead[joint]) <= self._config.largest_lag:
            return ""
        return (
            f"Joint {joint} is {abs(ahead[joint]):.2f} rad behind its set point (allowed: "
            f"{self._config.largest_lag:g} rad); the speed slider stands at {100.0 * self._slider:.0f} %. "
            "Move it up, or command slower motions"
        )

    def _warn_of_slider(self) -> None:
        slider = self._receive.getTargetSpeedFraction()
        if slider != self._slider and slider < 1.0:
            logger.warning(
                "The speed slider of the arm at %s stands at %.0f %%: it follows its set points late.",
                self._config.host,
                100.0 * slider,
            )
        self._slider = slider

    def _playing(self) -> bool:
        return bool(self._receive.getRuntimeState() == _PROGRAM_PLAYING)

    def _running(self) -> UrProgram:
        if self._program is None:
            raise DeviceError(f"The arm at {self._config.host} is not open; call open() first.")
        return self._program

    def _made(self, target: str, *arguments: Any) -> Any:
        return self._translated(load_target(target), *arguments)

    def _translated(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls ur_rtde and raises its errors as DeviceError that say what to do."""
        try:
            return call(*arguments)
        except CALL_ERRORS as error:
            text = str(error)
            advice = next((advice for part, advice in _ADVICE.items() if part in text), "Check the pendant")
            raise DeviceError(f"{advice}. The controller at {self._config.host} said: {text}") from error


def _threads() -> set[int]:
    """Returns the kernel's numbers of the threads of this process."""
    return {int(path.name) for path in Path("/proc/self/task").glob("*")}


def _wait(reached: Callable[[], bool], deadline_ns: int) -> bool:
    while not reached() and now_ns() < deadline_ns:
        time.sleep(0.005)
    return reached()


def _disconnect(receive: Any, done: threading.Event) -> None:
    """Closes the connection for states, in a thread that ends with the process."""
    receive.disconnect()
    done.set()
    threading.Event().wait()  # the thread keeps the object: its destructor would wait once more
