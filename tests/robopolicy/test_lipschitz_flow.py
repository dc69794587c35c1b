"""The certified flow: its bound, what it learns, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.certify.lower_bound import lower_bound
from robopolicy.checkpoint import load_policy, save_policy
from robopolicy.conformance import check_policy, example_windows
from robopolicy.policies.configs import ImageEncoderConfig, LipschitzFlowConfig, MixtureConfig
from robopolicy.policies.lipschitz_flow import LipschitzFlowPolicy
from robopolicy.policies.mixture import MixturePolicy
from robopolicy.sampling.flow import FlowSampler
from robopolicy.sampling.sensitivity import StepGain, euler_bounds, rows_bound
from robopolicy.training.batches import to_tensors
from robopolicy_datasets.errors import ConfigError, RobopolicyError
from robopolicy_datasets.spec import Feature, Spec

from .conftest import ARM_SPEC, IMAGE_SPEC, PLANE_SPEC, tiny

GAIN = st.floats(0.0, 4.0)


@given(st.lists(st.tuples(GAIN, GAIN), min_size=1, max_size=10), st.floats(-2.0, 2.0))
def test_the_bound_is_reached_by_the_steepest_denoiser_there_is(gains, noise):
    """A linear denoiser whose gains have one sign moves by the bound exactly: no smaller one would hold."""
    steps = [StepGain(observation, point) for observation, point in gains]

    def chunk(observation):
        def denoise(x, time):
            step = steps[round(float(time[0]) * len(steps))]
            return step.point * x + step.observation * observation

        return FlowSampler("euler", len(steps)).sample(denoise, torch.full((1, 1, 1), noise).double())

    moved = float(chunk(1.0) - chunk(0.0))
    bound = euler_bounds(steps)[-1]
    assert moved == pytest.approx(bound, rel=1e-6, abs=1e-9)
    assert rows_bound(steps, steps) == pytest.approx(bound)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_known_bounds(steps):
    harmonic = sum(1 / k for k in range(1, steps + 1))
    assert euler_bounds([StepGain(2.0, 1.0)] * steps)[-1] == pytest.approx(2 * harmonic)
    assert euler_bounds([StepGain(2.0, 0.5)] * steps)[-1] <= 2 / (1 - 0.5)
    steep_first = [StepGain(2.0, 1e6)] + [StepGain(2.0, 1.0)] * (steps - 1)
    assert euler_bounds(steep_first)[-1] == pytest.approx(2 * harmonic)  # at first nothing is apart yet


def test_impossible_gains_are_refused():
    with pytest.raises(ConfigError, match="none negative"):
        euler_bounds([StepGain(1.0, -1.0)])
    with pytest.raises(ConfigError, match="give one or more"):
        euler_bounds([])
    with pytest.raises(ConfigError, match="2 steps, and of rows for 1"):
        rows_bound([StepGain(1.0, 1.0)] * 2, [StepGain(1.0, 1.0)])


def small(**settings):
    sizes = {"horizon": 8, "action_steps": 4, "width": 32, "depth": 2, "layer": "sll"}
    return LipschitzFlowConfig(**sizes | settings)


def train(policy, batch, steps, learning_rate=5e-3):
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate)
    policy.train()
    for step in range(steps):
        optimizer.zero_grad()
        policy.loss(batch, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    return policy.eval()


def trained(steps=30, spec=PLANE_SPEC, **settings):
    torch.manual_seed(0)
    policy = LipschitzFlowPolicy(small(**settings), spec, 0.1)
    windows = example_windows(policy, spec, seed=0)
    policy.fit_normalizer(
        {key: value.reshape(-1, *value.shape[2:]) for key, value in windows["observation"].items()}, windows
    )
    return train(policy, to_tensors(windows, "cpu"), steps)


@pytest.mark.parametrize(
    ("steps", "point_gain", "layer"),
    [(1, 1.0, "sll"), (2, 3.0, "aol"), (4, 1.0, "spectral"), (10, 0.5, "sandwich")],
)
def test_no_pair_of_observations_moves_the_chunk_further_than_the_bound(steps, point_gain, layer):
    policy = trained(bound=3.0, sampling_steps=steps, point_gain=point_gain, layer=layer).double()
    sensitivity = policy.sensitivity()
    assert 0.5 < sensitivity.chunk <= 3.0
    size = policy.encoder.size
    first = torch.randn(1000, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    second = first + torch.logspace(-3, 1, 1000)[:, None] * torch.randn_like(first)
    code = torch.arange(1000) % policy.config.codes
    chunks = [policy.sample(condition, code) for condition in (first, second)]
    moved, distance = (chunks[1] - chunks[0]).detach(), (second - first).norm(dim=1)
    assert (moved.flatten(1).norm(dim=1) <= sensitivity.chunk * distance).all()
    assert (moved.norm(dim=1) <= torch.tensor(sensitivity.per_action) * distance[:, None]).all()

    def chunk(condition):
        return policy.sample(condition, torch.zeros(len(condition), dtype=torch.long))

    found = lower_bound(chunk, first[:10], pairs=3).value
    assert found <= sensitivity.chunk
    assert found > 0.02 * sensitivity.chunk  # the search finds something, so the line above could fail


@pytest.mark.parametrize("spec", [PLANE_SPEC, ARM_SPEC])
@pytest.mark.parametrize("steps", [1, 3])
def test_policy_conforms(spec, steps):
    config = small(sampling_steps=steps, width=96)
    assert len(check_policy("flow_lipschitz", config, spec, overfit_steps=150)) > 18


def test_the_certificate_survives_saving(tmp_path):
    policy = trained(sampling_steps=3)
    loaded = load_policy(save_policy(policy, tmp_path / "policy", name="flow_lipschitz"))
    assert loaded.sensitivity() == policy.sensitivity()


def test_a_teacher_is_followed_as_far_as_the_bound_allows():
    """What is learnt is the teacher's chunk for each code, whatever was demonstrated."""
    torch.manual_seed(0)
    windows = to_tensors(example_windows(trained(steps=0), PLANE_SPEC, seed=0), "cpu")
    teacher = MixturePolicy(tiny(MixtureConfig, channels=16, blocks=1), PLANE_SPEC, 0.1)
    with torch.no_grad():
        teacher.codes *= 20.0  # so that they differ
    errors = []
    for bound in (0.1, 100.0):
        policy = trained(steps=0, bound=bound, teacher_noise=0.1)
        teacher.normalizer.load_state_dict(policy.normalizer.state_dict())
        policy.learn_from(teacher)
        train(policy, windows, 300)
        with torch.no_grad():
            condition = policy.encoder(windows["observation"])
            code = torch.arange(len(condition)) % policy.config.codes
            wanted = teacher.estimate(condition, code)
            error = (policy.sample(condition, code).flatten(1) - wanted).square().mean()
            errors.append(float(error / wanted.var()))
    assert errors[1] < 0.2
    assert errors[0] > 2 * errors[1]


def test_a_teacher_of_another_form_is_refused():
    with pytest.raises(ConfigError, match=r"policy\.normalization, policy\.codes; set the same here"):
        trained(steps=0).learn_from(
            MixturePolicy(tiny(MixtureConfig, normalization="limits", codes=3), PLANE_SPEC, 0.1)
        )
    with pytest.raises(ConfigError, match="is a LipschitzFlowPolicy; give a run of the policy 'mixture'"):
        trained(steps=0).learn_from(trained(steps=0))


LINE = Spec((Feature("agent_pos", (1,)),), (Feature("action", (1,)),))


@given(st.integers(0, 1000))
def test_the_teachers_observations_keep_their_speed(seed):
    policy = LipschitzFlowPolicy(small(), LINE, 0.1)
    condition = torch.randn(6, policy.encoder.size, generator=torch.Generator().manual_seed(seed))
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    moved, again = (policy.encoder.moved(condition, 0.5, generator) for generator in generators)
    assert torch.equal(moved, again)
    by = (moved - condition).unflatten(-1, (2, -1))  # two steps
    assert by.abs().max() > 0.01
    torch.testing.assert_close(by[:, 0], by[:, 1], atol=1e-6, rtol=0)


def test_the_noise_chooses_the_way_however_small_the_bound():
    """Demonstrated is +1 or -1 everywhere; a flow with such a bound in the noise too would fill the gap."""
    generator = np.random.default_rng(0)
    way = generator.choice([-1.0, 1.0], (512, 1, 1)).astype(np.float32)
    windows = {
        "observation": {"agent_pos": generator.uniform(-1, 1, (512, 2, 1)).astype(np.float32)},
        "action": np.repeat(way, 8, axis=1),
    }
    torch.manual_seed(0)
    config = small(bound=0.5)
    policy = LipschitzFlowPolicy(config, LINE, 0.1)
    policy.fit_normalizer({"agent_pos": windows["observation"]["agent_pos"][:, 0]}, windows)
    train(policy, to_tensors(windows, "cpu"), 300)
    chunk = policy.infer(windows["observation"], seeds=range(512)).mean((1, 2))
    assert policy.sensitivity().chunk <= 0.5
    assert np.abs(np.abs(chunk) - 1).max() < 0.2
    assert 0.3 < (chunk > 0).mean() < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": 0.0}, "policy.bound is 0.0; it must be above 0"),
        ({"bound": math.nan}, "policy.bound is nan"),
        ({"bound": math.inf}, "policy.bound is inf; it must be above 0 and finite"),
        ({"bound": 1e39}, "float32"),
        ({"point_gain": math.inf}, "policy.point_gain is inf"),
        ({"point_gain": -1.0}, "policy.point_gain is -1.0"),
        ({"codes": 0}, "policy.codes is 0; it must be at least 1"),
        ({"sampling_steps": 0}, "policy.sampling_steps is 0"),
        ({"layer": "sl"}, "'sl'.*sll"),
        ({"teacher_noise": -0.1}, "policy.teacher_noise is -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RobopolicyError, match=message):
        LipschitzFlowPolicy(small(**settings), PLANE_SPEC, 0.1)


def test_an_encoder_without_a_bound_is_refused():
    with pytest.raises(ConfigError, match=r"camera0_rgb .* no Lipschitz bound.*observation_keys"):
        LipschitzFlowPolicy(small(encoder=ImageEncoderConfig(channels=[8])), IMAGE_SPEC, 0.1)
