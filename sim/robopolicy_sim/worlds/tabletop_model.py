"""The tabletop's MuJoCo model: table, cube, goal pad, lights and cameras around an arm."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from functools import cache
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_drivers.embodiments import Embodiment, load_embodiment
from robopolicy_sim.rendering import SCENERY, import_mujoco
from robopolicy_sim.worlds.arm_model import add_robot
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, camera_axes, section
from robopolicy_sim.worlds.scenery import add_appearance

TIMESTEP = 0.004  # [s]
CUBE_HALF_SIZE = 0.02  # [m]
CUBE_MASS = 0.08  # [kg]
PAD_HALF_SIZE = 0.045  # [m]
WORKSPACE_CENTER = (0.48, 0.0)  # [m]
WRIST_CAMERA = "camera1_rgb"

_CAMERAS = {  # position [m], point looked at [m], vertical field of view [deg]
    "camera0": ((0.98, 0.0, 0.62), (0.475, 0.0, 0.045), 28.0),
    "video": ((1.30, -0.80, 0.82), (0.32, 0.0, 0.25), 39.0),
}


@cache
def tabletop_model(embodiment_name: str) -> Any:
    """Returns the compiled ``mujoco.MjModel``; all worlds with this arm share it (and so one renderer).

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: its body cannot stand at the table.
        SimulationError: MuJoCo refuses the model.
    """
    text = tabletop_xml(embodiment_name)
    mujoco = import_mujoco()
    try:
        return mujoco.MjModel.from_xml_string(text, {"wood.png": _wood_png()})
    except ValueError as error:
        raise SimulationError(
            f"MuJoCo refuses the tabletop of embodiment '{embodiment_name}': {error}"
        ) from error


def tabletop_xml(embodiment_name: str) -> str:
    """Returns the world's MJCF text; the table's top is at z = 0, the arm's base at the origin."""
    root = ElementTree.Element("mujoco", model="tabletop")
    add(root, "compiler", angle="radian", autolimits="true")
    # Elliptic cones with a high impedance ratio hold a grasped object without creep.
    add(root, "option", timestep=TIMESTEP, integrator="implicitfast", cone="elliptic", impratio=10)
    add_appearance(root)
    _add_wood(root)
    add(root, "statistic", center=(0.4, 0, 0.2), extent=1.0)
    world = section(root, "worldbody")
    _add_surroundings(world)
    add_robot(root, _tabletop_arm(embodiment_name))
    _add_objects(world)
    for name, (position, looks_at, field) in _CAMERAS.items():
        axes = camera_axes(position, looks_at)
        add(world, "camera", name=name, pos=position, xyaxes=axes, fovy=field)
    return ElementTree.tostring(root, encoding="unicode")


def _tabletop_arm(name: str) -> Embodiment:
    embodiment = load_embodiment(name)
    cameras = [camera.key for camera in embodiment.cameras]
    if embodiment.base or not embodiment.gripper or WRIST_CAMERA not in cameras:
        raise ConfigError(
            f"The embodiment '{name}' ({embodiment.base_type} base, {'a' if embodiment.gripper else 'no'} "
            f"gripper, cameras: {', '.join(cameras) or 'none'}) cannot work at the table, which takes an arm "
            f"with a fixed base, a gripper and a camera '{WRIST_CAMERA}'."
        )
    return embodiment


def _add_wood(root: Element) -> None:
    asset = section(root, "asset")
    add(asset, "texture", name="wood", type="2d", file="wood.png")
    add(asset, "material", name="wood", texture="wood", texrepeat=(1, 1), specular=0.15, shininess=0.2)


def _add_surroundings(world: Element) -> None:
    sun = {"pos": (0.9, -0.7, 1.9), "dir": (-0.35, 0.4, -1.0), "diffuse": (0.5, 0.5, 0.48)}
    fill = {"pos": (0.4, 1.2, 1.6), "dir": (0, -0.8, -1.0), "diffuse": (0.16, 0.17, 0.2)}
    add(world, "light", directional="true", **sun)
    add(world, "light", directional="true", castshadow="false", **fill)
    add_geom(world, "plane", size=(4, 4, 0.1), pos=(0, 0, -0.75), material="floor", group=SCENERY)
    for x in (-0.1, 0.82):
        for y in (-0.54, 0.54):
            leg = (0.03, 0.03, 0.35)
            add_geom(world, "box", size=leg, pos=(x, y, -0.4), material="dark", group=SCENERY)
    top = (0.52, 0.6, 0.025)
    add_geom(world, "box", solid=True, name="table", size=top, pos=(0.36, 0, -top[2]), material="wood")


def _add_objects(world: Element) -> None:
    pad = add(world, "body", name="pad", mocap="true", pos=(*WORKSPACE_CENTER, 0))
    _add_pad_layer(pad, "pad", PAD_HALF_SIZE, height=0.0012)
    _add_pad_layer(pad, "pad_centre", 0.5 * PAD_HALF_SIZE, height=0.0020)
    cube = add(world, "body", name="cube", pos=(*WORKSPACE_CENTER, CUBE_HALF_SIZE))
    add(cube, "freejoint", name="cube")
    # Its contact settings count with everything that it touches: stiff, and with friction that holds.
    contact = {"priority": 1, "condim": 4, "friction": (1.5, 0.02, 0.001), "solref": (0.01, 1)}
    size = (CUBE_HALF_SIZE,) * 3
    add_geom(cube, "box", solid=True, size=size, mass=CUBE_MASS, material="cube", **contact)


def _add_pad_layer(pad: Element, material: str, half_size: float, *, height: float) -> None:
    add_geom(pad, "box", size=(half_size, half_size, height), material=material)


def _wood_png(size: int = 256) -> bytes:
    """Draws planks with grain; always the same picture."""
    random = np.random.default_rng(7)
    grain = gaussian_filter(random.normal(size=(size, size)), sigma=(1.2, 40), mode="wrap")
    grain /= grain.std()
    planks = np.repeat(random.normal(size=8), size // 8)[:, None]
    seams = np.where(np.arange(size) % (size // 8) == 0, -2.0, 0.0)[:, None]
    tone = 1.0 + 0.035 * grain + 0.04 * planks + 0.05 * seams
    rgb = np.clip(tone[..., None] * np.array([196, 160, 118]), 0, 255).astype(np.uint8)
    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
