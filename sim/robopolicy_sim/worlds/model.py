"""Compiles a scene and its robots into one MuJoCo model, and finds where the robots begin."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import Embodiment, Pose
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.arm_model import add_robot
from robopolicy_sim.worlds.mjcf import Element, add, camera_axes, merge, prefix_names, section
from robopolicy_sim.worlds.posture import Posture, corners, require_reach, start_posture
from robopolicy_sim.worlds.scene import Scene
from robopolicy_sim.worlds.scenery import add_appearance, pictures
from robopolicy_sim.worlds.user_model import UserEmbodiment, find_embodiment

TIMESTEP = 0.004  # [s]
FULL_SIZE = 0.48  # [m] of an arm's tool at home from its base, from which on scenes have their full size


@dataclass(frozen=True)
class WorldModel:
    """What all worlds of the same scene and robots share.

    Attributes:
        model: the compiled ``mujoco.MjModel``.
        embodiments: of the robots.
        prefixes: before the robots' names in the model.
        postures: of the robots when an episode begins.
        scale: of the scene, see ``Scene``.
    """

    model: Any
    embodiments: tuple[Embodiment, ...]
    prefixes: tuple[str, ...]
    postures: tuple[Posture, ...]
    scale: float


_compiled: dict[Any, WorldModel] = {}


def world_model(scene: Scene, embodiments: Sequence[str]) -> WorldModel:
    """Returns the model of a scene with robots; equal ones are compiled once in a process.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: the number of robots is wrong, or one of them cannot do the task.
        SimulationError: MuJoCo refuses the model.
    """
    key = (type(scene), scene.model_key, tuple(embodiments))
    if key not in _compiled:
        _compiled[key] = _compile(scene, [find_embodiment(name) for name in embodiments])
    return _compiled[key]


def world_xml(scene: Scene, embodiments: Sequence[Embodiment]) -> str:
    """Returns the world's MJCF text. The first robot's names have no prefix, the next's ``robot1_``, ..."""
    root = ElementTree.Element("mujoco", model=scene.name)
    add(root, "compiler", angle="radian", autolimits="true")
    # Elliptic cones with a high impedance ratio hold a grasped object without creep.
    add(root, "option", timestep=TIMESTEP, integrator="implicitfast", cone="elliptic", impratio=10)
    add_appearance(root)
    add(root, "statistic", center=scene.center, extent=1.0)
    for number, embodiment in enumerate(embodiments):
        robot = _robot(embodiment, scene.base_pose(embodiment, number), number)
        merge(root, robot)
    scene.build(root)
    for name, view in scene.views.items():
        axes = camera_axes(view.position, view.looks_at)
        add(
            section(root, "worldbody"),
            "camera",
            name=name,
            pos=view.position,
            xyaxes=axes,
            fovy=view.vertical_field,
        )
    return ElementTree.tostring(root, encoding="unicode")


def _robot(embodiment: Embodiment, base: Pose, number: int) -> Element:
    """Cameras at the tools count on: ``camera1`` at that of the first robot, ``camera2`` of the next, ..."""
    part = ElementTree.Element("mujoco")
    add_robot(part, embodiment, base)
    if isinstance(embodiment, UserEmbodiment):
        embodiment.shell.put_onto(part)
    cameras = list(part.iter("camera"))
    prefix_names(part, _prefix(number))
    for camera in cameras:
        camera.set("name", f"camera{1 + number}")
    return part


def _prefix(number: int) -> str:
    return f"robot{number}_" if number else ""


def _scale(embodiment: Embodiment) -> float:
    """An arm with its home nearer to its base than the others' works in a smaller area, in proportion."""
    if embodiment.base:
        return 1.0
    home = Kinematics(embodiment).forward(embodiment.home_positions)[:2, 3]
    return min(1.0, round(float(np.linalg.norm(home)) / FULL_SIZE, 2))


def _compile(scene: Scene, embodiments: Sequence[Embodiment]) -> WorldModel:
    if len(embodiments) != scene.num_robots:
        raise ConfigError(
            f"{scene.name} takes {scene.num_robots} robot(s), and {len(embodiments)} were given: "
            f"{', '.join(embodiment.name for embodiment in embodiments)}."
        )
    postures, scale = [], min(map(_scale, embodiments)) if scene.scales else 1.0
    for number, embodiment in enumerate(embodiments):
        scene.check(embodiment)
        base, start = scene.base_pose(embodiment, number).matrix, scene.start_pose(number)
        postures.append(start_posture(embodiment, base, start, scene.name))
        if embodiment.base is None:
            reach = corners(
                np.array(scene.reach_center(number)), scale * np.array(scene.extent), start[:3, :3]
            )
            require_reach(embodiment, base, reach, scene.name)
    files = dict(pictures())
    for embodiment in embodiments:
        if isinstance(embodiment, UserEmbodiment):
            files.update(embodiment.shell.meshes)
    try:
        model = import_mujoco().MjModel.from_xml_string(world_xml(scene, embodiments), files)
    except ValueError as error:
        names = ", ".join(embodiment.name for embodiment in embodiments)
        raise SimulationError(f"MuJoCo refuses {scene.name} with {names}: {error}") from error
    prefixes = tuple(map(_prefix, range(len(embodiments))))
    return WorldModel(model, tuple(embodiments), prefixes, tuple(postures), scale)
