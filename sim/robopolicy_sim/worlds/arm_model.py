"""MJCF text of a robot, drawn with capsules and boxes from its embodiment data."""

from __future__ import annotations

import math

import numpy as np

from robopolicy_drivers.embodiments import CameraMount, Embodiment, FlyingBase, Joint, Pose, Rotor
from robopolicy_sim.worlds.gripper_model import add_gripper
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.sensor_model import add_wrist_sensor

TARGET_SMOOTHING = 0.02  # [s]; joint targets that arrive in steps would shake a held object loose
SOCKET_RADIUS = 0.075  # [m] of what a fixed arm stands on, at most
SOCKET_RATIO = 1.3  # of the socket's radius to the first link's
CARRIER_HOLD = (0.02, 1.0)  # [s], damping ratio of the hold of what is carried
ORIGIN = Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))


def add_robot(root: Element, embodiment: Embodiment, base_pose: Pose = ORIGIN) -> None:
    """Adds a robot, its cameras, sites, servos and rotors to an MJCF document.

    Names: the body ``base``, joints as in the embodiment, site ``tcp``, cameras as in the keys of their
    images (without ``_rgb``), site ``wrist`` at the force-torque sensor, for the gripper see
    ``add_gripper``. A flying base has a free joint ``base``; its rotors ``rotor0``, ... are actuators that
    push at sites of the same names and follow their commands [N] with a lag. A flying base without rotors is
    carried: an ideal hand, the mocap body ``carrier``, holds it where it is put.

    Args:
        root: the ``mujoco`` element; sections that it lacks are made.
        embodiment: the robot's body.
        base_pose: where a fixed base stands.
    """
    world = section(root, "worldbody")
    rotors = embodiment.base.rotors if embodiment.base else ()
    held = 0 if rotors else 1  # a flying robot's weight is for its rotors to carry
    if embodiment.base is None:
        base = parent = add(world, "body", name="base", pos=base_pose.position, quat=base_pose.quaternion)
        _add_socket(base, embodiment.joints[0])
    else:
        base = parent = _add_flying_base(world, embodiment.base, held)
        for index, rotor in enumerate(rotors):
            _add_rotor(section(root, "actuator"), base, rotor, f"rotor{index}")
        if not rotors:
            _add_carrier(root)
    for index, joint in enumerate(embodiment.joints):
        parent = _add_link(parent, joint, index, held)
    hand = add(
        parent,
        "body",
        name="hand",
        pos=embodiment.tcp.position,
        quat=embodiment.tcp.quaternion,
        gravcomp=held,
    )
    add(hand, "site", name="tcp", size=0.002, rgba=(0, 0, 0, 0))
    add_wrist_sensor(hand, embodiment)
    for camera in embodiment.cameras:
        _add_camera(hand if camera.frame == "tcp" else base, camera)
    for joint in embodiment.joints:
        _add_servo(section(root, "actuator"), joint)
    if embodiment.gripper is not None:
        add_gripper(root, hand, embodiment, embodiment.gripper)


def _add_rotor(actuators: Element, base: Element, rotor: Rotor, name: str) -> None:
    center, axis = np.array(rotor.position), np.array(rotor.axis)
    disc = (*(center - 0.003 * axis), *(center + 0.003 * axis))
    add_geom(base, "cylinder", fromto=disc, size=rotor.radius, material="rotor")
    add(base, "site", name=name, pos=rotor.position, zaxis=rotor.axis, size=0.002, rgba=(0, 0, 0, 0))
    add(
        actuators,
        "general",
        name=name,
        site=name,
        gear=(0, 0, 1, 0, 0, rotor.drag),
        ctrlrange=(0, rotor.thrust_limit),
        dyntype="filterexact",
        dynprm=(rotor.time_constant,),
        gainprm=(1,),
        biastype="none",
    )


def _add_carrier(root: Element) -> None:
    add(section(root, "worldbody"), "body", name="carrier", mocap="true")
    add(section(root, "equality"), "weld", name="carrier", body1="carrier", body2="base", solref=CARRIER_HOLD)


def _add_socket(world: Element, joint: Joint) -> None:
    """Draws what the arm stands on, up to where its first link begins; nothing where that is not drawn."""
    if not joint.capsules:
        return
    pose = Pose(joint.position, joint.quaternion).matrix
    ends = np.array([end for capsule in joint.capsules for end in (capsule.start, capsule.end)])
    height = float((ends @ pose[:3, :3].T + pose[:3, 3])[:, 2].min())
    if height > 0:
        x, y, _ = joint.position
        radius = min(SOCKET_RADIUS, SOCKET_RATIO * joint.capsules[0].radius)
        add_geom(world, "cylinder", size=(radius, 0.5 * height), pos=(x, y, 0.5 * height), material="dark")


def _add_flying_base(world: Element, base: FlyingBase, held: int) -> Element:
    body = add(world, "body", name="base", gravcomp=held)
    add(body, "freejoint", name="base")
    add(body, "inertial", pos=(0, 0, 0), mass=base.mass, diaginertia=base.inertia)
    for capsule in base.capsules:
        ends = (*capsule.start, *capsule.end)
        add_geom(body, "capsule", fromto=ends, size=capsule.radius, material="dark")
    return body


def _add_link(parent: Element, joint: Joint, index: int, held: int) -> Element:
    body = add(
        parent, "body", name=f"link{index + 1}", pos=joint.position, quat=joint.quaternion, gravcomp=held
    )
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


def _add_servo(actuators: Element, joint: Joint) -> None:
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


def _add_camera(body: Element, camera: CameraMount) -> None:
    """MuJoCo's cameras look along -z with y up, ours along z with y down: half a turn about x between."""
    w, x, y, z = camera.pose.quaternion
    add(
        body,
        "camera",
        name=camera.key.removesuffix("_rgb"),
        pos=camera.pose.position,
        quat=(-x, w, z, -y),
        fovy=math.degrees(camera.vertical_field),
    )
    if body.get("name") == "hand":
        _add_camera_body(body, camera)


def _add_camera_body(hand: Element, camera: CameraMount) -> None:
    """A box behind the lens, and an arm that holds it."""
    position = np.array(camera.pose.position)
    side = position * (1, 1, 0)
    add_geom(
        hand, "box", pos=(*(side[:2] / 2), position[2] - 0.022), size=(0.045, 0.012, 0.004), material="dark"
    )
    add_geom(hand, "box", pos=(*side[:2], position[2] - 0.014), size=(0.010, 0.018, 0.010), material="dark")
