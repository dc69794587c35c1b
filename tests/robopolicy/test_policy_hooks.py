"""The hooks of whole policies: costs and operators in real units, through representation and normalizer."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from robopolicy.conformance import check_policy, example_windows
from robopolicy.policies.configs import FeedbackConfig
from robopolicy.policies.generative import DiffusionPolicy, FlowPolicy
from robopolicy.sampling.feedback import Feedback
from robopolicy.sampling.guidance import Guidance, with_gradient
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_datasets.registry import policies

from .conftest import ARM_SPEC, CONFIGS, PLANE_SPEC, tiny
from .test_prefix import trained

GOAL = torch.tensor([0.05, -0.1, 0.1])


def reach(actions):
    """How far the arm's positions are from a goal, and its turns from none."""
    return (actions[..., :3] - GOAL).square().sum((1, 2)) + 0.1 * actions[..., 3:6].square().sum((1, 2))


def reach_in_numpy(actions):
    away = actions[..., :3] - GOAL.numpy()
    gradient = np.concatenate([2 * away, 0.2 * actions[..., 3:6], np.zeros_like(actions[..., 6:])], axis=-1)
    return (away**2).sum((1, 2)) + 0.1 * (actions[..., 3:6] ** 2).sum((1, 2)), gradient


@pytest.fixture(scope="module", params=["flow", "diffusion"])
def arm(request):
    """A policy with relative poses that has learnt a little, and three observations for it."""
    policy, windows = trained(request.param, ARM_SPEC, net="mlp")
    policy.eval()
    observation = {key: torch.tensor(value[:3]).float() for key, value in windows["observation"].items()}
    noise = torch.randn(3, 8, 10, generator=torch.Generator().manual_seed(0))
    return policy, observation, noise


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("flow", {"prediction": "velocity"}),
        ("flow", {"longest_prefix": 3}),
        ("diffusion", {"prediction": "clean", "eta": 0.5}),
        ("diffusion", {"prediction": "velocity"}),
    ],
)
def test_policies_conform_whatever_their_nets_predict_and_are_trained_with(name, settings):
    assert check_policy(name, tiny(CONFIGS[name], net="mlp", **settings), PLANE_SPEC)


@pytest.mark.parametrize("net", ["mlp", "unet", "transformer"])
@pytest.mark.parametrize("settings", [{}, {"longest_prefix": 3}], ids=["plain", "trained with prefixes"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_neither_training_nor_sampling_reads_a_number_back(name, settings, net):
    """On the meta device there are no numbers to read: what would wait for a GPU fails here."""
    policy = policies.build(name, tiny(CONFIGS[name], net=net, **settings), ARM_SPEC, 0.1).to("meta")
    observation = {
        feature.key: torch.empty(3, 2, *feature.shape, device="meta") for feature in ARM_SPEC.observation
    }
    policy.loss({"observation": observation, "action": torch.empty(3, 8, 7, device="meta")}).backward()
    noise = torch.empty(3, 8, 10, device="meta")
    prefix = ChunkPrefix(torch.empty_like(noise), torch.empty(8, device="meta"))
    with torch.no_grad():
        assert policy.sample(observation, noise).is_meta
        assert policy.sample(observation, noise, prefix=prefix).shape == (3, 8, 7)


def test_a_cost_s_gradient_is_that_of_finite_differences_in_the_sampler_s_numbers(arm):
    """Through normalizer, relative poses and rot6d, which need not be orthonormal."""
    policy, observation, noise = arm
    cost = policy._cost(reach, observation)
    chunk = 0.3 * noise
    chunk[..., [3, 7]] += 1.0  # near no turn
    point = chunk.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cost(point).sum(), point)
    assert (gradient[:, : policy.observation_steps - 1] == 0).all()  # the past has no cost
    for row, number in ((2, 0), (4, 1), (7, 2), (5, 4), (6, 5), (3, 8)):
        shift = torch.zeros_like(chunk)
        shift[:, row, number] = 1e-2
        slope = (cost(chunk + shift) - cost(chunk - shift)) / 2e-2
        torch.testing.assert_close(gradient[:, row, number], slope, atol=2e-4, rtol=2e-2)


def test_guidance_lowers_the_cost_the_more_the_larger_its_scale(arm):
    policy, observation, noise = arm
    with torch.no_grad():
        free = policy.sample(observation, noise)
        unscaled = policy.sample(observation, noise, guidance=Guidance(reach, 0.0))
        costs = [
            float(reach(policy.sample(observation, noise, guidance=Guidance(reach, scale))).sum())
            for scale in (0.0, 0.3, 1.0, 3.0)
        ]
    assert torch.equal(free, unscaled)
    assert all(after < before for before, after in itertools.pairwise(costs))


def test_a_controller_s_cost_in_numpy_guides_as_the_same_cost_in_torch(arm):
    policy, observation, noise = arm
    with torch.no_grad():
        ours = policy.sample(observation, noise, guidance=Guidance(reach, 1.0))
        theirs = policy.sample(observation, noise, guidance=Guidance(with_gradient(reach_in_numpy), 1.0))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_costs_and_operators_are_computed_in_full_precision(arm):
    policy, observation, noise = arm
    seen = []

    def cost(actions):
        seen.append((actions @ torch.ones(7, 1)).dtype)  # a product would be bfloat16 under autocast
        return reach(actions)

    policy.bf16 = True
    try:
        with torch.no_grad():
            policy.sample(observation, noise, guidance=Guidance(cost, 1.0))
    finally:
        policy.bf16 = False
    assert set(seen) == {torch.float32}


# --- feedback -----------------------------------------------------------------------------------------------


def damped(actions):
    """A robot that goes only half of each way from the middle of its range."""
    return 0.5 * actions


@pytest.mark.parametrize("order", ["zero", "first"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_a_policy_learns_from_feedback_what_its_robot_can_do(name, order):
    """Two robots, which no observation tells apart; each keeps one side. Feedback tells which it is."""
    torch.manual_seed(0)
    config = tiny(CONFIGS[name], net="mlp", prediction="clean", feedback=FeedbackConfig(order=order))
    policy = {"flow": FlowPolicy, "diffusion": DiffusionPolicy}[name](config, PLANE_SPEC, 0.1)
    windows = example_windows(policy, PLANE_SPEC, seed=0)
    observation = {key: torch.tensor(value).float() for key, value in windows["observation"].items()}
    observation = {key: torch.zeros_like(value) for key, value in observation.items()}
    side = torch.tensor([1.0, -1.0] * 5)[:, None, None]

    def kept(actions):
        """Moves to the robot's own side whatever it is told."""
        return side * actions.abs()

    action = side.expand(10, 8, 2) * torch.linspace(0.5, 1.0, 8)[:, None]
    low = {key: value.numpy() for key, value in observation.items()}
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in low.items()}
    policy.fit_normalizer(flat, {"observation": low, "action": action.numpy()})
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        batch = {"observation": observation, "action": action}
        policy.loss(batch, torch.Generator().manual_seed(step), kept).backward()
        optimizer.step()
    noise = torch.randn(10, 8, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        blind = policy.sample(observation, noise)
        told = policy.sample(observation, noise, feedback=Feedback(kept))
        quick = policy.sample(observation, noise, feedback=Feedback(kept, shortcut=1.0))
    error = [float((chunk - kept(chunk))[:, 1:].abs().mean()) for chunk in (blind, told, quick)]
    assert error[1] < 0.3 * error[0]
    assert error[2] < 0.3 * error[0]


def test_feedback_needs_a_policy_that_was_trained_with_it_and_training_needs_an_operator(arm):
    policy, observation, noise = arm
    with pytest.raises(ConfigError, match="trained without feedback"):
        policy.sample(observation, noise, feedback=Feedback(damped))
    config = tiny(CONFIGS["flow"], net="mlp", feedback=FeedbackConfig(order="zero"))
    with pytest.raises(ConfigError, match="needs the operator"):
        FlowPolicy(config, PLANE_SPEC, 0.1).loss({})


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("flow", {"prediction": "noise"}, ConfigError, "'clean' or 'velocity'"),
        ("diffusion", {"prediction": "nois"}, UnknownNameError, "Did you mean 'noise'"),
        ("diffusion", {"eta": 2.0}, ConfigError, "eta is 2.0"),
        ("flow", {"feedback": FeedbackConfig(order="second")}, UnknownNameError, "zero"),
        ("flow", {"feedback": FeedbackConfig(unguided=0.7, cached=0.5)}, ConfigError, "together at most 1"),
    ],
)
def test_impossible_settings_of_hooks_are_refused(name, settings, error, words):
    policy = {"flow": FlowPolicy, "diffusion": DiffusionPolicy}[name]
    with pytest.raises(error, match=words):
        policy(dataclasses.replace(tiny(CONFIGS[name], net="mlp"), **settings), PLANE_SPEC, 0.1)
