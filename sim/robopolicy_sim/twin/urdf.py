"""URDF text of what MuJoCo compiled: one document for each tree of bodies, with everything that collides.

MuJoCo's numbers are kept (masses, inertia, joints, limits, shapes); what only looks is left out.
"""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from robopolicy_datasets.errors import SimulationError
from robopolicy_datasets.geometry import Array
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.mjcf import Element, add

_UNLIMITED = 1e6  # [rad/s, N m] for what MuJoCo does not limit


def tree_roots(model: Any) -> list[int]:
    """Returns the bodies of a ``mujoco.MjModel`` that hang on the world itself, each with all below it."""
    return [body for body in range(1, model.nbody) if model.body_parentid[body] == 0]


def tree_bodies(model: Any, root: int) -> list[int]:
    """Returns the bodies of a tree, parents before children; the world (0) is a tree of one."""
    if root == 0:
        return [0]
    return [body for body in range(1, model.nbody) if model.body_rootid[body] == root]


def tree_urdf(model: Any, root: int) -> str:
    """Returns the URDF text of a tree of bodies.

    Links and moving joints are called ``body<index>`` and ``joint<index>``, by their indices in the model.
    PyBullet gives a link one surface: of a body with several, the others are on links without mass that are
    fixed to it, see ``link_names``.

    Args:
        model: a ``mujoco.MjModel``.
        root: the body at the top of the tree; 0 for what is fixed to the world. A free joint there is not
            part of the text.

    Raises:
        SimulationError: URDF or PyBullet has no such joint or shape.
    """
    robot = ElementTree.Element("robot", name=model.body(root).name or f"body{root}")
    for body in tree_bodies(model, root):
        _add_link(robot, model, body)
        if body != root:
            _add_joint(robot, model, body)
    return ElementTree.tostring(robot, encoding="unicode")


def body_joint(model: Any, body: int) -> int | None:
    """Returns the index of the joint that moves a body; None where it is fixed to its parent.

    Raises:
        SimulationError: there are several, or a ball.
    """
    count = int(model.body_jntnum[body])
    joint = int(model.body_jntadr[body])
    ball = count == 1 and model.jnt_type[joint] == import_mujoco().mjtJoint.mjJNT_BALL
    if count > 1 or ball:
        raise SimulationError(
            f"The body '{model.body(body).name}' has {'a ball joint' if ball else f'{count} joints'}; "
            "task.simulator=pybullet knows one hinge, slide or free joint for each body. "
            "Put bodies between them, or take task.simulator=mujoco."
        )
    return joint if count else None


def is_free(model: Any, body: int) -> bool:
    """Returns whether nothing holds a body."""
    joint = body_joint(model, body)
    return joint is not None and model.jnt_type[joint] == import_mujoco().mjtJoint.mjJNT_FREE


def mesh_file(mesh: int) -> str:
    """Returns the name under which the text looks for a mesh of the model, beside its own file."""
    return f"mesh{mesh}.obj"


def link_names(model: Any, body: int) -> dict[str, list[int]]:
    """Returns the links of a body, its own first, with the shapes of each that collide.

    Shapes on one link have equal friction.
    """
    first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
    surfaces: dict[tuple[float, ...], list[int]] = {}
    for geom in range(first, first + count):
        if model.geom_contype[geom] or model.geom_conaffinity[geom]:
            surface = (*model.geom_friction[geom].tolist(), float(model.geom_condim[geom]))
            surfaces.setdefault(surface, []).append(geom)
    own, *others = [*surfaces.values()] or [[]]
    return {f"body{body}": own} | {f"body{body}_{number}": geoms for number, geoms in enumerate(others, 1)}


def _add_link(robot: Element, model: Any, body: int) -> None:
    own = f"body{body}"
    for name, geoms in link_names(model, body).items():
        link = add(robot, "link", name=name)
        inertial = add(link, "inertial")
        if name == own:
            _add_origin(inertial, model.body_ipos[body], model.body_iquat[body])
            _add_mass(inertial, float(model.body_mass[body]), model.body_inertia[body])
        else:
            _add_mass(inertial, 0.0, np.zeros(3))
            joint = add(robot, "joint", name=f"fixed_{name}", type="fixed")
            add(joint, "parent", link=own)
            add(joint, "child", link=name)
        for geom in geoms:
            collision = add(link, "collision")
            _add_origin(collision, model.geom_pos[geom], model.geom_quat[geom])
            _add_shape(add(collision, "geometry"), model, geom)


def _add_mass(inertial: Element, mass: float, inertia: Array) -> None:
    add(inertial, "mass", value=mass)
    moments = dict(zip(("ixx", "iyy", "izz"), map(float, inertia), strict=True))
    add(inertial, "inertia", **moments, ixy=0.0, ixz=0.0, iyz=0.0)


def _add_joint(robot: Element, model: Any, body: int) -> None:
    joint = body_joint(model, body)
    if joint is None:
        element = add(robot, "joint", name=f"fixed{body}", type="fixed")
    else:
        if np.any(model.jnt_pos[joint]):
            raise SimulationError(
                f"The joint '{model.joint(joint).name}' is not at the origin of its body; "
                "task.simulator=pybullet needs it there. Place the body at the joint."
            )
        slides = model.jnt_type[joint] == import_mujoco().mjtJoint.mjJNT_SLIDE
        limited = bool(model.jnt_limited[joint])
        turning = "revolute" if limited else "continuous"
        element = add(robot, "joint", name=f"joint{joint}", type="prismatic" if slides else turning)
        low, high = model.jnt_range[joint] if limited else (-_UNLIMITED, _UNLIMITED)
        add(element, "axis", xyz=model.jnt_axis[joint])
        add(element, "limit", lower=float(low), upper=float(high), effort=_UNLIMITED, velocity=_UNLIMITED)
    add(element, "parent", link=f"body{model.body_parentid[body]}")
    add(element, "child", link=f"body{body}")
    _add_origin(element, model.body_pos[body], model.body_quat[body])


def _add_origin(element: Element, position: Array, quaternion: Array) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # at gimbal lock any of many answers is right
        angles = Rotation.from_quat(quaternion, scalar_first=True).as_euler("xyz")
    add(element, "origin", xyz=position, rpy=angles)


def _add_shape(geometry: Element, model: Any, geom: int) -> None:
    kinds = import_mujoco().mjtGeom
    kind, size = model.geom_type[geom], list(map(float, model.geom_size[geom]))
    if kind == kinds.mjGEOM_BOX:
        add(geometry, "box", size=[2 * half for half in size])
    elif kind == kinds.mjGEOM_SPHERE:
        add(geometry, "sphere", radius=size[0])
    elif kind == kinds.mjGEOM_CYLINDER:
        add(geometry, "cylinder", radius=size[0], length=2 * size[1])
    elif kind == kinds.mjGEOM_CAPSULE:
        add(geometry, "capsule", radius=size[0], length=2 * size[1])
    elif kind == kinds.mjGEOM_MESH:
        add(geometry, "mesh", filename=mesh_file(int(model.geom_dataid[geom])))
    else:
        name = kinds(kind).name.removeprefix("mjGEOM_").lower()
        raise SimulationError(
            f"A shape of the body '{model.body(int(model.geom_bodyid[geom])).name}' is of the kind '{name}'; "
            "task.simulator=pybullet knows box, sphere, cylinder, capsule and mesh. "
            "Take one of these, or task.simulator=mujoco."
        )
