"""What all worlds look like."""

from __future__ import annotations

from robopolicy_sim.worlds.mjcf import Element, add, section

_MATERIALS = {
    "arm": (0.80, 0.82, 0.85, 1),
    "accent": (0.22, 0.45, 0.66, 1),
    "dark": (0.17, 0.18, 0.20, 1),
    "finger": (0.95, 0.62, 0.12, 1),
    "cube": (0.84, 0.16, 0.14, 1),
    "pad": (0.13, 0.60, 0.32, 1),
    "pad_centre": (0.62, 0.88, 0.66, 1),
    "floor": (0.80, 0.80, 0.81, 1),
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
