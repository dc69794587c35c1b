"""The command line: help without heavy imports, one clear line for every mistake, exit codes."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import tasks
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore
from robopolicy_launch import benchmarks, command
from robopolicy_launch.verbs import VERBS

HEAVY = ("torch", "mujoco", "gymnasium", "matplotlib", "zarr", "cv2", "scipy", "av", "pyarrow")

HELP_IN_A_NEW_PROCESS = """
import sys
from robopolicy_launch.command import main
codes = [main(words.split()) for words in sys.argv[1:]]
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
print("codes:", *codes)
"""


def test_help_of_every_verb_loads_nothing_heavy():
    words = [
        "",
        "--help",
        "data --help",
        *(f"{name} --help" for name in VERBS),
        "train policy=diffusion --help",
    ]
    result = subprocess.run(
        [sys.executable, "-c", HELP_IN_A_NEW_PROCESS, *words], capture_output=True, text=True, check=True
    )
    *text, loaded, codes = result.stdout.splitlines()
    assert not set(loaded.split()) & set(HEAVY)
    assert set(codes.split()[1:]) == {"0"}
    assert result.stderr == ""
    shown = "\n".join(text)
    for expected in (
        *(verb.summary for verb in VERBS.values()),
        ", ".join(tasks.names()),  # choices
        "trainer.gradient_clip: float = 1.0",  # a key, its type and its default
        "data: list[str] = required",
        "largest gradient norm",  # its meaning
        "policy.noise_levels: int = 100",  # a key of the chosen component
    ):
        assert expected in shown


MISTAKES = [
    # what is typed, the nearest name, what was wrong
    ("trian", "train", "trian"),
    ("data impotr", "import", "impotr"),
    ("train policy=flwo data=x", "flow", "flwo"),
    ("train polciy=flow data=x", "policy", "polciy"),
    ("eval task=pushtstate checkpoint=x", "pusht_state", "pushtstate"),
    ("train trainer.lerning_rate=1 data=x", "trainer.learning_rate", "trainer.lerning_rate"),
    ("train learning_rate=1 data=x", "trainer.learning_rate", "learning_rate"),
    ("train policy.encoder.chanels=[1] data=x", "policy.encoder.channels", "policy.encoder.chanels"),
    ("collect episode=3", "episodes", "episode"),
    ("train trainer.steps=abc data=x", "trainer.steps takes int", "abc"),
    ("train trainer.steps=1.5 data=x", "trainer.steps takes int", "1.5"),
    ("train trainer.betas=[1] policy.unet.channels=wide data=x", "list[int]", "wide"),
    ("train trainer.bf16=perhaps data=x", "bool", "perhaps"),
    ("train trainer.steps.more=1 data=x", "single value", "trainer.steps.more"),
    ("train", "data=<list[str]>", "data"),
    ("eval checkpoint=.", "task=" + "|".join(tasks.names()), "task"),
    ("eval checkpoint=. task.max_steps=60", "task=", "needs a task"),
    ("serve", "checkpoint=<str>", "checkpoint"),
    ("deploy", "server=ws://", "checkpoint=FOLDER"),
    ("deploy x server=ws://127.0.0.1:8000", "one of the two", "checkpoint=FOLDER"),
    ("serve x prot=1", "port", "prot"),
    ("eval runs/nothing", "does not exist", "runs/nothing"),
    ("bench trian", "suite", "trian"),
    ("data", "info, import", "data"),
    ("collect --epsiodes 3", "key=value", "--epsiodes"),
    ("collect ~runs", "key=value", "~runs"),
]


@pytest.mark.parametrize(("words", "hint", "wrong"), MISTAKES)
def test_mistake_gives_one_line_that_names_it_and_the_nearest_name(words, hint, wrong, capsys):
    assert command.main(words.split()) == command.NOT_UNDERSTOOD
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert hint in output.err
    assert wrong in output.err
    assert "Traceback" not in output.err


def test_installed_command_reports_mistakes_through_its_exit_code(robopolicy):
    result = robopolicy("bench", "smaple")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert robopolicy("bnech").returncode == 2


def test_missing_store_is_one_line_and_exit_code_1(capsys, tmp_path):
    assert command.main(["data", "info", str(tmp_path / "none.zarr")]) == command.FAILED
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert str(tmp_path / "none.zarr") in error


def test_debug_shows_the_traceback(capsys, tmp_path):
    assert command.main(["data", "info", str(tmp_path / "none.zarr"), "--debug"]) == command.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_missing_checkpoint_leaves_no_run_folder(capsys, tmp_path):
    words = ["eval", f"checkpoint={tmp_path}", "task=pick_place", f"runs={tmp_path / 'runs'}"]
    assert command.main(words) == command.FAILED
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DeviceError("The arm is off."), "The arm is off."),
        (OSError(errno.ENOSPC, "x", "/a/b"), "The disk is full: '/a/b'"),
        (OSError(errno.EROFS, "x", "/a/b"), "'/a/b' could not be used: the file system is read-only"),
        (PermissionError(errno.EACCES, "x", "/a/b"), "'/a/b' could not be used: permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "x", "/a/b"), "'/a/b': a file is where a folder is needed"),
        (FileNotFoundError(errno.ENOENT, "x", "/a/b"), "'/a/b' does not exist"),
        (ModuleNotFoundError("No module named 'mujoco'", name="mujoco"), "pip install 'robopolicy[sim]'"),
        (ValueError("too odd"), "Unexpected ValueError: too odd"),
    ],
)
def test_explanations(error, expected):
    assert expected in command.explain(error)


# --- a disk that is full or read-only, made of real file systems in a namespace of our own ------------------


@pytest.mark.parametrize(("options", "expected"), [("ro", "read-only"), ("size=200k", "no space left")])
def test_collect_on_an_unusable_disk_is_one_clear_line(
    robopolicy, on_file_system, tmp_path, options, expected
):
    folder = tmp_path / "disk"
    folder.mkdir()
    result = robopolicy("collect", "episodes=2", f"runs={folder}", prefix=on_file_system(options, folder))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert expected in result.stderr.lower()
    assert str(folder) in result.stderr


def test_collect_says_where_its_store_cannot_be_created(capsys, tmp_path):
    words = ["collect", "episodes=1", "output=/proc/nowhere/demos.zarr", f"runs={tmp_path}"]
    assert command.main(words) == command.FAILED
    error = capsys.readouterr().err
    for text in ("'/proc/nowhere'", "cannot be created", "output="):
        assert text in error
    assert not list((tmp_path / "collect").iterdir())


def test_collect_refuses_a_task_that_the_expert_does_not_know(capsys, tmp_path):
    assert command.main(["collect", "task=pusht_state", f"runs={tmp_path}"]) == command.FAILED
    assert re.search(r"task=pusht_state; it knows: .*pick_place", capsys.readouterr().err)


# --- bench --------------------------------------------------------------------------------------------------

SUITE = '''
"""Two numbers that need no measuring."""
from robopolicy_launch.benchmarks import Row

def run():
    yield Row("step", ours=3.0, reference=4.0, compared_with="plain torch")
    yield Row("load", ours=1.0, reference=10.0, unit="us")
'''


def test_a_store_goes_out_and_comes_back(capsys, tmp_path):
    store = DemoStore.create(tmp_path / "a.zarr", Spec((), (Feature("action", (2,)),)), rate_hz=10)
    store.append_episode({"action": np.ones((4, 2), np.float32)})
    assert command.main(["data", "export", str(store.path), str(tmp_path / "set"), "format=lerobot"]) == 0
    assert (
        command.main(["data", "import", str(tmp_path / "set"), str(tmp_path / "b.zarr"), "format=lerobot"])
        == 0
    )
    assert (DemoStore.open(tmp_path / "b.zarr").array("action") == 1).all()
    words = ["data", "export", str(store.path), str(tmp_path / "c"), "format=aloha"]
    assert command.main(words) == 1
    assert "importing only. Exported are: diffusion_policy, lerobot, robomimic" in capsys.readouterr().err


def test_bench_prints_ratios_and_keeps_them_as_flat_keys(capsys, tmp_path, monkeypatch):
    (tmp_path / "arithmetic.py").write_text(SUITE)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    assert command.main(["bench", "arithmetic", f"runs={tmp_path / 'runs'}"]) == 0
    printed = capsys.readouterr().out
    for text in ("plain torch", "0.75", "step_ratio", "load_reference_us"):
        assert text in printed
    (summary,) = (tmp_path / "runs" / "bench").glob("*-arithmetic/summary.json")
    figures = json.loads(summary.read_text())
    assert figures["step_ratio"] == 0.75
    assert figures["load_ratio"] == 0.1
    assert command.main(["bench", "arithmtic"]) == command.NOT_UNDERSTOOD
    assert "arithmetic" in capsys.readouterr().err
