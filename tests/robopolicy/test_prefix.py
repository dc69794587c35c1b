"""Real-time chunking: the published guidance, against its formula, finite differences and whole policies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robopolicy.conformance import example_windows
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.configs import ChunkPolicyConfig
from robopolicy.policies.generative import DiffusionPolicy, FlowPolicy
from robopolicy.sampling.diffusion import DiffusionPath
from robopolicy.sampling.flow import FlowSampler, StraightPath
from robopolicy.sampling.prefix import ChunkPrefix, guidance_weight, keep_prefix, pull_to_prefix, soft_mask
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import Prefix, TakesPrefix

from .conftest import ARM_SPEC, CONFIGS, PLANE_SPEC, tiny

POLICIES = {"flow": FlowPolicy, "diffusion": DiffusionPolicy}
SHAPE = (2, 6, 3)


def net(seed=0):
    """A small smooth function of a chunk and its time that mixes all of a chunk's numbers."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(18, 18, generator=generator, dtype=torch.float64) / 4

    def denoiser(x, time, known=None, feedback=None):
        mixed = torch.tanh(x.flatten(1) @ weight + time[:, None])
        return mixed.unflatten(1, SHAPE[1:])

    return denoiser


def draw(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_mask_is_the_published_one():
    """Against the loop that the formula says, for all sizes."""
    for total in (1, 5, 8):
        for rows in range(total + 1):
            for frozen in range(total + 2):
                start, end = min(frozen, rows), rows
                expected = []
                for index in range(total):
                    share = min(max((start - 1 - index) / (end - start + 1) + 1, 0.0), 1.0)
                    value = share * (math.exp(share) - 1) / (math.e - 1)
                    expected.append(value if index < end else 0.0)
                mask = soft_mask(frozen, rows, total)
                np.testing.assert_allclose(mask, expected, atol=1e-6)
                assert (mask[:start] == 1).all()
                assert (mask.diff() <= 1e-6).all()


def test_frozen_rows_count_wholly_whatever_the_processor_s_exponential_is(monkeypatch):
    """Else a policy that was trained with prefixes would take them for uncertain, and ignore them."""
    exact = torch.expm1
    monkeypatch.setattr(torch, "expm1", lambda x: exact(x) * (1 - 1e-7))
    mask = soft_mask(3, 5, 8)
    assert (mask >= 1).tolist() == [True] * 3 + [False] * 5


def test_the_weight_is_the_published_one():
    times = torch.tensor([0.0, 0.2, 0.5, 0.8, 0.95])
    np.testing.assert_allclose(guidance_weight(times), [10.0, 4.25, 2.0, 4.25, 10.0], rtol=1e-6)


@pytest.mark.parametrize("time", [0.2, 0.6])
def test_the_pull_is_the_jacobian_s_by_finite_differences(time):
    """One Euler step with guidance equals x + dt (v + w J^T e), with J column by column."""
    field, x, target = net(), draw(1), draw(2)
    mask = soft_mask(2, 4, 6).double()
    times = torch.full((2,), time, dtype=torch.float64)
    clean = field(x, times)
    error = mask[:, None] * (target - clean)
    pull = torch.zeros_like(x)
    for index in np.ndindex(SHAPE):
        shift = torch.zeros_like(x)
        shift[index] = 1e-6
        slope = (field(x + shift, times) - field(x - shift, times)) / 2e-6
        pull[index] = (slope * error).sum()
    weight = min((1 - time) / time * (time**2 + (1 - time) ** 2) / (1 - time) ** 2, 10.0)
    velocity = (clean - x) / (1 - time) + weight * pull
    guided = pull_to_prefix(field, StraightPath(), ChunkPrefix(target, mask))(x, times)
    torch.testing.assert_close((guided - x) / (1 - time), velocity, atol=1e-7, rtol=0)


def gaussian(deviation):
    """The exact estimate of a clean chunk whose rows wander about each other: the rest follows a prefix."""
    steps = torch.arange(6, dtype=torch.float64)
    covariance = deviation**2 * torch.exp(-((steps[:, None] - steps).square()) / 18)

    def denoiser(x, time, known=None, feedback=None):
        signal, noise = time[0], 1 - time[0]
        total = signal**2 * covariance + noise**2 * torch.eye(6, dtype=torch.float64)
        return signal * covariance @ torch.linalg.solve(total, x)

    return denoiser


def test_the_rest_of_the_chunk_follows_the_frozen_rows():
    field, noise = gaussian(0.3), draw(3)
    target = torch.full(SHAPE, 0.25, dtype=torch.float64)
    free = FlowSampler("euler", 10).sample(field, noise)
    prefix = ChunkPrefix(target, soft_mask(3, 3, 6).double())
    continued = FlowSampler("euler", 10).sample(pull_to_prefix(field, StraightPath(), prefix), noise)
    for rows in (slice(0, 3), slice(3, 6)):  # the frozen ones, and the others because they belong together
        assert (continued - target)[:, rows].abs().mean() < 0.7 * (free - target)[:, rows].abs().mean()


def test_diffusion_is_pulled_as_the_flow_at_the_same_point():
    """At one noise level both formulations give the same pulled estimate of the clean chunk."""
    path, x = DiffusionPath(100), draw(6)
    prefix = ChunkPrefix(0.3 * draw(5), soft_mask(2, 4, 6).double())
    denoiser = gaussian(0.2)
    for level in (20, 50, 80):
        levels = torch.full((2,), level)
        signal, noise = (factor.double() for factor in path.scales(levels))
        scale = (signal + noise)[:, None, None]
        time = signal / (signal + noise)

        def of_noisy(noisy, _, scale=scale, time=time, **more):
            return denoiser(noisy / scale, time)

        ours = pull_to_prefix(of_noisy, path, prefix)(x, levels)
        expected = pull_to_prefix(denoiser, StraightPath(), prefix)(x / scale, time)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_known_rows_are_given_as_they_are_and_come_back():
    """The denoiser sees the target in the certain rows, is told which they are, and does not change them."""
    seen = []

    def denoiser(x, level, known=None, feedback=None):
        seen.append((x, known))
        return 0.5 * x

    target = draw(7)
    kept = keep_prefix(denoiser, ChunkPrefix(target, soft_mask(3, 5, 6).double()), most=4)
    sampled = FlowSampler("euler", 3).sample(kept, draw(8))
    torch.testing.assert_close(sampled[:, :3], target[:, :3], atol=1e-12, rtol=0)
    assert not torch.isclose(sampled[:, 3:], target[:, 3:]).any()
    for x, known in seen:
        assert torch.equal(x[:, :3], target[:, :3])
        assert known.tolist() == [[True] * 3 + [False] * 3] * 2
    fewer = keep_prefix(denoiser, ChunkPrefix(target, soft_mask(3, 5, 6).double()), most=2)
    fewer(draw(8), torch.zeros(2))
    assert seen[-1][1].tolist() == [[True] * 2 + [False] * 4] * 2
    nothing = keep_prefix(denoiser, ChunkPrefix(target, torch.zeros(6)), most=4)
    assert torch.equal(nothing(draw(8), torch.zeros(2)), denoiser(draw(8), torch.zeros(2)))


def trained(name, spec, **settings):
    """A policy that has learnt a little, so that its field has a Jacobian worth the name."""
    torch.manual_seed(0)
    policy = POLICIES[name](tiny(CONFIGS[name], **settings), spec, 0.1)
    windows = example_windows(policy, spec, seed=0)
    observation = windows["observation"]
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in observation.items()}
    policy.fit_normalizer(flat, windows)
    batch = {
        "observation": {key: torch.tensor(value).float() for key, value in observation.items()},
        "action": torch.tensor(windows["action"]).float(),
    }
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for step in range(150):
        optimizer.zero_grad()
        policy.loss(batch, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    return policy, windows


@pytest.mark.parametrize("net", ["unet", "mlp"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_a_policy_s_chunk_continues_the_prefix_and_without_one_nothing_changes(name, net):
    policy, windows = trained(name, ARM_SPEC, net=net)
    observation, seeds = {key: value[:4] for key, value in windows["observation"].items()}, [1, 2, 3, 4]
    before = policy.infer(observation, seeds=seeds)
    past = policy.observation_steps - 1
    wanted = before[0, :5] + np.array([0.02, -0.02, 0.01, 0.02, 0.0, -0.02, 0.0])
    continued = policy.infer(observation, seeds=seeds, prefix=Prefix(wanted, 3))
    assert continued.shape == before.shape == (4, 8 - past, 7)
    farther, nearer = (np.abs(chunk[0, :3, :3] - wanted[:3, :3]).mean() for chunk in (before, continued))
    assert nearer < farther
    np.testing.assert_array_equal(policy.infer(observation, seeds=seeds), before)
    np.testing.assert_array_equal(policy.infer(observation, seeds=seeds, prefix=Prefix(wanted, 3)), continued)
    assert isinstance(policy, TakesPrefix)
    assert policy.takes_prefix


def test_a_prefix_is_taken_relative_to_the_newest_pose_and_counts_from_the_newest_step():
    policy, windows = trained("flow", ARM_SPEC)
    observation = {key: torch.tensor(value[:3]).float() for key, value in windows["observation"].items()}
    action = torch.tensor(windows["action"][:1]).float()
    past = policy.observation_steps - 1
    expected = policy.normalizer.normalize(
        "action", policy.action.encode(action.expand(3, -1, -1), policy.action.base(observation))
    )
    prefix = policy.represent_prefix(Prefix(windows["action"][0, past : past + 4], 2), observation)
    torch.testing.assert_close(prefix.target[:, past : past + 4], expected[:, past : past + 4])
    assert (prefix.target[:, past + 4 :] == 0).all()
    torch.testing.assert_close(prefix.mask[past:], soft_mask(2, 4, 8 - past))
    assert (prefix.mask[:past] == 0).all()


@pytest.mark.parametrize(("name", "net"), [("flow", "unet"), ("flow", "transformer"), ("diffusion", "mlp")])
def test_a_policy_trained_with_prefixes_begins_with_what_is_certain(name, net):
    """Up to as many rows as it was trained with; without a prefix it is the policy that it always is."""
    policy, windows = trained(name, ARM_SPEC, net=net, longest_prefix=3)
    observation, seeds = {key: value[:4] for key, value in windows["observation"].items()}, [1, 2, 3, 4]
    free = policy.infer(observation, seeds=seeds)
    wanted = policy.infer(observation, seeds=[5, 6, 7, 8])[0, :6]
    for frozen, certain in ((0, 0), (2, 2), (3, 3), (5, 3)):
        chunk = policy.infer(observation, seeds=seeds, prefix=Prefix(wanted, frozen))
        np.testing.assert_allclose(chunk[0, :certain, :3], wanted[:certain, :3], atol=1e-5)
        if frozen == 0:
            np.testing.assert_array_equal(chunk, free)
        else:
            assert np.abs(chunk[0, certain:6, :3] - wanted[certain:, :3]).max() > 1e-4


def test_the_loss_of_a_policy_trained_with_prefixes_counts_unknown_rows_only():
    """Rows that are given are clean in the input, and a net that is wrong about them alone loses nothing."""
    policy, _ = trained("flow", PLANE_SPEC, net="mlp", longest_prefix=4)
    past, seen = policy.observation_steps - 1, []

    class Watching(torch.nn.Module):
        def forward(self, x, level, condition):
            seen.append(x)
            return torch.where(x[..., 2:] > 0, torch.full_like(x[..., :2], 99.0), 0.0)

    policy.net = Watching()
    clean = torch.randn(64, 8, 2, generator=torch.Generator().manual_seed(1))
    loss = policy._chunk_loss(clean, torch.zeros(64, 1), torch.Generator().manual_seed(2))
    known = seen[0][..., 2] > 0
    lengths = known.sum(1)
    assert set(lengths.tolist()) == set(range(5))
    for row, length in zip(known, lengths, strict=True):
        assert row[past : past + length].all()
    assert torch.equal(seen[0][..., :2][known], clean[known])
    torch.testing.assert_close(loss, clean[~known].square().mean())


@pytest.mark.parametrize("longest", [-1, 7])
def test_impossible_lengths_of_trained_prefixes_are_refused(longest):
    with pytest.raises(ConfigError, match="longest_prefix"):
        FlowPolicy(tiny(CONFIGS["flow"], longest_prefix=longest), PLANE_SPEC, 0.1)


def test_a_policy_of_one_s_own_needs_no_sampler_of_ours_and_takes_no_prefix():
    class Still(ChunkPolicy):
        """Always the same chunk."""

        def _chunk_loss(self, clean, condition, generator):
            return clean.square().mean()

        def _predict(self, condition, seeds, prefix):
            return torch.zeros(len(condition), self.config.horizon, self.action.size)

    policy = Still(ChunkPolicyConfig(horizon=8, action_steps=4), PLANE_SPEC, 0.1)
    policy.register_parameter("anything", torch.nn.Parameter(torch.zeros(1)))
    observation = example_windows(policy, PLANE_SPEC, seed=0)["observation"]
    assert np.isfinite(policy.infer(observation)).all()
    assert not policy.takes_prefix
    with pytest.raises(ConfigError, match="Still takes no prefix"):
        policy.infer(observation, prefix=Prefix(np.zeros((3, 2)), 1))


def test_a_prefix_that_does_not_fit_is_refused():
    policy, windows = trained("flow", PLANE_SPEC, net="mlp")
    observation = {key: value[:1] for key, value in windows["observation"].items()}
    for actions in (np.zeros((3, 5)), np.zeros(2), np.full((3, 2), np.nan)):
        with pytest.raises(SpecError, match=r"finite actions \[n, 2\]"):
            policy.infer(observation, prefix=Prefix(actions, 1))
    longer = Prefix(np.zeros((50, 2)), 1)  # of a chunk of another length: the rest is left out
    assert policy.infer(observation, prefix=longer).shape == policy.infer(observation).shape
