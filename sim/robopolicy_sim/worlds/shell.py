"""The shapes of a user's robot, taken out of its compiled model and put onto the links of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import (
    Array,
    invert_pose,
    matrix_to_quaternion,
    pose_matrix,
    quaternion_to_matrix,
)
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.mjcf import Element, add, section

HIDDEN = 4  # geom group that nobody draws
SHOWN_GROUPS = 3  # of geoms in users' files; by custom, those of higher ones are there to collide only


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        pose: in the frame of its link ``[4, 4]``; for fingers in that of the tool center point.
        attributes: of the MJCF geom, without its place.
    """

    pose: Array
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class Shell:
    """All shapes of a robot.

    Attributes:
        shapes: by the name of the body of ours that takes them.
        meshes: Wavefront OBJ files by name.
    """

    shapes: Mapping[str, Sequence[Shape]]
    meshes: Mapping[str, bytes]

    def put_onto(self, robot: Element) -> None:
        """Replaces what ``add_robot`` drew. Its masses stay, unseen.

        Args:
            robot: the ``mujoco`` element with one robot, before its names get a prefix.
        """
        for name in self.meshes:
            add(section(robot, "asset"), "mesh", name=name, file=name)
        for body in list(robot.iter("body")):
            for geom in body.findall("geom"):
                if float(geom.get("mass", "0")):
                    geom.attrib.update({"contype": "0", "conaffinity": "0", "group": str(HIDDEN)})
                else:
                    body.remove(geom)
            name = body.get("name", "")
            # What fingers look like is given in the frame of the tcp, and their bodies lie beside it.
            beside = body.get("pos", "0 0 0") if name.startswith("finger") else "0 0 0"
            for shape in self.shapes.get(name, ()):
                position = shape.pose[:3, 3] - np.array(beside.split(), dtype=np.float64)
                quaternion = matrix_to_quaternion(shape.pose[:3, :3])
                add(body, "geom", pos=position, quat=quaternion, mass=0, **shape.attributes)


def shell_of(model: Any, data: Any, homes: Sequence[tuple[str, Array]], stem: str) -> Shell:
    """Takes the shapes out of a model. Planes and height fields are no part of a robot.

    Args:
        model: the ``mujoco.MjModel``.
        data: its ``mujoco.MjData`` with up-to-date kinematics.
        homes: for each body of the model, which of ours takes its shapes, and the frame ``[4, 4]`` that they
            are given in.
        stem: begins the names of meshes.
    """
    mujoco = import_mujoco()
    kinds = mujoco.mjtGeom
    left_out = (kinds.mjGEOM_PLANE, kinds.mjGEOM_HFIELD)
    shapes: dict[str, list[Shape]] = {}
    meshes: dict[str, bytes] = {}
    looks = {int(body) for body, solid in zip(model.geom_bodyid, _solid(model), strict=True) if not solid}
    for geom in range(model.ngeom):
        kind = kinds(int(model.geom_type[geom]))
        if kind in left_out:
            continue
        body = int(model.geom_bodyid[geom])
        home, frame = homes[body]
        rotation = quaternion_to_matrix(model.geom_quat[geom])
        own = pose_matrix(data.xpos[body], data.xmat[body].reshape(3, 3))
        pose = invert_pose(frame) @ own @ pose_matrix(model.geom_pos[geom], rotation)
        seen = model.geom_group[geom] < SHOWN_GROUPS and not (_solid(model)[geom] and body in looks)
        attributes = _attributes(model, geom, seen)
        if kind == kinds.mjGEOM_MESH:
            mesh = int(model.geom_dataid[geom])
            name = f"{stem}_{mesh}.obj"
            meshes[name] = wavefront(model, mesh)
            attributes["mesh"] = name
        else:
            attributes["size"] = model.geom_size[geom]
        attributes["type"] = kind.name.removeprefix("mjGEOM_").lower()
        shapes.setdefault(home, []).append(Shape(pose, attributes))
    return Shell(shapes, meshes)


def _solid(model: Any) -> Array:
    return (model.geom_contype | model.geom_conaffinity) != 0


def _attributes(model: Any, geom: int, seen: bool) -> dict[str, object]:
    material = int(model.geom_matid[geom])
    color = model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]
    return {
        # A robot collides with everything but itself.
        "contype": 0,
        "conaffinity": int(_solid(model)[geom]),
        "condim": int(model.geom_condim[geom]),
        "friction": model.geom_friction[geom],
        "rgba": color,
        "group": 0 if seen else HIDDEN,
    }


def wavefront(model: Any, mesh: int) -> bytes:
    """Returns a mesh of a ``mujoco.MjModel`` as a Wavefront OBJ file, in its geoms' frame."""
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    face, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    corners = [f"v {x!r} {y!r} {z!r}" for x, y, z in model.mesh_vert[first : first + count].tolist()]
    triangles = [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in model.mesh_face[face : face + faces].tolist()]
    return "\n".join([*corners, *triangles, ""]).encode()
