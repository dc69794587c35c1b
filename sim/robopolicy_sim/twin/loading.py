"""Brings the bodies of a MuJoCo model into a simulation of PyBullet."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SimulationError
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.twin.urdf import (
    body_joint,
    is_free,
    link_names,
    mesh_file,
    tree_bodies,
    tree_roots,
    tree_urdf,
)
from robopolicy_sim.worlds.shell import wavefront

BASE = -1  # Bullet's number of a tree's first link
COUPLING_FORCE = 1e4  # [N] with which joints that move together are held together
COUPLING_CORRECTION = 0.8  # share of their error that is taken back in a step


@dataclass(frozen=True)
class Tree:
    """A tree of bodies in Bullet.

    Attributes:
        number: Bullet's.
        root: its first body in MuJoCo's model; 0 is what stands.
        free: MuJoCo's joint that leaves it free; None where it is held.
        links: Bullet's numbers of the links of each of its bodies, the body's own first.
        joints: Bullet's number of each of its joints that turn or slide.
        positions: where the joints' positions are in MuJoCo's state.
        speeds: where their speeds are.
    """

    number: int
    root: int
    free: int | None
    links: dict[int, list[int]]
    joints: dict[int, int]
    positions: NDArray[np.integer]
    speeds: NDArray[np.integer]


def load_trees(bullet: Any, model: Any) -> list[Tree]:
    """Loads everything of a model that collides or moves; where it is, is for others to say.

    Args:
        bullet: the client.
        model: the ``mujoco.MjModel``.

    Raises:
        SimulationError: the model has what PyBullet has not.
    """
    with tempfile.TemporaryDirectory() as folder:
        for mesh in range(model.nmesh):
            Path(folder, mesh_file(mesh)).write_bytes(wavefront(model, mesh))
        trees = [_load(bullet, model, root, Path(folder)) for root in (0, *tree_roots(model))]
    _couple(bullet, model, trees)
    _separate(bullet, model, trees)
    return trees


def _load(bullet: Any, model: Any, root: int, folder: Path) -> Tree:
    """Loads one tree. PyBullet reads files only, each name once; ``folder`` is where one may be written."""
    path = folder / f"{root}.urdf"
    path.write_text(tree_urdf(model, root), encoding="utf-8")
    free = body_joint(model, root) if is_free(model, root) else None
    flags = bullet.URDF_USE_INERTIA_FROM_FILE
    number = bullet.loadURDF(str(path), useFixedBase=free is None, flags=flags)
    infos = [bullet.getJointInfo(number, joint) for joint in range(bullet.getNumJoints(number))]
    found = {info[12].decode(): info[0] for info in infos} | {f"body{root}": BASE}
    links = {body: [found[name] for name in link_names(model, body)] for body in tree_bodies(model, root)}
    for body in links:
        for name, geoms in link_names(model, body).items():
            surface = _surface(model, geoms)
            bullet.changeDynamics(
                number, found[name], linearDamping=0, angularDamping=0, restitution=0, **surface
            )
    moved = {body: body_joint(model, body) for body in links if body != root}
    joints = {joint: links[body][0] for body, joint in moved.items() if joint is not None}
    for joint, link in joints.items():
        # Until a servo drives it, a joint is only braked as the model says; Bullet's own brake is taken off.
        dof = model.jnt_dofadr[joint]
        bullet.changeDynamics(number, link, jointDamping=float(model.dof_damping[dof]))
        brake = float(model.dof_frictionloss[dof])
        bullet.setJointMotorControl2(number, link, bullet.VELOCITY_CONTROL, targetVelocity=0, force=brake)
    moving = list(joints)
    return Tree(number, root, free, links, joints, model.jnt_qposadr[moving], model.jnt_dofadr[moving])


def _surface(model: Any, geoms: list[int]) -> dict[str, float]:
    """Returns the friction of shapes that have the same.

    Bullet multiplies that of two surfaces, MuJoCo takes the larger one: with roots, two equal surfaces come
    out right, and others between the two.
    """
    if not geoms:
        return {}
    slide, spin, _ = model.geom_friction[geoms[0]]
    turns = model.geom_condim[geoms[0]] > 3
    return {
        "lateralFriction": float(np.sqrt(slide)),
        "spinningFriction": float(spin / np.sqrt(slide)) if turns else 0.0,
    }


def _couple(bullet: Any, model: Any, trees: list[Tree]) -> None:
    """Lets joints move together that an equality of the model couples one to one."""
    coupling = import_mujoco().mjtEq.mjEQ_JOINT
    for equality in np.flatnonzero(model.eq_active0):
        first, second = int(model.eq_obj1id[equality]), int(model.eq_obj2id[equality])
        one_to_one = np.array_equal(model.eq_data[equality, :5], (0, 1, 0, 0, 0))
        tree = next((tree for tree in trees if {first, second} <= tree.joints.keys()), None)
        if model.eq_type[equality] != coupling or tree is None or not one_to_one:
            raise SimulationError(
                f"The equality '{model.eq(equality).name}' does not let two joints of one robot move alike, "
                "and task.simulator=pybullet knows only these. Take task.simulator=mujoco."
            )
        gear = bullet.createConstraint(
            tree.number,
            tree.joints[first],
            tree.number,
            tree.joints[second],
            bullet.JOINT_GEAR,
            jointAxis=(1, 0, 0),
            parentFramePosition=(0, 0, 0),
            childFramePosition=(0, 0, 0),
        )
        bullet.changeConstraint(gear, gearRatio=-1, erp=COUPLING_CORRECTION, maxForce=COUPLING_FORCE)


def _separate(bullet: Any, model: Any, trees: list[Tree]) -> None:
    """Lets bodies pass through each other that do so in the model."""
    owners = {body: tree for tree in trees for body in tree.links}
    for signature in model.exclude_signature:
        first, second = int(signature) >> 16, int(signature) & 0xFFFF
        one, other = owners[first], owners[second]
        for link, touched in product(one.links[first], other.links[second]):
            bullet.setCollisionFilterPair(one.number, other.number, link, touched, 0)
