"""Running the command as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


MOUNT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


@pytest.fixture
def on_file_system() -> Callable[[str, Path], tuple[str, ...]]:
    """``on_file_system(options, folder)`` returns the words that run a command with a tmpfs at ``folder``."""
    return _on_file_system


def _on_file_system(options: str, folder: Path) -> tuple[str, ...]:
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, options, str(folder))
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this machine does not allow mounting in a user namespace")
    return prefix
