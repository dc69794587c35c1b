"""Disturbances of a simulated episode: each does what its config says, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv, PickPlaceScene
from robopolicy_sim.worlds.configs import DisturbanceConfig
from robopolicy_sim.worlds.disturbances import FORCE_INTERVAL_S, Disturbances
from robopolicy_sim.worlds.world import World

SMALL = PickPlaceConfig(image_size=16)


def run(seed=0, steps=10, **disturbance):
    env = PickPlaceEnv(replace(SMALL, disturbance=DisturbanceConfig(**disturbance)))
    observation, _ = env.reset(seed=seed)
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
    action = np.concatenate([observation[key] for key in keys])
    action[2] -= 0.05
    seen = [observation] + [env.step(action)[0] for _ in range(steps)]
    return env, {key: np.stack([step[key] for step in seen]) for key in observation}


def forces(scale, seconds, seed=0):
    world = World(PickPlaceScene())
    disturbances = Disturbances(world, DisturbanceConfig(force=scale), 0.02, 0.1)
    disturbances.reset(np.random.default_rng(seed))
    found = []
    for _ in range(round(seconds / 0.02)):
        disturbances.push()
        found.append(world.data.xfrc_applied[world.robot.hand_body, :3].copy())
    return np.array(found)


def test_without_a_disturbance_nothing_is_drawn_and_nothing_changes():
    world = World(PickPlaceScene())
    disturbances = Disturbances(world, DisturbanceConfig(), 0.02, 0.1)
    random = np.random.default_rng(0)
    disturbances.reset(random)
    state = world.state()
    disturbances.push(), disturbances.shake()
    assert all(np.array_equal(disturbances.measured(state)[key], value) for key, value in state.items())
    assert not world.data.xfrc_applied.any()
    assert random.random() == np.random.default_rng(0).random()


def test_the_force_approaches_targets_within_its_scale_as_the_first_order_law_says():
    found = forces(8.0, 20.0)
    assert np.abs(found).max() < 8.0
    assert np.abs(found).max() > 1.0
    # Within one interval the way to the target shrinks by 0.98 every 20 ms: steps shrink by it, too.
    steps = np.diff(found[: round(FORCE_INTERVAL_S / 0.02)], axis=0)
    np.testing.assert_allclose(steps[1:], 0.98 * steps[:-1], rtol=1e-9)
    np.testing.assert_array_equal(forces(8.0, 1.0), forces(8.0, 1.0))
    assert not np.array_equal(forces(8.0, 1.0), forces(8.0, 1.0, seed=1))


def test_the_force_is_the_same_however_often_it_is_set():
    world = World(PickPlaceScene())
    slow, fast = (Disturbances(world, DisturbanceConfig(force=5.0), period, 0.1) for period in (0.02, 0.004))
    for disturbances, calls in ((slow, 30), (fast, 150)):
        disturbances.reset(np.random.default_rng(3))
        for _ in range(calls):
            disturbances.push()
    np.testing.assert_allclose(slow._force, fast._force, rtol=1e-9)


def test_a_force_moves_the_arm_and_its_episode_depends_on_the_seed_alone():
    _, calm = run()
    _, pushed = run(force=20.0)
    _, again = run(force=20.0)
    assert np.abs(pushed["robot0_eef_pos"] - calm["robot0_eef_pos"]).max() > 1e-4
    np.testing.assert_array_equal(pushed["robot0_eef_pos"], again["robot0_eef_pos"])


def test_a_delayed_action_has_the_effect_of_an_earlier_one():
    _, now = run(steps=6)
    env, late = run(steps=6, delay_steps=2)
    np.testing.assert_array_equal(
        late["robot0_eef_pos"], now["robot0_eef_pos"]
    )  # one action, again and again
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
    observation, _ = env.reset(seed=0)
    hold = np.concatenate([observation[key] for key in keys])
    down = hold - [0, 0, 0.05, 0, 0, 0, 0]
    heights = [env.step(action)[0]["robot0_eef_pos"][2] for action in (hold, down, down, down)]
    np.testing.assert_allclose(heights[:3], heights[0], atol=2e-3)
    assert heights[3] < heights[0] - 0.01


def test_measured_positions_drift_by_the_given_scale_and_slowly():
    world = World(PickPlaceScene())
    disturbances = Disturbances(world, DisturbanceConfig(drift=0.01), 0.02, 0.1)
    random, state = np.random.default_rng(0), world.state()
    errors = []
    for _ in range(40):
        disturbances.reset(random)
        errors.append(
            [disturbances.measured(state)["robot0_eef_pos"] - state["robot0_eef_pos"] for _ in range(100)]
        )
    errors = np.array(errors)
    np.testing.assert_allclose(errors.std(axis=(0, 1)), 0.01, rtol=0.25)
    assert np.abs(np.diff(errors, axis=1)).std() < 0.3 * errors.std()


def test_shaking_cameras_change_images_and_nothing_else():
    _, still = run(steps=3)
    _, shaken = run(steps=3, camera_jitter=0.02)
    np.testing.assert_array_equal(shaken["robot0_eef_pos"], still["robot0_eef_pos"])
    for camera in ("camera0_rgb", "camera1_rgb"):
        assert not np.array_equal(shaken[camera], still[camera])


@pytest.mark.parametrize("name", ["force", "drift", "delay_steps", "camera_jitter"])
def test_a_negative_scale_is_refused(name):
    with pytest.raises(ConfigError, match=rf"disturbance\.{name} is -1; give 0"):
        PickPlaceEnv(replace(SMALL, disturbance=DisturbanceConfig(**{name: -1})))
