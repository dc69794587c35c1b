"""The main job through the command, as small as it gets: demo, then its parts on what the demo left."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch import command
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.deploying import _write_video

TINY = [
    *["policy.unet.channels=[16,32]", "policy.encoder.channels=[8,16]", "policy.encoder.features=8"],
    *[
        "trainer.steps=6",
        "trainer.batch_size=8",
        "trainer.threads=1",
        "trainer.log_every=2",
        "trainer.seed=1",
    ],
    *["trainer.validate_every=3", "trainer.checkpoint_every=3", "trainer.validation_fraction=0.2"],
]
FEW = [
    "demonstrations=4",
    "evaluate_episodes=2",
    "deploy_episodes=1",
    "deploy_seconds=2",
    "task.max_steps=60",
]


def only_folder(parent: Path) -> Path:
    (folder,) = parent.iterdir()
    return folder


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def demo(robopolicy, work) -> Path:
    """The run folder of a tiny demo."""
    result = robopolicy("demo", *FEW, *TINY, cwd=work)
    assert result.returncode == 0, result.stderr
    folder = only_folder(work / "runs" / "demo")
    for told in ("[1/4] collect", "[4/4] deploy", "eval_success", str(folder.relative_to(work))):
        assert told in result.stdout
    return folder


def test_demo_leaves_its_figures_report_and_parts(demo):
    summary = summary_of(demo)
    assert {"eval_success", "deploy_success", "minutes", "late_ticks"} <= set(summary)
    assert summary["collect_episodes"] == 4
    assert summary["eval_episodes"] == 2
    assert summary["deploy_episodes"] == 1
    assert summary["deploy_ticks"] > 0
    assert summary["deploy_overruns"] >= 0
    timing = json.loads((demo / "deployment" / "timing.json").read_text())
    names = [section["name"] for section in timing["sections"]]
    assert names == ["late start", "rest", "messages", "track", "physics", "publish"]
    report = (demo / "report.html").read_text()
    for heading in (
        "Stages",
        "Training",
        "Evaluation in simulation",
        "Deployment through the driver interface",
    ):
        assert f"<h2>{heading}</h2>" in report
    for part in (
        "checkpoints/last/config.json",
        "evaluation/episodes.csv",
        "deployment/timing.json",
        "config.yaml",
    ):
        assert (demo / part).is_file()
    with (demo / "evaluation" / "episodes.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["100000", "100001"]


def test_data_info_tells_what_was_collected(demo, capsys):
    assert command.main(["data", "info", str(demo / "demos.zarr")]) == 0
    printed = capsys.readouterr().out
    for text in ("put the cube on the pad (4)", "100.0% (4 of 4)", "camera0_rgb", "pose_width"):
        assert text in printed


def test_eval_knows_the_task_and_repeats_the_demos_result(robopolicy, demo, tmp_path):
    result = robopolicy("eval", str(demo), "episodes=2", "videos=1", "workers=2", f"runs={tmp_path}")
    assert result.returncode == 0, result.stderr
    folder = only_folder(tmp_path / "eval")
    assert summary_of(folder)["success"] == summary_of(demo)["eval_success"]
    assert len(list((folder / "evaluation" / "videos").glob("*.mp4"))) == 1
    again, before = folder / "evaluation" / "episodes.csv", demo / "evaluation" / "episodes.csv"
    assert again.read_text() == before.read_text()


def test_eval_sweeps_over_a_disturbance(robopolicy, demo, tmp_path):
    words = ("disturbance=greedy", "disturbance.sizes=[0,0.2]", "disturbance.steps=1", "episodes=2")
    result = robopolicy("eval", str(demo), *words, "task.max_steps=20", f"runs={tmp_path}")
    assert result.returncode == 0, result.stderr
    folder = only_folder(tmp_path / "eval")
    summary = summary_of(folder)
    assert {"success_at_0", "success_low_at_0.2", "executed_max_at_0.2"} <= set(summary)
    assert "executed_max_at_0" not in summary  # undisturbed
    with (folder / "evaluation" / "robustness.csv").open() as file:
        assert [row["size"] for row in csv.DictReader(file)] == ["0.0", "0.2"]
    assert (folder / "plots" / "under_disturbance.png").is_file()
    assert "The policy has no certificate" in (folder / "report.html").read_text()


def test_checkpoint_that_does_not_fit_is_refused_before_anything_runs(refused, demo, tmp_path):
    for words in (
        ("eval", str(demo), "task.image_size=32"),
        ("deploy", str(demo), "robot.image_size=32"),
    ):
        told = refused(*words, f"runs={tmp_path / 'runs'}")
        for text in ("camera0_rgb", "(32, 32, 3)", "(64, 64, 3)"):
            assert text in told
        assert not list((tmp_path / "runs").glob("*/*"))


def test_collect_refuses_an_existing_store_and_leaves_it_as_it_was(refused, demo, tmp_path):
    store = demo / "demos.zarr"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    assert str(store) in refused("collect", f"output={store}", f"runs={tmp_path}")
    assert before == {path: path.stat().st_mtime_ns for path in store.rglob("*")}


def test_resumed_training_goes_on_where_it_stopped(robopolicy, demo, tmp_path):
    words = [f"data={demo / 'demos.zarr'}", f"runs={tmp_path}", *TINY]
    first = robopolicy("train", *words, "name=it's $one")
    assert first.returncode == 0, first.stderr
    folder = only_folder(tmp_path / "train")
    assert steps_of(folder) == [2, 3, 4, 6]
    second = robopolicy("train", f"resume={folder}", "trainer.steps=9")
    assert second.returncode == 0, second.stderr
    assert only_folder(tmp_path / "train") == folder
    assert steps_of(folder) == [2, 3, 4, 6, 8, 9]
    assert summary_of(folder)["steps"] == 9


def test_a_policy_on_a_server_drives_the_robot(robopolicy, demo, tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-m", "robopolicy_launch", "serve", str(demo), "port=0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = server.stdout.readline().split()[2]
        words = ("deploy", f"server={address}", f"runs={tmp_path}", "episodes=1", "seconds=2", "videos=0")
        result = robopolicy(*words, "runtime.real_time_chunking=true")
        refused = robopolicy(*words, "robot.image_size=32")
    finally:
        server.send_signal(signal.SIGINT)
        told, _ = server.communicate(timeout=60)
    assert result.returncode == 0, result.stderr
    assert summary_of(only_folder(tmp_path / "deploy"))["steps"] > 0
    assert refused.returncode == 1
    assert f"does not fit the policy at {address}" in refused.stderr
    assert server.returncode == 0
    assert told == "Stopped.\n"


def test_a_training_on_two_stores_resumes(robopolicy, demo, tmp_path):
    other = tmp_path / "other.zarr"
    collected = robopolicy("collect", "episodes=2", "seed=50", f"output={other}", f"runs={tmp_path}")
    assert collected.returncode == 0, collected.stderr
    words = [f"data=[{demo / 'demos.zarr'},{other}]", f"runs={tmp_path}", *TINY]
    refused = robopolicy("train", *words, "data_weights=[1]")
    assert refused.returncode == 1
    assert "2 stores" in refused.stderr
    assert not (tmp_path / "train").exists() or not list((tmp_path / "train").iterdir())
    first = robopolicy("train", *words, "data_weights=[0.25,0.75]")
    assert first.returncode == 0, first.stderr
    folder = only_folder(tmp_path / "train")
    second = robopolicy("train", f"resume={folder}", "trainer.steps=9")
    assert second.returncode == 0, second.stderr
    assert steps_of(folder) == [2, 3, 4, 6, 8, 9]
    third = robopolicy("train", f"resume={folder}", f"data={other}", "data_weights=[]")
    assert third.returncode == 1
    assert "other data" in third.stderr


def test_training_draws_its_curve_and_evaluates_at_the_end(robopolicy, demo, tmp_path):
    words = [f"data={demo / 'demos.zarr'}", f"runs={tmp_path}", *TINY, "task.max_steps=10"]
    result = robopolicy("train", *words, "evaluate=true", "evaluate_every=3", "evaluate_episodes=2")
    assert result.returncode == 0, result.stderr
    folder = only_folder(tmp_path / "train")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_success" in line] == [3, 6]
    assert summary_of(folder)["eval_episodes"] == 2
    assert len(list((folder / "evaluation" / "videos").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "evaluate=true", "evaluate_episodes=0"), "0 episodes from seed 100000"),
        (("train", "evaluate_every=3", "first_seed=-1"), "from seed -1"),
        (("train", "trainer.betas=[0.9,2]"), "trainer.betas is [0.9, 2.0]"),
        (("train", "resume={demo}"), "was made by 'robopolicy demo'"),
        (("collect", "seed=-1"), "seed of the first demonstration is -1"),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(robopolicy, demo, tmp_path, words, expected):
    verb, *words = (word.format(demo=demo) for word in words)
    if verb == "train":
        words += [f"data={demo / 'demos.zarr'}", *TINY]
    result = robopolicy(verb, *words, f"runs={tmp_path / 'runs'}")
    assert result.returncode in (1, 2)
    assert len(result.stderr.splitlines()) == 1
    assert expected in result.stderr
    assert not list((tmp_path / "runs").glob("*/*"))


@pytest.mark.parametrize(
    ("options", "expected"), [("ro", "read-only"), ("size=24k", "no space left|disk is full")]
)
@pytest.mark.parametrize("verb", ["train", "eval", "deploy"])
def test_an_unusable_disk_is_one_clear_line(
    robopolicy, on_file_system, demo, tmp_path, verb, options, expected
):
    words = {
        "train": [f"data={demo / 'demos.zarr'}", *TINY],
        "eval": [str(demo), "episodes=2", "videos=1", "task.max_steps=20"],
        "deploy": [str(demo), "episodes=1", "seconds=2", "videos=1"],
    }[verb]
    folder = tmp_path / "disk"
    folder.mkdir()
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    result = robopolicy(verb, *words, f"runs={folder}", prefix=on_file_system(options, folder))
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("robopolicy: ")]
    assert "Traceback" not in result.stderr
    assert re.search(expected, line.lower()), line
    assert str(folder) in line
    assert before == {path: path.stat().st_mtime_ns for path in demo.rglob("*")}


def test_resuming_with_another_net_leaves_the_run_as_it_was(robopolicy, demo, tmp_path):
    words = [f"data={demo / 'demos.zarr'}", f"runs={tmp_path}", *TINY]
    assert robopolicy("train", *words).returncode == 0
    folder = only_folder(tmp_path / "train")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = robopolicy("train", f"resume={folder}", "policy.mlp.width=32")
    assert result.returncode == 1
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_without_what_the_policy_sees_is_named_with_the_task(robopolicy, demo, tmp_path):
    store = demo / "demos.zarr"
    result = robopolicy("train", f"data={store}", "task=pusht_state", f"runs={tmp_path}")
    assert result.returncode == 1
    for text in (str(store), "agent_pos", "task=pusht_state", "task=...", "policy.observation_keys"):
        assert text in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_demo_that_fails_reports_the_stages_before(robopolicy, tmp_path):
    result = robopolicy("demo", "demonstrations=1", "trainer.batch_size=100000", f"runs={tmp_path}")
    assert result.returncode == 1
    report = (only_folder(tmp_path / "demo") / "report.html").read_text()
    for text in ("The stage &#x27;train&#x27; failed", "trainer.batch_size", "Stages", "collect_episodes"):
        assert text in report


def interrupt(command: list[str], folder: Path, ready: Callable[[], bool]) -> tuple[int, str]:
    """Starts the command, sends SIGINT once ``ready()``; returns the exit code and the error text."""
    process = subprocess.Popen(
        [sys.executable, "-m", "robopolicy_launch", *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not ready() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, error


def test_interrupted_training_says_how_to_continue(robopolicy, demo, tmp_path):
    command = ["train", f"data={demo / 'demos.zarr'}", *TINY, "trainer.steps=100000"]
    code, error = interrupt(command, tmp_path, lambda: bool(list(tmp_path.glob("runs/*/*/metrics.jsonl"))))
    folder = only_folder(tmp_path / "runs" / "train")
    assert code == 130
    assert "Traceback" not in error
    assert f"train resume={folder.relative_to(tmp_path)}" in error
    steps = int(summary_of(folder)["steps"])
    more = robopolicy("train", f"resume={folder}", f"trainer.steps={steps + 1}", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert steps_of(folder)[-1] == steps + 1


def test_interrupted_collection_leaves_a_usable_store(tmp_path):
    store = tmp_path / "demos.zarr"

    def has_an_episode() -> bool:
        return store.exists() and len(DemoStore.open(store)) > 0

    code, error = interrupt(["collect", "output=demos.zarr", "episodes=1000"], tmp_path, has_an_episode)
    assert code == 130
    assert "Traceback" not in error
    episodes = len(DemoStore.open(store))
    assert f"{episodes} of 1000 demonstrations are in demos.zarr" in error


def test_videos_put_cameras_of_different_sizes_side_by_side(tmp_path):
    images = [np.zeros((64, 64, 3), np.uint8), np.full((100, 120, 3), 255, np.uint8)]
    _write_video(tmp_path / "video.mp4", [images] * 3, 0.1)
    with av.open(str(tmp_path / "video.mp4")) as video:
        frame = next(video.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (200, 3 * 64 + 2 * 120, 3)
    assert frame[:, :190].max() < 20
    assert frame[:, 194:].min() > 235


def test_two_processes_share_one_run_folder(demo, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["-m", "robopolicy_launch", "train", f"data={demo / 'demos.zarr'}", *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    folder = only_folder(tmp_path / "runs" / "train")
    assert steps_of(folder)[-1] == 6
    assert result.stdout.count("run folder") == 1


def test_run_folders_of_the_demo_open_again(demo):
    assert RunFolder.open(demo).name == demo.name
