"""Manipulation tasks as Gymnasium environments: what is seen and commanded is the same for every one of them.

A task is a ``Scene`` (objects, success) and a subclass of ``ManipulationEnv`` that makes it from its config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SpecError, unknown_name
from robopolicy_datasets.geometry import Array, pose_from_vector
from robopolicy_datasets.registry import load_target, tasks
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import Stream
from robopolicy_sim.tasks.common import checked_max_steps, feature_space
from robopolicy_sim.tasks.configs import ManipulationConfig
from robopolicy_sim.touch import WristWrench, touch_sensors
from robopolicy_sim.touch.samples import SensorSamples
from robopolicy_sim.touch.sensor import SimulatedSensor
from robopolicy_sim.tracking import make_tracker
from robopolicy_sim.worlds.disturbances import Disturbances
from robopolicy_sim.worlds.scene import Scene
from robopolicy_sim.worlds.world import World

RATE_HZ = 10.0
TICKS = 5  # of the robots' controllers in one control step
POSE_WIDTH = 7  # numbers that command one robot
WRENCH = "wrench"  # of the wrist; the other kinds of touch are those of a finger's pad

SIMULATORS = {
    "mujoco": "robopolicy_sim.worlds.world:World",
    "pybullet": "robopolicy_sim.twin.world:PybulletWorld",
}

_MEASURED = (  # key after the robot's, numbers, kind, unit, frame
    ("eef_pos", 3, "position", "m", "world"),
    ("eef_rot_axis_angle", 3, "axis_angle", "rad", "world"),
    ("gripper_width", 1, "width", "m", ""),
)

Observation = dict[str, NDArray[Any]]


def manipulation_spec(image_size: int, num_robots: int = 1) -> Spec:
    """Returns the Spec of a task with square images of ``image_size`` [px].

    Seen are a camera in the scene (``camera0_rgb``), one at each tool (``camera1_rgb``, ...), and each tool's
    pose and opening. Commanded are, robot by robot, poses of the tools and openings.
    """
    image = (image_size, image_size, 3)
    features = [
        Feature(f"camera{number}_rgb", image, "uint8", kind="rgb", rate_hz=RATE_HZ)
        for number in range(1 + num_robots)
    ]
    for number in range(num_robots):
        for key, count, kind, unit, frame in _MEASURED:
            features.append(
                Feature(f"robot{number}_{key}", (count,), kind=kind, unit=unit, rate_hz=RATE_HZ, frame=frame)
            )
    size = (POSE_WIDTH * num_robots,)
    action = Feature("action", size, kind="pose_width", unit="m, rad", rate_hz=RATE_HZ, frame="world")
    return Spec(tuple(features), (action,))


class ManipulationEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """A manipulation task as a Gymnasium environment.

    An action is, for each robot, the absolute pose of the tool center point to reach by the end of the
    control step and the gripper's opening: ``[x, y, z, axis-angle 3, width]`` in m and rad, in the world. The
    reward is the gain in score. ``info`` has ``success``, ``score`` (best progress so far, 1 at success) and
    ``progress``.

    Attributes:
        data_spec: what is observed and commanded. (``spec`` is Gymnasium's own ``EnvSpec``.)
        dt: control step [s].
        max_steps: control steps until truncation: the config's, and more for a body of a slower pace.
        scene: the task's surroundings.
        world: the physics.
        metadata: Gymnasium's, and under ``"cameras"`` each camera's ``CameraParameters`` as plain data.

    Args:
        config: the settings.
        scene: objects and success; serves this environment alone.
        render_mode: ``"rgb_array"`` or None; ``render`` works with both.

    Raises:
        UnknownNameError: there is no such simulator, or nothing of the sort to feel with.
        MissingExtraError: the simulator is not installed.
        ConfigError: a number is out of range, or a robot cannot do the task.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}  # noqa: RUF012 (as in gymnasium.Env)

    def __init__(
        self,
        config: ManipulationConfig,
        scene: Scene,
        render_mode: str | None = None,
    ) -> None:
        if config.simulator not in SIMULATORS:
            raise unknown_name("simulator", config.simulator, SIMULATORS)
        self.config = config
        self.render_mode = render_mode
        self.scene = scene
        self.dt = 1.0 / RATE_HZ
        make_world: type[World] = load_target(SIMULATORS[config.simulator])
        self.world = make_world(scene, [config.embodiment] * scene.num_robots)
        if config.touch and config.simulator != "mujoco":
            raise ConfigError(
                f"task.touch is {config.touch}, and touch is computed from MuJoCo's contacts; "
                "take task.simulator=mujoco."
            )
        self._sensors = world_sensors(self.world, config.touch)
        felt = [feature for sensor in self._sensors for feature in sensor.spec.observation]
        self._samples = SensorSamples(self.world, self._sensors)
        self._felt = frozenset(feature.key for feature in felt)
        seen = manipulation_spec(config.image_size, scene.num_robots)
        self.data_spec = Spec((*seen.observation, *felt), seen.action)
        pace = min(robot.pace for robot in self.world.robots)
        self.max_steps = round(checked_max_steps(config.max_steps) / pace)
        size = config.image_size
        self.metadata = {
            **self.metadata,
            "cameras": {
                key: self.world.camera_parameters(key.removesuffix("_rgb"), size, size).to_json()
                for key in (feature.key for feature in seen.observation if feature.is_image)
            },
        }
        self._trackers = [make_tracker(robot, self.dt, TICKS) for robot in self.world.robots]
        self._disturbances = Disturbances(self.world, config.disturbance, self.dt / TICKS, self.dt)
        self._substeps = round(self.dt / self.world.timestep / TICKS)
        self._steps = 0
        self._score = 0.0
        self.observation_space: gymnasium.spaces.Space[Any] = gymnasium.spaces.Dict(
            {feature.key: feature_space(feature) for feature in self.data_spec.observation}
        )
        self.action_space = gymnasium.spaces.Box(*self._action_bounds(), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode, which ``seed`` decides fully.

        Args:
            seed: of everything that varies; None goes on with the previous random numbers.
            options: unused.

        Returns:
            The first observation and info.
        """
        super().reset(seed=seed)
        self.world.reset(self.np_random)
        self._samples.restart()
        for tracker in self._trackers:
            tracker.reset()
        self._disturbances.reset(self.np_random)
        self._steps = 0
        self._score = 0.0
        return self._observe(), self._info()

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves for one control step.

        Args:
            action: ``[7]`` for each robot, see the class.

        Returns:
            Observation, reward, whether it succeeded, whether the time is over, info.

        Raises:
            SpecError: the action has a wrong shape or is not finite.
            SimulationError: the physics became unstable.
        """
        commands = self._disturbances.delayed(self._checked(action)).reshape(-1, POSE_WIDTH)
        for tracker, command in zip(self._trackers, commands, strict=True):
            tracker.aim(pose_from_vector(command[:6]), command[6])
        for _ in range(TICKS):
            for tracker in self._trackers:
                tracker.tick()
            self._disturbances.push()
            self.world.step(self._substeps)
        self._steps += 1
        before = self._score
        info = self._info()
        success = info["success"]
        truncated = not success and self._steps >= self.max_steps
        return self._observe(), self._score - before, success, truncated, info

    @property
    def streams(self) -> tuple[Feature, ...]:
        """What is felt within the control steps too, at the rate of the sensor; see ``listen``."""
        return self._samples.streams

    def listen(self, keys: Iterable[str]) -> None:
        """Keeps the samples of these streams from the next reset on, for ``heard``."""
        self._samples.listen(keys)

    def heard(self) -> dict[str, Stream]:
        """Returns the samples since the last call, by key; their times count from the reset [ns]."""
        return self._samples.heard()

    def render(self) -> NDArray[np.uint8]:
        """Returns a frame ``[360, 480, 3]`` for videos."""
        return self.world.render("video", 480, 360)

    def _observe(self) -> Observation:
        size = self.config.image_size
        state = self._state()
        observation: Observation = {}
        self._disturbances.shake()
        for feature in self.data_spec.observation:
            if feature.is_image and feature.key not in self._felt:
                observation[feature.key] = self.world.render(feature.key.removesuffix("_rgb"), size, size)
            else:
                observation[feature.key] = state[feature.key]
        return observation

    def _state(self) -> Observation:
        """Returns what is measured and felt."""
        state = self._disturbances.measured(self.world.state())
        for sensor in self._sensors:
            state.update(sensor.measure())
        return state

    def _info(self) -> dict[str, Any]:
        success = self.world.success()
        progress = 1.0 if success else self.world.scene.progress()
        self._score = max(self._score, progress)
        return {"success": success, "score": self._score, "progress": progress}

    def _checked(self, action: NDArray[Any]) -> Array:
        expected = self.data_spec["action"]
        name = self.world.scene.name
        given = np.asarray(action, dtype=np.float64)
        if given.shape != expected.shape:
            raise SpecError(
                f"The action has the shape {given.shape}; {name} expects {expected.shape}: target "
                "position (3) [m], axis-angle (3) [rad] and gripper width (1) [m] in the world, each robot."
            )
        if not np.isfinite(given).all():
            raise SpecError(
                f"The action {given.tolist()} has numbers that are not finite; {name} expects poses and "
                "widths. Check the policy's normalizer and its training loss for NaN."
            )
        return given

    def _action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        low, high = [], []
        for robot in self.world.robots:
            gripper = robot.embodiment.parallel_gripper
            low += [-1.5, -1.5, -1.5, -np.pi, -np.pi, -np.pi, gripper.min_width]
            high += [1.5, 1.5, 1.5, np.pi, np.pi, np.pi, gripper.max_width]
        return np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)


def world_sensors(world: World, touch: Sequence[str]) -> list[SimulatedSensor]:
    """Returns the sensors of a world's robots that give what ``touch`` asks for, and nothing else.

    Args:
        world: the physics, of MuJoCo.
        touch: ``wrench``, or outputs of a touch pad.

    Raises:
        UnknownNameError: there is nothing of the sort to feel with.
        ConfigError: no robot of the world has a sensor for it.
    """
    if not touch:
        return []
    pads = [name for name in touch if name != WRENCH]
    found = [
        sensor
        for robot in world.robots
        for sensor in touch_sensors(
            world.model, world.data, robot.embodiment, outputs=pads, prefix=robot.prefix
        )
        if sensor.spec.observation and (WRENCH in touch or not isinstance(sensor, WristWrench))
    ]
    felt = {feature.key for sensor in found for feature in sensor.spec.observation}
    for name in touch:
        if not any(key.endswith(name) for key in felt):
            raise ConfigError(
                f"The embodiment '{world.robot.embodiment.name}' has no sensor for touch={name}. Take one "
                f"that has (ur5e, fr3), or leave it out of {list(touch)}."
            )
    return found


def task_world(task: str, embodiment: str) -> World:
    """Returns the world of a registered manipulation task, as its environment has it.

    Args:
        task: the task's name.
        embodiment: name or file of the robot.

    Raises:
        UnknownNameError: there is no such task or embodiment.
        ConfigError: it is no manipulation task, or the robot cannot do it.
    """
    config_class = tasks.config_class(task)
    environment_class = tasks.load(task)
    if not (isinstance(environment_class, type) and issubclass(environment_class, ManipulationEnv)):
        raise ConfigError(f"The task '{task}' has no world that a simulated robot could stand in.")
    make: Callable[[Any], ManipulationEnv] = environment_class
    return make(config_class(embodiment=embodiment)).world
