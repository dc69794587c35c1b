"""A gripper that is held still with its left pad facing up, and an object that can be laid on the pad."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np

from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.touch import GelPad
from robopolicy_sim.worlds.gripper_model import add_gripper
from robopolicy_sim.worlds.mjcf import add, section
from robopolicy_sim.worlds.scenery import add_appearance

LEFT_PAD_UP = (np.sqrt(0.5), -np.sqrt(0.5), 0, 0)  # the tool's y downward


class PadWorld:
    """The object lies on the middle of the pad; ``press`` pushes it, ``pad`` is the left pad.

    Args:
        kind: of the object's geom.
        size: of it [m], as MJCF has it.
        mass: of the object [kg].
        height: of its middle above the pad [m].
        quat: of the object in the frame of the pad.
        arm: the embodiment whose gripper it is.
    """

    def __init__(
        self, kind="box", size=(0.006, 0.006, 0.006), mass=0.2, height=0.006, quat=(1, 0, 0, 0), arm="ur5e"
    ):
        self.embodiment = load_embodiment(arm)
        root = ElementTree.Element("mujoco")
        add(root, "compiler", angle="radian", autolimits="true")
        add(root, "option", timestep=0.001, integrator="implicitfast", cone="elliptic", impratio=10)
        add_appearance(root)
        hand = add(section(root, "worldbody"), "body", name="hand", quat=LEFT_PAD_UP, gravcomp=1)
        add_gripper(root, hand, self.embodiment, self.embodiment.parallel_gripper)
        thing = add(section(root, "worldbody"), "body", name="object")
        add(thing, "freejoint", name="object")
        contact = {"friction": (1.5, 0.02, 0.001), "condim": 4, "priority": 1, "solref": (0.01, 1)}
        add(thing, "geom", name="object", type=kind, size=size, mass=mass, **contact)
        self.model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
        self.data = mujoco.MjData(self.model)
        pad = self.embodiment.touch[0]
        self.pad = GelPad(self.model, self.data, pad, outputs=("markers", "taxels"))
        self.max_width = self.embodiment.parallel_gripper.max_width
        self.lay(height, quat)

    def lay(self, height, quat):
        """Opens the gripper and puts the object over the pad."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:2] = 0.5 * self.max_width
        self.data.ctrl[:] = self.max_width
        mujoco.mj_kinematics(self.model, self.data)
        self.data.qpos[2:5] = self.data.site("pad_left").xpos + height * self.pad_axes[:, 2]
        mujoco.mju_mat2Quat(self.data.qpos[5:9], self.pad_axes.ravel())
        mujoco.mju_mulQuat(self.data.qpos[5:9], self.data.qpos[5:9].copy(), np.array(quat, float))
        mujoco.mj_forward(self.model, self.data)

    @property
    def pad_axes(self):
        return self.data.site("pad_left").xmat.reshape(3, 3)

    def press(self, force, torque=(0, 0, 0), seconds=0.4):
        """Pushes the object's middle along the axes of the pad [N, N m] until it rests."""
        axes = self.pad_axes.copy()
        push = self.data.body("object").xfrc_applied
        push[:3], push[3:] = axes @ np.array(force, float), axes @ np.array(torque, float)
        mujoco.mj_step(self.model, self.data, round(seconds / self.model.opt.timestep))
        mujoco.mj_kinematics(self.model, self.data)
