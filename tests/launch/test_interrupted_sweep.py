"""A sweep over a disturbance that was killed: the same command goes on, and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robopolicy.evaluation.attacks import RandomMove
from robopolicy.evaluation.disturbed_policy import DisturbedPolicy
from robopolicy_launch.cells import Cells
from robopolicy_launch.stages.evaluating import _load

SIZES = (0, 0.05, 0.1)
WORDS = (
    "disturbance=greedy",
    f"disturbance.sizes=[{','.join(map(str, SIZES))}]",
    "disturbance.steps=1",
    "episodes=3",
    "batch_size=2",
    "task.max_steps=16",
)


def kill_after_first_cell(words: tuple[str, ...], cells: Path) -> None:
    """Runs the command and kills it as soon as a cell is on the disk."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "robopolicy_launch", *words], env=environment)
    try:
        while not list(cells.glob("*.json")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def results_of(folder: Path) -> dict[str, object]:
    """All that is no time."""
    evaluation = folder / "evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    files = [evaluation / "robustness.csv", *(evaluation / f"size-{size:g}/episodes.csv" for size in SIZES)]
    return {"summary": {**summary, "seconds": None}, "files": [file.read_bytes() for file in files]}


def test_a_killed_sweep_goes_on_and_ends_bit_for_bit_as_an_uninterrupted_one(
    robopolicy, checkpoint, tmp_path
):
    whole = robopolicy("eval", str(checkpoint), *WORDS, f"runs={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    assert "Taken up" not in whole.stdout
    assert not (tmp_path / "whole" / "eval-cells").exists()  # they are of no more use
    runs = tmp_path / "killed"
    words = ("eval", str(checkpoint), *WORDS, f"runs={runs}")
    kill_after_first_cell(words, runs / "eval-cells")
    kept = {path: path.stat().st_mtime_ns for path in (runs / "eval-cells").glob("*.json")}
    assert 1 <= len(kept) < len(SIZES)
    (killed,) = (runs / "eval").iterdir()
    assert not (killed / "summary.json").exists()
    other = robopolicy(*words, "first_seed=7", "disturbance.sizes=[0.05]")  # other seeds: nothing fits
    assert other.returncode == 0, other.stderr
    assert "Taken up" not in other.stdout
    assert {path: path.stat().st_mtime_ns for path in (runs / "eval-cells").glob("*.json")} == kept
    again = robopolicy(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Taken up from an interrupted run") == len(kept)
    assert f"({runs / 'eval-cells'}): size 0, seeds 100000 to 100002" in again.stdout
    (one,) = (tmp_path / "whole" / "eval").iterdir()
    assert results_of(max((runs / "eval").iterdir())) == results_of(one)
    assert not (runs / "eval-cells").exists()


@pytest.mark.parametrize("change", [{"common": 2}, {"size": 1.0}])
def test_a_cell_of_other_settings_is_another_one(tmp_path, change):
    settings = {"common": 1, "size": 0.0}

    def ask(given, figure):
        cells = Cells(tmp_path / "cells", {"common": given["common"]})
        return cells({"size": given["size"]}, lambda: {"figure": figure}), cells

    first, _ = ask(settings, 0.1 + 0.2)
    again, kept = ask(settings, -1.0)
    assert first == again == {"figure": 0.1 + 0.2}  # bit for bit
    assert kept.taken == 1
    other, _ = ask(settings | change, 5.0)
    assert other == {"figure": 5.0}
    kept.forget()
    assert ask(settings, 7.0)[0] == {"figure": 7.0}
    assert ask(settings | change, 8.0)[0] == {"figure": 5.0}  # others' are left


def test_the_sizes_of_a_sweep_are_read_back_as_they_were(tmp_path):
    """A size that JSON rounded would be computed again for ever."""
    size = 0.1 + 0.2
    Cells(tmp_path)({"size": size}, lambda: {"rows": [[size, True, "text", None]]})
    kept = Cells(tmp_path)
    assert kept({"size": size}, dict) == {"rows": [[size, True, "text", None]]}
    assert kept.taken == 1


def test_as_many_actions_are_attacked_as_are_executed(checkpoint):
    policy = _load(checkpoint, "cpu", 3)
    assert DisturbedPolicy(policy, RandomMove(policy, 0.1)).action_steps == 3
    assert _load(checkpoint, "cpu", None).action_steps != 3
