"""Guidance by a cost: where it leads on Gaussians and mixtures, and its gradient through a whole policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robopolicy.sampling.diffusion import DiffusionSampler
from robopolicy.sampling.flow import FlowSampler, StraightPath
from robopolicy.sampling.guidance import Guidance, guide, with_gradient
from robopolicy_datasets.errors import ConfigError, SpecError

from .test_samplers import SAMPLERS, draws, gaussian, mixture


def along(direction, goal):
    """A quadratic cost that cares for one direction of the chunk only."""

    def cost(chunk):
        return 0.5 * ((chunk.flatten(1) @ direction) - goal) ** 2

    return cost


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_quadratic_cost_tilts_a_gaussian_along_its_direction_only(name):
    """The tilted Gaussian's mean lies on the way to the cost's minimum, the farther the larger the scale."""
    direction = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    noise = draws(1, (2_000, 1, 3))()
    means = []
    for scale in (0.0, 0.3, 1.0):
        sampler = SAMPLERS[name]()
        denoiser = guide(gaussian(sampler.path), sampler.path, Guidance(along(direction, 0.6), scale))
        samples = sampler.sample(denoiser, noise, draws(2, noise.shape))
        shift = samples.mean((0, 1)) - 0.2
        means.append(float(shift @ direction))
        across = shift - (shift @ direction) * direction
        assert across.abs().max() < 0.012  # the sampling error
    start = 0.2 * float(direction.sum())
    assert means[0] == pytest.approx(0.0, abs=0.012)
    assert 0.02 < means[1] < means[2] <= 0.6 - start + 0.012


def test_the_guided_flow_of_a_gaussian_is_its_linear_recursion():
    """With a quadratic cost each step is linear; here it is written out for one dimension."""
    mean, deviation, goal, scale, count = 0.2, 0.15, 0.5, 0.7, 10
    sampler = FlowSampler("euler", count)
    guidance = Guidance(lambda chunk: 0.5 * (chunk - goal).square().sum((1, 2)), scale)
    denoiser = guide(gaussian(sampler.path), sampler.path, guidance)
    x = np.linspace(-2, 2, 5)
    sampled = sampler.sample(denoiser, torch.tensor(x)[:, None, None])[:, 0, 0]
    for time in np.arange(count) / count:
        gain = time * deviation**2 / ((1 - time) ** 2 + (time * deviation) ** 2)
        estimate = mean + gain * (x - time * mean)
        estimate -= scale * time**2 / (time**2 + (1 - time) ** 2) * (estimate - goal)
        x = x + (estimate - x) / (1 - time) / count
    np.testing.assert_allclose(sampled, x, atol=1e-6)


@pytest.mark.parametrize(
    "sampler", [DiffusionSampler("ddim", 100, 10), FlowSampler("euler", 10)], ids=["ddim", "flow"]
)
def test_guidance_fills_the_mode_of_a_mixture_that_its_cost_prefers(sampler):
    noise, path = draws(6, (4_000, 1, 1))(), sampler.path
    free, steered = (
        sampler.sample(guide(mixture(path), path, Guidance(lambda chunk: chunk.sum((1, 2)), scale)), noise)
        for scale in (0.0, 0.1)
    )
    share_before, share = (float((chunk < 0).double().mean()) for chunk in (free, steered))
    assert share_before == pytest.approx(0.3, abs=0.03)
    assert share > share_before + 0.03
    for side in (-1, 1):  # the modes themselves move a little, in the same direction
        before, after = (float(chunk[side * chunk > 0].mean()) for chunk in (free, steered))
        assert before - 0.2 < after < before


def test_no_guidance_is_a_scale_of_zero_bit_for_bit():
    path, x, time = StraightPath(), draws(3, (4, 8, 3))(), torch.full((4,), 0.6)
    guided = guide(gaussian(path), path, Guidance(lambda chunk: chunk.square().sum((1, 2)), 0.0))
    assert torch.equal(guided(x, time), gaussian(path)(x, time))


def test_no_row_goes_farther_at_once_than_is_allowed():
    path, x, time = StraightPath(), draws(3, (4, 8, 3))(), torch.full((4,), 0.6)
    free, share = gaussian(path)(x, time), 0.36 / 0.52

    def moved(longest):
        steep = Guidance(lambda chunk: 50 * (chunk[:, :4] ** 2).sum((1, 2)), 2.0, longest)
        return free - guide(gaussian(path), path, steep)(x, time)

    def direction(way):
        return way[:, :4] / way[:, :4].norm(dim=-1, keepdim=True)

    torch.testing.assert_close(moved(float("inf"))[:, :4], 200 * share * free[:, :4], atol=1e-4, rtol=1e-5)
    way = moved(0.1)
    lengths = torch.full((4, 4), 0.1 * share, dtype=way.dtype)
    torch.testing.assert_close(way[:, :4].norm(dim=-1), lengths, atol=1e-6, rtol=0)
    torch.testing.assert_close(direction(way), direction(free), atol=1e-6, rtol=0)
    assert (way[:, 4:] == 0).all()


def test_a_cost_may_bring_its_own_gradient():
    def theirs(actions):
        assert isinstance(actions, np.ndarray)
        assert actions.dtype == np.float64
        return (actions**2).sum((1, 2)), 2 * actions

    chunk = draws(4, (4, 8, 3))().requires_grad_()
    costs = with_gradient(theirs)(3 * chunk)
    torch.testing.assert_close(costs, 9 * chunk.square().sum((1, 2)))
    (gradient,) = torch.autograd.grad((costs * torch.arange(4.0)).sum(), chunk)
    torch.testing.assert_close(gradient, torch.arange(4.0)[:, None, None] * 18 * chunk)


def test_impossible_guidance_is_refused():
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="scale"):
            Guidance(lambda chunk: chunk.sum((1, 2)), scale)
    for longest in (0.0, float("nan")):
        with pytest.raises(ConfigError, match="longest"):
            Guidance(lambda chunk: chunk.sum((1, 2)), longest=longest)
    path = StraightPath()
    with pytest.raises(SpecError, match="one number for each"):
        guide(gaussian(path), path, Guidance(lambda chunk: chunk.sum()))(draws(5)(), torch.full((4,), 0.5))
