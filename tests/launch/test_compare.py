"""``robopolicy compare``: blind pairs of trials, judged by a person at the keys."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from robopolicy.evaluation.statistics import paired_difference_interval, paired_p_value
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch.stages import comparing
from robopolicy_launch.stages.comparing import Trial, compare, figures
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot
from robopolicy_sim.tasks.manipulation import manipulation_spec

pytestmark = pytest.mark.realtime


def rows_of(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return [(row["pair"], row["policy"], row["success"]) for row in csv.DictReader(file)]


def test_a_person_judges_repeats_and_ends(checkpoint, tmp_path):
    words = ("compare", str(checkpoint), str(checkpoint), "pairs=3", "seconds=0.5", "ask=true")
    process = subprocess.run(
        [sys.executable, "-m", "robopolicy_launch", *words, f"runs={tmp_path}", "runtime.hold_s=1"],
        input="s\nr\nwhat\nf\ns\nq\n",
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    looks = [line.split(maxsplit=2)[1:] for line in process.stdout.splitlines() if line.startswith("  ok ")]
    assert [look[0] for look in looks].count("stop") == 1  # the robot is looked at once for both
    assert [look[1][0] for look in looks if look[0] == "policy"] == ["A", "B"]
    (folder,) = (tmp_path / "compare").iterdir()
    rows = rows_of(folder / "comparison")
    assert [row[0] for row in rows] == ["0", "0", "1"]
    assert {row[1] for row in rows[:2]} == {"A", "B"}
    assert [row[2] for row in rows] == ["1", "0", "1"]
    trials = process.stdout.partition("Trial 1 ")[2].partition("pairs ")[0]
    assert not any(f"{row[1]} " in trials for row in rows)  # nobody is told which it was
    summary = json.loads((folder / "summary.json").read_text())
    winner = rows[0][1].lower()
    assert summary["pairs"] == 1
    assert summary[f"success_{winner}"] == 1
    assert abs(summary["difference"]) == 1
    report = (folder / "report.html").read_text()
    for told in ("Policy A: success", "Policy B: success", "over 1 pairs", "A less B: ", "probability of 1."):
        assert told in report
    store = DemoStore.open(folder / "comparison" / "episodes.zarr")
    assert [store.episode(index).info.success for index in range(3)] == [True, False, True]


class Blind:
    """The simulated robot, as if it knew neither scenes nor success."""

    def __init__(self, robot):
        self._robot = robot

    def __getattr__(self, name):
        if name in ("reset", "success"):
            raise AttributeError(name)
        return getattr(self._robot, name)


class Still:
    observation_steps, action_steps, dt = 1, 4, 0.1
    spec = manipulation_spec(64)

    def __init__(self, calls, name):
        self.calls, self.name = calls, name

    def reset(self):
        pass

    def infer(self, observation, *, seeds=None):
        self.calls.append(self.name)
        keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
        return np.repeat(np.concatenate([observation[key][:, -1:] for key in keys], axis=-1), 8, axis=1)


def test_the_operator_sets_the_scene_up_by_a_picture(tmp_path, monkeypatch):
    calls, seen = [], []
    reading, writing = os.pipe()

    def operate():
        with open(writing, "w") as keys:
            for line in ("\n", "s\n", "\n", "f\n"):
                time.sleep(1.5)
                if (picture := tmp_path / comparing.RESET_PICTURE).is_file():
                    seen.append(cv2.imread(str(picture)))
                keys.write(line)
                keys.flush()

    with make_robot(SimulatedRobotConfig()) as robot, open(reading) as stdin:
        for camera in robot.cameras:
            camera.connect()

        @contextlib.contextmanager
        def ready(config, policies):
            yield "sim", Blind(robot), list(robot.cameras)

        monkeypatch.setattr(comparing, "ready_robot", ready)
        monkeypatch.setattr(sys, "stdin", stdin)
        threading.Thread(target=operate, daemon=True).start()
        policies = [Still(calls, "A"), Still(calls, "B")]
        paths = [Path("a"), Path("b")]
        result = compare(policies, paths, None, tmp_path, pairs=1, first_seed=0, seconds=0.5, ask=False)
    assert result["pairs"] == 1
    assert set(calls) == {"A", "B"}
    assert rows_of(tmp_path)[0][2] == "1"
    assert calls[0] == rows_of(tmp_path)[0][1]
    assert all(picture.shape == (64, 64, 3) and picture.std() > 5 for picture in seen)


def test_only_complete_pairs_count():
    outcomes = [(0, 1, True), (0, 0, False), (1, 0, True), (1, 1, True), (2, 0, True)]
    trials = [Trial(pair, 100 + pair, policy, success) for pair, policy, success in outcomes]
    result = figures(trials)
    assert result["pairs"] == 2
    assert (result["success_a"], result["success_b"]) == (0.5, 1.0)
    assert result["difference"] == -0.5
    assert result["p_value"] == 1.0


def test_what_cannot_be_compared_is_refused(tmp_path):
    other = Still([], "B")
    other.dt = 0.05
    for policies, pairs in (([Still([], "A"), other], 1), ([Still([], "A")] * 2, 0)):
        with pytest.raises(ConfigError, match=r"0\.1 s"):
            compare(policies, [], None, tmp_path, pairs=pairs, first_seed=0, seconds=1.0, ask=False)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((36, 12, 2, 0), (0.0569, 0.3404)), ((36, 14, 0, 0), (0.1528, 0.4167)), ((0, 0, 0, 0), (-1.0, 1.0))],
)
def test_the_interval_of_a_paired_difference_is_newcombe_s(counts, expected):
    """His examples: Statistics in Medicine 17 (1998) 2635, method 10."""
    np.testing.assert_allclose(paired_difference_interval(*counts), expected, atol=1e-4)


@pytest.mark.parametrize(
    "shares", [(0.4, 0.3, 0.05, 0.25), (0.25, 0.25, 0.25, 0.25), (0.05, 0.45, 0.45, 0.05)]
)
def test_the_interval_of_a_paired_difference_holds_it_19_times_in_20(shares):
    """By the sum over all outcomes of 20 pairs."""
    covered = 0.0
    for first in itertools.product(range(21), repeat=3):
        if (neither := 20 - sum(first)) >= 0:
            both, one, other = first
            low, high = paired_difference_interval(both, one, other, neither)
            assert np.allclose(paired_difference_interval(both, other, one, neither), (-high, -low))
            likely = multinomial.pmf((both, one, other, neither), 20, shares)
            covered += likely * (
                low <= shares[1] - shares[2] + 1e-12 and shares[1] - shares[2] <= high + 1e-12
            )
    assert 0.94 < covered < 0.98


def test_the_p_value_is_the_sign_test_s():
    for one in range(6):
        for other in range(6):
            expected = binomtest(one, one + other).pvalue if one + other else 1.0
            assert math.isclose(paired_p_value(one, other), expected)


def test_the_end_of_the_input_ends_the_session(monkeypatch):
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        with pytest.raises(comparing.EndOfSession):
            comparing._asked("?")
