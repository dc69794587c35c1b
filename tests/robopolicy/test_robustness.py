"""Disturbed observations: they stay within their ball, the greedy ones are the worst, and zero is nothing."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robopolicy.certify.certificate import Certificate, Movement, write_certificate
from robopolicy.certify.finding import Finding
from robopolicy.certify.quantities import ActionQuantity
from robopolicy.evaluation.attacks import GreedyMove, RandomMove, represented
from robopolicy.evaluation.closed_loop import evaluate
from robopolicy.evaluation.configs import (
    DelayConfig,
    GreedyMoveConfig,
    ImageNoiseConfig,
    PushConfig,
    RandomMoveConfig,
)
from robopolicy.evaluation.disturbances import delay, image_noise, push
from robopolicy.evaluation.disturbed_policy import DisturbedPolicy
from robopolicy.evaluation.observation_ball import ObservationBall
from robopolicy.evaluation.robustness import certified_lipschitz, sweep
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.configs import ChunkPolicyConfig, FlowConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy.policies.normalizer import Normalizer
from robopolicy_datasets.errors import CheckpointError, ConfigError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.runtime.certificate import POLICY_FILES, policy_sums
from robopolicy_sim.tasks.configs import PickPlaceConfig, PushTStateConfig

from .conftest import ARM_SPEC, IMAGE_SPEC, tiny

ACTION = Feature("action", (2,), kind="position", unit="m")
POINT_SPEC = Spec(
    (Feature("position", (3,), kind="position"), Feature("wrench", (2,), kind="wrench")), (ACTION,)
)
TURNING_SPEC = Spec(
    (
        Feature("position", (3,), kind="position"),
        Feature("rotation", (6,), kind="axis_angle"),
        Feature("angle", (2,), kind="angle"),
        Feature("count", (1,), "int64"),
    ),
    (ACTION,),
)


class LinearPolicy(ChunkPolicy):
    """A chunk that is linear in the normalized observations: its worst disturbance is a singular vector."""

    def __init__(self, spec, seed=0):
        super().__init__(ChunkPolicyConfig(observation_steps=2, action_steps=3, horizon=6), spec, 0.1)
        torch.manual_seed(seed)
        self.linear = nn.Linear(self.encoder.size, self.config.horizon * self.action.size)
        for feature in spec.observation:  # real units are not the net's
            size = self.normalizer.get_buffer(f"{feature.key}_scale").shape[0]
            if feature.kind in ("position", "wrench"):
                self.normalizer.fit(feature.key, 3 + 5 * torch.randn(40, size), "standard")
        self.normalizer.fit("action", 0.3 * torch.randn(40, self.action.size), "standard")

    def sensitivity_of_executed(self):
        """Largest singular value of the map to the executed actions."""
        now = self.observation_steps - 1
        rows = self.linear.weight.unflatten(0, (self.config.horizon, -1))[now : now + self.action_steps]
        return float(torch.linalg.matrix_norm(rows.detach().flatten(0, 1).double(), 2))

    def _chunk_loss(self, clean, condition, generator):
        raise NotImplementedError

    def _predict(self, condition, seeds, prefix):
        return self.linear(condition).unflatten(-1, (self.config.horizon, -1))


def observe(spec, steps, count=5, seed=0):
    random = np.random.default_rng(seed)
    values = {}
    for feature in spec.observation:
        shape = (count, steps, *feature.shape)
        drawn = random.integers(0, 255, shape) if "int" in feature.dtype else random.normal(0, 1, shape)
        values[feature.key] = torch.from_numpy(drawn.astype(feature.dtype))
    return values


def distance(policy, one, other):
    """How far apart windows are for the net."""
    with torch.no_grad():
        return (policy.encoder(one) - policy.encoder(other)).norm(dim=1)


def executed(policy, seen, true):
    now = policy.observation_steps - 1
    with torch.no_grad():
        actions = policy.predict(seen, list(range(len(next(iter(seen.values()))))))
    return represented(policy, actions, true)[:, now : now + policy.action_steps].flatten(1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1e-3, 0.03, 0.5, 3.0]),
    only=st.sampled_from(["position", "rotation", "angle", None]),
)
def test_a_move_is_never_larger_than_its_norm_and_small_ones_are_as_large(seed, size, only):
    policy = LinearPolicy(TURNING_SPEC)
    ball = ObservationBall(policy.spec, 2, policy.normalizer)
    observation = {
        key: value.double() if value.is_floating_point() else value
        for key, value in observe(policy.spec, 2, seed=seed).items()
    }
    by = torch.randn(5, 2, ball.dimension // 2, generator=torch.Generator().manual_seed(seed)).double()
    begin = 0
    for feature in ball.features:
        if only not in (None, feature.key):
            by[..., begin : begin + feature.size] = 0
        begin += feature.size
    by = size * nn.functional.normalize(by.flatten(1), dim=1)
    moved = ball.move(observation, by)
    far = distance(policy, observation, moved)
    assert (far <= size * (1 + 1e-5) + 1e-5).all()
    if only == "position" or size <= 0.03:
        np.testing.assert_allclose(far, size, rtol=1e-3)
    assert moved["count"] is observation["count"]


def test_forces_of_a_faster_sensor_move_and_sentences_do_not():
    spec = Spec((Feature("wrench", (4, 6), kind="wrench"), Feature("task", (8,), kind="language")), (ACTION,))
    normalizer = Normalizer({"wrench": 6, "task": 8})
    normalizer.fit("wrench", 5 * torch.randn(40, 6), "standard")
    ball = ObservationBall(spec, 2, normalizer)
    observation = observe(spec, 2)
    moved = ball.move(observation, 0.1 * nn.functional.normalize(torch.ones(5, ball.dimension), dim=1))
    far = (moved["wrench"] - observation["wrench"]) / normalizer.scale("wrench")
    np.testing.assert_allclose(far.flatten(1).norm(dim=1), 0.1, rtol=1e-4)
    assert moved["task"] is observation["task"]


def test_the_greedy_move_of_a_linear_policy_is_the_worst_there_is():
    policy = LinearPolicy(POINT_SPEC).eval()
    observation, seeds, size = observe(POINT_SPEC, 2), list(range(5)), 0.4
    calm = executed(policy, observation, observation)
    changes = {}
    for name, move in {"random": RandomMove(policy, size), "greedy": GreedyMove(policy, size, 40, 1)}.items():
        moved = move(observation, seeds)
        far = distance(policy, observation, moved)
        np.testing.assert_allclose(far, size, rtol=1e-5)  # the worst lies on the surface
        changes[name] = (executed(policy, moved, observation) - calm).norm(dim=1)
    worst = size * policy.sensitivity_of_executed()
    assert (changes["random"] < 0.95 * worst).all()
    np.testing.assert_allclose(changes["greedy"], worst, rtol=1e-2)


@pytest.mark.parametrize("net", ["mlp", "unet"])
def test_greedy_moves_of_a_sampled_policy_stay_in_the_ball_and_beat_random_ones(net):
    torch.manual_seed(0)
    policy = FlowPolicy(tiny(FlowConfig, net=net), ARM_SPEC, 0.1).eval()
    observation, seeds, size = observe(ARM_SPEC, policy.observation_steps), list(range(5)), 0.2
    calm = executed(policy, observation, observation)
    random, greedy = (
        move(observation, seeds) for move in (RandomMove(policy, size), GreedyMove(policy, size, 3, 1))
    )
    for moved in (random, greedy):
        assert (distance(policy, observation, moved) <= size * (1 + 1e-5)).all()
    changes = [(executed(policy, moved, observation) - calm).norm(dim=1) for moved in (random, greedy)]
    assert (changes[1] > changes[0] * 1.05).all()


def test_more_starts_find_what_one_leaves_in_a_local_maximum():
    torch.manual_seed(0)
    policy = FlowPolicy(tiny(FlowConfig, net="mlp"), ARM_SPEC, 0.1).eval()
    observation, seeds = observe(ARM_SPEC, policy.observation_steps), list(range(5))
    calm = executed(policy, observation, observation)
    changes = [
        (executed(policy, GreedyMove(policy, 2.0, 3, starts)(observation, seeds), observation) - calm).norm(
            dim=1
        )
        for starts in (1, 6)
    ]
    assert (changes[1] >= changes[0] * (1 - 1e-4)).all()
    assert (changes[1] > changes[0] * 1.05).any()


@pytest.mark.parametrize("make", [RandomMove, lambda policy, size: GreedyMove(policy, size, 2, 2)])
def test_a_disturbance_depends_on_its_seed_alone(make):
    policy = LinearPolicy(TURNING_SPEC).eval()
    observation, move = observe(TURNING_SPEC, 2), make(policy, 0.1)
    together = move(observation, [3, 4, 5, 6, 7])
    for row in range(5):
        alone = move({key: value[row : row + 1] for key, value in observation.items()}, [3 + row])
        for key in together:
            torch.testing.assert_close(alone[key][0], together[key][row], rtol=0, atol=1e-4)
    other = move(observation, [30, 40, 50, 60, 70])
    assert not torch.equal(other["position"], together["position"])


@pytest.mark.parametrize("make", [RandomMove, lambda policy, size: GreedyMove(policy, size, 1, 1)])
def test_moves_are_made_where_the_policy_is(make):
    """PyTorch's device of tensors without values tells a mixture of devices as a GPU does."""
    policy = LinearPolicy(POINT_SPEC).eval().to("meta")
    observation = {key: value.to("meta") for key, value in observe(POINT_SPEC, 2).items()}
    moved = make(policy, 0.1)(observation, range(5))
    assert {value.device.type for value in moved.values()} == {"meta"}


def test_a_disturbed_policy_acts_on_what_it_sees_and_tells_how_far_it_was_moved():
    policy = LinearPolicy(POINT_SPEC).eval()
    observation = {key: value.numpy() for key, value in observe(POINT_SPEC, 2).items()}
    for value in observation.values():
        value.flags.writeable = False
    disturbed = DisturbedPolicy(policy, RandomMove(policy, 0.5))
    chunk, calm = (one.infer(observation, seeds=range(5)) for one in (disturbed, policy))
    assert chunk.shape == calm.shape
    bound = float(torch.linalg.matrix_norm(policy.linear.weight.detach(), 2))
    for change, row in zip(disturbed.changes, (chunk - calm), strict=True):
        assert change.window == pytest.approx(0.5, rel=1e-4)
        assert 0 < change.executed <= change.chunk <= bound * change.window
        moved = torch.from_numpy(row)[: policy.action_steps] / policy.normalizer.scale("action")
        assert change.executed == pytest.approx(float(moved.norm()), rel=1e-4)
    assert not np.array_equal(disturbed.infer(observation), disturbed.infer(observation))  # no seeds: fresh


def test_image_noise_changes_images_only():
    torch.manual_seed(0)
    policy = FlowPolicy(tiny(FlowConfig, net="mlp"), IMAGE_SPEC, 0.1).eval()
    wrapped, _ = image_noise(policy, None, 20.0, ImageNoiseConfig())
    observation = observe(IMAGE_SPEC, policy.observation_steps)
    noisy = wrapped._disturb(observation, list(range(5)))
    image = next(feature.key for feature in IMAGE_SPEC.observation if feature.is_image)
    middle = (observation[image] > 80) & (observation[image] < 175)  # where nothing is clipped
    error = (noisy[image].float() - observation[image].float())[middle]
    assert error.std() == pytest.approx(20, rel=0.1)
    assert all(noisy[key] is observation[key] for key in observation if key != image)
    with pytest.raises(SpecError, match="observes no image"):
        image_noise(LinearPolicy(POINT_SPEC), None, 20.0, ImageNoiseConfig())


def test_delays_and_pushes_are_those_of_the_task():
    task = PickPlaceConfig()
    assert delay(None, task, 2.0, DelayConfig())[1].disturbance.delay_steps == 2
    assert push(None, task, 8.0, PushConfig())[1].disturbance.force == 8.0
    assert task == PickPlaceConfig()
    with pytest.raises(ConfigError, match="whole control steps"):
        delay(None, task, 1.5, DelayConfig())
    with pytest.raises(ConfigError, match=r"PushTStateConfig has no task\.disturbance"):
        push(None, PushTStateConfig(), 8.0, PushConfig())


class Reach:
    """An environment whose score falls with the size of the actions."""

    data_spec, dt = POINT_SPEC, 0.1

    def reset(self, seed):
        self.random, self.worst, self.steps = np.random.default_rng(seed), 0.0, 0
        return self._observe(), {}

    def step(self, action):
        self.worst, self.steps = max(self.worst, float(np.abs(action).max())), self.steps + 1
        done = self.steps == 5
        return self._observe(), 0.0, done, False, {"success": self.worst < 1, "score": 1 / (1 + self.worst)}

    def _observe(self):
        return {f.key: self.random.normal(3, 1, f.shape).astype(f.dtype) for f in self.data_spec.observation}

    def close(self):
        pass


def test_a_sweep_begins_undisturbed_and_leaves_its_table(tmp_path):
    policy = LinearPolicy(POINT_SPEC).eval()
    bound = float(torch.linalg.matrix_norm(policy.linear.weight.detach(), 2))
    plain = evaluate(policy, Reach, seeds=range(8), folder=tmp_path / "plain")
    rows = sweep(
        policy, Reach, GreedyMoveConfig([0.0, 0.5, 2.0], 20), seeds=range(8), folder=tmp_path, lipschitz=bound
    )
    assert rows[0].score == plain["score"]
    undisturbed = (tmp_path / "size-0" / "episodes.csv").read_text()
    assert undisturbed == (tmp_path / "plain" / "episodes.csv").read_text()
    assert rows[0].executed_max is None
    assert rows[0].score > rows[1].score > rows[2].score
    for row in rows[1:]:
        assert 0 < row.executed_mean <= row.executed_max
        assert 0 < row.chunk_max <= row.certified
        assert 0.3 < row.margin <= 1
    with (tmp_path / "robustness.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["size"]) for row in table] == [0, 0.5, 2]
    assert [float(row["score"]) for row in table] == [row.score for row in rows]


def test_episodes_that_were_kept_are_not_run_again_and_give_the_same(tmp_path, monkeypatch):
    policy, texts = LinearPolicy(POINT_SPEC).eval(), {}
    monkeypatch.setattr("robopolicy.evaluation.robustness.KEPT_TOGETHER", 3)

    def keep(settings, compute):
        key = json.dumps(settings)
        texts[key] = texts.get(key) or json.dumps(compute())
        return json.loads(texts[key])

    def measure(name, seeds, **options):
        disturbance = RandomMoveConfig([0.0, 0.1 + 0.2])
        return sweep(
            policy, Reach, disturbance, seeds=seeds, folder=tmp_path / name, lipschitz=9.0, **options
        )

    def never(*_, **__):
        raise AssertionError("an episode was run again")

    first = measure("first", range(8), keep=keep)
    assert [json.loads(key)["seeds"] for key in texts] == 2 * [[0, 1, 2], [3, 4, 5], [6, 7]]
    monkeypatch.setattr(policy, "infer", never)
    assert measure("again", range(8), keep=keep) == first
    for file in ("robustness.csv", "size-0.3/episodes.csv"):
        assert (tmp_path / "again" / file).read_text() == (tmp_path / "first" / file).read_text()
    with pytest.raises(AssertionError, match="run again"):
        measure("other", range(1, 9), keep=keep)


def test_the_certificate_beside_a_checkpoint_is_read_where_it_is_of_its_files(tmp_path):
    for name in POLICY_FILES:
        (tmp_path / name).write_text(name)
    assert certified_lipschitz(tmp_path) is None
    for value, kind, expected in ((2.5, "certified", 2.5), (math.inf, "empirical", None)):
        chunk, measured = Finding(value, kind, "Layers."), Finding(1.0, "empirical", "Pairs.")
        movement = Movement(ActionQuantity("position x", "m", (0,), 1.0), 0.1, chunk, measured)
        certificate = Certificate("bc", chunk, measured, None, [movement], [], {}, [1.0], [])
        write_certificate(certificate, tmp_path, policy_sums(tmp_path))
        assert certified_lipschitz(tmp_path) == expected
    (tmp_path / POLICY_FILES[1]).write_text("other weights")
    with pytest.raises(CheckpointError, match="changed since"):
        certified_lipschitz(tmp_path)


def test_what_cannot_be_disturbed_is_told(tmp_path):
    policy = LinearPolicy(POINT_SPEC)
    for sizes in ([], [-0.1], [float("nan")]):
        with pytest.raises(ConfigError, match="at least one size"):
            sweep(policy, Reach, RandomMoveConfig(sizes), seeds=[0], folder=tmp_path)
    with pytest.raises(ConfigError, match="occurs twice"):  # they would share a folder and a figure's name
        sweep(policy, Reach, RandomMoveConfig([0.1, 0.2, 0.1]), seeds=[0], folder=tmp_path)
    for steps, starts in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="at least 1 of each, or disturbance=random"):
            sweep(policy, Reach, GreedyMoveConfig([0.1], steps, starts), seeds=[0], folder=tmp_path)
    images = Spec((Feature("camera0_rgb", (32, 32, 3), "uint8", "rgb"),), (ACTION,))
    with pytest.raises(SpecError, match="disturbance=image_noise"):
        ObservationBall(images, 2, policy.normalizer)
    assert not list(tmp_path.iterdir())
