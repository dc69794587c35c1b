"""The trainer: curves that continue, data that is kept apart, bad input that is told."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import load_file, save_file
from torch import nn

from robopolicy.checkpoint import find_checkpoint, load_policy
from robopolicy.policies.configs import FlowConfig
from robopolicy.training import data, trainer
from robopolicy.training.batches import mirror_some, to_tensors
from robopolicy.training.configs import TrainerConfig
from robopolicy.training.ema import AveragedWeights
from robopolicy.training.metrics import MetricsLog, read_metrics
from robopolicy.training.trainer import Trainer, train
from robopolicy_datasets.errors import CheckpointError, ConfigError, StoreError
from robopolicy_datasets.registry import policies
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.windows import KeyWindow, WindowSampler, prefetch, split_episodes

from .conftest import IMAGE_SPEC, PLANE_SPEC, episode, tiny

POLICY = tiny(FlowConfig, net="mlp", observation_keys=["agent_pos"], normalization="limits")


def settings(**changes):
    defaults = {
        "steps": 40,
        "batch_size": 16,
        "warmup_steps": 5,
        "device": "cpu",
        "validation_fraction": 0.3,
        "validate_every": 20,
        "log_every": 5,
        "checkpoint_every": 10,
    }
    return TrainerConfig(**{**defaults, **changes})


def curve(folder):
    """The rows of metrics without what depends on the clock."""
    return {
        row["step"]: {name: value for name, value in row.items() if name != "seconds"}
        for row in read_metrics(folder)
    }


def tensors_of(folder):
    return load_file(find_checkpoint(folder) / "model.safetensors")


def assert_same_training(folder, reference):
    """All rows of the reference's curve and the last weights are there, bit for bit."""
    rows, wanted = curve(folder), curve(reference)
    assert {step: rows.get(step) for step in wanted} == wanted
    tensors, expected = tensors_of(folder), tensors_of(reference)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


# --- a whole run --------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_its_parts(make_store, tmp_path):
    calls = []

    def callback(step, policy, seconds):
        calls.append((step, policy.training, seconds > 0))
        return {"score": step / 100}

    summary = train("flow", POLICY, settings(), make_store(), tmp_path / "run", callbacks=[callback])
    rows = curve(tmp_path / "run")
    assert list(rows) == [*range(5, 41, 5)]
    assert rows[40]["train_loss"] < 0.7 * rows[5]["train_loss"]
    assert [step for step, row in rows.items() if "validation_loss" in row] == [20, 40]
    assert {step: row["score"] for step, row in rows.items() if "score" in row} == {
        10: 0.1,
        20: 0.2,
        30: 0.3,
        40: 0.4,
    }
    assert [call[0] for call in calls] == [10, 20, 30, 40]
    assert all(call[2] for call in calls)
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    policy = load_policy(tmp_path / "run")
    assert summary["parameters"] == sum(parameter.numel() for parameter in policy.parameters())
    assert (summary["steps"], summary["interrupted"], summary["score"]) == (40, 0, 0.4)
    assert {"train_loss", "validation_loss", "action_error", "train_seconds"} <= summary.keys()
    config = json.loads((tmp_path / "run" / "checkpoints" / "last" / "config.json").read_text())
    assert (config["seed"], config["steps"]) == (0, 40)
    assert config["data_fingerprint"]


def test_the_learning_rate_warms_up_and_falls_to_zero(make_store, tmp_path):
    config = settings(steps=50, warmup_steps=10, log_every=1, checkpoint_every=50, learning_rate=1e-3)
    train("flow", POLICY, config, make_store(), tmp_path / "run")
    rates = [row["learning_rate"] for row in curve(tmp_path / "run").values()]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3, rel=0.1)
    assert np.argmax(rates) == 9
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize("net", ["mlp", "unet"])
def test_bfloat16_learns_as_float32_does(make_store, tmp_path, net, monkeypatch):
    monkeypatch.setattr(trainer, "computes_bf16", lambda device: True)  # also where it is only imitated
    store, config = make_store(spec=IMAGE_SPEC), tiny(FlowConfig, net=net)
    losses = []
    for bf16 in (False, True):
        folder = tmp_path / f"run-{bf16}"
        train(
            "flow", config, settings(steps=10, batch_size=32, checkpoint_every=10, bf16=bf16), store, folder
        )
        losses.append([row["train_loss"] for row in curve(folder).values()])
        assert all(tensor.dtype == torch.float32 for tensor in tensors_of(folder).values())
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    assert losses[0] != losses[1]


def test_bfloat16_is_left_where_the_processor_cannot(make_store, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    for bf16 in (False, True):
        train("flow", POLICY, settings(bf16=bf16), make_store(f"{bf16}.zarr"), tmp_path / f"run-{bf16}")
    assert_same_training(tmp_path / "run-True", tmp_path / "run-False")


def turned(key, values):
    """The mirror of a task that looks the same when all its numbers change their sign."""
    return -values


def test_half_of_the_windows_are_seen_in_the_mirror(make_store):
    sampler = WindowSampler(
        make_store(), observation={"agent_pos": KeyWindow.past(2)}, action=KeyWindow(-1, 8)
    )
    batch = sampler.gather(np.arange(64))
    mirrored = mirror_some(batch, turned, seed=0)
    pairs = zip(batch["action"], mirrored["action"], strict=True)
    flipped = np.array([np.array_equal(after, -before) for before, after in pairs])
    assert 16 < flipped.sum() < 48
    sign = np.where(flipped, -1.0, 1.0)[:, None, None]
    np.testing.assert_array_equal(mirrored["action"], sign * batch["action"])
    seen, expected = mirrored["observation"]["agent_pos"], batch["observation"]["agent_pos"]
    np.testing.assert_array_equal(seen, sign * expected)


def test_a_mirror_and_the_way_to_the_device_lose_no_part_of_a_batch():
    numbers = np.arange(1.0, 9.0, dtype=np.float32).reshape(8, 1)
    touch = {"value": numbers[..., None], "time_ns": np.zeros((8, 1), np.int64), "mask": numbers > 3}
    mask = {"observation": {"agent_pos": numbers > 4}, "action": numbers > 5}
    batch = {"observation": {"agent_pos": numbers}, "action": numbers, "mask": mask}
    batch |= {"streams": {"touch": touch}, "source": np.arange(8)}
    mirrored = to_tensors(mirror_some(batch, turned, seed=0), "cpu")
    sign = mirrored["action"].sign().numpy()
    assert set(sign.flatten().tolist()) == {-1, 1}
    np.testing.assert_array_equal(mirrored["action"].numpy() * sign, numbers)
    assert torch.equal(mirrored["observation"]["agent_pos"], mirrored["action"])
    assert torch.equal(mirrored["streams"]["touch"]["value"][..., 0], mirrored["action"])
    for part, wanted in (
        (mirrored["source"], np.arange(8)),
        (mirrored["mask"]["action"], mask["action"]),
        (mirrored["mask"]["observation"]["agent_pos"], mask["observation"]["agent_pos"]),
        (mirrored["streams"]["touch"]["mask"], touch["mask"]),
        (mirrored["streams"]["touch"]["time_ns"], touch["time_ns"]),
    ):
        np.testing.assert_array_equal(part.numpy(), wanted)


def test_a_mirror_teaches_what_no_demonstration_shows(make_store, tmp_path):
    """All demonstrations lie on one side; with the mirror the policy knows the other side as well."""
    store = DemoStore.create(tmp_path / "one-sided.zarr", PLANE_SPEC, rate_hz=10.0)
    for index in range(6):
        data = episode(PLANE_SPEC, 30, seed=index)
        position = 1.0 + 0.1 * data["agent_pos"]
        store.append_episode({**data, "agent_pos": position, "action": position})
    errors = []
    for mirror in (True, False):
        config = settings(steps=300, learning_rate=3e-3, mirror=mirror)
        train("flow", POLICY, config, store, tmp_path / f"run-{mirror}", mirror=turned)
        policy = load_policy(tmp_path / f"run-{mirror}")
        place = np.full((1, policy.observation_steps, 2), -1.0, np.float32)
        errors.append(np.abs(policy.infer({"agent_pos": place}, seeds=[0]) - (-1.0)).mean())
    assert errors[0] < 0.2 < errors[1]


def test_a_mirrored_training_resumes_on_its_curve(make_store, tmp_path):
    store = make_store()
    train("flow", POLICY, settings(), store, tmp_path / "whole", mirror=turned)
    with pytest.raises(Failure):
        train("flow", POLICY, settings(), store, tmp_path / "run", mirror=turned, callbacks=[fail_at(20)])
    train("flow", POLICY, settings(), store, tmp_path / "run", resume=True, mirror=turned)
    assert_same_training(tmp_path / "run", tmp_path / "whole")


def test_seeds_decide_everything(make_store, tmp_path):
    store = make_store()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)
        train("flow", POLICY, settings(steps=10, seed=seed), store, tmp_path / name)
    assert_same_training(tmp_path / "b", tmp_path / "a")
    assert curve(tmp_path / "c") != curve(tmp_path / "a")


# --- interruptions ------------------------------------------------------------------------------------------


@pytest.fixture
def uninterrupted(make_store, tmp_path):
    store = make_store()
    train("flow", POLICY, settings(), store, tmp_path / "whole")
    return store, tmp_path / "whole"


class Failure(Exception):
    pass


def fail_at(step_to_fail):
    def callback(step, policy, seconds):
        if step == step_to_fail:
            raise Failure
        return {}

    return callback


def test_a_run_that_failed_continues_the_same_curve(uninterrupted, tmp_path):
    store, whole = uninterrupted
    with pytest.raises(Failure):
        train("flow", POLICY, settings(), store, tmp_path / "run", callbacks=[fail_at(20)])
    assert max(curve(tmp_path / "run")) == 20
    summary = train("flow", POLICY, settings(), store, tmp_path / "run", resume=True)
    assert summary["steps"] == 40
    assert_same_training(tmp_path / "run", whole)


def test_rows_after_the_last_checkpoint_are_written_again(uninterrupted, tmp_path):
    """As after a kill: the curve ran ahead of the checkpoint, and its last line is half written."""
    store, whole = uninterrupted
    with pytest.raises(Failure):
        train("flow", POLICY, settings(), store, tmp_path / "run", callbacks=[fail_at(20)])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "train_loss": 9.0}\n{"step": 30, "tra')
    train("flow", POLICY, settings(), store, tmp_path / "run", resume=True)
    assert list(curve(tmp_path / "run")) == list(curve(whole))
    assert_same_training(tmp_path / "run", whole)


@pytest.mark.parametrize("images", [False, True])
def test_an_interrupt_between_two_rows_continues_the_same_curve(make_store, tmp_path, images):
    """A real SIGINT at a step at which nothing else is due."""
    store = make_store(spec=IMAGE_SPEC if images else PLANE_SPEC)
    policy = tiny(FlowConfig, net="mlp")
    config = settings(steps=16, validate_every=8, log_every=4, checkpoint_every=8)
    train("flow", policy, config, store, tmp_path / "whole")

    def interrupt(step, policy, seconds):
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    handler = signal.getsignal(signal.SIGINT)
    summary = train("flow", policy, config, store, tmp_path / "run", callbacks=[interrupt])
    assert signal.getsignal(signal.SIGINT) is handler
    assert (summary["steps"], summary["interrupted"]) == (9, 1)
    load_policy(tmp_path / "run")
    summary = train("flow", policy, config, store, tmp_path / "run", resume=True)
    assert (summary["steps"], summary["interrupted"]) == (16, 0)
    assert sorted(curve(tmp_path / "run")) == [4, 8, 9, 12, 16]
    assert_same_training(tmp_path / "run", tmp_path / "whole")


def test_a_second_interrupt_stops_at_once(make_store, tmp_path):
    def interrupt(step, policy, seconds):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second interrupt was swallowed")

    with pytest.raises(KeyboardInterrupt):
        train("flow", POLICY, settings(), make_store(), tmp_path / "run", callbacks=[interrupt])
    load_policy(tmp_path / "run")


TRAIN = """
import json, sys
from robopolicy.policies.configs import FlowConfig, MlpConfig
from robopolicy.training.configs import TrainerConfig
from robopolicy.training.trainer import train
from robopolicy_datasets.store.demo_store import DemoStore
policy = FlowConfig(horizon=8, action_steps=4, net="mlp", mlp=MlpConfig(width=32, blocks=1, embedding=16))
trainer = TrainerConfig(steps=1_000_000, batch_size=16, device="cpu", threads=1, log_every=5)
print(json.dumps(train("flow", policy, trainer, DemoStore.open(sys.argv[1]), sys.argv[2])))
"""


def test_ctrl_c_leaves_a_usable_checkpoint(make_store, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(make_store().path), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while len(read_metrics(tmp_path / "run")) < 3 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert "usable checkpoint" in log
    summary = json.loads(output)
    assert summary["interrupted"] == 1
    assert summary["steps"] >= 15
    policy = load_policy(tmp_path / "run")
    assert policy.infer({f.key: np.zeros((1, 2, *f.shape), "f4") for f in PLANE_SPEC.observation}).shape == (
        1,
        7,
        2,
    )


def test_a_finished_run_resumes_to_its_own_summary(uninterrupted):
    store, whole = uninterrupted
    before, rows = tensors_of(whole), curve(whole)
    summary = train("flow", POLICY, settings(), store, whole, resume=True)
    assert (summary["steps"], summary["interrupted"]) == (40, 0)
    assert summary["train_loss"] == rows[40]["train_loss"]
    assert curve(whole) == rows
    assert all(torch.equal(value, before[name]) for name, value in tensors_of(whole).items())


def test_resuming_finds_the_checkpoint_that_a_crash_left_behind(uninterrupted, tmp_path):
    store, whole = uninterrupted
    last = whole / "checkpoints" / "last"
    last.rename(last.with_name("last.old"))
    assert train("flow", POLICY, settings(), store, whole, resume=True)["steps"] == 40


# --- several processes --------------------------------------------------------------------------------------

DISTRIBUTED = """
import hashlib, json, os, signal, sys
from pathlib import Path
import torch
from robopolicy.policies.configs import FlowConfig, MlpConfig
from robopolicy.training.configs import TrainerConfig
from robopolicy.training.trainer import Trainer
from robopolicy_datasets.store.demo_store import DemoStore

store, folder = DemoStore.open(sys.argv[1]), Path(sys.argv[2])
policy = FlowConfig(horizon=8, action_steps=4, net="mlp", mlp=MlpConfig(width=32, blocks=1, embedding=16))
config = TrainerConfig(
    steps=20, batch_size=8, device="cpu", threads=1, log_every=5, checkpoint_every=5, validation_fraction=0.3
)

def interrupt(step, policy, seconds):
    if step == 5:
        os.kill(os.getpid(), signal.SIGINT)
    return {}

runs = [("whole", False, ()), ("cut", False, (interrupt,)), ("cut", True, ())]
trainers = [Trainer("flow", policy, config, [store], folder / name, callbacks) for name, _, callbacks in runs]
# the first one made the process group, so it runs last: it leaves it at its end
for index in (1, 2, 0):
    trainer, (name, resume, _) = trainers[index], runs[index]
    assert trainer.ranks.owns_group == (index == 0)
    rank = trainer.ranks.rank
    summary = trainer.run(resume=resume)
    digest, average = (
        hashlib.sha256(b"".join(value.numpy().tobytes() for value in tensors.values())).hexdigest()
        for tensors in (trainer.policy.state_dict(), trainer.average.named())
    )
    (folder / f"{name}-{resume}-{rank}.json").write_text(
        json.dumps({"weights": digest, "average": average, **summary})
    )
assert not torch.distributed.is_initialized()
"""


def test_two_processes_train_one_policy(make_store, tmp_path):
    """torchrun with gloo: same weights on both, one writer, and interrupts that both follow."""
    script = tmp_path / "script.py"
    script.write_text(DISTRIBUTED)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    store = make_store()
    process = subprocess.Popen(
        [*command, str(store.path), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        _, log = process.communicate(timeout=200)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, log

    def report(name, resume, rank):
        return json.loads((tmp_path / f"{name}-{resume}-{rank}.json").read_text())

    for name, resume, steps in (("whole", False, 20), ("cut", False, 10), ("cut", True, 20)):
        first, second = report(name, resume, 0), report(name, resume, 1)
        assert (first["weights"], first["average"]) == (second["weights"], second["average"])
        assert (first["steps"], second["steps"]) == (steps, steps)
        assert first["interrupted"] == second["interrupted"] == float(steps < 20)
    assert report("cut", True, 0)["weights"] == report("whole", False, 0)["weights"]
    assert_same_training(tmp_path / "cut", tmp_path / "whole")
    lines = [row["step"] for row in read_metrics(tmp_path / "whole")]
    assert lines == [5, 10, 15, 20]  # written once
    assert len(list((tmp_path / "whole" / "tensorboard").iterdir())) == 1
    load_policy(tmp_path / "whole")


def test_ranks_see_different_windows_and_all_full_batches(make_store, tmp_path):
    trainer = Trainer("flow", POLICY, settings(), [make_store()], tmp_path / "run")
    seen = []
    for rank in range(2):
        trainer.ranks = dataclasses.replace(trainer.ranks, rank=rank, world_size=2)
        per_epoch = len(trainer.windows) // 32
        batches = trainer._batches(0)
        for _ in range(per_epoch):
            batch = next(batches)
            assert len(batch["action"]) == 16
            seen += [row.tobytes() for row in batch["action"]]
    assert len(seen) == len(set(seen))


# --- the data -----------------------------------------------------------------------------------------------


def marked_store(path):
    """Every episode holds its own number; the ones held out are far away from all others."""
    held_out = set(split_episodes(6, validation_fraction=0.3, seed=0)[1].tolist())
    store = DemoStore.create(path, PLANE_SPEC, rate_hz=10.0)
    for index in range(6):
        value = 1000.0 + index if index in held_out else float(index)
        data = episode(PLANE_SPEC, 30, seed=index)
        store.append_episode({key: np.full_like(array, value) for key, array in data.items()})
    return store, held_out


def test_validation_episodes_are_kept_out_of_training(tmp_path):
    store, held_out = marked_store(tmp_path / "demos.zarr")
    trainer = Trainer("flow", POLICY, settings(batch_size=8), [store], tmp_path / "run")
    assert held_out
    windows = trainer.windows.gather(np.arange(len(trainer.windows)))
    for values in (windows["action"], windows["observation"]["agent_pos"]):
        assert set(np.unique(values).tolist()) == set(range(6)) - held_out
    held = trainer.validation.windows
    assert set(np.unique(held.gather(np.arange(len(held)))["action"])) == {
        1000.0 + index for index in held_out
    }
    buffers = dict(trainer.policy.normalizer.named_buffers())
    training = sorted(set(range(6)) - held_out)
    low, high = training[0], training[-1]
    for key in ("agent_pos", "action"):
        assert buffers[f"{key}_center"].tolist() == [(low + high) / 2] * 2
        assert buffers[f"{key}_scale"].tolist() == [(high - low) / 2] * 2


@pytest.mark.parametrize("steps", [10, 31, 47, 63, 100])
def test_validation_samples_windows_of_all_held_out_episodes(make_store, tmp_path, steps):
    """Two episodes of so many steps each are held out."""
    store = make_store(episodes=6, steps=steps)
    validation = Trainer("flow", POLICY, settings(), [store], tmp_path / "run").validation
    assert len(validation.sampled) == min(64, 2 * steps)
    assert len(set(validation.sampled.tolist())) == len(validation.sampled)
    assert np.mean(validation.sampled >= steps) == pytest.approx(0.5, abs=0.1)


def test_several_stores_are_mixed_by_weight(tmp_path):
    """Trained on and held out are episodes of each; the normalizer knows the training episodes of all."""
    marked = [marked_store(tmp_path / f"{name}.zarr") for name in "ab"]
    stores = [store for store, _ in marked]
    trainer = Trainer("flow", POLICY, settings(batch_size=8), stores, tmp_path / "run", weights=[3, 1])
    assert len(trainer.windows) == 2 * len(Trainer("flow", POLICY, settings(), stores[:1], tmp_path).windows)
    sources = np.concatenate([batch["source"] for batch in itertools.islice(trainer._batches(0), 300)])
    assert np.mean(sources == 0) == pytest.approx(0.75, abs=0.02)
    for windows, far in ((trainer.windows, False), (trainer.validation.windows, True)):
        batch = windows.gather(np.arange(len(windows)))
        assert {bool(value > 500) for value in batch["action"].flat} == {far}
        assert set(batch["source"].tolist()) == {0, 1}
    assert np.mean(trainer.validation.windows.gather(trainer.validation.indices)["source"]) < 0.4
    buffers = dict(trainer.policy.normalizer.named_buffers())
    training = sorted(set(range(6)) - marked[0][1])
    assert buffers["action_center"].tolist() == [(training[0] + training[-1]) / 2] * 2
    alone = [Trainer("flow", POLICY, settings(), [store], tmp_path).fingerprint for store in stores]
    assert alone[0] == stores[0].fingerprint()
    assert trainer.fingerprint not in alone


def test_the_normalizer_covers_all_stores(tmp_path):
    stores = []
    for index, value in enumerate((-5.0, 7.0)):
        store = DemoStore.create(tmp_path / f"{index}.zarr", PLANE_SPEC, rate_hz=10.0)
        data = {key: np.full_like(array, value) for key, array in episode(PLANE_SPEC, 30, seed=0).items()}
        store.append_episode(data)
        stores.append(store)
    trainer = Trainer("flow", POLICY, settings(validation_fraction=0.0), stores, tmp_path / "run")
    buffers = dict(trainer.policy.normalizer.named_buffers())
    for key in ("agent_pos", "action"):
        assert buffers[f"{key}_center"].tolist() == [1.0, 1.0]
        assert buffers[f"{key}_scale"].tolist() == [6.0, 6.0]


def test_a_training_on_several_stores_resumes_on_its_curve(make_store, tmp_path):
    stores = [make_store("a.zarr"), make_store("b.zarr", episodes=3, steps=20)]
    train("flow", POLICY, settings(), stores, tmp_path / "whole", weights=[1, 2])
    with pytest.raises(Failure):
        train("flow", POLICY, settings(), stores, tmp_path / "run", weights=[1, 2], callbacks=[fail_at(20)])
    with pytest.raises(StoreError, match="other data"):
        train("flow", POLICY, settings(), stores[0], tmp_path / "run", resume=True)
    train("flow", POLICY, settings(), stores, tmp_path / "run", weights=[1, 2], resume=True)
    assert_same_training(tmp_path / "run", tmp_path / "whole")


def test_stores_that_do_not_go_together_are_told(make_store, tmp_path):
    stores = [make_store("a.zarr"), make_store("b.zarr", spec=IMAGE_SPEC)]
    config = dataclasses.replace(POLICY, observation_keys=["agent_pos", "block_angle"])
    with pytest.raises(StoreError, match=r"b.zarr lacks block_angle"):
        train("flow", config, settings(), stores, tmp_path / "run")
    for weights in ([1.0], [1.0, 0.0]):
        with pytest.raises(ConfigError, match="2 stores"):
            train("flow", POLICY, settings(), stores, tmp_path / "run", weights=weights)
    with pytest.raises(ConfigError, match="0 stores"):
        train("flow", POLICY, settings(), [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_from_disk_train_as_those_in_memory(make_store, tmp_path, monkeypatch):
    store, config = make_store(spec=IMAGE_SPEC), tiny(FlowConfig, net="mlp")
    ahead = []
    monkeypatch.setattr(trainer, "prefetch", lambda batches: ahead.append(1) or prefetch(batches))
    for name, memory in (("memory", 4 << 30), ("disk", 0)):
        monkeypatch.setattr(data, "IMAGE_MEMORY", memory)
        train("flow", config, settings(steps=10), store, tmp_path / name)
    assert_same_training(tmp_path / "disk", tmp_path / "memory")
    assert ahead == [1]
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("robopolicy-prefetch") for name in names)


def test_nothing_held_out_means_no_validation(make_store, tmp_path):
    config = settings(steps=5, validation_fraction=0.0)
    summary = train("flow", POLICY, config, make_store(episodes=2), tmp_path / "run")
    assert "validation_loss" not in summary
    assert summary["steps"] == 5


# --- bad input ----------------------------------------------------------------------------------------------


def test_a_store_with_nan_actions_is_refused(make_store, tmp_path):
    store = make_store()
    action = store.array("action").copy()
    action[7, 1] = np.nan
    group = zarr.open_group(tmp_path / "foreign.zarr", mode="w", zarr_format=2)
    for key in ("agent_pos", "block_angle"):
        group.create_array(f"data/{key}", data=store.array(key))
    group.create_array("data/action", data=action)
    group.create_array("meta/episode_ends", data=np.asarray(store.episode_ends))
    foreign = DemoStore.open(tmp_path / "foreign.zarr")
    with pytest.raises(StoreError, match="rate"):  # what such a store lacks comes first
        train("flow", POLICY, settings(), foreign, tmp_path / "run")
    foreign._files.rate_hz = 10.0
    with pytest.raises(StoreError, match=r"'action' .* not finite .* in episode 0 at step 7"):
        train("flow", POLICY, settings(validation_fraction=0), foreign, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("store", "changes", "words"),
    [
        (
            {"episodes": 2, "steps": 10},
            {"batch_size": 500},
            r"training windows in 1 episodes.*lower trainer.batch_size",
        ),
        ({"episodes": 0}, {}, "no episodes"),
        ({"episodes": 3, "steps": 1}, {}, "2 training windows in 2 episodes"),
    ],
)
def test_too_little_data_is_told(make_store, tmp_path, store, changes, words):
    with pytest.raises(StoreError, match=words):
        train("flow", POLICY, settings(**changes), make_store(**store), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "trainer.steps is 0"),
        ({"batch_size": 0}, "trainer.batch_size is 0"),
        ({"log_every": 0}, "trainer.log_every is 0"),
        ({"warmup_steps": -1}, "trainer.warmup_steps is -1"),
        ({"learning_rate": 0.0}, "trainer.learning_rate is 0.0"),
        ({"gradient_clip": 0.0}, "trainer.gradient_clip is 0.0"),
        ({"validation_fraction": 1.0}, "trainer.validation_fraction is 1.0"),
        ({"ema_decay": 1.0}, "trainer.ema_decay is 1.0"),
        ({"seed": -1}, "trainer.seed is -1"),
        ({"device": "gpu"}, "Allowed: auto, cpu, cuda"),
    ],
)
def test_impossible_settings_are_told(make_store, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        train("flow", POLICY, settings(**changes), make_store(), tmp_path / "run")


def test_a_run_folder_that_cannot_be_written_is_told(make_store, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=r"cannot be written.*choose a folder"):
            train("flow", POLICY, settings(), make_store(f"{folder.name}.zarr"), folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_training_is_not_overwritten(uninterrupted):
    store, whole = uninterrupted
    rows = curve(whole)
    with pytest.raises(ConfigError, match="holds a training already"):
        train("flow", POLICY, settings(), store, whole)
    assert curve(whole) == rows


def test_resuming_what_does_not_fit_is_told(uninterrupted, make_store, tmp_path):
    store, whole = uninterrupted
    rows = curve(whole)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train("flow", POLICY, settings(), store, tmp_path / "nowhere", resume=True)
    with pytest.raises(StoreError, match="other data"):
        train("flow", POLICY, settings(), make_store("other.zarr", episodes=7), whole, resume=True)
    other = tiny(FlowConfig, net="unet", observation_keys=["agent_pos"])
    with pytest.raises(CheckpointError, match="must be those of the run") as caught:
        train("flow", other, settings(), store, whole, resume=True)
    assert "\n" not in str(caught.value)
    for name in ("training_state.safetensors", "training_progress.json", "model.safetensors"):
        copy = tmp_path / name
        shutil.copytree(whole, copy)
        os.truncate(copy / "checkpoints" / "last" / name, 9)
        with pytest.raises(CheckpointError, match="cannot be resumed"):
            train("flow", POLICY, settings(), store, copy, resume=True)
    assert curve(whole) == rows


def test_a_training_state_without_its_parts_is_no_training_state(uninterrupted, tmp_path):
    """Moments that are left out silently would begin again at nothing."""
    store, whole = uninterrupted
    for number, (name, change) in enumerate(
        [
            ("training_progress.json", lambda file: file.write_text("{}")),
            ("training_progress.json", lambda file: file.write_text("[40]")),
            ("training_state.safetensors", lambda file: rename_tensors(file, "optimizer.", None)),
            ("training_state.safetensors", lambda file: rename_tensors(file, "optimizer.", "optimizer.7.")),
        ]
    ):
        shutil.copytree(whole, copy := tmp_path / str(number))
        change(copy / "checkpoints" / "last" / name)
        with pytest.raises(CheckpointError, match="cannot be resumed"):
            train("flow", POLICY, settings(), store, copy, resume=True)


def rename_tensors(file, prefix, fresh):
    """Gives the tensors whose names begin with a prefix another one, or leaves them out."""
    kept = {}
    for name, value in load_file(file).items():
        if not name.startswith(prefix):
            kept[name] = value
        elif fresh is not None:
            kept[fresh + name.removeprefix(prefix)] = value
    save_file(kept, file)


def test_a_damaged_line_of_metrics_is_told(tmp_path):
    for line in (b"\0\0\0", b"3", b"{}", b'{"step": 1,'):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n' + line + b'\n{"step": 2}\n')
        with pytest.raises(ConfigError, match=r"metrics.jsonl' is damaged in line 2"):
            read_metrics(tmp_path)


# --- the optimizer ------------------------------------------------------------------------------------------


def test_the_weights_of_layers_decay_and_nothing_else(make_store, tmp_path):
    policy = tiny(FlowConfig, net="transformer", observation_keys=["agent_pos"])
    config = settings(weight_decay=0.5, learning_rate=0.1)
    trainer = Trainer("flow", policy, config, [make_store()], tmp_path / "run")
    before = {name: value.detach().clone() for name, value in trainer.policy.named_parameters()}
    for parameter in trainer.policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    decayed = {
        name for name, value in trainer.policy.named_parameters() if not torch.equal(value, before[name])
    }
    assert decayed == {name for name in before if name.endswith("weight") and "norm" not in name}
    assert {"net.output.weight", "net.layers.0.self_attn.in_proj_weight"} <= decayed
    assert {"net.output.bias", "net.layers.0.norm1.weight", "net.places"} <= before.keys() - decayed
    for name in decayed:
        torch.testing.assert_close(dict(trainer.policy.named_parameters())[name], 0.95 * before[name])


def test_a_training_that_diverges_stops_and_keeps_its_checkpoint(make_store, tmp_path):
    def poison(step, policy, seconds):
        if step == 20:
            trainer.optimizer.param_groups[0]["betas"] = (math.nan, math.nan)
        return {}

    trainer = Trainer("flow", POLICY, settings(), [make_store()], tmp_path / "run", [poison])
    with pytest.raises(ConfigError, match=r"diverged: the loss is nan at step 25.*learning_rate"):
        trainer.run(resume=False)
    assert json.loads((tmp_path / "run/checkpoints/last/config.json").read_text())["steps"] == 20
    load_policy(tmp_path / "run")


@pytest.mark.parametrize("name", ["flow", "act", "mixture", "flow_lipschitz"])
def test_a_learning_rate_far_too_high_is_told_whatever_the_policy(make_store, tmp_path, name):
    config = settings(steps=10, learning_rate=1e30, gradient_clip=1e9)
    with pytest.raises(ConfigError, match=r"diverged: the loss is (nan|inf) at step 5.*learning_rate"):
        train(name, tiny(policies.config_class(name)), config, make_store(), tmp_path / "run")


def test_gradients_that_are_not_finite_never_reach_the_checkpoint(make_store, tmp_path):
    trainer = Trainer("flow", POLICY, settings(), [make_store()], tmp_path / "run")
    weights, steps = next(trainer.policy.parameters()), itertools.count(1)
    # in the very step after which a checkpoint is due: its loss is that of the weights before
    weights.register_hook(lambda gradient: gradient / 0.0 if next(steps) == 40 else gradient)
    with pytest.raises(ConfigError, match=r"diverged: the gradient is (nan|inf) at step 40"):
        trainer.run(resume=False)
    assert json.loads((tmp_path / "run/checkpoints/last/config.json").read_text())["steps"] < 40
    load_policy(tmp_path / "run")


# --- averaged weights and metrics ---------------------------------------------------------------------------


def test_averaged_weights_follow_their_formula():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average = AveragedWeights(model, 0.9)
    expected = model.weight.detach().clone()
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        average.update(model, step)
        decay = min(0.9, 1 - (1 + step) ** -0.75)
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.named()["weight"], expected)


def test_averaged_weights_are_lent_and_taken_back():
    model = nn.Linear(3, 2)
    average = AveragedWeights(model, 0.9)
    own, mean = model.weight.detach().clone(), torch.ones(2, 3)
    average.named()["weight"].copy_(mean)

    def fail():
        with average.applied(model):
            assert torch.equal(model.weight, mean)
            raise Failure

    with pytest.raises(Failure):
        fail()
    assert torch.equal(model.weight, own)
    assert torch.equal(average.named()["weight"], mean)


def test_the_saved_weights_are_the_averaged_ones(make_store, tmp_path):
    trainer = Trainer("flow", POLICY, settings(steps=10), [make_store()], tmp_path / "run")
    trainer.run(resume=False)
    saved, raw = tensors_of(tmp_path / "run"), dict(trainer.policy.named_parameters())
    averaged = trainer.average.named()
    assert all(torch.equal(saved[name], averaged[name]) for name in averaged)
    assert any(not torch.equal(saved[name], raw[name]) for name in raw)


def test_metrics_of_a_resumed_run_follow_each_other(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, {"loss": float(step)})
    log.close()
    log = MetricsLog(tmp_path, 2)
    log.write(3, {"loss": 30.0})
    log.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert read_metrics(tmp_path / "nowhere") == []
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["metrics.jsonl", "tensorboard"]
