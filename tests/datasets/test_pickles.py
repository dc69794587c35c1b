"""Pickles: never read, refused by name, and the way out of them that the docs show."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange import configs
from robopolicy_datasets.registry import formats
from robopolicy_datasets.store import DemoStore

DOCS = Path(__file__).resolve().parents[2] / "docs" / "exchange.md"
FORMATS = {
    "diffusion_policy": configs.DiffusionPolicyFormatConfig(),
    "robomimic": configs.RobomimicFormatConfig(),
    "aloha": configs.AlohaFormatConfig(),
    "lerobot": configs.LeRobotFormatConfig(),
}


class Trap:
    """Leaves a file behind where its pickle is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "code was run"


def openings(tmp_path):
    """Every way to a file: opening it, and importing it as each format."""
    yield lambda path: DemoStore.open(path)
    for name, config in FORMATS.items():
        yield lambda path, name=name, config=config: formats.build(name, config, path, tmp_path / "new.zarr")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["demos.pickle", "demos.zarr", "demos.zip", "demos.hdf5"])
def test_a_pickle_is_refused_by_name_and_never_read(tmp_path, mark, protocol, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps([Trap(mark), {"action": np.zeros((300, 7))}], protocol))
    for open_ in openings(tmp_path):
        with pytest.raises(StoreError, match=f"{name} is a pickle, which can run code when it is read"):
            open_(path)
    assert not mark.exists()
    assert os.listdir(tmp_path) == [name]


def test_a_folder_of_pickles_is_refused_by_name(tmp_path):
    folder = tmp_path / "demos"
    folder.mkdir()
    (folder / "README.txt").write_text("N.")
    (folder / "0.pkl").write_bytes(pickle.dumps({}))
    for open_ in openings(tmp_path):
        with pytest.raises(StoreError, match=r"demos/0\.pkl is a pickle"):
            open_(folder)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"\x80\x63", b"There is nothing. Not here.", b"N.N", b"{}\n"]
)
def test_what_is_no_pickle_is_not_called_one(tmp_path, content):
    path = tmp_path / "demos.bin"
    path.write_bytes(content)
    for open_ in openings(tmp_path):
        with pytest.raises(StoreError) as caught:
            open_(path)
        assert "is a pickle" not in str(caught.value)


def recipe() -> str:
    section = DOCS.read_text().partition("## Pickles")[2]
    return section.partition("```python\n")[2].partition("```")[0]


def run_recipe(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", recipe()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_recipe_of_the_docs_converts_the_real_demonstrations(shared_data, tmp_path):
    source = shared_data / "adroit_door_human" / "door-v0_demos.pickle"
    (tmp_path / source.name).symlink_to(source)
    done = run_recipe(tmp_path)
    assert (done.returncode, done.stdout) == (0, "25 episodes, 6729 steps\n"), done.stderr
    demos = pickle.loads(source.read_bytes())
    for episode, demo in zip(DemoStore.open(tmp_path / "door.zarr"), demos, strict=True):
        np.testing.assert_array_equal(episode.data["action"], demo["actions"])
        np.testing.assert_array_equal(episode.data["state"], demo["observations"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_recipe_of_the_docs_runs_no_code(tmp_path, mark, protocol):
    (tmp_path / "door-v0_demos.pickle").write_bytes(pickle.dumps([Trap(mark)], protocol))
    done = run_recipe(tmp_path)
    assert done.returncode == 1
    assert "mkdir, which is no array" in done.stderr
    assert not mark.exists()
