"""Peeling and wiping: the force is true, work needs it, surfaces move as set, states can be mirrored."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import matrix_to_quaternion
from robopolicy_datasets.registry import tasks
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks.configs import SurfaceConfig
from robopolicy_sim.tasks.peel import HALF_LENGTH, RADIUS, PeelScene
from robopolicy_sim.tasks.surface import SHIFT_AFTER, SOLE_BELOW, SPRING, SPRING_TRAVEL
from robopolicy_sim.tasks.wipe import WipeEnv, WipeScene
from robopolicy_sim.worlds.world import World

BOTH = ("peel", "wipe")


def contact_force(world, first, second):
    """Force [3] of one body on another, summed over their contacts in the last step."""
    mujoco, model, data = import_mujoco(), world.model, world.data
    total = np.zeros(3)
    for index in range(data.ncon):
        contact, wrench = data.contact[index], np.zeros(6)
        bodies = [model.body(model.geom_bodyid[geom]).name for geom in contact.geom]
        if set(bodies) == {first, second}:
            mujoco.mj_contactForce(model, data, index, wrench)
            total += (1 if bodies[0] == first else -1) * contact.frame.reshape(3, 3).T @ wrench[:3]
    return total


@pytest.mark.parametrize("task", BOTH)
def test_the_force_is_that_of_the_contact(task, make_env, make_expert, go_on):
    env = make_env(task)
    env.reset(seed=0)
    scene, world = env.scene, env.world
    go_on(env, make_expert(env), lambda: scene.touching)
    told, felt = [], []
    for _ in range(250):  # the arm holds still for a second
        world.step()
        told.append(scene.force)
        normal = scene.sole_pose[:3, 2]
        felt.append(-contact_force(world, "sole", "surface") @ normal)
    assert np.mean(told[125:]) > 2.0
    np.testing.assert_allclose(np.mean(told[125:]), np.mean(felt[125:]), rtol=0.05)


@pytest.mark.parametrize("task", BOTH)
def test_a_mirrored_state_says_the_same_and_goes_on_the_same(task, make_env, make_expert, go_on):
    env = make_env(task)
    env.reset(seed=1)
    go_on(env, make_expert(env), lambda: env.scene.done.mean() > 0.4)
    scene_class = type(env.scene)
    mirror = World(scene_class(SurfaceConfig()), ["ur5e"])
    mirror.set_physics_state(env.world.get_physics_state())
    for _ in range(2):
        np.testing.assert_array_equal(mirror.scene.done, env.scene.done)
        assert mirror.scene.force == env.scene.force
        assert mirror.progress() == env.world.progress()
        for world in (env.world, mirror):
            for _ in range(5):
                world.step(5)
    np.testing.assert_array_equal(mirror.get_physics_state(), env.world.get_physics_state())


def press(world, mark, depth):
    """Puts the tool on a mark, its spring pressed together by ``depth`` [m]."""
    scene = world.scene
    frame = scene.surface_pose @ scene.frame_at(*scene.mark_places[mark])
    place = frame[:3, 3] + (SOLE_BELOW - depth) * frame[:3, 2]
    tool, spring = (int(world.model.joint(name).qposadr[0]) for name in ("tool", "spring"))
    world.data.qpos[tool : tool + 7] = (*place, *matrix_to_quaternion(frame[:3, :3]))
    world.data.qpos[spring] = depth
    world.set_physics_state(world.get_physics_state())


@pytest.mark.parametrize("scene_class", [PeelScene, WipeScene])
def test_only_the_right_force_does_the_work(scene_class):
    world = World(scene_class(SurfaceConfig()))
    scene = world.scene

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, len(scene.mark_places) - 1), st.floats(0.0, SPRING_TRAVEL), st.integers(0, 99))
    def check(mark, depth, seed):
        world.reset(np.random.default_rng(seed))
        assert not scene.done.any()
        press(world, mark, depth)
        lowest, highest = scene.force_band
        assert scene.force == pytest.approx(SPRING * depth)
        scene.advance(0.02)
        assert scene.done[mark] == (lowest <= scene.force <= highest)
        scene.advance(0.02)
        assert scene.done[mark] == (lowest <= scene.force <= highest)  # what is done stays done

    check()


@given(st.floats(-0.9, 0.9))
def test_the_cucumbers_frames_lie_on_it(share):
    scene = PeelScene(SurfaceConfig())
    frame, step = scene.frame_at(share * HALF_LENGTH, 0.0), 1e-6
    x, _, z = frame[:3, 3] + [0.0, 0.0, RADIUS]
    assert (x / HALF_LENGTH) ** 2 + (z / RADIUS) ** 2 == pytest.approx(1.0)
    tangent = scene.frame_at(share * HALF_LENGTH + step, 0.0)[:3, 3] - frame[:3, 3]
    assert abs(tangent @ frame[:3, 2]) < 1e-4 * step
    np.testing.assert_allclose(frame[:3, :3] @ frame[:3, :3].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("task", BOTH)
def test_the_surface_moves_after_contact_by_what_was_set(task):
    config = replace(tasks.config_class(task)(image_size=8), surface=SurfaceConfig(shift=0.015))
    world = tasks.build(task, config).world
    scene = world.scene
    world.reset(np.random.default_rng(0))
    start = scene.surface_pose
    world.step(100)
    np.testing.assert_array_equal(scene.surface_pose, start)
    marks = np.flatnonzero(np.arange(len(scene.mark_places)) < SHIFT_AFTER * len(scene.mark_places) + 1)
    for mark in marks:
        press(world, mark, scene.wanted_force / SPRING)
        scene.advance(0.0)
    moved = []
    for _ in range(55):  # 1.1 s
        scene.advance(0.02)
        moved.append(np.linalg.norm(scene.surface_pose[:3, 3] - start[:3, 3]))
    np.testing.assert_allclose(np.diff(moved[:49]), 0.015 * 0.02, rtol=1e-6)
    assert moved[-1] == pytest.approx(0.015)
    np.testing.assert_array_equal(scene.surface_pose[:3, :3], start[:3, :3])
    assert np.count_nonzero(scene.done) >= len(marks)  # the marks have moved along


def test_a_plan_made_before_the_move_loses_the_force(make_expert, go_on):
    """What the perturbation is for: actions that fit the surface at rest do not fit the moved one."""
    errors = {}
    for shift in (0.0, 0.015):
        errors[shift] = []
        for seed in range(3):
            still = WipeEnv(tasks.config_class("wipe")(image_size=8))
            still.reset(seed=seed)
            expert, plan = make_expert(still, seed=seed), []
            over = False
            while not over:
                plan.append(expert.act())
                over = still.step(plan[-1])[2]
            config = replace(still.config, surface=SurfaceConfig(shift=shift))
            moving = WipeEnv(config)
            moving.reset(seed=seed)
            for action in plan:
                over = moving.step(action)[2]
                if moving.scene.done.mean() > SHIFT_AFTER:
                    errors[shift].append(abs(moving.scene.force - moving.scene.wanted_force))
                if over:
                    break
    assert np.mean(errors[0.015]) > 1.5 * np.mean(errors[0.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tilt": 0.5}, r"task\.surface\.tilt is 0\.5; give at most 0\.3 rad"),
        ({"shift": -0.01}, r"task\.surface\.shift is -0\.01"),
        ({"shift_seconds": 0.0}, r"task\.surface\.shift_seconds is 0\.0; give more than 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        WipeScene(SurfaceConfig(**changes))
