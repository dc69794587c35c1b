"""A robot by itself: a model of nothing but its embodiment, and a picture of it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SimulationError
from robopolicy_drivers.embodiments import Embodiment
from robopolicy_sim.rendering import SCENERY, Renderer, import_mujoco
from robopolicy_sim.worlds.arm_model import add_robot
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, camera_axes, section
from robopolicy_sim.worlds.scenery import add_appearance

_VIEW = np.array([0.75, -0.60, 0.30])  # direction from the robot to the camera
_FIELD = math.radians(30.0)


def embodiment_model(embodiment: Embodiment) -> Any:
    """Returns a compiled ``mujoco.MjModel`` of the robot alone; its home is keyframe 0.

    Names are as ``add_robot`` says. A flying base is at the origin in the keyframe.

    Raises:
        SimulationError: MuJoCo refuses the model.
    """
    return _compile(_robot(embodiment), embodiment)


def portrait(embodiment: Embodiment, *, width: int = 480, height: int = 480) -> NDArray[np.uint8]:
    """Draws the robot at home, however large it is.

    Args:
        embodiment: the robot's body.
        width: of the image [px].
        height: of the image [px].

    Returns:
        RGB image ``[height, width, 3]``.

    Raises:
        SimulationError: MuJoCo refuses the model, or cannot draw.
    """
    model = _compile(_robot(embodiment), embodiment)
    center, radius, floor = _extent(model, _at_home(model))
    root = _robot(embodiment)
    add(root, "statistic", center=center, extent=radius)
    world = section(root, "worldbody")
    distance = 1.05 * radius / math.sin(0.5 * _FIELD * min(1.0, width / height))
    position = center + distance * _VIEW / np.linalg.norm(_VIEW)
    add(
        world,
        "camera",
        name="portrait",
        pos=position,
        xyaxes=camera_axes(position, center),
        fovy=math.degrees(_FIELD),
    )
    above = center + radius * np.array([1.0, -1.0, 3.0])
    sun = {"directional": "true", "castshadow": "false", "diffuse": (0.5, 0.5, 0.48)}
    add(world, "light", pos=above, dir=center - above, **sun)
    add_geom(world, "plane", size=(10, 10, 0.1), pos=(0, 0, floor), material="floor", group=SCENERY)
    model = _compile(root, embodiment)
    renderer = Renderer(model, smooth=True)
    try:
        camera = model.camera("portrait").id
        return renderer.render(_at_home(model), camera, width=width, height=height)
    finally:
        renderer.close()


def _robot(embodiment: Embodiment) -> Element:
    root = ElementTree.Element("mujoco", model=embodiment.name)
    add(root, "compiler", angle="radian", autolimits="true")
    add(root, "option", integrator="implicitfast")
    add_appearance(root)
    add_robot(root, embodiment)
    base = (0, 0, 0, 1, 0, 0, 0) if embodiment.base else ()
    fingers = (0.5 * embodiment.gripper.max_width,) * 2 if embodiment.gripper else ()
    add(section(root, "keyframe"), "key", name="home", qpos=(*base, *embodiment.home, *fingers))
    return root


def _compile(root: Element, embodiment: Embodiment) -> Any:
    try:
        return import_mujoco().MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    except ValueError as error:
        raise SimulationError(f"MuJoCo refuses the embodiment '{embodiment.name}': {error}") from error


def _at_home(model: Any) -> Any:
    mujoco = import_mujoco()
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    return data


def _extent(model: Any, data: Any) -> tuple[NDArray[np.float64], float, float]:
    """Returns center (3), radius and lowest point of a sphere and floor around all shapes [m]."""
    reach = model.geom_rbound[:, None]
    lower, upper = (data.geom_xpos - reach).min(0), (data.geom_xpos + reach).max(0)
    center = 0.5 * (lower + upper)
    radius = float(np.max(np.linalg.norm(data.geom_xpos - center, axis=1) + reach[:, 0]))
    return center, radius, min(0.0, float(lower[2]))
