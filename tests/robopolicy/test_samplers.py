"""Samplers against diffusers' schedulers, and on Gaussians and mixtures, whose exact answers are known."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy.sampling.denoiser import PREDICTIONS, mix, signal_share
from robopolicy.sampling.diffusion import DiffusionPath, DiffusionSampler, squared_cosine_alphas
from robopolicy.sampling.flow import FlowSampler, StraightPath
from robopolicy_datasets.errors import ConfigError

SHAPE = (4, 8, 3)
MEAN, DEVIATION = 0.2, 0.15  # of the Gaussian; well inside the clipping at 1
THEIR_NAMES = {"noise": "epsilon", "clean": "sample", "velocity": "v_prediction"}


def scheduler(kind, levels, prediction="noise"):
    settings = {
        "num_train_timesteps": levels,
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": True,
        "prediction_type": THEIR_NAMES[prediction],
    }
    return DDIMScheduler(**settings) if kind == "ddim" else DDPMScheduler(**settings)


def any_net(x, level):
    """Stands for a net: some smooth function that is not small."""
    return torch.sin(3 * x) + 0.5 * torch.cos(0.1 * level.to(x.dtype))[:, None, None] * x


def draws(seed, shape=SHAPE):
    """Returns a function that draws fresh noise, the same for every caller with this seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("levels", [20, 100])
def test_the_schedule_the_noising_and_the_velocity_equal_diffusers(levels):
    reference, path = scheduler("ddpm", levels), DiffusionPath(levels)
    torch.testing.assert_close(squared_cosine_alphas(levels), reference.alphas_cumprod, atol=1e-6, rtol=1e-5)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, *SHAPE, generator=generator)
    level = torch.tensor([0, levels // 3, levels // 2, levels - 1])
    noisy = mix(path.scales(level), clean, noise)
    torch.testing.assert_close(noisy, reference.add_noise(clean, noise, level), atol=1e-5, rtol=0)
    velocity = PREDICTIONS["velocity"].target(path, clean, noise, level)
    torch.testing.assert_close(velocity, reference.get_velocity(clean, noise, level), atol=1e-5, rtol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("kind", "levels", "steps", "eta"),
    [("ddpm", 50, 50, 0.0), ("ddim", 100, 10, 0.0), ("ddim", 96, 16, 0.5), ("ddim", 100, 10, 1.0)],
)
def test_sampling_equals_diffusers(kind, levels, steps, eta, prediction):
    reference = scheduler(kind, levels, prediction)
    reference.alphas_cumprod = reference.alphas_cumprod.double()  # else its steps are rounded to float32
    reference.set_timesteps(steps)
    noise, theirs_draw, generator = draws(1)(), draws(2), torch.Generator().manual_seed(2)
    theirs = noise
    for timestep in reference.timesteps:
        predicted = any_net(theirs, timestep.repeat(SHAPE[0]))
        if kind == "ddim":
            more = theirs_draw() if eta and timestep != reference.timesteps[-1] else torch.zeros_like(noise)
            options = {"use_clipped_model_output": True, "eta": eta, "variance_noise": more}
            theirs = reference.step(predicted, timestep, theirs, **options).prev_sample
        else:  # it draws by itself
            theirs = reference.step(predicted, timestep, theirs, generator=generator).prev_sample
    path = DiffusionPath(levels)

    def denoiser(x, level):
        return PREDICTIONS[prediction].clean(path, x, level, any_net(x, level))

    ours = DiffusionSampler(kind, levels, steps, eta).sample(denoiser, noise, draws(2))
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    time=st.floats(0.05, 0.95),
    straight=st.booleans(),
    kind=st.sampled_from(sorted(PREDICTIONS)),
)
def test_a_true_prediction_means_the_true_chunk(seed, time, straight, kind):
    path = StraightPath() if straight else DiffusionPath(100)
    level = torch.full((2,), time) if straight else torch.full((2,), int(100 * time))
    clean, noise = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(seed))
    x, prediction = mix(path.scales(level), clean, noise), PREDICTIONS[kind]
    meant = prediction.clean(path, x, level, prediction.target(path, clean, noise, level))
    torch.testing.assert_close(meant, clean, atol=2e-4, rtol=1e-4)
    signal, scale = path.scales(level)
    torch.testing.assert_close(signal_share(path, level), signal**2 / (signal**2 + scale**2))


@pytest.mark.parametrize("path", [StraightPath(), DiffusionPath(100)], ids=["straight", "diffusion"])
def test_the_velocity_is_the_change_of_the_point_along_its_path(path):
    """Of the straight path by finite differences in time; of a diffusion, along the circle of its factors."""
    clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    straight = isinstance(path, StraightPath)
    level = torch.tensor([0.4]) if straight else torch.tensor([40])
    velocity = PREDICTIONS["velocity"].target(path, clean, noise, level)
    if straight:
        expected = mix(path.scales(level + 0.01), clean, noise) - mix(path.scales(level), clean, noise)
    else:
        signal, scale = path.scales(level)
        angle = torch.atan2(scale, signal) + 0.01
        expected = mix((angle.cos(), angle.sin()), clean, noise) - mix((signal, scale), clean, noise)
    torch.testing.assert_close(velocity, expected / 0.01, atol=0.03, rtol=0)


# --- exact answers ------------------------------------------------------------------------------------------


def gaussian(path, mean=MEAN, deviation=DEVIATION):
    """The mean of the data given a point on a path, for data of one Gaussian: linear regression."""

    def denoiser(x, level):
        signal, noise = (factor.to(x.dtype)[:, None, None] for factor in path.scales(level))
        gain = signal * deviation**2 / (signal**2 * deviation**2 + noise**2)
        return mean + gain * (x - signal * mean)

    return denoiser


def mixture(path, means=(-0.5, 0.5), weights=(0.3, 0.7), deviation=0.1):
    """The same for a mixture: the Gaussians' answers, by how likely each one is the point's."""

    def denoiser(x, level):
        signal, noise = (factor.to(x.dtype)[:, None, None] for factor in path.scales(level))
        variance = signal**2 * deviation**2 + noise**2
        likely = [
            torch.tensor(weight, dtype=x.dtype).log() - (x - signal * mean) ** 2 / (2 * variance)
            for mean, weight in zip(means, weights, strict=True)
        ]
        share = torch.stack(likely).softmax(0)
        return sum(
            part * gaussian(path, mean, deviation)(x, level) for part, mean in zip(share, means, strict=True)
        )

    return denoiser


SAMPLERS = {
    "ddpm": lambda: DiffusionSampler("ddpm", 300, 300),
    "ddim": lambda: DiffusionSampler("ddim", 1000, 100),
    "ddim, eta 0.7": lambda: DiffusionSampler("ddim", 1000, 200, 0.7),
    "euler": lambda: FlowSampler("euler", 200),
    "heun": lambda: FlowSampler("heun", 60),
}


def samples_of(make_denoiser, name, count=8_000):
    sampler = SAMPLERS[name]()
    draw = draws(3, (count, 1, 1))
    return sampler.sample(make_denoiser(sampler.path), draw(), draw)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_gaussian_is_sampled(name):
    samples = samples_of(gaussian, name)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.005)
    assert float(samples.std()) == pytest.approx(DEVIATION, rel=0.05)


@pytest.mark.parametrize("steps", [34, 51, 60, 75, 99])
def test_steps_that_do_not_divide_the_levels_begin_at_the_noisy_end_too(steps):
    """Else what is pure noise would be taken for a chunk that is half there."""
    sampler = DiffusionSampler("ddim", 100, steps)
    assert len(set(sampler.levels)) == sampler.evaluations == steps
    assert sampler.levels[0] >= 97
    assert sampler.levels[-1] == 0
    draw = draws(3, (8_000, 1, 1))
    samples = sampler.sample(gaussian(sampler.path), draw())
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.006)
    assert float(samples.std()) == pytest.approx(DEVIATION, rel=0.1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_mixture_is_sampled(name):
    samples = samples_of(mixture, name)
    right = samples > 0
    assert float(right.double().mean()) == pytest.approx(0.7, abs=0.02)
    for side, mean in ((samples[~right], -0.5), (samples[right], 0.5)):
        assert float(side.mean()) == pytest.approx(mean, abs=0.01)
        assert float(side.std()) == pytest.approx(0.1, rel=0.1)


def gaussian_flow_error(kind, steps):
    """The exact flow between Gaussians maps noise z to ``MEAN + DEVIATION * z``."""
    noise = draws(4, (2_000, 1, 1))()
    sampler = FlowSampler(kind, steps)
    samples = sampler.sample(gaussian(sampler.path), noise)
    return float((samples - MEAN - DEVIATION * noise).square().mean().sqrt())


@pytest.mark.parametrize(("kind", "order"), [("euler", 1), ("heun", 2)])
def test_the_flow_integrators_have_their_order(kind, order):
    coarse, fine = gaussian_flow_error(kind, 40), gaussian_flow_error(kind, 80)
    assert fine < 0.02
    assert coarse / fine == pytest.approx(2**order, rel=0.25)


def test_one_step_of_the_flow_is_the_estimate():
    noise = draws(5)()
    for kind in ("euler", "heun"):
        estimate = any_net(noise, torch.zeros(len(noise)))
        torch.testing.assert_close(FlowSampler(kind, 1).sample(any_net, noise), estimate)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: DiffusionSampler("dpm", 100, 10),
        lambda: DiffusionSampler("ddim", 100, 101),
        lambda: DiffusionSampler("ddim", 100, 0),
        lambda: DiffusionSampler("ddim", 100, 10, -0.1),
        lambda: DiffusionSampler("ddim", 100, 10, float("nan")),
        lambda: FlowSampler("rk4", 5),
        lambda: FlowSampler("euler", 0),
    ],
)
def test_impossible_samplers_are_refused(attempt):
    with pytest.raises(ConfigError, match=r"Allowed|must"):
        attempt()
