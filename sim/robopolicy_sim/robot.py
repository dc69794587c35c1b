"""A simulated robot *is* a robot: the driver interface, real time, and processes of its own.

The control process steps physics and controllers at 125 Hz (50 Hz where rotors are controlled predictively)
and publishes each state in a ring; a camera
process draws the newest of them at its own rate, so rendering never delays control. Killing either is
noticed, as with a device.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS, now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import Event
from robopolicy_drivers.embodiments import Embodiment, Latencies
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Record, Ring
from robopolicy_drivers.realtime.sections import CycleSummary
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_drivers.runtime.alignment import state_at
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.configs import LatencyConfig, SimulatedRobotConfig
from robopolicy_sim.faults import Faults
from robopolicy_sim.tasks.manipulation import POSE_WIDTH, manipulation_spec, task_world

STATE_SLOTS = 256  # two seconds of states, to look up the one at an image's time
IMAGE_SLOTS = 8
FARTHEST_S = 60.0
_ARRIVAL_TIMEOUT_S = 5.0

_CONTROL = "robopolicy_sim.robot_process:control"
_FILM = "robopolicy_sim.robot_process:film"


class SimulatedRobot:
    """The robots in the scene of a task, as one; see the module text.

    Args:
        config: the settings.

    Raises:
        UnknownNameError: there is no such task or embodiment.
        ConfigError: the task has no such scene, the robot cannot do it, or there are no such latencies or
            nothing that could fail so.

    Attributes:
        config: the settings.
        spec: what ``state`` returns and ``command`` takes.
        cameras: the scene and the wrist cameras, delivered together.
        latencies: how late it is.
    """

    def __init__(self, config: SimulatedRobotConfig) -> None:
        self.config = config
        self._world = task_world(config.task, config.embodiment)
        Faults(self._world, config.fault)  # is refused here, and not in the process to come
        self.latencies = _latencies(config.latency, self._world.robot.embodiment)
        task = manipulation_spec(config.image_size, len(self._world.robots))
        low_dimensional = [feature for feature in task.observation if not feature.is_image]
        joints = [
            Feature(f"robot{robot.number}_joint_pos", robot.joint_positions.shape, kind="joint", unit="rad")
            for robot in self._world.robots
            if robot.embodiment.joints
        ]
        self.spec = Spec((*low_dimensional, *joints), task.action)
        images = tuple(feature for feature in task.observation if feature.is_image)
        self.cameras = (SimulatedCamera(self, Spec(images, ())),)
        self._ring: Ring | None = None
        self._process: DeviceProcess | None = None

    def connect(self) -> None:
        """Starts the control process and waits for its first state.

        Raises:
            DeviceError: it is connected already, or the process does not start.
        """
        if self._process is not None:
            raise DeviceError("The simulated robot is connected already; close it first.")
        hidden = (
            Feature("physics", self._world.get_physics_state().shape, "float64"),
            Feature("success", (), "bool"),
            Feature("stopped", (), "bool"),
        )
        self._ring = Ring((*self.spec.observation, *hidden), STATE_SLOTS)
        arguments = {"config": self.config, "latencies": self.latencies}
        process = DeviceProcess(
            _CONTROL,
            arguments,
            name="simulated robot",
            rings={"state": self._ring},
            robot=f"sim-{secrets.token_hex(4)}",  # each is a robot of its own
        )
        first_ns = process.start()
        self._process = process
        self._await_state(first_ns)

    def state(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest state and its time [ns, monotonic]."""
        self._running().check()
        return self._visible(self._newest())

    def state_at(self, time_ns: int) -> tuple[int, dict[str, NDArray]]:
        """Returns the state at ``time_ns`` and its time [ns, monotonic].

        It is interpolated between the records around it; of times that lie more than two seconds back, or
        after the newest state, it is the state that is nearest.
        """
        self._running().check()
        return state_at(self.states, self.spec.observation, time_ns)

    def command(self, target: NDArray, at_ns: int) -> NDArray:
        """Asks every robot to be at a pose and gripper width at a time; does not wait.

        Args:
            target: ``[7]`` for each robot: position (3) [m], axis-angle (3) [rad] and gripper width (1) [m],
                in the world.
            at_ns: when [ns, monotonic]; a time that is past means as soon as the speed limits allow.

        Returns:
            The target that was sent, widths within the limits of the grippers.

        Raises:
            SpecError: the target has a wrong shape or is not finite.
            ConfigError: ``at_ns`` is not a time of the monotonic clock.
            DeviceError: the robot is not connected, its process failed, or it was stopped.
        """
        process = self._running()
        sent = self._checked(target)
        if self._newest().data["stopped"]:
            process.request("command", (sent, int(at_ns)))  # is refused, with the reason
        ahead_s = ns_to_seconds(at_ns - now_ns())
        if abs(ahead_s) > FARTHEST_S:
            raise ConfigError(
                f"at_ns lies {ahead_s:.0f} s ahead (allowed: {FARTHEST_S:.0f} s either way); give a time of "
                "the monotonic clock, robopolicy_datasets.clock.now_ns(), not of the wall clock."
            )
        process.send("command", (sent, int(at_ns)))
        return sent.astype(np.float32)

    def hold(self) -> None:
        """Drops all pending targets; the robots hold where they were commanded to be."""
        self._running().request("hold")

    def stop(self, reason: str) -> None:
        """Brakes and latches: nothing is commanded until ``release``."""
        self._running().request("stop", reason)
        self._await(lambda record: bool(record.data["stopped"]))

    def release(self) -> None:
        """Releases a stop; the robots stay where they are until they are commanded."""
        self._await_state(self._running().request("release"))

    def safety_events(self) -> list[Event]:
        """Returns what the safety gates did since ``connect``, oldest first."""
        events: list[Event] = self._running().request("safety_events")
        return events

    def reset(self, seed: int) -> None:
        """Starts a new scene, the same as the task's ``reset(seed=seed)``, and counts lateness anew.

        Returns when the cameras, where connected, show the new scene.
        """
        time_ns = self._running().request("reset", int(seed))
        self._await_state(time_ns)
        for camera in self.cameras:
            camera.await_image(time_ns + seconds_to_ns(self.latencies.camera))

    def success(self) -> bool:
        """Returns whether the task is done, judged by the simulation's own knowledge."""
        self._running().check()
        return bool(self._newest().data["success"])

    def lateness(self) -> LatenessSummary:
        """Returns how late the control ticks were since ``connect`` or the last ``reset``."""
        return self._running().lateness()

    def cycles(self) -> CycleSummary:
        """Returns what the control cycles since ``connect`` consisted of."""
        return self._running().cycles()

    def close(self) -> None:
        """Ends the cameras and the control process. Calling it again does nothing."""
        for camera in self.cameras:
            camera.close()
        if self._process is not None:
            self._process.close()
        self._process = self._ring = None

    @property
    def safety(self) -> SafetyConfig:
        """What the safety gate does where a limit is exceeded."""
        return self.config.safety

    @property
    def pid(self) -> int | None:
        """Id of the control process; None while disconnected."""
        return None if self._process is None else self._process.pid

    @property
    def states(self) -> Ring:
        """The ring of states; DeviceError while disconnected."""
        self._running()
        if self._ring is None:
            raise DeviceError("The simulated robot is not connected; call connect() first.")
        return self._ring

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> DeviceProcess:
        if self._process is None:
            raise DeviceError("The simulated robot is not connected; call connect() first.")
        return self._process

    def _await_state(self, time_ns: int) -> None:
        """Waits until the state of a time [ns, monotonic] has arrived."""
        self._await(lambda record: record.time_ns >= time_ns)

    def _await(self, wanted: Callable[[Record], bool]) -> None:
        """Waits until a state that is wanted has arrived."""
        deadline_ns = now_ns() + seconds_to_ns(self.latencies.state + _ARRIVAL_TIMEOUT_S)
        while (newest := self.states.newest()) is None or not wanted(newest):
            if now_ns() > deadline_ns:
                raise DeviceError(f"The simulated robot has told nothing new for {_ARRIVAL_TIMEOUT_S:g} s.")
            self._running().check()
            time.sleep(0.001)

    def _newest(self) -> Record:
        record = self.states.newest()
        if record is None:
            raise DeviceError("The simulated robot has published no state yet.")
        return record

    def _visible(self, record: Record) -> tuple[int, dict[str, NDArray]]:
        return record.time_ns, {feature.key: record.data[feature.key] for feature in self.spec.observation}

    def _checked(self, target: NDArray) -> NDArray[np.float64]:
        given = np.array(target, np.float64)
        expected = self.spec["action"]
        if given.shape != expected.shape:
            raise SpecError(
                f"A target of shape {given.shape} was commanded; expected {expected.shape}: "
                "position (3) [m], axis-angle (3) [rad] and gripper width (1) [m] in the world, each robot."
            )
        if not np.isfinite(given).all():
            raise SpecError(f"The commanded target is not finite: {given.tolist()}; it was not sent.")
        for robot, part in zip(self._world.robots, given.reshape(-1, POSE_WIDTH), strict=True):
            gripper = robot.embodiment.parallel_gripper
            part[6] = np.clip(part[6], gripper.min_width, gripper.max_width)
        return given


class SimulatedCamera:
    """The cameras of a simulated robot, drawn together in one process of their own.

    Args:
        robot: whose scene is filmed; it must be connected first.
        spec: the images.

    Attributes:
        spec: as given.
    """

    def __init__(self, robot: SimulatedRobot, spec: Spec) -> None:
        self.spec = spec
        self._robot = robot
        self._ring: Ring | None = None
        self._process: DeviceProcess | None = None

    def connect(self) -> None:
        """Starts the camera process and waits for its first images.

        Raises:
            DeviceError: the robot is not connected, this is already, or the process does not start.
        """
        if self._process is not None:
            raise DeviceError("The simulated camera is connected already; close it first.")
        self._ring = Ring(self.spec.observation, IMAGE_SLOTS)
        arguments = {"config": self._robot.config, "late_s": self._robot.latencies.camera}
        rings = {"state": self._robot.states, "images": self._ring}
        process = DeviceProcess(
            _FILM, arguments, name="simulated camera", rings=rings, heartbeat_timeout_s=2.0
        )
        process.start()
        self._process = process

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest images by key, and their time [ns, monotonic].

        It is when they arrived: the time of the state that they show, and the camera's latency after it.
        """
        if self._process is None or self._ring is None:
            raise DeviceError("The simulated camera is not connected; call connect() first.")
        self._process.check()
        record = self._ring.newest()
        if record is None:
            raise DeviceError("The simulated camera has drawn no image yet.")
        return record.time_ns, record.data

    @property
    def pid(self) -> int | None:
        """Id of the drawing process; None while disconnected."""
        return None if self._process is None else self._process.pid

    def await_image(self, time_ns: int, timeout_s: float = 5.0) -> None:
        """Waits, where connected, until the newest image is not older than ``time_ns`` [ns, monotonic]."""
        if self._process is None:
            return
        deadline = now_ns() + round(timeout_s * NANOSECONDS)
        while self.read()[0] < time_ns:
            if now_ns() > deadline:
                raise DeviceError(f"The simulated camera has shown nothing new for {timeout_s:g} s.")
            time.sleep(0.002)

    def close(self) -> None:
        """Ends the camera process. Calling it again does nothing."""
        if self._process is not None:
            self._process.close()
        self._process = self._ring = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _latencies(config: LatencyConfig, embodiment: Embodiment) -> Latencies:
    """Returns the latencies that are asked for."""
    if config.embodiment:
        if embodiment.latencies is None:
            raise ConfigError(
                f"robot.latency.embodiment is true, but nobody has measured the latencies of the embodiment "
                f"'{embodiment.name}'; give state, command, gripper and camera instead."
            )
        return embodiment.latencies
    if config.gripper < config.command:
        raise ConfigError(
            f"robot.latency.gripper is {config.gripper} s and command {config.command} s; both are commanded "
            "at once, so give a gripper's latency that is at least the command's."
        )
    return Latencies(config.state, config.command, config.gripper, config.camera)


def make_robot(config: SimulatedRobotConfig) -> SimulatedRobot:
    """Builds the simulated robot; connect it, then its ``cameras``."""
    return SimulatedRobot(config)
