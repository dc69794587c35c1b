"""MJCF of a parallel gripper: the hand's frame is the TCP frame, z out of the tool, fingers open along y."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import relative_pose
from robopolicy_drivers.embodiments import Embodiment, Gripper
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.sensor_model import add_touch_pad

# The hand is drawn after one of this length and opening, and in proportion to its own.
DRAWN_LENGTH = 0.160  # [m] from the flange to the TCP
DRAWN_WIDTH = 0.085  # [m] largest opening
FINGER_HALF_SIZE = (0.010, 0.006, 0.047)  # [m] across, along the opening, along the tool
PALM_HALF_SIZE = (0.022, 0.052, 0.028)  # [m] same axes
FINGER_BEYOND_TCP = 0.010  # [m] the finger tips reach this far past the TCP
FINGER_SHARE = 1 / 18  # of the gripper's mass, each
FULL_FORCE_ERROR = 0.010  # [m] of the opening at which its servo pushes with full force


def add_gripper(root: Element, hand: Element, embodiment: Embodiment, gripper: Gripper) -> None:
    """Adds a gripper and its servo; the tendon ``gripper`` is as long as the gripper's opening.

    Args:
        root: the ``mujoco`` element; sections that it lacks are made.
        hand: the body at the TCP; bodies ``finger_left`` and ``finger_right`` are added to it, with the
            sites ``pad_left`` and ``pad_right`` where there are touch pads.
        embodiment: the robot.
        gripper: its gripper.
    """
    flange_z = float(relative_pose(embodiment.tcp.matrix, embodiment.flange.matrix)[2, 3])
    length = -flange_z / DRAWN_LENGTH
    scale = np.array([length, gripper.max_width / DRAWN_WIDTH, length])
    finger, palm = scale * FINGER_HALF_SIZE, scale * PALM_HALF_SIZE
    beyond = length * FINGER_BEYOND_TCP
    palm_z = beyond - 2 * finger[2] - palm[2]
    add_geom(
        hand, "cylinder", fromto=(0, 0, flange_z - 0.02, 0, 0, palm_z), size=0.03 * length, material="accent"
    )
    palm_mass = gripper.mass * (1 - 2 * FINGER_SHARE)
    add_geom(hand, "box", pos=(0, 0, palm_z), size=palm, material="dark", mass=palm_mass, solid=True)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        place = (0, sign * finger[1], beyond - finger[2])
        body = add(hand, "body", name=f"finger_{side}", pos=place, gravcomp=hand.get("gravcomp", "0"))
        _add_finger(body, side, sign, gripper, tuple(finger))
        for pad in (pad for pad in embodiment.touch if pad.finger == side):
            # Around the TCP, or nearer to the palm where it would reach beyond the finger's tip.
            height = min(-place[2], finger[2] - 0.5 * pad.size[1])
            add_touch_pad(body, pad, -sign * finger[1], height)
    _couple_fingers(root, gripper)


def _add_finger(body: Element, side: str, sign: float, gripper: Gripper, size: tuple[float, ...]) -> None:
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
        size=size,
        material="finger",
        mass=gripper.mass * FINGER_SHARE,
        solid=True,
        friction=(1.5, 0.02, 0.001),
    )


def _couple_fingers(root: Element, gripper: Gripper) -> None:
    """The fingers move together, pass through each other and the palm, and one servo moves both."""
    fixed = add(section(root, "tendon"), "fixed", name="gripper")
    for side in ("left", "right"):
        add(fixed, "joint", joint=f"finger_{side}", coef=1)
    equal = {"joint1": "finger_left", "joint2": "finger_right", "polycoef": (0, 1, 0, 0, 0)}
    add(section(root, "equality"), "joint", **equal)
    exclusions = section(root, "contact")
    for first, second in (("finger_left", "finger_right"), ("finger_left", "hand"), ("finger_right", "hand")):
        add(exclusions, "exclude", body1=first, body2=second)
    add(
        section(root, "actuator"),
        "position",
        name="gripper",
        tendon="gripper",
        kp=gripper.force / FULL_FORCE_ERROR,
        ctrlrange=(gripper.min_width, gripper.max_width),
        forcerange=(-gripper.force, gripper.force),
    )
