"""Evaluation: figures, their intervals, and the files that are left."""

from __future__ import annotations

import csv
import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_1samp

from robopolicy.evaluation.closed_loop import evaluate, summarise
from robopolicy.evaluation.statistics import mean_interval, wilson_interval
from robopolicy.policies.configs import FlowConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_sim.rollout import EpisodeResult

from .conftest import ARM_SPEC, PLANE_SPEC, tiny


class EvenSeedsSucceed:
    """An environment of a few steps whose outcome is known beforehand."""

    data_spec = PLANE_SPEC
    dt = 0.1
    max_steps = 6
    actions: ClassVar[list[np.ndarray]] = []

    def reset(self, seed):
        self.seed, self.steps = seed, 0
        return self._observe(), {}

    def step(self, action):
        self.actions.append(action)
        self.steps += 1
        success = self.seed % 2 == 0 and self.steps == 5
        info = {"success": success, "score": 1.0 if success else 0.25}
        return self._observe(), 0.0, success, self.steps == self.max_steps, info

    def _observe(self):
        return {f.key: np.full(f.shape, self.seed % 7, dtype=f.dtype) for f in self.data_spec.observation}

    def render(self):
        return np.full((32, 32, 3), self.seed % 255, dtype=np.uint8)

    def close(self):
        pass


def make_policy(spec=PLANE_SPEC):
    torch.manual_seed(0)
    return FlowPolicy(tiny(FlowConfig, net="mlp"), spec, 0.1)


def test_an_evaluation_summarises_and_leaves_its_files(tmp_path):
    pytest.importorskip("av", reason="the extra 'formats' is not installed")
    seen = []
    summary = evaluate(
        make_policy(),
        EvenSeedsSucceed,
        seeds=range(100, 105),
        batch_size=2,
        videos=2,
        folder=tmp_path / "evaluation",
        progress=lambda result: seen.append(result.seed),
    )
    assert sorted(seen) == [100, 101, 102, 103, 104]
    assert (summary["episodes"], summary["success"], summary["score"]) == (5, 0.6, pytest.approx(0.7))
    assert summary["errors"] == 0
    assert summary["mean_steps"] == pytest.approx((3 * 5 + 2 * 6) / 5)
    assert summary["success_low"] < 0.6 < summary["success_high"]
    with (tmp_path / "evaluation" / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["success"], row["steps"]) for row in rows] == [
        ("100", "1", "5"),
        ("101", "0", "6"),
        ("102", "1", "5"),
        ("103", "0", "6"),
        ("104", "1", "5"),
    ]
    videos = sorted(path.name for path in (tmp_path / "evaluation" / "videos").iterdir())
    assert videos == ["100-success.mp4", "101-failure.mp4"]


def test_batches_change_no_result():
    policy = make_policy()
    actions = []
    for batch_size in (1, 4):
        EvenSeedsSucceed.actions.clear()
        evaluate(policy, EvenSeedsSucceed, seeds=[7, 8, 9, 10], batch_size=batch_size)
        actions.append(np.array(sorted(EvenSeedsSucceed.actions, key=lambda action: tuple(action))))
    np.testing.assert_allclose(actions[0], actions[1], atol=1e-4)


def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(SpecError, match=r"robot0_eef_pos.*missing"):
        evaluate(make_policy(ARM_SPEC), EvenSeedsSucceed, seeds=[0])
    with pytest.raises(ConfigError, match="videos is -1"):
        evaluate(make_policy(), EvenSeedsSucceed, seeds=[0], videos=-1)
    with pytest.raises(ConfigError, match="at least one seed"):
        evaluate(make_policy(), EvenSeedsSucceed, seeds=[], folder=tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (86, 100), (1, 1), (499, 1000)])
def test_wilson_equals_scipy(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_intervals_of_little_data():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert mean_interval([0.5]) == (0.5, 0.5)
    low, high = mean_interval([0.0, 1.0, 0.0, 1.0])
    assert (low + high) / 2 == 0.5
    few = ttest_1samp([0.0, 1.0, 0.0, 1.0], 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((few.low, few.high))
    assert high - low > 1.5 * 2 * 1.96 * np.std([0, 1, 0, 1], ddof=1) / 2  # the normal one is far too short


def test_the_interval_of_a_score_stays_within_its_range():
    summary = summarise([EpisodeResult(0, True, 1.0, 3), EpisodeResult(1, False, 0.2, 3)])
    assert (summary["score_low"], summary["score_high"]) == (0.0, 1.0)


def test_a_failed_episode_counts():
    results = [EpisodeResult(seed, seed == 0, float(seed == 0), 3) for seed in range(2)]
    results[1] = dataclasses.replace(results[1], error="unstable")
    assert summarise(results)["success"] == 0.5
