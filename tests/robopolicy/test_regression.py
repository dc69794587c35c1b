"""The transformer over action chunks, the posterior of ACT, and the policies that do not sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from robopolicy.nets.posterior import ChunkPosterior, divergence
from robopolicy.nets.transformer import ConditionalTransformer
from robopolicy.policies.configs import ActConfig, BehaviorCloningConfig, MlpConfig
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import policies
from robopolicy_drivers.interfaces import Prefix

from .conftest import PLANE_SPEC, tiny


def transformer(**settings):
    torch.manual_seed(0)
    return ConditionalTransformer(3, 6, 5, width=16, layers=2, heads=2, embedding_size=8, **settings)


def inputs():
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 6, 3), (4,), (4, 5))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("causal", [False, True])
def test_the_transformer_depends_on_all_inputs_and_a_bound_condition_changes_nothing(causal):
    net, (noisy, step, condition) = transformer(causal=causal), inputs()
    out = net(noisy, step, condition)
    assert out.shape == noisy.shape
    out.square().sum().backward()
    assert all(bool((value.grad != 0).any()) for value in (noisy, step, condition))
    torch.testing.assert_close(net.bind(condition, [])(noisy, step), out)


@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_transformer_looks_at_earlier_actions_only(causal):
    net, (noisy, step, condition) = transformer(causal=causal), inputs()
    for row in range(6):
        (gradient,) = torch.autograd.grad(net(noisy, step, condition)[:, row].sum(), noisy)
        seen = gradient.abs().amax(dim=(0, 2)) > 0
        assert seen.tolist() == [not causal or other <= row for other in range(6)]


def test_layers_begin_with_weights_of_their_own():
    first, second = transformer().layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=5))
def test_the_divergence_is_that_of_torch(pairs):
    mean, log_variance = torch.tensor(pairs).T
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(divergence(mean, log_variance), expected, atol=1e-4, rtol=1e-4)


def test_the_posterior_reads_the_chunk_and_the_condition():
    net = ChunkPosterior(3, 6, 5, latent=2, width=16, layers=1, heads=2)
    noisy, _, condition = inputs()
    mean, log_variance = net(noisy, condition)
    assert mean.shape == log_variance.shape == (4, 2)
    (mean.sum() + log_variance.sum()).backward()
    assert (noisy.grad.abs().amax(dim=(0, 2)) > 0).all()
    assert (condition.grad != 0).any()


def forked(share):
    """Returns 30 windows of one and the same observation: a share of the chunks is at 1, the rest at 0."""
    action = np.zeros((30, 8, 2), np.float32)
    action[: round(30 * share)] = 1.0
    observation = {
        feature.key: np.zeros((30, 2, *feature.shape), np.float32) for feature in PLANE_SPEC.observation
    }
    return {"observation": observation, "action": action}


def trained(name, config, share, steps):
    torch.manual_seed(0)
    policy = policies.build(name, config, PLANE_SPEC, 0.1)
    windows = forked(share)
    batch = {
        "observation": {key: torch.from_numpy(value) for key, value in windows["observation"].items()},
        "action": torch.from_numpy(windows["action"]),
    }
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = policy.loss(batch, torch.Generator().manual_seed(step))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    observation = {key: value[:1] for key, value in windows["observation"].items()}
    return policy.infer(observation)[0], np.mean(losses[-20:])


@pytest.mark.parametrize(("loss", "expected"), [("mse", 1 / 3), ("l1", 0.0)])
def test_regression_finds_the_mean_or_the_median(loss, expected):
    config = tiny(BehaviorCloningConfig, loss=loss, mlp=MlpConfig(width=16, blocks=1))
    chunk, _ = trained("bc", config, 1 / 3, 150)
    np.testing.assert_allclose(chunk, expected, atol=0.1)


def test_the_latent_of_act_explains_what_the_observation_does_not():
    sizes = {"net": "mlp", "mlp": MlpConfig(width=32, blocks=1), "posterior_layers": 1}
    _, told = trained("act", tiny(ActConfig, divergence_weight=1e-3, latent=2, **sizes), 0.5, 100)
    _, untold = trained("act", tiny(ActConfig, divergence_weight=100.0, latent=2, **sizes), 0.5, 100)
    assert untold > 0.45  # any single answer misses half of the chunks by 1
    assert told < 0.2


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("bc", {"loss": "mae"}, "policy.loss"),
        ("act", {"latent": 0}, "policy.latent is 0"),
        ("act", {"posterior_layers": 0}, "policy.posterior_layers is 0"),
        ("act", {"divergence_weight": -1.0}, "policy.divergence_weight is -1"),
    ],
)
def test_impossible_settings_of_regression_are_told(name, settings, words):
    with pytest.raises(ConfigError, match=words):
        policies.build(name, tiny(policies.config_class(name), **settings), PLANE_SPEC, 0.1)


@pytest.mark.parametrize("name", ["act", "bc"])
def test_a_policy_that_takes_no_prefix_says_so(name):
    policy = policies.build(name, tiny(policies.config_class(name)), PLANE_SPEC, 0.1)
    observation = {key: value[:1] for key, value in forked(0.5)["observation"].items()}
    with pytest.raises(ConfigError, match="takes no prefix"):
        policy.infer(observation, prefix=Prefix(np.zeros((2, 2)), 1))
