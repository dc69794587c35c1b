"""What all worlds look like."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from robopolicy_sim.rendering import SCENERY
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section

WOOD = "wood.png"

# Contact settings of things that are grasped; they count with everything that touches the thing: stiff, and
# with friction that holds.
GRASPED: Mapping[str, Any] = MappingProxyType(
    {"priority": 1, "condim": 4, "friction": (1.5, 0.02, 0.001), "solref": (0.01, 1)}
)

_MATERIALS = {
    "arm": (0.80, 0.82, 0.85, 1),
    "accent": (0.22, 0.45, 0.66, 1),
    "dark": (0.17, 0.18, 0.20, 1),
    "finger": (0.95, 0.62, 0.12, 1),
    "cube": (0.84, 0.16, 0.14, 1),
    "pad": (0.13, 0.60, 0.32, 1),
    "pad_centre": (0.62, 0.88, 0.66, 1),
    "floor": (0.80, 0.80, 0.81, 1),
    "steel": (0.60, 0.62, 0.65, 1),
    "panel": (0.90, 0.88, 0.83, 1),
    "rotor": (0.35, 0.37, 0.40, 0.45),
}


def add_appearance(root: Element) -> None:
    """Adds light without a lamp, a sky, and the materials that robots and objects are made of."""
    visual = section(root, "visual")
    add(
        visual,
        "headlight",
        ambient=(0.42, 0.42, 0.42),
        diffuse=(0.22, 0.22, 0.22),
        specular=(0.05, 0.05, 0.05),
    )
    add(visual, "map", znear=0.01, zfar=20)
    add(visual, "quality", shadowsize=0, offsamples=0)
    asset = section(root, "asset")
    add(
        asset,
        "texture",
        type="skybox",
        builtin="gradient",
        rgb1=(0.93, 0.94, 0.96),
        rgb2=(0.70, 0.74, 0.80),
        width=64,
        height=384,
    )
    for name, color in _MATERIALS.items():
        add(asset, "material", name=name, rgba=color, specular=0.25, shininess=0.3)


def add_table(root: Element) -> None:
    """Adds lamps, a floor, and the table ``table``, whose top is at z = 0; it needs ``pictures``."""
    asset = section(root, "asset")
    add(asset, "texture", name="wood", type="2d", file=WOOD)
    add(asset, "material", name="wood", texture="wood", texrepeat=(1, 1), specular=0.15, shininess=0.2)
    world = section(root, "worldbody")
    add_lamps(world)
    add_geom(world, "plane", size=(4, 4, 0.1), pos=(0, 0, -0.75), material="floor", group=SCENERY)
    for x in (-0.1, 0.82):
        for y in (-0.54, 0.54):
            leg = (0.03, 0.03, 0.35)
            add_geom(world, "box", size=leg, pos=(x, y, -0.4), material="dark", group=SCENERY)
    top = (0.52, 0.6, 0.025)
    add_geom(world, "box", solid=True, name="table", size=top, pos=(0.36, 0, -top[2]), material="wood")


def add_lamps(world: Element) -> None:
    """Adds a lamp that casts shadows and one that fills them."""
    sun = {"pos": (0.9, -0.7, 1.9), "dir": (-0.35, 0.4, -1.0), "diffuse": (0.5, 0.5, 0.48)}
    fill = {"pos": (0.4, 1.2, 1.6), "dir": (0, -0.8, -1.0), "diffuse": (0.16, 0.17, 0.2)}
    add(world, "light", directional="true", **sun)
    add(world, "light", directional="true", castshadow="false", **fill)


@cache
def pictures() -> dict[str, bytes]:
    """Returns the textures' files by name."""
    return {WOOD: _wood_png()}


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
