"""MJCF text of an arm with a parallel gripper, drawn with capsules and boxes from its embodiment data."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.embodiments import Embodiment, Gripper, Joint

FINGER_HALF_SIZE = (0.010, 0.006, 0.047)  # [m] across, along the opening, along the tool
PALM_HALF_SIZE = (0.022, 0.052, 0.028)  # [m] same axes
FINGER_BEYOND_TCP = 0.010  # [m] the finger tips reach this far past the TCP
FINGER_MASS = 0.05  # [kg]
GRIPPER_STIFFNESS = 1500  # [N/m] of its servo
TARGET_SMOOTHING = 0.02  # [s]; joint targets that arrive in steps would shake a held object loose
WRIST_CAMERA_POSITION = (-0.085, 0.0, -0.095)  # [m] in the TCP frame
WRIST_CAMERA_LOOKS_AT = (-0.012, 0.0, 0.0)  # [m] in the TCP frame
WRIST_CAMERA_FIELD_DEG = 75.0  # vertical field of view

Element = ElementTree.Element


def add_arm(root: Element, embodiment: Embodiment) -> None:
    """Adds an arm with gripper, its cameras, sites and servos to an MJCF document.

    The base stands at the world's origin. Names: joints as in the embodiment, ``finger_left`` and
    ``finger_right``, site ``tcp``, camera ``camera1`` at the wrist, tendon and servo ``gripper``
    (its length is the gripper's width).

    Args:
        root: the ``mujoco`` element; sections that it lacks are made.
        embodiment: the arm.
    """
    parent = section(root, "worldbody")
    add_geom(parent, "cylinder", size=(0.075, 0.0475), pos=(0, 0, 0.0475), material="dark")
    for index, joint in enumerate(embodiment.joints):
        parent = _add_link(parent, joint, index)
    _add_gripper(root, parent, embodiment)
    actuators = section(root, "actuator")
    for joint in embodiment.joints:
        add(
            actuators,
            "position",
            name=joint.name,
            joint=joint.name,
            kp=joint.stiffness,
            kv=joint.damping,
            timeconst=TARGET_SMOOTHING,
            ctrlrange=joint.position_limits,
            forcerange=(-joint.effort_limit, joint.effort_limit),
        )
    gripper = embodiment.gripper
    add(
        actuators,
        "position",
        name="gripper",
        tendon="gripper",
        kp=GRIPPER_STIFFNESS,
        ctrlrange=(gripper.min_width, gripper.max_width),
        forcerange=(-gripper.force, gripper.force),
    )


def _add_link(parent: Element, joint: Joint, index: int) -> Element:
    body = add(parent, "body", name=f"link{index + 1}", pos=joint.position, quat=joint.quaternion, gravcomp=1)
    add(body, "inertial", pos=joint.center_of_mass, mass=joint.mass, diaginertia=joint.inertia)
    # With actuatorgravcomp the servo carries the arm's weight, inside its torque limit, as a real one does.
    add(
        body,
        "joint",
        name=joint.name,
        axis=joint.axis,
        range=joint.position_limits,
        armature=0.1,
        actuatorgravcomp="true",
        actuatorfrcrange=(-joint.effort_limit, joint.effort_limit),
    )
    for capsule in joint.capsules:
        material = "accent" if np.allclose(capsule.start[:2], capsule.end[:2]) else "arm"
        add_geom(
            body, "capsule", fromto=(*capsule.start, *capsule.end), size=capsule.radius, material=material
        )
    return body


def _add_gripper(root: Element, wrist: Element, embodiment: Embodiment) -> None:
    """The hand's frame is the TCP frame: z out of the tool, fingers open along y."""
    position, quaternion = embodiment.tcp
    flange_z = embodiment.flange[0][2] - position[2]
    gripper = embodiment.gripper
    hand = add(wrist, "body", name="hand", pos=position, quat=quaternion, gravcomp=1)
    palm_mass = gripper.mass - 2 * FINGER_MASS
    palm_z = FINGER_BEYOND_TCP - 2 * FINGER_HALF_SIZE[2] - PALM_HALF_SIZE[2]
    add_geom(hand, "cylinder", fromto=(0, 0, flange_z - 0.02, 0, 0, palm_z), size=0.030, material="accent")
    add_geom(
        hand, "box", pos=(0, 0, palm_z), size=PALM_HALF_SIZE, material="dark", mass=palm_mass, solid=True
    )
    add(hand, "site", name="tcp", size=0.002, rgba=(0, 0, 0, 0))
    _add_wrist_camera(hand)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        _add_finger(hand, side, sign, gripper)
    fixed = add(section(root, "tendon"), "fixed", name="gripper")
    for side in ("left", "right"):
        add(fixed, "joint", joint=f"finger_{side}", coef=1)
    add(
        section(root, "equality"),
        "joint",
        joint1="finger_left",
        joint2="finger_right",
        polycoef=(0, 1, 0, 0, 0),
    )
    exclusions = section(root, "contact")
    for first, second in (("left", "right"), ("left", None), ("right", None)):
        add(exclusions, "exclude", body1=f"finger_{first}", body2=f"finger_{second}" if second else "hand")


def _add_finger(hand: Element, side: str, sign: float, gripper: Gripper) -> None:
    half_thickness, half_length = FINGER_HALF_SIZE[1], FINGER_HALF_SIZE[2]
    body = add(
        hand,
        "body",
        name=f"finger_{side}",
        pos=(0, sign * half_thickness, FINGER_BEYOND_TCP - half_length),
        gravcomp=1,
    )
    add(
        body,
        "joint",
        name=f"finger_{side}",
        type="slide",
        axis=(0, sign, 0),
        range=(0, 0.5 * gripper.max_width),
        damping=gripper.force / (0.5 * gripper.speed),  # full force just reaches the speed limit
        armature=0.3,
    )
    add_geom(
        body,
        "box",
        size=FINGER_HALF_SIZE,
        material="finger",
        mass=FINGER_MASS,
        solid=True,
        friction=(1.5, 0.02, 0.001),
    )


def _add_wrist_camera(hand: Element) -> None:
    position = np.array(WRIST_CAMERA_POSITION)
    axes = camera_axes(position, WRIST_CAMERA_LOOKS_AT, up=(1, 0, 0))
    add_geom(
        hand,
        "box",
        pos=(position[0] / 2, 0, position[2] - 0.022),
        size=(0.045, 0.012, 0.004),
        material="dark",
    )
    add_geom(
        hand, "box", pos=(position[0], 0, position[2] - 0.014), size=(0.010, 0.018, 0.010), material="dark"
    )
    add(hand, "camera", name="camera1", pos=position, xyaxes=axes, fovy=WRIST_CAMERA_FIELD_DEG)


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
