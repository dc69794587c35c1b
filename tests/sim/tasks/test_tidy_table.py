"""Tidying: stages follow from the state, each has a sentence, an episode goes through all of them."""

import itertools

import numpy as np
import pytest

from robopolicy_sim.tasks.tidy_table import CLOSED, OPEN, TidyTableScene


def put(env, number, position):
    """Puts a cube somewhere."""
    data, model = env.world.data, env.world.model
    start = int(model.joint(f"{('red', 'blue')[number]}_cube").qposadr[0])
    data.qpos[start : start + 7] = (*position, 1.0, 0.0, 0.0, 0.0)
    env.world.set_physics_state(env.world.get_physics_state())


def slide(env, opening):
    env.world.data.qpos[int(env.world.model.joint("drawer").qposadr[0])] = opening
    env.world.set_physics_state(env.world.get_physics_state())


def test_every_stage_has_a_sentence(make_env):
    env = make_env("tidy_table")
    env.reset(seed=0)
    assert len(TidyTableScene.stages) >= 4
    assert env.scene.stage == 0
    assert env.scene.stage_text == "open the drawer"
    slide(env, OPEN + 0.01)
    assert env.scene.stage_text == "put the red cube in the drawer"
    put(env, 0, env.scene.slot_position(0))
    assert env.scene.stage_text == "put the blue cube in the drawer"
    put(env, 1, env.scene.slot_position(1))
    assert env.scene.stage_text == "close the drawer"
    assert not env.world.success()
    for number in range(2):  # they go with the drawer
        put(env, number, np.add(env.scene.slot_position(number), (OPEN + 0.01, 0.0, 0.0)))
    slide(env, 0.5 * CLOSED)
    assert env.scene.stage_text == ""
    assert env.world.success()
    assert env.world.progress() == 1.0


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_cubes_count_in_any_order(make_env, first, second):
    env = make_env("tidy_table")
    env.reset(seed=1)
    slide(env, OPEN + 0.01)
    put(env, first, env.scene.slot_position(first))
    assert env.scene.stage == 1 + second


def test_a_held_cube_is_not_stored_yet(make_env):
    env = make_env("tidy_table")
    env.reset(seed=2)
    slide(env, OPEN + 0.01)
    slot = env.scene.slot_position(0)
    put(env, 0, slot)
    assert env.scene.stored(0)
    robot = env.world.robot
    fingers = [int(env.world.model.joint(f"finger_{side}").qposadr[0]) for side in ("left", "right")]
    pose = robot.tcp_pose
    pose[:3, 3] = slot
    joints = robot.joint_positions
    for _ in range(20):
        joints = env._trackers[0]._ik.solve(robot.in_base(pose)[None], joints[None])[0]
    env.world.data.qpos[: len(joints)] = joints
    env.world.data.qpos[fingers] = 0.015
    env.world.set_physics_state(env.world.get_physics_state())
    assert not env.scene.stored(0)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_episode_goes_through_all_stages_in_order(seed, make_env, make_expert):
    env = make_env("tidy_table")
    env.reset(seed=seed)
    expert, over, stages = make_expert(env), False, [env.scene.stage]
    while not over:
        *_, terminated, truncated, _ = env.step(expert.act())
        over = terminated or truncated
        stages.append(env.scene.stage)
    assert [stage for stage, _ in itertools.groupby(stages)] == [0, 1, 2, 3, 4]


def test_reset_places_the_cubes_apart_and_clear_of_the_drawer(make_env):
    env = make_env("tidy_table")
    for seed in range(50):
        env.world.reset(np.random.default_rng(seed))
        cubes = np.array([env.scene.cube_pose(number)[:3, 3] for number in range(2)])
        assert np.linalg.norm(cubes[0] - cubes[1]) > 0.25
        assert env.scene.opening == 0.0
        env.world.step(50)
        for number in range(2):  # nothing pushes them away
            np.testing.assert_allclose(env.scene.cube_pose(number)[:3, 3], cubes[number], atol=2e-3)
