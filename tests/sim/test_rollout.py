"""Batched roll-outs with scripted policies on the real Push-T environment, and their videos."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError, SpecError
from robopolicy_drivers.interfaces import noise_seed
from robopolicy_sim.rollout import rollout
from robopolicy_sim.tasks.configs import PushTStateConfig
from robopolicy_sim.video import write_video

pytest.importorskip("gym_pusht", reason="the extra 'pusht' is not installed")
from push_policy import PushPolicy, numbers

from robopolicy_sim.tasks.pusht import PushTEnv, make_spec

SEEDS = range(100_000, 100_007)


def test_results_do_not_depend_on_the_batch() -> None:
    config = PushTStateConfig(max_steps=60)
    alone = rollout(PushPolicy(), config, SEEDS, batch_size=1)
    assert [each.seed for each in alone] == list(SEEDS)
    assert len({each.score for each in alone}) > 3
    for batch_size in (3, 7, 50):
        assert numbers(rollout(PushPolicy(), config, SEEDS, batch_size=batch_size)) == numbers(alone)
    reversed_order = rollout(PushPolicy(), config, reversed(SEEDS), batch_size=3)
    assert numbers(reversed_order)[::-1] == numbers(alone)


def test_a_plain_loop_gives_the_same_episode() -> None:
    config, seed = PushTStateConfig(max_steps=60), 100_003
    policy, environment = PushPolicy(), PushTEnv(config)
    observation, info = environment.reset(seed=seed)
    previous, step, ended = observation, 0, False
    while not ended:
        batch = {key: np.stack([previous[key], observation[key]])[None] for key in observation}
        for action in policy.infer(batch, seeds=[noise_seed(seed, step)])[0, :4]:
            previous = observation
            observation, _, terminated, truncated, info = environment.step(action)
            step, ended = step + 1, terminated or truncated
            if ended:
                break
    (result,) = rollout(PushPolicy(), config, [seed], action_steps=4)
    assert (result.score, result.success, result.steps) == (info["score"], info["success"], step)


def test_one_call_serves_all_running_environments_and_batches_stay_full() -> None:
    lengths = iter([5, 40, 16, 16, 16, 16])
    policy = PushPolicy()
    # Each slot's environment has its own length; the seeds that wait take the places that come free.
    results = rollout(
        policy, lambda: PushTEnv(PushTStateConfig(max_steps=next(lengths))), range(6), batch_size=2
    )
    rows = [len(seeds) for seeds in policy.seeds]
    assert all(count == 2 for count in rows[:-1])
    assert rows[-1] >= 1
    assert [each.steps for each in results] == [5, 40, 5, 5, 5, 5]
    seeds = [seed for call in policy.seeds for seed in call]
    assert len(set(seeds)) == len(seeds)
    first = policy.calls[0]
    assert first["agent_pos"].shape == (2, 2, 2)
    assert np.array_equal(first["agent_pos"][:, 0], first["agent_pos"][:, 1])
    repeated = [np.array_equal(before, newest) for before, newest in policy.calls[1]["agent_pos"]]
    assert sorted(repeated) == [False, True]  # one goes on, one has just started


def test_the_policy_may_observe_less_than_the_environment_offers() -> None:
    policy = PushPolicy(make_spec().select(["block_pos"]))
    rollout(policy, PushTStateConfig(max_steps=8), [0, 1])
    assert list(policy.calls[0]) == ["block_pos"]


def test_success_is_reported_and_ends_the_episode() -> None:
    class SolvedEnv(PushTEnv):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed=seed, options={"state": [50, 50, 256, 256, np.pi / 4]})

    (result,) = rollout(PushPolicy(), lambda: SolvedEnv(PushTStateConfig()), [0])
    assert (result.success, result.score, result.steps) == (True, 1.0, 1)


def test_a_failing_simulation_is_a_failure_with_its_cause() -> None:
    class BrokenEnv(PushTEnv):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            if seed == 3:
                raise SimulationError("the world did not load")
            self.broken = seed == 1
            return super().reset(seed=seed, options=options)

        def step(self, action: Any) -> Any:
            if self.broken:
                raise SimulationError("physics became unstable")
            return super().step(action)

    config, done = PushTStateConfig(max_steps=20), []
    results = rollout(PushPolicy(), lambda: BrokenEnv(config), range(5), batch_size=2, progress=done.append)
    failed = {each.seed: each for each in results if each.error}
    assert {seed: each.error for seed, each in failed.items()} == {
        1: "physics became unstable",
        3: "the world did not load",
    }
    assert all((each.success, each.score) == (False, 0.0) for each in failed.values())
    healthy = rollout(PushPolicy(), config, [0, 2, 4])
    assert numbers([each for each in results if not each.error]) == numbers(healthy)
    assert sorted(each.seed for each in done) == list(range(5))


def test_episodes_that_cannot_begin_are_no_failures_of_the_policy() -> None:
    built = []

    class BrokenEnv(PushTEnv):
        def __init__(self, config: Any) -> None:
            if len(built) == 3:
                raise SimulationError("no more of them")
            built.append(self)
            super().__init__(config)

        def reset(self, **_: Any) -> Any:
            raise SimulationError("nothing can be drawn")

        def close(self) -> None:
            built.remove(self)

    config = PushTStateConfig()
    with pytest.raises(SimulationError, match=r"No episode could begin.*nothing can be drawn"):
        rollout(PushPolicy(), lambda: BrokenEnv(config), range(4), batch_size=2)
    with pytest.raises(SimulationError, match="no more of them"):
        rollout(PushPolicy(), lambda: BrokenEnv(config), range(4), batch_size=4)
    assert built == []  # all were closed


def test_actions_that_are_not_finite_fail_only_their_own_episode() -> None:
    class DivergedPolicy(PushPolicy):
        def infer(self, observation: Any, *, seeds: Any = None) -> np.ndarray:
            chunks = super().infer(observation, seeds=seeds)
            chunks[0, 2] = np.nan
            return chunks

    results = rollout(DivergedPolicy(), PushTStateConfig(max_steps=8), [0, 1])
    assert "NaN" in (results[0].error or "")
    assert results[1].error is None
    assert results[1].steps == 8


def test_time_is_split_between_environment_and_policy() -> None:
    (result,) = rollout(PushPolicy(), PushTStateConfig(max_steps=20), [0])
    assert result.environment_seconds > 0
    assert result.policy_seconds > 0
    assert result.seconds == result.environment_seconds + result.policy_seconds


def test_what_does_not_fit_is_refused() -> None:
    config = PushTStateConfig(max_steps=8)
    with pytest.raises(SpecError, match="camera0_rgb"):
        rollout(PushPolicy(make_spec(image_size=96)), config, [0])
    slow = PushPolicy()
    slow.dt = 0.2
    with pytest.raises(SpecError, match=r"0\.2 s apart"):
        rollout(slow, config, [0])
    with pytest.raises(SpecError, match="9 or more"):
        rollout(PushPolicy(horizon=8), config, [0], action_steps=9)
    with pytest.raises(ConfigError, match="batch_size=0"):
        rollout(PushPolicy(), config, [0], batch_size=0)
    with pytest.raises(ConfigError, match="action_steps=0"):
        rollout(PushPolicy(), config, [0], action_steps=0)
    with pytest.raises(ConfigError, match="seed -1"):
        rollout(PushPolicy(), config, [-1])
    assert rollout(PushPolicy(), config, []) == []


def test_video_of_an_episode_decodes_to_its_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra 'formats' is not installed")
    results = rollout(PushPolicy(), PushTStateConfig(max_steps=20), [0, 1], video_seeds=[1])
    assert results[0].frames is None
    frames = results[1].frames
    assert frames is not None
    assert len(frames) == results[1].steps + 1
    path = write_video(tmp_path / "videos" / "seed_1.mp4", frames, 10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == len(frames)
    for frame, original in zip(decoded, frames, strict=True):
        assert np.abs(frame.astype(float) - original).mean() < 3


def test_video_of_odd_size_and_bad_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra 'formats' is not installed")
    path = write_video(tmp_path / "odd.mp4", [np.zeros((65, 97, 3), np.uint8)] * 3, 29.97)
    with av.open(str(path)) as container:
        assert [(frame.height, frame.width) for frame in container.decode(video=0)] == [(64, 96)] * 3
    image = np.zeros((64, 64, 3), np.uint8)
    for frames in ([], [image, image[:32]], [image.astype(np.float32)], [image[..., 0]], [image[:1]]):
        with pytest.raises(ConfigError, match="frame"):
            write_video(tmp_path / "bad.mp4", frames, 10)
    with pytest.raises(ConfigError, match="positive rate"):
        write_video(tmp_path / "bad.mp4", [image], 0)
    assert not (tmp_path / "bad.mp4").exists()


def test_videos_without_av_name_the_extra() -> None:
    program = (
        "import sys; sys.modules['av'] = None\n"
        "import numpy as np\n"
        "from robopolicy_datasets.errors import MissingExtraError\n"
        "from robopolicy_sim.video import write_video\n"
        "try:\n    write_video('never.mp4', [np.zeros((4, 4, 3), np.uint8)], 10)\n"
        "except MissingExtraError as error:\n    sys.stderr.write(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "robopolicy[formats]" in done.stderr
