"""MJCF text from Python values."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Element = ElementTree.Element


def camera_axes(
    position: Iterable[float], looks_at: Iterable[float], up: Iterable[float] = (0, 0, 1)
) -> NDArray:
    """Returns MJCF's ``xyaxes`` (6) of a camera at ``position`` [m] that looks at a point [m]."""
    back = np.asarray(tuple(position), dtype=np.float64) - np.asarray(tuple(looks_at), dtype=np.float64)
    right = np.cross(np.asarray(tuple(up), dtype=np.float64), back)
    right /= np.linalg.norm(right)
    image_up = np.cross(back, right)
    return np.concatenate([right, image_up / np.linalg.norm(image_up)])


def section(root: Element, tag: str) -> Element:
    """Returns the root's child with this tag, made if needed."""
    found = root.find(tag)
    return ElementTree.SubElement(root, tag) if found is None else found


def add(parent: Element, tag: str, **attributes: object) -> Element:
    """Adds an element; numbers and sequences of numbers become MJCF text."""
    return ElementTree.SubElement(parent, tag, {name: _text(value) for name, value in attributes.items()})


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return " ".join(repr(float(number)) for number in value)
    return repr(value)


def add_geom(parent: Element, kind: str, *, solid: bool = False, **attributes: object) -> None:
    """Adds a geom; only solid ones collide, and only those with a mass weigh."""
    collides = 1 if solid else 0
    add(parent, "geom", type=kind, contype=collides, conaffinity=collides, **{"mass": 0, **attributes})


_NAMES = frozenset(
    (
        "name",
        "joint",
        "joint1",
        "joint2",
        "body1",
        "body2",
        "geom1",
        "geom2",
        "site",
        "tendon",
        "actuator",
        "mesh",
    )
)


def prefix_names(root: Element, prefix: str) -> None:
    """Puts ``prefix`` before every name in a document, and before references to one; materials are shared."""
    for element in root.iter():
        for attribute in _NAMES.intersection(element.attrib):
            element.set(attribute, prefix + element.attrib[attribute])


def merge(root: Element, part: Element) -> None:
    """Moves what the sections of ``part`` hold to the end of the same sections of ``root``."""
    for found in part:
        section(root, found.tag).extend(list(found))
