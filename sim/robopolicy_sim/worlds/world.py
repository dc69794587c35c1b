"""A scene with robots in it, and its physics. The world's frame: z up, the table's top at z = 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SimulationError, unknown_name
from robopolicy_datasets.geometry import Array
from robopolicy_sim.rendering import import_mujoco, shared_renderer
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.cameras import CameraParameters, camera_parameters, camera_pose
from robopolicy_sim.worlds.model import TIMESTEP, world_model
from robopolicy_sim.worlds.scene import Scene

START_JOINTS = 0.04  # [rad] that arms begin away from their start posture, at most
START_PLACE = 0.02  # [m] that flying bases do, along each axis


class World:
    """The physics of a task, commanded as real robots are.

    A control process calls ``set_targets`` of its robots and ``step``; another process that only draws
    mirrors it with ``get_physics_state`` and ``set_physics_state``.

    Args:
        scene: the task's surroundings; serves this world alone.
        embodiments: names or files of the robots.

    Attributes:
        scene: as given.
        robots: in the order of ``embodiments``.
        model: the ``mujoco.MjModel``, shared by all worlds like this one.
        data: its ``mujoco.MjData``.
        watch: called after each time step of the physics, where somebody measures within ``step``.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: a robot cannot do the task.
        SimulationError: MuJoCo refuses the model.
    """

    timestep = TIMESTEP

    def __init__(self, scene: Scene, embodiments: Sequence[str] = ("ur5e",)) -> None:
        self._mujoco = import_mujoco()
        self.watch: Callable[[], None] | None = None
        shared = world_model(scene, embodiments)
        self.scene = scene
        scene.scale = shared.scale
        self.model = shared.model
        self.data = self._mujoco.MjData(self.model)
        self._postures = shared.postures
        self.robots = tuple(
            Body(self.model, self.data, embodiment, prefix, number)
            for number, (embodiment, prefix) in enumerate(
                zip(shared.embodiments, shared.prefixes, strict=True)
            )
        )
        self._positions = self.data.qpos
        self._state_kind = self._mujoco.mjtState.mjSTATE_INTEGRATION.value
        kinds = self._mujoco.mjtWarning
        self._instabilities = [
            self.data.warning[kind.value]
            for kind in (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
        ]
        self._cameras = {self.model.camera(index).name: index for index in range(self.model.ncam)}
        scene.bind(self.model, self.data, self.robots)
        self.reset(np.random.default_rng(0))

    @property
    def robot(self) -> Body:
        """The first robot."""
        return self.robots[0]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self._cameras)

    @property
    def time(self) -> float:
        """Simulated time since the reset [s]."""
        return float(self.data.time)

    def reset(self, random: np.random.Generator) -> None:
        """Starts anew: robots close to their start, grippers open, objects wherever the scene puts them.

        Args:
            random: decides everything that varies.
        """
        self._mujoco.mj_resetData(self.model, self.data)
        for robot, posture in zip(self.robots, self._postures, strict=True):
            joints = posture.joints + random.uniform(-START_JOINTS, START_JOINTS, posture.joints.shape)
            joints = np.clip(joints, *robot.embodiment.position_limits.T)
            base = None
            if posture.base is not None:
                base = posture.base.copy()
                base[:3, 3] += random.uniform(-START_PLACE, START_PLACE, 3)
            gripper = robot.embodiment.gripper
            robot.start(joints, gripper.max_width if gripper else 0.0, base)
        self.scene.reset(random)
        self._hover()
        self._update_kinematics()

    def step(self, substeps: int = 1) -> None:
        """Advances the physics by ``substeps`` times ``timestep``.

        Raises:
            SimulationError: the physics became unstable.
        """
        self.scene.advance(substeps * TIMESTEP)
        self._advance(substeps)
        self._update_kinematics()
        # MuJoCo resets an unstable state by itself and counts a warning; a NaN can also slip in from outside.
        unstable = any(warning.number for warning in self._instabilities)
        if unstable or not math.isfinite(self._positions.dot(self._positions)):
            raise SimulationError(
                f"The physics became unstable at {self.time:.3f} s (bad position, velocity or acceleration). "
                "Reset the world; check that targets are finite and change smoothly."
            )

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Returns what the robots measure, see ``Body.state``."""
        return {key: value for robot in self.robots for key, value in robot.state().items()}

    def success(self) -> bool:
        """Returns whether the task is done."""
        return self.scene.success()

    def progress(self) -> float:
        """Returns how far the task is, 1 at success."""
        return 1.0 if self.scene.success() else self.scene.progress()

    def render(self, camera: str, width: int, height: int) -> NDArray[np.uint8]:
        """Draws what a camera sees.

        Args:
            camera: ``"camera0"`` (scene), ``"camera1"`` (at the first robot's tool), ``"camera2"`` (at the
                second's), or ``"video"`` (smooth, for people).
            width: of the image [px].
            height: of the image [px].

        Returns:
            RGB image ``[height, width, 3]``.

        Raises:
            UnknownNameError: there is no such camera.
        """
        index = self._camera(camera)
        renderer = shared_renderer(self.model, smooth=camera == "video")
        return renderer.render(self.data, index, width=width, height=height)

    def depth(self, camera: str, width: int, height: int) -> NDArray[np.float32]:
        """Measures z in a camera's frame ``[height, width]`` [m], see ``Renderer.depth``.

        Raises:
            UnknownNameError: there is no such camera.
        """
        index = self._camera(camera)
        return shared_renderer(self.model).depth(self.data, index, width=width, height=height)

    def segmentation(self, camera: str, width: int, height: int) -> NDArray[np.int32]:
        """Tells which body of ``model`` a camera sees ``[height, width]``, see ``Renderer.segmentation``.

        Raises:
            UnknownNameError: there is no such camera.
        """
        index = self._camera(camera)
        return shared_renderer(self.model).segmentation(self.data, index, width=width, height=height)

    def camera_parameters(self, camera: str, width: int, height: int) -> CameraParameters:
        """Returns a camera's intrinsics for images of a size [px], and how it is fixed to what.

        Raises:
            UnknownNameError: there is no such camera.
        """
        return camera_parameters(self.model, self._camera(camera), width, height)

    def camera_pose(self, camera: str) -> Array:
        """Returns where a camera is in the world now ``[4, 4]`` [m]: x to the right of the image, z ahead.

        Raises:
            UnknownNameError: there is no such camera.
        """
        return camera_pose(self.data, self._camera(camera))

    def get_physics_state(self) -> Array:
        """Returns all that the physics needs to go on from here (targets, objects), a vector ``[S]``."""
        state = np.empty(self._mujoco.mj_stateSize(self.model, self._state_kind))
        self._mujoco.mj_getState(self.model, self.data, state, self._state_kind)
        return state

    def set_physics_state(self, state: Array) -> None:
        """Goes to a state that ``get_physics_state`` returned, maybe in another process.

        Raises:
            SimulationError: the vector has the wrong size.
        """
        size = self._mujoco.mj_stateSize(self.model, self._state_kind)
        if np.shape(state) != (size,):
            raise SimulationError(
                f"A physics state of this world has the shape ({size},), not {np.shape(state)}; "
                "take it from a world with the same scene and embodiments."
            )
        self._mujoco.mj_setState(self.model, self.data, np.asarray(state, dtype=np.float64), self._state_kind)
        self._update_kinematics()

    def _camera(self, name: str) -> int:
        if name not in self._cameras:
            raise unknown_name("camera", name, self._cameras)
        return self._cameras[name]

    def _advance(self, steps: int) -> None:
        if self.watch is None:
            self._mujoco.mj_step(self.model, self.data, steps)
            return
        for _ in range(steps):
            self._mujoco.mj_step(self.model, self.data)
            self.watch()

    def _hover(self) -> None:
        """Lets rotors carry the weight from the first moment on."""
        flying = [robot for robot in self.robots if robot.embodiment.base and not robot.carried]
        if flying:
            self._mujoco.mj_forward(self.model, self.data)
        for robot in flying:
            robot.hover()

    def _update_kinematics(self) -> None:
        """Brings poses, cameras and the grippers' widths up to date with the joint positions."""
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_comPos(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)
        self._mujoco.mj_tendon(self.model, self.data)
