"""The set-up by make: what it says where something is missing, and that a second run installs nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECK = ROOT / "tools" / "check_system.py"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments, folder=ROOT):
    """Runs make as from a shell, also where these tests run under make."""
    ours = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "ARGS"}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=ours,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def check_system():
    spec = importlib.util.spec_from_file_location("check_system", CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """The files of the set-up, and an environment that was just made, whose Python notes what it is told."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" >> calls.txt\n')
    python.chmod(0o755)
    return tmp_path


SIDE_BY_SIDE_AND_ALONE = [
    "-m pytest -n auto --maxprocesses 4 --dist worksteal -m not soak and not realtime",
    "-m pytest -m realtime and not soak",
]


def calls(checkout):
    path = checkout / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_help_names_the_targets():
    shown = make("help").stdout
    assert all(
        f"make {target}" in shown
        for target in ("demo", "test", "soak", "lint", "test-mujoco4", "test-franka-sim", "metaworld")
    )


def test_a_second_run_installs_nothing(checkout):
    first = make("test", "ARGS=-k spec", folder=checkout)
    assert first.returncode == 0, first.stderr
    installs, openpi, draws, tests = calls(checkout)
    assert "pip install" in installs
    assert "-c constraints.txt" in installs
    assert "--no-deps openpi-client" in openpi
    assert "check_system.py --render" in draws
    assert tests == "-m pytest -k spec"
    make("test", folder=checkout)
    assert calls(checkout)[4:] == SIDE_BY_SIDE_AND_ALONE
    os.utime(checkout / "constraints.txt", (4e9, 4e9))
    make("test", folder=checkout)
    assert "pip install" in calls(checkout)[6]


@pytest.mark.parametrize("failing", ["not realtime", "-m realtime"])
def test_a_failure_in_one_half_of_the_tests_is_one_of_all(checkout, failing):
    make("test", folder=checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f'{python.read_text()}case "$*" in *"{failing}"*) exit 1;; esac\n')
    assert make("test", folder=checkout).returncode != 0
    assert calls(checkout)[-2:] == SIDE_BY_SIDE_AND_ALONE


def test_metaworld_gets_an_environment_of_its_own(checkout):
    shutil.copy(ROOT / "requirements-metaworld.txt", checkout)
    shutil.copytree(checkout / ".venv", checkout / ".venv-metaworld")
    for _ in range(2):
        assert make("metaworld", folder=checkout).returncode == 0
    (install,) = calls(checkout)
    assert install.endswith("-r requirements-metaworld.txt")
    assert "mujoco==3.3.0" in (ROOT / "requirements-metaworld.txt").read_text()


def test_franka_sim_gets_an_environment_of_its_own(checkout):
    shutil.copy(ROOT / "requirements-franka-sim.txt", checkout)
    shutil.copytree(checkout / ".venv", checkout / ".venv-franka-sim")
    assert make("test-franka-sim", folder=checkout).returncode == 0
    assert "numpy==1." in (ROOT / "requirements-franka-sim.txt").read_text()
    assert calls(checkout)[-1].endswith("tests/drivers/arms/test_franka_strict.py")


def test_a_failed_installation_is_tried_again(checkout):
    python = checkout / ".venv" / "bin" / "python"
    works = python.read_text()
    python.write_text(works + "exit 1\n")
    assert make("test", folder=checkout).returncode != 0
    python.write_text(works)
    assert make("test", folder=checkout).returncode == 0
    assert sum("-e .[" in call for call in calls(checkout)) == 2


@pytest.mark.parametrize("python", ["/bin/false", "/nowhere/python"])
def test_an_old_python_is_refused(python):
    refused = make("system-check", f"PYTHON={python}")
    assert refused.returncode != 0
    assert "is not Python 3.11 or newer" in refused.stderr


def test_this_machine_lacks_nothing():
    checked = subprocess.run([sys.executable, CHECK], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_missing_library_is_named_with_one_apt_line(check_system, monkeypatch, capsys):
    monkeypatch.setattr(check_system, "LIBRARIES", [("libc.so.6",), ("libnone.so.1", "libnever.so.2")])
    assert check_system.main([]) == 1
    message = capsys.readouterr().err
    assert "Missing: libnone.so.1 or libnever.so.2\n" in message
    assert message.count("apt-get install -y") == 1
    assert all(package in message for package in check_system.PACKAGES)


def test_a_backend_that_cannot_draw_is_named(check_system, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(check_system, "DRAW_ONE_FRAME", "raise SystemExit('no display')")
    assert check_system.rendering_failures() == ["MUJOCO_GL=egl: no display"]
    monkeypatch.setattr(check_system, "DRAW_ONE_FRAME", "")
    assert check_system.rendering_failures() == []
