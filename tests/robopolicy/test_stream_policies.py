"""Policies that see the past of streams: trained, resumed, mixed, saved, and refused where impossible."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from robopolicy.checkpoint import load_policy
from robopolicy.conformance import check_policy
from robopolicy.policies.configs import BehaviorCloningConfig, FlowConfig, MlpConfig, StreamConfig
from robopolicy.policies.regression import BehaviorCloningPolicy
from robopolicy.training.configs import TrainerConfig
from robopolicy.training.data import TrainingData
from robopolicy.training.trainer import train
from robopolicy_datasets.errors import ConfigError, SpecError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, NewEpisode, Stream

MS = 1_000_000
STEPS = 12
SPEC = Spec(
    (
        Feature("robot0_eef_pos", (2,), kind="position", unit="m"),
        Feature("robot0_wrench", (6,), kind="wrench"),
    ),
    (Feature("action", (2,), kind="position", unit="m"),),
)
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", rate_hz=500.0)
MARKERS = Feature("robot0_tactile0_markers", (5, 2), kind="touch", unit="m", rate_hz=60.0)
SEEN = {"robot0_wrench": StreamConfig(16, 0.08), "robot0_tactile0_markers": StreamConfig(4, 0.05)}
CONFIG = BehaviorCloningConfig(
    observation_steps=2, action_steps=2, horizon=4, mlp=MlpConfig(width=32, blocks=1), streams=SEEN
)
FLOW = FlowConfig(
    observation_steps=2,
    action_steps=2,
    horizon=4,
    net="mlp",
    mlp=MlpConfig(width=32, blocks=1),
    streams=SEEN,
)
TRAINER = TrainerConfig(
    steps=6,
    batch_size=8,
    device="cpu",
    checkpoint_every=3,
    validate_every=3,
    log_every=1,
    validation_fraction=0.3,
)


def make_store(path, episodes=4, seed=0, streams=(WRENCH, MARKERS)):
    """A store in which only the stream tells what is done: the force 40 ms ago is the action."""
    store = DemoStore.create(path, SPEC, rate_hz=10, streams=list(streams))
    random = np.random.default_rng(seed)
    for _ in range(episodes):
        begin = int(random.integers(10**12))
        steps = begin + 100 * MS * np.arange(STEPS)
        brought = {}
        for stream in streams:
            times = begin - 200 * MS + np.arange(0, 1400 * MS, round(1e9 / stream.rate_hz))
            walk = np.cumsum(random.normal(size=(len(times), *stream.shape)), axis=0)
            brought[stream.key] = Stream(walk.astype(stream.dtype), times)
        wrench = brought["robot0_wrench"]
        before = [np.searchsorted(wrench.time_ns, step - 40 * MS) for step in steps]
        data = {
            "robot0_eef_pos": random.normal(size=(STEPS, 2)).astype(np.float32),
            "robot0_wrench": np.zeros((STEPS, 6), np.float32),
            "action": wrench.value[before, :2].astype(np.float32),
        }
        store.append_episodes([NewEpisode(data, time_ns=steps, streams=brought)])
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("streams") / "a.zarr")


def observation(random, batch=3):
    return {
        "robot0_eef_pos": random.normal(size=(batch, 2, 2)).astype(np.float32),
        "robot0_wrench": random.normal(size=(batch, 2, 16, 6)).astype(np.float32),
        "robot0_tactile0_markers": random.normal(size=(batch, 2, 4, 5, 2)).astype(np.float32),
    }


def test_a_training_with_streams_goes_on_and_its_checkpoint_is_the_policy(store, tmp_path):
    whole = train("bc", CONFIG, TRAINER, store, tmp_path / "whole")
    train("bc", CONFIG, dataclasses.replace(TRAINER, steps=3), store, tmp_path / "parts")
    policy = load_policy(tmp_path / "whole")
    assert np.isfinite(whole["validation_loss"])
    assert [feature.key for feature in policy.spec.observation] == ["robot0_eef_pos", *SEEN]
    wrench = policy.spec["robot0_wrench"]
    assert (wrench.shape, wrench.rate_hz, wrench.history) == ((16, 6), 187.5, True)
    seen = observation(np.random.default_rng(0))
    again = load_policy(tmp_path / "whole")
    np.testing.assert_array_equal(policy.infer(seen), again.infer(seen))
    moved = {**seen, "robot0_tactile0_markers": seen["robot0_tactile0_markers"] + 1}
    assert (policy.infer(moved) != policy.infer(seen)).any()
    with pytest.raises(
        SpecError, match=r"'robot0_wrench' has the shape \(3, 2, 6\); needed: \[N, 2, 16, 6\]"
    ):
        policy.infer({**seen, "robot0_wrench": seen["robot0_wrench"][:, :, 0]})


def test_a_resumed_training_is_the_same(store, tmp_path):
    stopping = dataclasses.replace(TRAINER, steps=6)

    class Stop(Exception):
        pass

    def stop(step, policy, seconds):
        if step == 3:
            raise Stop
        return {}

    with pytest.raises(Stop):
        train("bc", CONFIG, stopping, store, tmp_path / "resumed", callbacks=[stop])
    train("bc", CONFIG, stopping, store, tmp_path / "resumed", resume=True)
    train("bc", CONFIG, stopping, store, tmp_path / "whole")
    one, other = (load_policy(tmp_path / name).state_dict() for name in ("whole", "resumed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_policy_learns_from_the_stream_what_is_nowhere_else(store, tmp_path):
    trainer = dataclasses.replace(TRAINER, steps=150, log_every=10, validate_every=150, learning_rate=2e-3)
    short = dataclasses.replace(CONFIG, horizon=2, action_steps=1)  # nothing later than the present
    felt, blind = (
        train("bc", dataclasses.replace(short, streams=streams), trainer, store, tmp_path / name)
        for name, streams in (("felt", SEEN), ("blind", {}))
    )
    assert felt["train_loss"] < 0.5 * blind["train_loss"]


def test_the_normalizer_is_fitted_to_the_samples(store):
    data = TrainingData([store], None, validation_fraction=0.3, seed=0)
    policy = BehaviorCloningPolicy(CONFIG, data.spec(CONFIG), data.dt)
    values = data.training_values(policy)
    windows = data.training_windows(policy, large=False)
    batch = windows.gather(np.arange(len(windows)))
    assert list(batch["observation"]) == ["robot0_eef_pos"]
    policy.fit_normalizer(values, batch)
    samples = np.concatenate([store.stream("robot0_wrench", int(each)).value for each in data.training[0]])
    np.testing.assert_allclose(policy.normalizer.scale("robot0_wrench"), samples.std(0), rtol=1e-4)


def test_stores_are_mixed_and_one_without_the_stream_is_named(store, tmp_path):
    other = make_store(tmp_path / "b.zarr", seed=1)
    train("bc", CONFIG, TRAINER, [store, other], tmp_path / "mixed", weights=[0.3, 0.7])
    bare = make_store(tmp_path / "c.zarr", streams=(WRENCH,))
    with pytest.raises(StoreError, match=r"c.zarr has no stream 'robot0_tactile0_markers'.*robot0_wrench"):
        train("bc", CONFIG, TRAINER, [store, bare], tmp_path / "refused")
    longer = dataclasses.replace(MARKERS, shape=(7, 2))
    wide = make_store(tmp_path / "d.zarr", streams=(WRENCH, longer))
    with pytest.raises(SpecError, match=r"markers' has shape \(7, 2\) but \(5, 2\)"):
        train("bc", CONFIG, TRAINER, [store, wide], tmp_path / "refused")


@pytest.mark.parametrize(
    ("streams", "error", "words"),
    [
        ({"robot0_wrnch": StreamConfig()}, SpecError, "no stream 'robot0_wrnch'.*robot0_wrench"),
        ({"robot0_wrench": StreamConfig(0)}, ConfigError, "at least 1 sample"),
        ({"robot0_wrench": StreamConfig(8, 1000.0)}, ConfigError, "at most 10 s"),
    ],
)
def test_impossible_streams_are_refused(store, tmp_path, streams, error, words):
    with pytest.raises(error, match=words):
        train("bc", dataclasses.replace(CONFIG, streams=streams), TRAINER, store, tmp_path / "refused")


def test_a_spec_without_the_history_is_refused():
    with pytest.raises(SpecError, match=r"16 samples of 'robot0_wrench', and the Spec has .*\[6\]"):
        BehaviorCloningPolicy(CONFIG, SPEC, 0.1)


@pytest.mark.parametrize("name", ["bc", "flow"])
def test_a_policy_that_sees_streams_conforms(store, name):
    config = {"bc": CONFIG, "flow": FLOW}[name]
    spec = TrainingData([store], None, validation_fraction=0.3, seed=0).spec(config)
    check_policy(name, config, spec, overfit_steps=100 if name == "bc" else 0)
