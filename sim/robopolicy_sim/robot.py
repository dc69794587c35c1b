"""A simulated robot *is* a robot: the driver interface, real time, and processes of its own.

The control process steps physics and controllers at 125 Hz (50 Hz where rotors are controlled predictively)
and publishes each state in a ring; a camera process draws the newest of them at its own rate, so rendering
never delays control. Killing either is noticed, as with a device.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS, now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.embodiments import Embodiment, Latencies
from robopolicy_drivers.hosting.device import HostedDevice
from robopolicy_drivers.hosting.robot import HostedRobot
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_sim.configs import LatencyConfig, SimulatedRobotConfig
from robopolicy_sim.faults import Faults
from robopolicy_sim.robot_control import RATE_HZ
from robopolicy_sim.tasks.manipulation import POSE_WIDTH, manipulation_spec, task_world, world_sensors
from robopolicy_sim.worlds.world import World

STATE_RING = "states"  # of the robot, in the process of its cameras
IMAGE_SLOTS = 8


class SimulatedRobot(HostedRobot):
    """The robots in the scene of a task, as one; see the module text.

    An action is, for each robot, position (3) [m], axis-angle (3) [rad] and gripper width (1) [m], in the
    world; widths are sent within the limits of the grippers.

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
        super().__init__(
            "robopolicy_sim.robot_process:control",
            {"config": config, "latencies": self.latencies},
            Spec((*low_dimensional, *joints, *_felt(self._world, config.touch)), task.action),
            name="simulated robot",
            claim=f"sim-{secrets.token_hex(4)}",  # each is a robot of its own
            safety=config.safety,
            rate_hz=RATE_HZ,
            hidden=(
                Feature("physics", self._world.get_physics_state().shape, "float64"),
                Feature("success", (), "bool"),
            ),
        )
        self._late_s = self.latencies.state
        images = tuple(feature for feature in task.observation if feature.is_image)
        self.cameras = (SimulatedCamera(self, config, Spec(images, ()), self.latencies.camera),)

    def reset(self, seed: int) -> None:
        """Starts a new scene, the same as the task's ``reset(seed=seed)``, and counts lateness anew.

        Returns when the cameras, where connected, show the new scene.
        """
        time_ns = self._running().request("reset", int(seed))
        self._await(lambda record: record.time_ns >= time_ns, self._late_s)
        for camera in self.cameras:
            camera.await_image(time_ns + seconds_to_ns(self.latencies.camera))

    def success(self) -> bool:
        """Returns whether the task is done, judged by the simulation's own knowledge."""
        return bool(self._newest().data["success"])

    def close(self) -> None:
        """Ends the cameras and the control process. Calling it again does nothing."""
        for camera in self.cameras:
            camera.close()
        super().close()

    def _admitted(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        for robot, part in zip(self._world.robots, target.reshape(-1, POSE_WIDTH), strict=True):
            gripper = robot.embodiment.parallel_gripper
            part[6] = np.clip(part[6], gripper.min_width, gripper.max_width)
        return target


class SimulatedCamera(HostedDevice):
    """The cameras of a task's scene, drawn together in one process of their own.

    Args:
        scene: what is filmed, which must be connected first; its ring has the scene's physics.
        config: the settings of the scene.
        spec: the images.
        late_s: how late they arrive [s].

    Attributes:
        spec: as given.
    """

    def __init__(self, scene: HostedDevice, config: SimulatedRobotConfig, spec: Spec, late_s: float) -> None:
        super().__init__(
            "robopolicy_sim.robot_process:film",
            {"config": config, "late_s": late_s},
            spec,
            name="simulated camera",
            slots=IMAGE_SLOTS,
            heartbeat_timeout_s=2.0,
        )
        self._scene = scene

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest images by key, and their time [ns, monotonic].

        It is when they arrived: the time of the state that they show, and the camera's latency after it.
        """
        record = self._newest()
        return record.time_ns, record.data

    def await_image(self, time_ns: int, timeout_s: float = 5.0) -> None:
        """Waits, where connected, until the newest image is not older than ``time_ns`` [ns, monotonic]."""
        if self.pid is None:
            return
        deadline = now_ns() + round(timeout_s * NANOSECONDS)
        while self.read()[0] < time_ns:
            if now_ns() > deadline:
                raise DeviceError(f"The simulated camera has shown nothing new for {timeout_s:g} s.")
            time.sleep(0.002)

    def _further_rings(self) -> dict[str, Ring]:
        return {STATE_RING: self._scene.ring}


def _felt(world: World, touch: Sequence[str]) -> list[Feature]:
    """Returns what the robots feel: at each tick of their control, and so as streams too."""
    features = [f for sensor in world_sensors(world, touch) for f in sensor.spec.observation]
    if images := [feature.key for feature in features if feature.is_image]:
        raise ConfigError(
            f"robot.touch is {list(touch)}, and {', '.join(images)} would have to be drawn by the process "
            "that controls the robot; take markers or taxels."
        )
    return [replace(feature, rate_hz=RATE_HZ) for feature in features]


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
