"""Slow-fast: the numpy decoder against torch, and latents played with the hidden state of training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_targets import ACTION, DT_S, POSITION, PointRobot

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import CheckpointError, ConfigError, SpecError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import Chunk
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_drivers.runtime.gru_decoder import GruDecoder
from robopolicy_drivers.runtime.scheduler import ChunkScheduler
from robopolicy_drivers.runtime.slow_fast import SlowFast, StateSensor

pytestmark = pytest.mark.realtime

LATENT, SAMPLE, HIDDEN = 3, 2, 8


def random_weights(action=2, seed=0):
    draw = np.random.default_rng(seed).normal
    return {
        "weight_ih": draw(size=(3 * HIDDEN, LATENT + SAMPLE)) / 2,
        "weight_hh": draw(size=(3 * HIDDEN, HIDDEN)) / 2,
        "bias_ih": draw(size=3 * HIDDEN) / 2,
        "bias_hh": draw(size=3 * HIDDEN) / 2,
        "weight_out": draw(size=(action, HIDDEN)) / 2,
        "bias_out": draw(size=action) / 2,
    }


def decoded(weights, latents, samples):
    """Decodes a whole chunk at once, as in training."""
    decoder = GruDecoder(weights)
    return np.stack([decoder.step(*row) for row in zip(latents, samples, strict=True)])


def test_the_numpy_decoder_equals_torch():
    torch = pytest.importorskip("torch")
    weights = random_weights()
    cell = torch.nn.GRUCell(LATENT + SAMPLE, HIDDEN).double()
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).copy_(torch.tensor(weights[name]))
    rng = np.random.default_rng(1)
    latents, samples = rng.normal(size=(12, LATENT)), rng.normal(size=(12, SAMPLE))
    hidden, expected = torch.zeros(1, HIDDEN, dtype=torch.float64), []
    for row in np.concatenate([latents, samples], axis=1):
        hidden = cell(torch.tensor(row)[None], hidden)
        expected.append(weights["weight_out"] @ hidden[0].detach().numpy() + weights["bias_out"])
    np.testing.assert_allclose(decoded(weights, latents, samples), expected, atol=1e-12)
    decoder = GruDecoder(weights)
    first = decoder.step(latents[0], samples[0])
    decoder.step(latents[1], samples[1])
    decoder.reset()
    np.testing.assert_array_equal(decoder.step(latents[0], samples[0]), first)


def test_weights_that_do_not_fit_are_refused():
    weights = random_weights()
    with pytest.raises(CheckpointError, match="lack bias_out"):
        GruDecoder({name: value for name, value in weights.items() if name != "bias_out"})
    with pytest.raises(CheckpointError, match="bias_hh has the shape"):
        GruDecoder({**weights, "bias_hh": np.zeros(5)})
    with pytest.raises(CheckpointError, match="finite"):
        GruDecoder({**weights, "bias_ih": np.full(3 * HIDDEN, np.nan)})


class ScriptedSensor:
    """A sample for each time that it is read; ``age_s`` old."""

    def __init__(self):
        self.samples, self.age_ns = [], 0

    def read(self):
        sample = np.random.default_rng(len(self.samples)).normal(size=SAMPLE)
        self.samples.append(sample)
        return now_ns() - self.age_ns, sample


@given(
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 6), st.integers(3, 12)), max_size=8),
    st.sets(st.integers(0, 39)),
)
def test_actions_are_those_of_whole_chunks_decoded_with_the_samples_of_their_steps(plan, stale):
    """Whatever the slow policy's latency, and whichever steps had no sample that was new enough."""
    weights, sensor = random_weights(), ScriptedSensor()
    scheduler, fast = ChunkScheduler(20), SlowFast(GruDecoder(weights), sensor)
    arrivals = {}
    for index, (observed, delay, length) in enumerate(plan):
        latents = np.random.default_rng(100 + index).normal(size=(length, LATENT))
        arrivals.setdefault(observed + delay, []).append(Chunk(latents, observed, DT_S, 0))
    for step in range(40):
        for chunk in arrivals.get(step, []):
            scheduler.add(chunk)
        sensor.age_ns = 10**9 if step in stale else 0
        planned = scheduler.action(step)
        result = fast.decode(step, planned)
        if planned.status != "fresh":
            assert (result.status, result.action) == (planned.status, None)
        elif step in stale:
            assert (result.status, result.action) == ("hold", None)
        else:
            first, row = planned.chunk.first_step, step - planned.chunk.first_step
            expected = decoded(weights, planned.chunk.actions[: row + 1], sensor.samples[first : step + 1])
            np.testing.assert_allclose(result.action, expected[-1], atol=1e-12)


def test_bad_sensors_and_decoders_are_refused():
    class Nonsense(GruDecoder):
        def step(self, latent, sample):
            return np.array([np.nan])

    sensor, scheduler = ScriptedSensor(), ChunkScheduler(5)
    scheduler.add(Chunk(np.zeros((4, LATENT)), 0, DT_S, 0))
    with pytest.raises(SpecError, match="decoder's action"):
        SlowFast(Nonsense(random_weights()), sensor).decode(0, scheduler.action(0))
    with pytest.raises(ConfigError, match="max_sample_age_s"):
        SlowFast(GruDecoder(random_weights()), sensor, 0.0)
    with pytest.raises(SpecError, match="robot0_eef_pos"):
        StateSensor(PointRobot(), ["robot0_eef_po"])


class LatentGoal:
    """A slow policy: each latent row is the goal; where the robot is, only the fast decoder sees."""

    spec = Spec((POSITION,), (ACTION,))
    observation_steps, action_steps, dt = 1, 8, DT_S
    goal = np.array([0.2, -0.1, 0.0])

    def reset(self):
        pass

    def infer(self, observation, *, seeds=None):
        return np.tile(self.goal, (1, 24, 1))


class Spring:
    """A fast decoder: halfway from where the robot is felt to the latent's goal, at most 2 cm a step."""

    def reset(self):
        pass

    def step(self, latent, sample):
        way = 0.5 * (latent[:2] - sample)
        return sample + way * min(1.0, 0.02 / max(np.linalg.norm(way), 1e-9))


def test_an_episode_with_latents_reaches_the_goal_through_the_fast_decoder():
    robot, records = PointRobot(), []
    fast = SlowFast(Spring(), StateSensor(robot, ["robot0_eef_pos"]))
    report = run_episode(robot, [], LatentGoal(), duration_s=2.5, recorder=records.append, slow_fast=fast)
    np.testing.assert_allclose(robot.here(), LatentGoal.goal[:2], atol=0.005)
    assert report.actions == report.steps
    assert all(record.action.shape == (2,) for record in records)
