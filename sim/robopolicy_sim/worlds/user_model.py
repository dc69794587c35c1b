"""Robots as users have them: an MJCF or URDF file, with meshes, becomes an embodiment with its own looks.

What the file says of joints, masses and limits becomes an ``Embodiment``; control and tasks need no more. Its
shapes are put onto the links of our model of an embodiment, see ``worlds.arm_model``.

The file needs a chain of hinges from the base to a site ``tcp`` (in URDF: a link), each with its range and a
limit of its torque. A gripper is two slides ``finger_left`` and ``finger_right`` that open along y and -y of
the tcp from 0 on. A camera called ``camera1`` behind the last joint is the camera at the tool.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy_datasets.errors import ConfigError, nearest_names
from robopolicy_datasets.geometry import Array, invert_pose, matrix_to_quaternion, pose_matrix
from robopolicy_drivers.embodiments import CameraMount, Embodiment, Gripper, Joint, Pose, load_embodiment
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.cameras import camera_pose
from robopolicy_sim.worlds.gripper_model import DRAWN_LENGTH
from robopolicy_sim.worlds.mjcf import section
from robopolicy_sim.worlds.shell import Shell, shell_of

SUFFIXES = (".xml", ".urdf")
FINGERS = ("finger_left", "finger_right")

# What MJCF does not say, and URDF not always.
SPEED = 2.0  # [rad/s] of a joint
ACCELERATION = 10.0  # [rad/s^2]
FINGER_SPEED = 0.05  # [m/s]
STIFFNESS = 65.0  # [1/rad] of a servo for each N m of its joint's limit, about that of our own arms
DAMPING = 0.04  # [s] of a servo for each unit of its stiffness, as of our own arms
STRAIGHT = np.cos(0.02)  # least cosine between a finger's axis and the tcp's y axis
IMAGE_SIZE = (224, 224)  # [px]


@dataclass(frozen=True)
class UserEmbodiment(Embodiment):
    """An embodiment with shapes of its own.

    Attributes:
        shell: the shapes.
    """

    shell: Shell = field(default_factory=lambda: Shell({}, {}), compare=False)


def find_embodiment(name: str) -> Embodiment:
    """Returns an embodiment by its name or file: what ``load_embodiment`` knows, and MJCF and URDF files.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: the file is missing, or not one that a robot can be made of.
    """
    return load_user_model(name) if name.endswith(SUFFIXES) else load_embodiment(name)


@cache
def load_user_model(path: str) -> UserEmbodiment:
    """Reads a robot from an MJCF (``.xml``) or URDF (``.urdf``) file; see the module for what it needs.

    Raises:
        ConfigError: the file is missing, MuJoCo cannot read it, or it lacks what a robot needs.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"There is no robot file {file.absolute()}; check the path.")
    try:
        model = (_urdf_spec(file) if file.suffix == ".urdf" else _mjcf_spec(file)).compile()
    except (ValueError, ElementTree.ParseError) as error:
        raise ConfigError(f"MuJoCo cannot read the robot file '{path}': {error}") from error
    return _Reader(file, model).embodiment()


def _mjcf_spec(file: Path) -> Any:
    return import_mujoco().MjSpec.from_file(str(file))


def _urdf_spec(file: Path) -> Any:
    """MuJoCo would drop what is only drawn, and links without a joint, such as tcp."""
    root = ElementTree.parse(file).getroot()
    compiler = section(section(root, "mujoco"), "compiler")
    for option in ("discardvisual", "fusestatic"):
        compiler.attrib.setdefault(option, "false")
    spec = import_mujoco().MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    spec.modelfiledir = str(file.parent.absolute())
    return spec


class _Reader:
    """Reads one compiled model, with all joints at 0."""

    def __init__(self, file: Path, model: Any) -> None:
        self.file, self.model = file, model
        self.mujoco = import_mujoco()
        self.data = self.mujoco.MjData(model)
        self.data.qpos[:] = 0.0
        self.mujoco.mj_kinematics(model, self.data)
        self.mujoco.mj_camlight(model, self.data)
        tool_body, self.tcp = self._tcp()
        self.joints = self._chain(tool_body)
        self.fingers = self._fingers()
        self.frames = [np.eye(4), *map(self._joint_frame, self.joints)]
        self.owners = self._owners()

    def embodiment(self) -> UserEmbodiment:
        last = invert_pose(self.frames[-1])
        behind = np.eye(4)
        behind[2, 3] = -DRAWN_LENGTH
        return UserEmbodiment(
            name=self.file.stem,
            description=f"Robot of the file {self.file.name}",
            sources=(
                f"{self.file.name}: kinematics, masses, position and torque limits",
                "Chosen without a source: acceleration limits; where the file is silent, speeds and servos",
            ),
            joints=tuple(self._joint(number) for number in range(len(self.joints))),
            flange=_pose(last @ self.tcp @ behind),
            tcp=_pose(last @ self.tcp),
            home=self._home(),
            gripper=self._gripper(),
            cameras=self._cameras(),
            shell=shell_of(self.model, self.data, self._homes(), self.file.stem),
        )

    def _tcp(self) -> tuple[int, Array]:
        """Returns the body that carries the tool, and the tool's pose."""
        model, data = self.model, self.data
        sites = [model.site(index).name for index in range(model.nsite)]
        bodies = [model.body(index).name for index in range(model.nbody)]
        if "tcp" in sites:
            site = model.site("tcp").id
            pose = pose_matrix(data.site_xpos[site], data.site_xmat[site].reshape(3, 3))
            return int(model.site_bodyid[site]), pose
        if "tcp" in bodies:
            body = model.body("tcp").id
            return body, _body_pose(data, body)
        kind, names = ("link", bodies) if self.file.suffix == ".urdf" else ("site", sites)
        options = ", ".join(nearest_names("tcp", filter(None, names))) or "none"
        raise self._refusal(
            f"has no {kind} 'tcp' (it has: {options}). Add one between the finger tips, z out of the tool"
        )

    def _chain(self, body: int) -> list[int]:
        model = self.model
        joints: list[int] = []
        while body:
            first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
            joints += reversed(range(first, first + count))
            body = int(model.body_parentid[body])
        for joint in joints:
            if model.jnt_type[joint] != self.mujoco.mjtJoint.mjJNT_HINGE:
                name = model.joint(joint).name
                raise self._refusal(
                    f"moves its tcp by the joint '{name}', which is no hinge. Use hinges only"
                )
        if not joints:
            raise self._refusal("has no joint between its base and 'tcp'. Put tcp at the end of the arm")
        return joints[::-1]

    def _fingers(self) -> list[int]:
        model = self.model
        others = [joint for joint in range(model.njnt) if joint not in self.joints]
        names = [model.joint(joint).name for joint in others]
        slides = all(model.jnt_type[joint] == self.mujoco.mjtJoint.mjJNT_SLIDE for joint in others)
        if others and not (slides and sorted(names) == list(FINGERS)):
            raise self._refusal(
                f"has the joints {', '.join(names)} beside the arm's {len(self.joints)}; all that is "
                "known there is the slides finger_left and finger_right. Rename or remove them"
            )
        return [model.joint(name).id for name in FINGERS] if others else []

    def _owners(self) -> list[int | str]:
        """Returns what moves each body: the number of its link (0: base), or the name of its finger."""
        owners: list[int | str] = [0]
        for body in range(1, self.model.nbody):
            owner = owners[int(self.model.body_parentid[body])]
            if self.model.body_jntnum[body]:
                joint = int(self.model.body_jntadr[body]) + int(self.model.body_jntnum[body]) - 1
                named = joint in self.fingers
                owner = self.model.joint(joint).name if named else 1 + self.joints.index(joint)
            owners.append(owner)
        return owners

    def _joint_frame(self, joint: int) -> Array:
        """The link's frame sits at the joint and is turned as the body."""
        body = int(self.model.jnt_bodyid[joint])
        return pose_matrix(self.data.xanchor[joint], self.data.xmat[body].reshape(3, 3))

    def _joint(self, number: int) -> Joint:
        model, joint = self.model, self.joints[number]
        name = model.joint(joint).name or f"joint{number + 1}"
        if not model.jnt_limited[joint]:
            raise self._refusal(
                f"gives its joint '{name}' no limits. Add range (MJCF), or lower and upper (URDF)"
            )
        frame = self.frames[number + 1]
        place = _pose(invert_pose(self.frames[number]) @ frame)
        effort = self._effort(joint, name)
        stiffness, damping = self._servo(joint, effort)
        mass, center, inertia = self._inertia(self._link_bodies(number + 1), frame)
        axis = frame[:3, :3].T @ self.data.xaxis[joint]
        return Joint(
            name=name,
            position=place.position,
            quaternion=place.quaternion,
            axis=_floats(axis / np.linalg.norm(axis)),
            position_limits=_floats(model.jnt_range[joint]),
            velocity_limit=self._speeds().get(name, SPEED),
            acceleration_limit=ACCELERATION,
            effort_limit=effort,
            stiffness=stiffness,
            damping=damping,
            mass=mass,
            center_of_mass=_floats(center),
            inertia=_floats(inertia),
            capsules=(),
        )

    def _link_bodies(self, link: int) -> list[int]:
        """Returns the bodies of a link, without the hand that carries fingers: that is the gripper's."""
        return [body for body, owner in enumerate(self.owners) if owner == link and body not in self._hand()]

    def _hand(self) -> list[int]:
        parents = {int(self.model.body_parentid[self.model.jnt_bodyid[joint]]) for joint in self.fingers}
        arm = int(self.model.jnt_bodyid[self.joints[-1]])
        return [body for body in parents if body != arm]

    def _effort(self, joint: int, name: str) -> float:
        model = self.model
        if model.jnt_actfrclimited[joint]:
            return float(model.jnt_actfrcrange[joint, 1])
        for servo in self._actuators(joint):
            if model.actuator_forcelimited[servo]:
                return float(model.actuator_forcerange[servo, 1])
        raise self._refusal(
            f"does not limit the force of its joint '{name}'. Add actuatorfrcrange (MJCF) or effort (URDF)"
        )

    def _servo(self, joint: int, effort: float) -> tuple[float, float]:
        """Returns stiffness and damping: those of the file's position servo, else ones like our own arms'."""
        for servo in self._actuators(joint):
            stiffness = float(self.model.actuator_gainprm[servo, 0])
            bias, damping = self.model.actuator_biasprm[servo, 1:3].tolist()
            if stiffness == -bias > 0 > damping:
                return stiffness, -damping
        return STIFFNESS * effort, DAMPING * STIFFNESS * effort

    def _actuators(self, joint: int) -> list[int]:
        model = self.model
        kind = self.mujoco.mjtTrn.mjTRN_JOINT
        on_joint = (model.actuator_trntype == kind) & (model.actuator_trnid[:, 0] == joint)
        return np.flatnonzero(on_joint).tolist()

    def _speeds(self) -> dict[str, float]:
        """Returns the speed limits that a URDF gives, by joint; MuJoCo forgets them."""
        if self.file.suffix != ".urdf":
            return {}
        joints = ElementTree.parse(self.file).getroot().iter("joint")
        limits = {joint.get("name", ""): joint.find("limit") for joint in joints}
        return {
            name: float(limit.get("velocity", 0.0)) for name, limit in limits.items() if limit is not None
        }

    def _inertia(self, bodies: Sequence[int], frame: Array) -> tuple[float, Array, Array]:
        """Returns mass, center and moments about it along the frame's axes, of bodies that move as one."""
        model, data = self.model, self.data
        masses, centers = model.body_mass[bodies], data.xipos[bodies]
        mass = float(masses.sum())
        center = masses @ centers / max(mass, np.finfo(float).tiny)
        total = np.zeros((3, 3))
        for body, own, place in zip(bodies, masses, centers - center, strict=True):
            axes = frame[:3, :3].T @ data.ximat[body].reshape(3, 3)
            arm = frame[:3, :3].T @ place
            total += axes * model.body_inertia[body] @ axes.T + own * (
                arm @ arm * np.eye(3) - np.outer(arm, arm)
            )
        return mass, (invert_pose(frame) @ np.append(center, 1.0))[:3], np.diag(total)

    def _home(self) -> tuple[float, ...]:
        """Returns the keyframe ``home``, else the first one, else zero as far as the limits allow."""
        model = self.model
        names = [model.key(index).name for index in range(model.nkey)]
        if names:
            key = model.key_qpos[names.index("home") if "home" in names else 0]
            return _floats(key[model.jnt_qposadr[self.joints]])
        return _floats(np.clip(0.0, *model.jnt_range[self.joints].T))

    def _gripper(self) -> Gripper | None:
        if not self.fingers:
            return None
        model = self.model
        for name, joint, sign in zip(FINGERS, self.fingers, (1.0, -1.0), strict=True):
            straight = sign * (self.tcp[:3, 1] @ self.data.xaxis[joint]) > STRAIGHT
            if not (straight and model.jnt_limited[joint] and model.jnt_range[joint, 0] == 0.0):
                axis = "y" if sign > 0 else "-y"
                raise self._refusal(
                    f"has the joint '{name}', which does not open along {axis} of the tcp "
                    "from 0 (closed) up. Turn its axis, or the tcp, and give it a range that begins at 0"
                )
        joint, name = self.fingers[0], FINGERS[0]
        moved = [body for body, owner in enumerate(self.owners) if owner in FINGERS] + self._hand()
        return Gripper(
            min_width=0.0,
            max_width=2.0 * float(model.jnt_range[self.fingers, 1].min()),
            speed=2.0 * self._speeds().get(name, FINGER_SPEED),
            force=self._effort(joint, name),
            mass=float(model.body_mass[moved].sum()),
        )

    def _cameras(self) -> tuple[CameraMount, ...]:
        model = self.model
        names = [model.camera(index).name for index in range(model.ncam)]
        if "camera1" not in names:
            return ()
        camera = names.index("camera1")
        if self.owners[int(model.cam_bodyid[camera])] != len(self.joints):
            raise self._refusal("has its camera 'camera1' before the last joint. Fix it to the tool")
        pose = _pose(invert_pose(self.tcp) @ camera_pose(self.data, camera))
        field = float(np.radians(model.cam_fovy[camera]))
        return (CameraMount("camera1_rgb", "tcp", pose, IMAGE_SIZE, field),)

    def _homes(self) -> list[tuple[str, Array]]:
        """Returns for each body the name of ours that takes its shapes, and the frame that they count in."""
        homes: list[tuple[str, Array]] = []
        for owner in self.owners:
            if isinstance(owner, str):
                homes.append((owner, self.tcp))
            else:
                homes.append((f"link{owner}" if owner else "base", self.frames[owner]))
        return homes

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError(f"The robot file '{self.file}' {reason}.")


def _body_pose(data: Any, body: int) -> Array:
    return pose_matrix(data.xpos[body], data.xmat[body].reshape(3, 3))


def _pose(matrix: Array) -> Pose:
    return Pose(_floats(matrix[:3, 3]), _floats(matrix_to_quaternion(matrix[:3, :3])))


def _floats(values: Any) -> Any:
    return tuple(map(float, values))
