"""Run folders: names, atomic summaries, and what an interrupted run leaves."""

from __future__ import annotations

import errno
import json
import os
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch.run_folder import RunFolder, write_text_atomic

CONFIG = OmegaConf.create({"command": ["a=1"], "a": 1})


def test_runs_of_one_second_get_folders_of_their_own(tmp_path):
    folders = [RunFolder.create("train", root=tmp_path, name="x", config=CONFIG).path for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(re.match(r"\d{8}-\d{6}-x(-\d+)?$", folder.name) for folder in folders)
    assert all(folder.parent == tmp_path / "train" for folder in folders)
    assert OmegaConf.load(folders[0] / "config.yaml") == CONFIG


@given(name=st.text())
def test_any_name_stays_inside_the_root(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("runs")
    folder = RunFolder.create("eval", root=root, name=name[:40])
    assert folder.path.parent == root / "eval"


def test_figures_are_flat_plain_json(tmp_path):
    run = RunFolder.create("eval", root=tmp_path)
    run.add_figures({"success": np.float64(0.5), "episodes": np.int64(3), "bad": float("nan"), "ok": True})
    run.add_figures({"late": 0}, prefix="deploy_")
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary == {"success": 0.5, "episodes": 3, "bad": None, "ok": True, "deploy_late": 0}
    with pytest.raises(TypeError, match="nested"):
        run.add_figures({"nested": {"a": 1}})
    assert json.loads((run.path / "summary.json").read_text()) == summary


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "summary.json"
    texts = [json.dumps([number] * 5000) for number in range(2)]
    write_text_atomic(path, texts[0])
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            write_text_atomic(path, texts[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert path.read_text() in texts
    writer.join()
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def interrupted_run(root) -> None:
    with RunFolder.create("train", root=root, config=CONFIG) as run:
        run.add_figures({"steps": 3})
        raise KeyboardInterrupt


def test_failed_run_says_what_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted_run(tmp_path)
    (folder,) = (tmp_path / "train").iterdir()
    assert raised.value.__notes__ == [f"What was made so far is in {folder}."]
    assert (folder / "summary.json").is_file()


def test_failed_run_that_made_nothing_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError), RunFolder.create("train", root=tmp_path, config=CONFIG) as run:
        raise ConfigError("no")
    assert not run.path.exists()


def test_a_run_whose_settings_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        RunFolder.create("train", root=tmp_path, config=CONFIG)
    assert list((tmp_path / "train").iterdir()) == []


def test_resuming_keeps_the_folder_whatever_happens(tmp_path):
    path = RunFolder.create("train", root=tmp_path, config=CONFIG).path
    with pytest.raises(ConfigError), RunFolder.open(path):
        raise ConfigError("no")
    assert (path / "config.yaml").is_file()
    with pytest.raises(ConfigError, match="not a run folder"):
        RunFolder.open(tmp_path)
