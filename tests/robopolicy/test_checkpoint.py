"""Checkpoints: what is saved comes back, damage is told in one line, and a crash leaves a good one."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from robopolicy.checkpoint import find_checkpoint, load_policy, read_config, save_policy, write_folder
from robopolicy.policies.configs import FlowConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy_datasets.errors import CheckpointError, ConfigError, RobopolicyError, UnknownNameError
from robopolicy_drivers.runtime.certificate import POLICY_FILES

from .conftest import PLANE_SPEC, tiny


def make_policy(seed=0):
    torch.manual_seed(seed)
    return FlowPolicy(tiny(FlowConfig, net="mlp"), PLANE_SPEC, 0.1)


@pytest.fixture
def checkpoint(tmp_path):
    return save_policy(make_policy(), tmp_path / "checkpoint", name="flow", details={"steps": 7})


def chunk_of(policy):
    observation = {f.key: np.ones((1, 2, *f.shape), dtype=f.dtype) for f in policy.spec.observation}
    return policy.infer(observation, seeds=[0])


def test_the_folder_holds_readable_parts(checkpoint):
    assert sorted(file.name for file in checkpoint.iterdir()) == sorted(POLICY_FILES)
    config = read_config(checkpoint)
    assert (config["schema"], config["policy"], config["steps"], config["dt"]) == (1, "flow", 7, 0.1)
    assert config["config"]["mlp"]["width"] == 96
    assert [feature["key"] for feature in config["spec"]["action"]] == ["action"]


def test_a_run_folder_means_its_last_checkpoint(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "run" / "checkpoints" / "last")
    policy = load_policy(tmp_path / "run")
    assert not policy.training
    np.testing.assert_array_equal(chunk_of(policy), chunk_of(load_policy(checkpoint)))


def test_other_weights_can_be_saved_in_place_of_the_policys_own(tmp_path):
    policy, other = make_policy(0), make_policy(1)
    weights = dict(other.named_parameters())
    loaded = load_policy(save_policy(policy, tmp_path / "saved", name="flow", weights=weights))
    np.testing.assert_array_equal(chunk_of(loaded), chunk_of(other))


def test_threads_are_set_when_asked(checkpoint):
    load_policy(checkpoint, threads=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


# --- damage -------------------------------------------------------------------------------------------------


def edit(checkpoint, change):
    file = checkpoint / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def truncate(name, size):
    return lambda checkpoint: os.truncate(checkpoint / name, size)


def without(name):
    return lambda checkpoint: (checkpoint / name).unlink()


def text(content):
    return lambda checkpoint: (checkpoint / "config.json").write_text(content)


def other_sizes(config):
    config["config"]["mlp"]["width"] = 32


DAMAGE = {
    "no folder": (shutil.rmtree, "does not exist"),
    "no config": (without("config.json"), "no config.json"),
    "no weights": (without("model.safetensors"), "model.safetensors"),
    "no normalizer": (without("normalizer.safetensors"), "normalizer.safetensors"),
    "truncated weights": (truncate("model.safetensors", 5000), "cannot be used"),
    "truncated header": (truncate("model.safetensors", 5), "cannot be used"),
    "empty weights": (truncate("normalizer.safetensors", 0), "cannot be used"),
    "truncated config": (truncate("config.json", 40), "cannot be read"),
    "config of bytes": (lambda c: (c / "config.json").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "config is a list": (text("[1]"), "no schema number"),
    "config of another program": (text('{"type": "act"}'), "no schema number"),
    "newer schema": (lambda c: edit(c, lambda j: j.update(schema=99)), "reads up to 1. Upgrade"),
    "newer schema without our keys": (text('{"schema": 2}'), "reads up to 1. Upgrade"),
    "missing keys": (lambda c: edit(c, lambda j: [j.pop("spec"), j.pop("dt")]), "lacks dt, spec"),
    "wrong config key": (lambda c: edit(c, lambda j: j["config"].update(horizont=3)), "horizont"),
    "wrong config type": (lambda c: edit(c, lambda j: j["config"].update(horizon="long")), "long"),
    "config is no mapping": (lambda c: edit(c, lambda j: j.update(config=3)), "does not fit FlowConfig"),
    "no Spec": (lambda c: edit(c, lambda j: j.update(spec={"a": 1})), "not a Spec"),
    "no dt": (lambda c: edit(c, lambda j: j.update(dt="soon")), "soon"),
    "dt of nothing": (lambda c: edit(c, lambda j: j.update(dt=0.0)), "dt is 0.0"),
    "dt is not finite": (lambda c: edit(c, lambda j: j.update(dt=float("nan"))), "dt is nan"),
    "policy is no name": (lambda c: edit(c, lambda j: j.update(policy=["flow"])), "cannot be used"),
    "sizes are no numbers": (
        lambda c: edit(c, lambda j: j["config"]["unet"].update(channels=[[8]])),
        "cannot be",
    ),
    "other sizes": (lambda c: edit(c, other_sizes), "size mismatch"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_clear_line(checkpoint, name):
    damage, words = DAMAGE[name]
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_policy(checkpoint)
    message = str(caught.value)
    assert str(checkpoint) in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 700


def test_impossible_settings_unknown_policies_and_devices_are_told(checkpoint):
    with pytest.raises(ConfigError, match="'warp'"):
        load_policy(checkpoint, device="warp")
    edit(checkpoint, lambda config: config["config"].update(horizon=0))
    with pytest.raises(ConfigError, match="horizon is 0"):
        load_policy(checkpoint)
    edit(checkpoint, lambda config: config.update(policy="flov"))
    with pytest.raises(UnknownNameError, match="Did you mean 'flow'"):
        load_policy(checkpoint)


def test_a_normalizer_that_is_not_finite_is_refused(tmp_path):
    policy = make_policy()
    policy.normalizer.action_scale[0] = float("nan")
    saved = save_policy(policy, tmp_path / "saved", name="flow")
    with pytest.raises(CheckpointError, match="action_scale"):
        load_policy(saved)


# --- writing ------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_checkpoint(checkpoint):
    before = chunk_of(load_policy(checkpoint))

    def fail(folder: Path) -> None:
        (folder / "more").write_text("some")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        save_policy(make_policy(1), checkpoint, name="flow", extra=fail)
    np.testing.assert_array_equal(chunk_of(load_policy(checkpoint)), before)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"cannot be written.*may write to"):
        save_policy(make_policy(), tmp_path / "file" / "checkpoint", name="flow")
    assert (tmp_path / "file").read_text() == "mine"


FULL_DISK = """
import resource, sys
from pathlib import Path
from robopolicy.checkpoint import load_policy, save_policy
from robopolicy_datasets.errors import CheckpointError
policy = load_policy(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    save_policy(policy, Path(sys.argv[1]), name="flow")
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_checkpoint(checkpoint):
    """A limit on the size of files fails writes as a full disk does."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(checkpoint)], capture_output=True, text=True
    )
    assert "cannot be written" in result.stdout, result.stderr
    assert "Free some space" in result.stdout
    load_policy(checkpoint)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


@pytest.mark.parametrize("moment", ["between the renames", "while the next is written", "both"])
def test_a_crash_between_two_steps_is_recovered_from(checkpoint, moment):
    before = chunk_of(load_policy(checkpoint))
    old, fresh = (checkpoint.with_name(checkpoint.name + end) for end in (".old", ".new"))
    if moment != "while the next is written":
        checkpoint.rename(old)
    if moment != "between the renames":
        fresh.mkdir()
        (fresh / "model.safetensors").write_bytes(b"half")
    np.testing.assert_array_equal(chunk_of(load_policy(checkpoint)), before)
    save_policy(make_policy(1), checkpoint, name="flow")
    np.testing.assert_array_equal(chunk_of(load_policy(checkpoint)), chunk_of(make_policy(1)))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]


def test_the_only_good_checkpoint_outlives_every_rename(tmp_path, monkeypatch):
    """After a crash between the renames the next save is killed at each of its own in turn."""
    target = tmp_path / "last"
    write_folder(target, lambda folder: (folder / "config.json").write_text("1"))
    target.rename(tmp_path / "last.old")
    rename = Path.rename

    def crash(self, other):
        assert find_checkpoint(target).is_dir()
        rename(self, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        write_folder(target, lambda folder: (folder / "config.json").write_text("2"))
    assert find_checkpoint(target).is_dir()


def test_a_killed_writer_leaves_a_checkpoint_that_loads(tmp_path, count):
    """A process saves one checkpoint after the other into the same folder until SIGKILL."""
    policy = make_policy()
    last = tmp_path / "run" / "checkpoints" / "last"
    save_policy(policy, last, name="flow")
    chooser = random.Random(0)
    for _ in range(count(8, 300)):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    save_policy(policy, last, name="flow")
            finally:
                os._exit(1)
        time.sleep(chooser.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = find_checkpoint(tmp_path / "run")
        assert found.parent == last.parent
        load_policy(tmp_path / "run")


def test_every_error_is_ours():
    assert issubclass(CheckpointError, RobopolicyError)
