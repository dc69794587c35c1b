"""MJCF of a robot's sensors: only places (sites). They are invisible, touch nothing and compute nothing.

What the sensors measure is computed from these places when somebody asks (``robopolicy_sim.touch``).
"""

from __future__ import annotations

from robopolicy_datasets.geometry import matrix_to_quaternion, relative_pose
from robopolicy_drivers.embodiments import Embodiment, TouchPad
from robopolicy_sim.worlds.mjcf import Element, add

_INVISIBLE = (0, 0, 0, 0)
# A pad looks into the grasp: z out of its finger, x along the tool's z (towards the tip), y thereby along x.
_PAD_QUATERNIONS = {"left": (0.5, 0.5, -0.5, 0.5), "right": (0.5, -0.5, -0.5, -0.5)}


def add_wrist_sensor(hand: Element, embodiment: Embodiment) -> None:
    """Adds the site ``wrist`` where the embodiment has its force-torque sensor.

    Args:
        hand: the body at the TCP; the sensor measures what passes between it and the arm.
        embodiment: the robot; without a sensor nothing is added.
    """
    if embodiment.force_torque is None:
        return
    pose = relative_pose(embodiment.tcp.matrix, embodiment.force_torque.pose.matrix)
    quaternion = matrix_to_quaternion(pose[:3, :3])
    add(hand, "site", name="wrist", pos=pose[:3, 3], quat=quaternion, size=0.002, rgba=_INVISIBLE)


def add_touch_pad(finger: Element, pad: TouchPad, face: float, height: float) -> None:
    """Adds the site ``pad_left`` or ``pad_right`` at the middle of a pad.

    The pad's frame is that of a camera behind it: x along the columns of the markers (the tool's z), y along
    the rows, z out of the finger.

    Args:
        finger: the finger's body, whose axes are the tool's.
        pad: the sensor.
        face: y of the finger's inner face, in the finger's frame [m].
        height: z of the pad's middle, in the finger's frame [m].
    """
    add(
        finger,
        "site",
        name=f"pad_{pad.finger}",
        type="box",
        pos=(0, face, height),
        quat=_PAD_QUATERNIONS[pad.finger],
        size=(0.5 * pad.size[1], 0.5 * pad.size[0], 0.0005),
        rgba=_INVISIBLE,
    )
