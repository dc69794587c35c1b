"""The experts of peeling, wiping, lifting and tidying: they succeed, from bad states too, within limits."""

import itertools

import gymnasium
import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target, tasks
from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.tasks.manipulation import task_world

TASKS = ("peel", "wipe", "lift_together", "tidy_table")
BODIES = ("ur5e", "fr3", "flying_gripper")


@pytest.fixture
def speeds(monkeypatch):
    """Watches how much of their limits joints use, every 20 ms."""
    shares = []

    def watch(env):
        advance = env.scene.advance

        def watched(seconds):
            for robot in env.world.robots:
                lower, upper = robot.embodiment.position_limits.T
                past = np.maximum(lower - robot.joint_positions, robot.joint_positions - upper)
                shares.extend(np.abs(robot.joint_velocities) / robot.embodiment.velocity_limits)
                shares.extend(1.0 + past / (upper - lower))
            advance(seconds)

        monkeypatch.setattr(env.scene, "advance", watched)
        return shares

    return watch


@pytest.mark.parametrize(("task", "body"), list(itertools.product(TASKS, BODIES)))
def test_experts_succeed_and_keep_the_joints_limits(task, body, make_env, speeds, count):
    env = make_env(task, body)
    shares = speeds(env)
    expert = load_target(env.config.expert)
    episodes = count(2, 100)
    infos = [
        collect_episode(env, expert, ScriptedConfig(), np.random.default_rng(seed))[1]
        for seed in range(episodes)
    ]
    assert np.mean([info.success for info in infos]) >= 0.95
    assert max(shares, default=0.0) <= 1.01


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_expert_takes_over_from_whatever_state_it_finds(task, seed, make_env, make_expert, go_on):
    env = make_env(task)
    observation, _ = env.reset(seed=seed)
    random = np.random.default_rng(seed)
    other = make_expert(env, seed=seed)
    for _ in range(random.integers(5, 40)):  # somebody else begins, then lets the tool wander
        env.step(other.act())
    keys = [key for key in observation if key.endswith(("eef_pos", "eef_rot_axis_angle", "gripper_width"))]
    wander = 0.01 if task == "lift_together" else 0.03  # [m]; a cup that has fallen would stay down
    for _ in range(5):
        action = np.concatenate([env.world.state()[key] for key in keys]).reshape(-1, 7)
        action[:, :3] += random.uniform(-wander, [wander, wander, 2 * wander])  # two hands together
        action[:, 6] = [robot.gripper_target for robot in env.world.robots]
        env.step(action.ravel())
    assert go_on(env, make_expert(env, seed=seed + 1))[-1]["success"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [3, 4])
def test_mishaps_are_made_good(task, seed, make_env, make_expert, go_on):
    env = make_env(task)
    env.reset(seed=seed)
    expert = make_expert(env, ScriptedConfig(disturbance=1.0, recovery_rate=1.0), seed)
    assert expert.mishap != ""
    infos = go_on(env, expert)
    assert expert.mishap == ""  # it has happened
    assert infos[-1]["success"]


@pytest.mark.parametrize("task", TASKS)
def test_progress_rises_without_jumps(task, make_env, make_expert, go_on):
    env = make_env(task)
    _, info = env.reset(seed=1)
    progress = [info["progress"], *(info["progress"] for info in go_on(env, make_expert(env)))]
    assert 0.0 <= progress[0] < 0.4
    assert progress[-1] == 1.0
    assert np.max(np.abs(np.diff(progress))) < 0.15


@pytest.mark.parametrize("task", TASKS)
def test_a_body_that_cannot_is_refused_with_the_reason(task):
    with pytest.raises(ConfigError, match=r"'so101' cannot do .*: its tool does not reach"):
        task_world(task, "so101")
    with pytest.raises(ConfigError, match="'quadrotor' has no gripper"):
        task_world(task, "quadrotor")


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_decided_by_its_seed(task, make_env):
    env = make_env(task)
    states = []
    for seed in (5, 5, 6):
        env.reset(seed=seed)
        states.append(env.world.get_physics_state())
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


def test_the_tasks_are_registered():
    assert set(TASKS) <= set(tasks.names())


@pytest.mark.parametrize("name", ["Peel", "Wipe", "LiftTogether", "TidyTable"])
def test_gymnasium_makes_them(name):
    made = gymnasium.make(f"robopolicy_sim.tasks.gymnasium_ids:robopolicy/{name}-v0")
    assert type(made.unwrapped).__name__ == f"{name}Env"
    made.close()
