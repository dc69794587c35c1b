"""A real robot in simulated surroundings: its joints move the robot of a task's scene, which cameras show.

The real robot is driven through its own protocol, controller and safety gate; what surrounds it (a table, a
cube) exists in MuJoCo only. The robot in the scene follows what the real one *measures*, so what a policy
sees is what its own commands really did.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.geometry import matrix_to_quaternion, pose_to_vector
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.composing import build_parts
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.conformance import holding_target
from robopolicy_drivers.hosting.device import HostedDevice
from robopolicy_drivers.hosting.robot import HostedRobot
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.runtime.parking import park
from robopolicy_sim.configs import MirroredRobotConfig
from robopolicy_sim.robot import SimulatedCamera
from robopolicy_sim.robot_control import RATE_HZ
from robopolicy_sim.tasks.manipulation import POSE_WIDTH, manipulation_spec, task_world
from robopolicy_sim.worlds.world import World

_NEAR_M = 0.005  # to where an episode begins
_NEAR_S = 10.0


class MirroredRobot(CompositeRobot):
    """See the module text.

    Args:
        devices: arms, grippers and sensors; all robots among them live in processes of their own.
        config: the settings.

    Raises:
        ConfigError: the parts are not those of the scene's robots.

    Attributes:
        scene: what surrounds the robot.
    """

    def __init__(self, devices: Sequence[Any], config: MirroredRobotConfig) -> None:
        self._world = task_world(config.task, config.embodiment)
        _require_the_same_robots(devices, self._world)
        self.scene = MirrorScene(config, self._world, devices)
        images = tuple(
            feature
            for feature in manipulation_spec(config.image_size, len(self._world.robots)).observation
            if feature.is_image
        )
        super().__init__(devices, [SimulatedCamera(self.scene, config.scene, Spec(images, ()), 0.0)])

    def connect(self) -> None:
        """Connects the real robot, then starts the scene."""
        super().connect()
        try:
            self.scene.connect()
        except DeviceError:
            self.close()
            raise

    def state(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the real robot's newest state and its time [ns, monotonic]; openings are the scene's."""
        time_ns, state = super().state()
        return time_ns, state | self.scene.widths()

    def state_at(self, time_ns: int) -> tuple[int, dict[str, NDArray]]:
        """Returns the states nearest to a time [ns, monotonic], with the newest openings of the scene."""
        found_ns, state = super().state_at(time_ns)
        return found_ns, state | self.scene.widths()

    def reset(self, seed: int) -> None:
        """Sets up the task's scene of a seed. **The robot moves**: slowly, to where that scene begins.

        It always goes by its home: wherever the episode before has ended, no joint limit closes that way, and
        an arm begins each episode with the same elbow.

        Raises:
            DeviceError: it does not arrive.
        """
        goal = self.scene.prepare(seed)
        self.go_home()
        park(self, self._standing(), goal, speed_m=0.25, speed_rad=1.0)
        self._await_near(goal)
        self.scene.begin()
        for camera in self.cameras:
            camera.await_image(now_ns())  # type: ignore[attr-defined]

    def success(self) -> bool:
        """Returns whether the task is done, judged by the scene."""
        return bool(self.scene.newest()["success"])

    def close(self) -> None:
        """Closes the cameras, the scene and the real robot. Calling it again does nothing."""
        for camera in self.cameras:
            camera.close()
        self.scene.close()
        super().close()

    def _standing(self) -> NDArray[np.float64]:
        """Returns where the real robot is, as an action ``[7 * robots]``."""
        standing = holding_target(self.spec, super().state()[1])
        if standing is None or len(standing) != POSE_WIDTH * len(self._world.robots):
            raise DeviceError(
                "A mirrored robot is commanded by poses and widths; give its arms action=pose and each a "
                "gripper."
            )
        return np.asarray(standing, np.float64)

    def _await_near(self, goal: NDArray) -> None:
        """Waits until every tool is measured to be where it was commanded to be."""
        until_ns = now_ns() + seconds_to_ns(_NEAR_S)
        while True:
            away = np.max(np.abs((self._standing() - goal).reshape(-1, POSE_WIDTH)[:, :3]))
            if away < _NEAR_M:
                return
            if now_ns() > until_ns:
                raise DeviceError(
                    f"The robot is still {away:.3g} m from where the episode begins; see that nothing holds "
                    "it and that it follows commands."
                )
            time.sleep(0.02)


class MirrorScene(HostedDevice):
    """The surroundings, in a process of their own; they stand still until ``begin``.

    Args:
        config: the settings.
        world: of the task.
        devices: the real robot's; the rings of its arms and grippers are read.
    """

    def __init__(self, config: MirroredRobotConfig, world: World, devices: Sequence[Any]) -> None:
        self._robots = [device for device in devices if isinstance(device, HostedRobot)]
        self._widths = [
            Feature(f"robot{robot.number}_gripper_width", (1,), kind="width", unit="m")
            for robot in world.robots
        ]
        hidden = (
            Feature("physics", world.get_physics_state().shape, "float64"),
            Feature("success", (), "bool"),
        )
        super().__init__(
            "robopolicy_sim.mirror_process:mirror",
            {"config": config.scene},
            Spec(tuple(self._widths), ()),
            name="mirrored scene",
            slots=round(2 * RATE_HZ),
            hidden=hidden,
        )

    def prepare(self, seed: int) -> NDArray[np.float64]:
        """Sets up the scene of a seed; returns where the robots are to be ``[7 * robots]``."""
        return np.array(self._running().request("prepare", int(seed)), np.float64)

    def begin(self) -> None:
        """Puts the scene's robots where the real ones are, and lets time pass."""
        time_ns = self._running().request("begin")
        self._await(lambda record: record.time_ns >= time_ns)

    def newest(self) -> dict[str, NDArray]:
        """Returns what the scene is like now, by key."""
        return self._newest().data

    def widths(self) -> dict[str, NDArray]:
        """Returns how far the grippers in the scene are open [m], by key."""
        data = self.newest()
        return {feature.key: data[feature.key] for feature in self._widths}

    def _further_rings(self) -> dict[str, Ring]:
        return {f"part{number:02}": robot.ring for number, robot in enumerate(self._robots)}


def make_mirrored(config: MirroredRobotConfig) -> MirroredRobot:
    """Builds the robot; connect it, then its ``cameras``. Errors as of ``build_parts``.

    Raises:
        ConfigError: a part is a camera, or the parts are not those of the scene's robots.
    """
    devices, cameras = build_parts(config)
    if cameras:
        raise ConfigError(
            "A mirrored robot has the cameras of its scene; leave out the parts that are cameras."
        )
    return MirroredRobot(devices, config)


def _require_the_same_robots(devices: Sequence[Any], world: World) -> None:
    """Refuses arms that are not, or do not stand, like those of the scene."""
    arms = [device for device in devices if isinstance(device, Arm)]
    if len(arms) != len(world.robots):
        raise ConfigError(
            f"The scene has {len(world.robots)} arm(s) and the robot {len(arms)}; give as many."
        )
    for number, (arm, body) in enumerate(zip(arms, world.robots, strict=True)):
        if arm.embodiment.name != body.embodiment.name:
            raise ConfigError(
                f"Arm {number} is a {arm.embodiment.name} and the scene's a {body.embodiment.name}; give "
                f"robot.embodiment={arm.embodiment.name}."
            )
        pose = body.base_pose
        position, quaternion = pose[:3, 3].round(6).tolist(), matrix_to_quaternion(pose[:3, :3]).round(6)
        given = [*arm.config.base_position, *arm.config.base_quaternion]
        if not np.allclose(given, [*position, *quaternion], atol=1e-4):
            raise ConfigError(
                f"Arm {number} stands elsewhere than the scene's; give it base_position={position} and "
                f"base_quaternion={quaternion.tolist()}."
            )


def start_target(world: World) -> NDArray[np.float64]:
    """Returns where the robots of a world are, as an action ``[7 * robots]``."""
    return np.concatenate([[*pose_to_vector(robot.tcp_pose), robot.gripper_width] for robot in world.robots])
