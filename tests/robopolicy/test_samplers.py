"""Samplers against diffusers' schedulers, and on Gaussians, of which the exact field is known."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from robopolicy.sampling.diffusion import DiffusionSampler, squared_cosine_alphas
from robopolicy.sampling.flow import FlowSampler
from robopolicy_datasets.errors import ConfigError

SHAPE = (4, 8, 3)
MEAN, DEVIATION = 0.2, 0.15  # of the Gaussian; well inside the clipping at 1


def scheduler(kind, levels):
    settings = {"num_train_timesteps": levels, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}
    return DDIMScheduler(**settings) if kind == "ddim" else DDPMScheduler(**settings)


def any_field(x, level):
    """Stands for a net: some smooth function that is not small."""
    return torch.sin(3 * x) + 0.5 * torch.cos(0.1 * level.to(x.dtype))[:, None, None] * x


@pytest.mark.parametrize("levels", [20, 100])
def test_the_schedule_and_the_noising_equal_diffusers(levels):
    reference = scheduler("ddpm", levels)
    torch.testing.assert_close(squared_cosine_alphas(levels), reference.alphas_cumprod, atol=1e-6, rtol=1e-5)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, *SHAPE, generator=generator)
    level = torch.tensor([0, levels // 3, levels // 2, levels - 1])
    ours = DiffusionSampler("ddpm", levels, levels).corrupt(clean, noise, level)
    torch.testing.assert_close(ours, reference.add_noise(clean, noise, level), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "levels", "steps"), [("ddpm", 50, 50), ("ddim", 100, 10), ("ddim", 100, 16)]
)
def test_sampling_equals_diffusers(kind, levels, steps):
    reference = scheduler(kind, levels)
    reference.set_timesteps(steps)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).double()
    theirs, generator = noise, torch.Generator().manual_seed(2)
    for timestep in reference.timesteps:
        predicted = any_field(theirs, timestep.repeat(SHAPE[0]))
        options = {"use_clipped_model_output": True} if kind == "ddim" else {"generator": generator}
        theirs = reference.step(predicted, timestep, theirs, **options).prev_sample
    fresh = torch.Generator().manual_seed(2)
    ours = DiffusionSampler(kind, levels, steps).sample(
        any_field, noise, lambda: torch.randn(SHAPE, generator=fresh, dtype=torch.float64)
    )
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "levels", "steps"), [("ddpm", 1000, 1000), ("ddim", 1000, 100)])
def test_diffusion_samples_a_gaussian_with_its_exact_score(kind, levels, steps):
    alphas = squared_cosine_alphas(levels)

    def field(x, level):
        alpha = alphas[level][:, None, None]
        return (1 - alpha).sqrt() * (x - alpha.sqrt() * MEAN) / (alpha * DEVIATION**2 + 1 - alpha)

    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(20_000, 1, 1, generator=generator)
    samples = DiffusionSampler(kind, levels, steps).sample(
        field, noise, lambda: torch.randn(noise.shape, generator=generator)
    )
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.005)
    assert float(samples.std()) == pytest.approx(DEVIATION, rel=0.05)


def gaussian_flow_error(kind, steps):
    """The exact flow between Gaussians maps noise z to ``MEAN + DEVIATION * z``."""

    def field(x, time):  # the mean of the data given a point on the path
        t = time.to(x.dtype)[:, None, None]
        gain = t * DEVIATION**2 / ((1 - t) ** 2 + (t * DEVIATION) ** 2)
        return MEAN + gain * (x - t * MEAN)

    noise = torch.randn(2_000, 1, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    samples = FlowSampler(kind, steps).sample(field, noise)
    return samples, float((samples - MEAN - DEVIATION * noise).square().mean().sqrt())


@pytest.mark.parametrize(("kind", "steps"), [("euler", 200), ("heun", 40)])
def test_flow_samples_a_gaussian_with_its_exact_velocity(kind, steps):
    samples, error = gaussian_flow_error(kind, steps)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(samples.std()) == pytest.approx(DEVIATION, rel=0.05)
    assert error < 0.02 * DEVIATION * 2


@pytest.mark.parametrize(("kind", "order"), [("euler", 1), ("heun", 2)])
def test_the_flow_integrators_have_their_order(kind, order):
    coarse, fine = gaussian_flow_error(kind, 40)[1], gaussian_flow_error(kind, 80)[1]
    assert coarse / fine == pytest.approx(2**order, rel=0.25)


def test_flow_paths_run_straight_from_noise_to_data():
    clean, noise = torch.ones(3, 2, 1), torch.zeros(3, 2, 1)
    points = FlowSampler.corrupt(clean, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert points[:, 0, 0].tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: DiffusionSampler("dpm", 100, 10),
        lambda: DiffusionSampler("ddim", 100, 101),
        lambda: DiffusionSampler("ddim", 100, 0),
        lambda: FlowSampler("rk4", 5),
        lambda: FlowSampler("euler", 0),
    ],
)
def test_impossible_samplers_are_refused(attempt):
    with pytest.raises(ConfigError, match=r"Allowed|must"):
        attempt()
