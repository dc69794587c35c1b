"""What the sensors say against known loads: weights, squeezing, pushes and twists."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from pad_world import PadWorld

from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.touch.loads import LoadProbe

GRAVITY = 9.81


def taxels(world):
    return world.pad.measure()["robot0_tactile0_taxels"]


def markers(world):
    rows, columns = world.embodiment.touch[0].markers
    return world.pad.measure()["robot0_tactile0_markers"].reshape(rows, columns, 2)


@pytest.mark.parametrize("arm", ["ur5e", "fr3"])
@pytest.mark.parametrize(
    ("kind", "size", "height"),
    [
        ("box", (0.006, 0.006, 0.006), 0.006),
        ("sphere", (0.008,), 0.008),
        ("cylinder", (0.005, 0.006), 0.006),
    ],
)
@pytest.mark.parametrize("mass", [0.02, 0.3])
def test_a_resting_mass_weighs_what_it_weighs(arm, kind, size, height, mass):
    world = PadWorld(kind, size, mass, height, arm=arm)
    assert taxels(world).shape == (7, 9)
    world.press((0, 0, 0), seconds=1.0)
    assert taxels(world).sum() == pytest.approx(mass * GRAVITY, rel=0.05)
    assert (taxels(world) >= 0).all()


@pytest.mark.parametrize("arm", ["ur5e", "fr3"])
def test_a_squeezed_object_is_pressed_with_the_force_of_the_gripper(arm):
    world = PadWorld(size=(0.012, 0.012, 0.02), height=0.02, arm=arm)
    world.model.opt.gravity[:] = 0
    world.data.ctrl[:] = 0
    world.press((0, 0, 0), seconds=1.5)
    force = load_embodiment(arm).parallel_gripper.force
    for pad in world.embodiment.touch:
        probe = LoadProbe(world.model, world.data, pad)
        assert probe.measure().pressing.sum() == pytest.approx(force, rel=0.05)


def test_nothing_is_felt_where_nothing_touches():
    world = PadWorld(height=0.03)
    world.model.opt.gravity[:] = 0
    world.press((0, 0, 0), seconds=0.01)
    assert not taxels(world).any()
    assert not markers(world).any()


def test_what_touches_beside_the_inner_face_is_not_felt():
    """On the outer side, and on the tip: the finger is loaded, the pad is not."""
    world = PadWorld(mass=0.001)
    beyond = world.data.site("pad_left").xpos + world.pad_axes @ (0.0093 + 0.0007 + 0.0059, 0, -0.006)
    below = world.data.site("pad_left").xpos + world.pad_axes @ (0, 0, -0.012 - 0.0059)
    for place in (beyond, below):
        world.data.qpos[2:5] = place
        mujoco.mj_forward(world.model, world.data)
        assert world.data.ncon, "the object does not touch the finger, so this tests nothing"
        assert not taxels(world).any()


def angle(vector, other):
    cosine = vector @ other / np.linalg.norm(vector) / np.linalg.norm(other)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_the_shear_of_random_pushes_has_their_sign_and_direction():
    world, random = PadWorld(size=(0.006, 0.006, 0.003), height=0.003), np.random.default_rng(3)
    probe = LoadProbe(world.model, world.data, world.embodiment.touch[0])
    for _ in range(100):
        pressing, share, way = random.uniform(2, 8), random.uniform(0.2, 0.8), random.uniform(0, 2 * np.pi)
        push = share * pressing * np.array([np.cos(way), np.sin(way)])
        turn = random.uniform(0, np.pi / 2)
        world.lay(0.003, (np.cos(turn / 2), 0, 0, np.sin(turn / 2)))
        world.press((0, 0, -pressing), seconds=0.1)
        at_rest = markers(world)
        tilting = (0.003 * push[1], -0.003 * push[0], 0)  # as if it were pushed where it touches
        world.press((*push, -pressing), tilting, seconds=0.2)
        forces = probe.measure().forces.sum((1, 2))
        assert angle(forces[:2], push) < 1
        assert np.linalg.norm(forces[:2]) == pytest.approx(np.linalg.norm(push), rel=0.05)
        assert -forces[2] == pytest.approx(pressing + 0.2 * GRAVITY, rel=0.05)
        moved = markers(world) - at_rest
        assert angle(moved.mean((0, 1)), push) < 5
        assert (moved[2:5, 3:6] @ push > 0).all()  # each one under the object


@pytest.mark.parametrize("torque", [-0.008, -0.003, 0.003, 0.008])
@pytest.mark.parametrize("kind", ["box", "sphere"])
def test_a_twist_turns_the_markers_its_way(torque, kind):
    """With a flat face by forces around the middle, with a sphere by the torque of one contact point."""
    size, height = ((0.006, 0.006, 0.003), 0.003) if kind == "box" else ((0.006,), 0.006)
    world = PadWorld(kind, size, height=height)
    if kind == "sphere":
        world.model.geom_friction[:, 1] = 0.004  # [m] of the torsional friction
    world.press((0, 0, -8), seconds=0.1)
    before = markers(world)
    contacts = LoadProbe(world.model, world.data, world.embodiment.touch[0])
    world.press((0, 0, -8), (0, 0, torque), seconds=0.2)
    assert contacts.contacts().moment == pytest.approx(torque, rel=0.05)
    turned = markers(world) - before
    x, y = (np.arange(9) - 4), (np.arange(7) - 3)[:, None]
    curl = x * turned[..., 1] - y * turned[..., 0]
    assert np.sign(curl[2:5, 3:6].sum()) == np.sign(torque)
    assert np.sign(curl.sum()) == np.sign(torque)
    assert np.abs(turned.mean((0, 1))).max() < 0.2 * np.abs(turned).max()


def test_spreading_keeps_the_net_force_and_the_moment_about_the_normal():
    world, random = PadWorld(size=(0.012, 0.008, 0.004), height=0.004), np.random.default_rng(1)
    probe = LoadProbe(world.model, world.data, world.embodiment.touch[0])
    x, y = np.meshgrid(*(np.arange(n) - 0.5 * (n - 1) for n in (9, 7)))
    x, y = x * 0.0186 / 9, y * 0.0143 / 7
    for _ in range(20):
        world.press((*random.uniform(-2, 2, 2), -6), random.uniform(-0.004, 0.004, 3), seconds=0.05)
        contacts, loads = probe.contacts(), probe.measure().forces
        net = contacts.forces.sum(0)
        assert loads[:2].sum((1, 2)) == pytest.approx(net[:2], abs=1e-9)
        assert loads[2].sum() == pytest.approx(net[2], rel=3e-3)  # the object may tilt a little
        assert (x * loads[1] - y * loads[0]).sum() == pytest.approx(contacts.moment, abs=1e-9)


def test_pressing_drives_the_markers_apart():
    world = PadWorld("sphere", (0.008,), 0.02, 0.008)
    world.press((0, 0, -5))
    field = markers(world)
    x, y = np.meshgrid(np.arange(9) - 4, np.arange(7) - 3)
    outward = x * field[..., 0] + y * field[..., 1]
    assert (outward[(x != 0) | (y != 0)] > 0).all()
    assert np.abs(field[3, 4]).max() < 1e-6
