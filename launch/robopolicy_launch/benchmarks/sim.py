"""Simulation beside MuJoCo by hand: physics steps, and a whole environment step with the same work in it.

The ratios are times: 1.1 is a tenth slower than the reference. Only the last one is of steps a second:
how many times as many two workers make.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from robopolicy_datasets.geometry import pose_from_vector
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import side_by_side, threads
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.rollout_speed import RolloutSpeed
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.manipulation import TICKS
from robopolicy_sim.tasks.pick_place import PickPlaceEnv

CALLS = 200  # between two looks at the clock


def run(*, image: int = 64, seconds: float = 5.0) -> Iterator[Row]:
    """Measures pick and place with one arm.

    Args:
        image: width and height of both camera images [px].
        seconds: to spend on each row.
    """
    with threads(1):
        env, by_hand = (PickPlaceEnv(PickPlaceConfig(image_size=image)) for _ in range(2))
        observation, _ = env.reset(seed=0)
        by_hand.reset(seed=0)
        substeps = round(env.dt / TICKS / env.world.timestep)
        yield _physics(env, by_hand, substeps, seconds)
        action = np.concatenate(
            [observation[f"robot0_{key}"] for key in ("eef_pos", "eef_rot_axis_angle", "gripper_width")]
        )
        yield _environment(env, _Loop(by_hand, image, substeps), action, seconds)
    yield _workers(PickPlaceConfig(image_size=image), seconds)


def _workers(task: PickPlaceConfig, seconds: float) -> Row:
    """The ratio is of steps a second: with two workers a whole 2 would be both cores."""
    with RolloutSpeed(task, workers=1) as one, RolloutSpeed(task, workers=2) as two:
        speeds = [(two.measure(), one.measure())]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            speeds.append((two.measure(), one.measure()))
    together, alone = np.median(speeds, axis=0)
    return Row("sim_two_workers", together, alone, "per_s", "one worker")


def _physics(env: PickPlaceEnv, by_hand: PickPlaceEnv, substeps: int, seconds: float) -> Row:
    world, model, data = env.world, by_hand.world.model, by_hand.world.data
    mujoco = import_mujoco()

    def ours() -> None:
        for _ in range(CALLS):
            world.step(substeps)

    def bare() -> None:
        for _ in range(CALLS):
            mujoco.mj_step(model, data, substeps)

    mine, other = (1e3 * time / (CALLS * substeps) for time in side_by_side(ours, bare, seconds=seconds))
    return Row("sim_physics", mine, other, "us", "mj_step alone")


def _environment(env: PickPlaceEnv, loop: _Loop, action: np.ndarray, seconds: float) -> Row:
    targets = [
        action + np.array([0.03 * np.sin(0.3 * i), 0.03 * np.cos(0.3 * i), 0, 0, 0, 0, 0]) for i in range(20)
    ]

    def ours() -> None:
        for target in targets:
            env.step(target)

    def bare() -> None:
        for target in targets:
            loop.step(target)

    mine, other = (time / len(targets) for time in side_by_side(ours, bare, seconds=seconds))
    return Row("sim_environment", mine, other, "ms", "kinematics, physics and images by hand")


class _Loop:
    """What a user would write for one control step: no checks, no score, no disturbances."""

    def __init__(self, env: PickPlaceEnv, image: int, substeps: int) -> None:
        self._world, self._image = env.world, image
        self._model, self._data = env.world.model, env.world.data
        self._mj_step, self._mj_kinematics = import_mujoco().mj_step, import_mujoco().mj_kinematics
        self._ik = DifferentialIK(env.world.robot.kinematics, period_s=env.dt)
        self._joints = env.world.robot.kinematics.num_joints
        self._substeps = substeps

    def step(self, target: np.ndarray) -> list[np.ndarray]:
        start = self._data.ctrl[: self._joints].copy()
        goal = self._ik.solve(pose_from_vector(target[None, :6]), start[None])[0]
        for fraction in np.linspace(0.0, 1.0, TICKS + 1)[1:]:
            self._data.ctrl[: self._joints] = start + fraction * (goal - start)
            self._data.ctrl[self._joints] = target[6]
            self._mj_step(self._model, self._data, self._substeps)
        self._mj_kinematics(self._model, self._data)
        return [self._world.render(camera, self._image, self._image) for camera in ("camera0", "camera1")]
