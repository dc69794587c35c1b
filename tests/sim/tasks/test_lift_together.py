"""Lifting together: two robots in one action, and what counts as lifted."""

import numpy as np

from robopolicy_sim.tasks.lift_together import LIFTED


def raise_things(env, tray_by, cup_by):
    data, model = env.world.data, env.world.model
    for name, height in (("tray", tray_by), ("cup", cup_by)):
        data.qpos[int(model.joint(name).qposadr[0]) + 2] += height
    env.world.set_physics_state(env.world.get_physics_state())


def test_both_robots_are_seen_and_commanded(make_env):
    env = make_env("lift_together")
    observation, _ = env.reset(seed=0)
    assert env.action_space.shape == (14,)
    assert {"camera0_rgb", "camera1_rgb", "camera2_rgb", "robot1_eef_pos"} <= set(observation)
    right, left = observation["robot0_eef_pos"], observation["robot1_eef_pos"]
    assert left[1] - right[1] > 0.3


def test_a_tray_must_be_up_with_the_cup_on_it(make_env):
    env = make_env("lift_together")
    env.reset(seed=0)
    assert not env.world.success()
    raise_things(env, LIFTED + 0.01, LIFTED + 0.01)
    assert env.world.success()
    raise_things(env, 0.0, 0.05)
    assert not env.world.success()
    env.reset(seed=0)
    raise_things(env, LIFTED - 0.01, LIFTED - 0.01)
    assert not env.world.success()


def test_a_leaning_or_moving_tray_is_not_lifted(make_env):
    env = make_env("lift_together")
    env.reset(seed=0)
    raise_things(env, LIFTED + 0.05, LIFTED + 0.05)
    world = env.world
    joint = world.model.joint("tray")
    start, velocity = int(joint.qposadr[0]), int(joint.dofadr[0])
    world.data.qvel[velocity + 2] = 0.3
    assert not world.success()
    world.data.qvel[velocity + 2] = 0.0
    assert world.success()
    lean = 0.2
    world.data.qpos[start + 3 : start + 7] = (np.cos(lean / 2), np.sin(lean / 2), 0.0, 0.0)
    world.set_physics_state(world.get_physics_state())
    assert not world.success()


def test_one_hand_cannot_do_it(make_env, make_expert):
    env = make_env("lift_together")
    env.reset(seed=2)
    expert, over = make_expert(env), False
    idle = np.concatenate([env.world.state()[f"robot1_{key}"] for key in ("eef_pos", "eef_rot_axis_angle")])
    while not over:
        action = expert.act()
        action[7:13] = idle
        *_, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    assert not info["success"]
