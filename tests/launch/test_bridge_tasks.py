"""Foreign environments as tasks of the command."""

from __future__ import annotations

import sys
from pathlib import Path

from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch import command

FOLDER = Path(__file__).parents[1] / "sim" / "bridge"
POINT = (
    "task=bridge",
    f"task.python={sys.executable}",
    "task.id=foreign_tasks:test/Point-v0",
    f"task.folders=[{FOLDER}]",
    "task.images=[view]",
    "task.kwargs.size=0.5",
)


def test_a_foreign_environment_is_demonstrated_by_its_own_expert(robopolicy, tmp_path):
    store = tmp_path / "point.zarr"
    words = (*POINT, "teleop=foreign_expert", "episodes=3", f"output={store}", f"runs={tmp_path}")
    result = robopolicy("collect", *words, "workers=2")
    assert result.returncode == 0, result.stderr
    demos = DemoStore.open(store)
    assert len(demos) == 3
    assert demos.rate_hz == 20
    assert set(demos.keys()) == {"camera0_rgb", "count", "position", "action"}
    assert demos.episode(0).info.task == "Point"


def test_what_is_missing_is_one_line(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without .venv-metaworld
    cases = {
        ("task=metaworld", "teleop=foreign_expert"): "make metaworld",
        (*POINT, "task.python=/nowhere/python", "teleop=foreign_expert"): "cannot be started",
        (*POINT, "teleop=scripted"): "teleop=scripted does not know task=bridge",
    }
    for words, told in cases.items():
        assert told in refused("collect", *words, f"runs={tmp_path}")
    nothing = ("collect", "task=bridge", "teleop=foreign_expert", f"runs={tmp_path}")
    assert "needs task." in refused(*nothing, code=command.NOT_UNDERSTOOD)
