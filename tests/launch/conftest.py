"""Running the command as a user does, in a process of its own; and, where it only says no, in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from robopolicy_launch import command

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def robopolicy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``robopolicy(*words, cwd=folder)`` runs the command and returns the finished process."""
    home = tmp_path_factory.mktemp("command")

    def run(*words: str, cwd: Path = home, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-m", "robopolicy_launch", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # several threads only slow such small nets down
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``refused(*words)`` runs the command in this process, and returns its one line of what is wrong."""

    def run(*words: str, code: int = command.FAILED) -> str:
        capsys.readouterr()
        assert command.main(words) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert "Traceback" not in line
        return line

    return run


@pytest.fixture(scope="session")
def checkpoint(robopolicy: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that was far too short."""
    folder = tmp_path_factory.mktemp("checkpoint")
    store = folder / "demos.zarr"
    assert robopolicy("collect", "episodes=2", f"output={store}", f"runs={folder}").returncode == 0
    short = ("trainer.steps=4", "trainer.batch_size=8", "policy.unet.channels=[16,32]")
    result = robopolicy("train", f"data={store}", f"runs={folder}", *short)
    assert result.returncode == 0, result.stderr
    return next((folder / "train").iterdir())
