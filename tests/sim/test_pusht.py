"""Push-T against the public environment and against the recorded human demonstrations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from robopolicy_datasets.errors import SimulationError, SpecError
from robopolicy_sim.tasks.configs import PushTImageConfig, PushTStateConfig
from robopolicy_sim.tasks.pusht_mirror import mirror

pytest.importorskip("gym_pusht", reason="the extra 'pusht' is not installed")
from robopolicy_sim.tasks.pusht import PushTEnv, make_spec

EPISODES = range(6)


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> Any:
    path = shared_data / "pusht_columbia" / "pusht_cchi_v7_replay.zarr"
    if not path.is_dir():
        pytest.skip(f"no Push-T demonstrations: {path} is missing (set ROBOPOLICY_SHARED_DATA)")
    return zarr.open_group(str(path), mode="r")


def episode_bounds(recording: Any) -> list[tuple[int, int]]:
    ends = np.asarray(recording["meta/episode_ends"])
    return list(zip(np.concatenate([[0], ends[:-1]]), ends, strict=True))


def flat_state(observation: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([observation[key] for key in ("agent_pos", "block_pos", "block_angle")])


def public_env(**options: Any) -> Any:
    PushTEnv(PushTStateConfig()).close()  # sets up the headless import
    from gym_pusht.envs.pusht import PushTEnv as PublicPushTEnv

    return PublicPushTEnv(**options)


def test_recorded_actions_replay_to_the_recorded_states(recording: Any) -> None:
    states, actions = np.asarray(recording["data/state"][:2000]), np.asarray(recording["data/action"][:2000])
    environment = PushTEnv(PushTStateConfig())
    agent_errors, block_errors, angle_errors = [], [], []
    for index in EPISODES:
        begin, end = episode_bounds(recording)[index]
        environment.reset(seed=0, options={"state": states[begin]})
        for row in range(begin, end - 1):
            observation = environment.step(actions[row])[0]
            difference = flat_state(observation) - states[row + 1]
            agent_errors.append(np.linalg.norm(difference[:2]))
            block_errors.append(np.linalg.norm(difference[2:4]))
            angle_errors.append(abs((difference[4] + np.pi) % (2 * np.pi) - np.pi))
    assert np.median(block_errors) < 1e-3
    assert np.median(agent_errors) < 1e-3
    assert np.median(angle_errors) < 1e-5


def test_images_look_like_the_recorded_ones(recording: Any) -> None:
    environment = PushTEnv(PushTImageConfig())
    for row in (0, 80, 150):
        state, image = np.asarray(recording["data/state"][row]), np.asarray(recording["data/img"][row])
        environment.reset(options={"state": state})
        environment.step(state[:2])  # an action marker, were there one, would show from here on
        observation, _ = environment.reset(options={"state": state})
        difference = np.abs(observation["camera0_rgb"].astype(np.float64) - image)
        # Only pixels on edges differ, by the other version of the drawing library.
        assert difference.mean() < 0.5
        assert (difference.max(axis=-1) > 8).mean() < 0.02


@pytest.mark.parametrize("seed", [0, 100_000])
def test_states_and_scores_are_those_of_the_public_environment(seed: int) -> None:
    public, ours = public_env(obs_type="state"), PushTEnv(PushTStateConfig())
    expected, _ = public.reset(seed=seed)
    observation, info = ours.reset(seed=seed)
    assert np.array_equal(flat_state(observation), expected.astype(np.float32))
    assert (info["success"], info["score"]) == (False, 0.0)
    generator, best = np.random.default_rng(seed), 0.0
    for _ in range(120):
        action = np.clip(expected[2:4] + generator.normal(size=2) * 60, 0, 512)
        expected, reward, *_, public_info = public.step(action)
        observation, progress, _, _, info = ours.step(action)
        best = max(best, reward)
        assert np.array_equal(flat_state(observation), expected.astype(np.float32))
        assert progress == pytest.approx(reward, abs=1e-12)
        assert info["coverage"] == pytest.approx(public_info["coverage"], abs=1e-12)
        assert info["score"] == pytest.approx(best, abs=1e-12)


def test_images_are_those_of_the_public_environment() -> None:
    public, ours = public_env(obs_type="pixels"), PushTEnv(PushTImageConfig())
    expected, _ = public.reset(seed=3)
    observation, _ = ours.reset(seed=3)
    for target in ([256, 256], [100, 400], [300, 250]):
        assert observation["camera0_rgb"].dtype == np.uint8
        assert np.array_equal(observation["camera0_rgb"], expected)
        expected, observation = public.step(np.array(target))[0], ours.step(target)[0]


def test_success_ends_the_episode_with_full_score() -> None:
    environment = PushTEnv(PushTStateConfig())
    environment.reset(options={"state": [50, 50, 256, 256, np.pi / 4]})
    _, reward, terminated, truncated, info = environment.step([50, 50])
    assert terminated
    assert not truncated
    assert info["success"]
    assert reward == info["score"] == 1.0
    assert info["coverage"] > 0.95


def test_episode_is_truncated_after_max_steps() -> None:
    environment = PushTEnv(PushTStateConfig(max_steps=3))
    environment.reset(seed=1)
    ends = [environment.step([256, 256])[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("config", [PushTStateConfig(), PushTImageConfig(), PushTImageConfig(image_size=64)])
def test_observations_fit_the_spec(config: Any) -> None:
    environment = PushTEnv(config)
    assert environment.data_spec == make_spec(image_size=getattr(config, "image_size", None))
    observation, _ = environment.reset(seed=0)
    observation_after = environment.step([100, 100])[0]
    for each in (observation, observation_after):
        assert list(each) == [feature.key for feature in environment.data_spec.observation]
        for feature in environment.data_spec.observation:
            assert each[feature.key].shape == feature.shape
            assert each[feature.key].dtype == np.dtype(feature.dtype)
        assert environment.observation_space.contains(each)
    assert environment.render().shape == (384, 384, 3)


def test_same_seed_and_actions_give_the_same_numbers() -> None:
    first, second = PushTEnv(PushTStateConfig()), PushTEnv(PushTStateConfig())
    first.reset(seed=9)
    first.step([200, 200])
    for environment in (first, second):
        environment.reset(seed=4)
    for action in np.random.default_rng(0).uniform(100, 400, (60, 2)):
        one, two = first.step(action), second.step(action)
        assert np.array_equal(flat_state(one[0]), flat_state(two[0]))
        assert one[4] == two[4]


@pytest.mark.parametrize("action", [[np.nan, 0.0], [1.0, np.inf], [1.0], [[1.0, 2.0]]])
def test_bad_actions_are_refused(action: Any) -> None:
    environment = PushTEnv(PushTStateConfig())
    environment.reset(seed=0)
    with pytest.raises(SpecError, match="two finite numbers"):
        environment.step(action)


def test_misuse_is_refused() -> None:
    environment = PushTEnv(PushTStateConfig())
    with pytest.raises(SimulationError, match=r"reset\(seed"):
        environment.step([1.0, 2.0])
    with pytest.raises(SimulationError, match="five finite numbers"):
        environment.reset(options={"state": [1.0, 2.0, 3.0, 4.0]})


@pytest.mark.parametrize(("given", "expected"), [(None, "dummy"), ("x11", "x11")])
def test_import_is_quiet_and_keeps_the_users_video_driver(given: str | None, expected: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "SDL_VIDEODRIVER"}
    if given is not None:
        variables["SDL_VIDEODRIVER"] = given
    program = (
        "import os\n"
        "import robopolicy_sim.tasks.pusht as pusht\n"
        "assert os.environ.get('SDL_VIDEODRIVER') == "
        + repr(given)
        + ", 'importing changed the environment'\n"
        "from robopolicy_sim.tasks.configs import PushTImageConfig\n"
        "environment = pusht.PushTEnv(PushTImageConfig())\n"
        "environment.reset(seed=0)\n"
        "import sys; sys.stderr.write(os.environ['SDL_VIDEODRIVER'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_mirror_image_of_an_episode_is_an_episode(seed: int) -> None:
    keys = ("agent_pos", "block_pos", "block_angle")
    state, image, other = (
        PushTEnv(config()) for config in (PushTStateConfig, PushTImageConfig, PushTImageConfig)
    )
    observation, _ = state.reset(seed=seed)
    image.reset(options={"state": np.concatenate([observation[key] for key in keys])})
    other.reset(options={"state": np.concatenate([mirror(key, observation[key]) for key in keys])})
    agent, block = observation["agent_pos"], observation["block_pos"]
    # Through the block and away from the walls, against which a contact may break either way.
    for action in np.linspace(agent, 2 * block - agent, 12).clip(60, 452):
        (seen, _, _, _, info), (expected, _, _, _, there) = (
            image.step(action),
            other.step(mirror("action", action)),
        )
        assert info["coverage"] == pytest.approx(there["coverage"], abs=1e-5)
        np.testing.assert_allclose(mirror("agent_pos", seen["agent_pos"]), expected["agent_pos"], atol=1e-2)
    difference = mirror("camera0_rgb", seen["camera0_rgb"]).astype(float) - expected["camera0_rgb"]
    assert np.abs(difference).mean() < 1.0  # only edges differ, by how they are drawn; the push moved it by 4


def test_what_has_no_known_mirror_image_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'keypoint'.*agent_pos.*trainer\.mirror=false"):
        mirror("keypoint", np.zeros((9, 2)))
