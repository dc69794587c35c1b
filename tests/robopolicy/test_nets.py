"""Nets against torch's own layers with the same weights."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robopolicy.nets.mlp import ConditionalMlp
from robopolicy.nets.temporal import StepEmbedding, TemporalConv, TemporalGroupNorm, Upsample
from robopolicy.nets.unet import ConditionalUnet
from robopolicy.nets.vision import ImageEncoder, residual_backbone
from robopolicy.sampling.denoiser import PREDICTIONS
from robopolicy.sampling.diffusion import DiffusionSampler

BATCHES = [1, 3, 70]  # few rows, and enough for the layers' other ways of computing


def assert_same(ours, theirs, x, pairs, tolerance=2e-4):
    """Compares the outputs, and the gradients at ``x [T, B, C]`` and at pairs of weights."""
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = ours(mine), theirs(other.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(out, expected, atol=tolerance, rtol=tolerance)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    (out * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=tolerance, rtol=tolerance)
    for parameter, reference, arrange in pairs:
        scale = float(reference.grad.abs().max()) + 1e-6
        torch.testing.assert_close(
            parameter.grad / scale, arrange(reference.grad) / scale, atol=tolerance, rtol=tolerance
        )


def same(gradient):
    return gradient


def conv_order(weight):
    return weight.permute(0, 2, 1)  # [out, in, kernel] as [out, kernel, in]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 1), (1, 1), (3, 2)])
def test_temporal_conv_equals_conv1d(batch, steps, kernel, stride):
    torch.manual_seed(batch + steps)
    reference = nn.Conv1d(6, 8, kernel, stride, padding=kernel // 2)
    conv = TemporalConv(6, 8, kernel, stride)
    with torch.no_grad():
        conv.weight.copy_(conv_order(reference.weight))
        conv.bias.copy_(reference.bias)
    weights = [(conv.weight, reference.weight, conv_order), (conv.bias, reference.bias, same)]
    assert_same(conv, reference, torch.randn(steps, batch, 6), weights)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_upsample_equals_conv_transpose1d(batch, steps):
    torch.manual_seed(batch + steps)
    reference = nn.ConvTranspose1d(6, 6, 4, stride=2, padding=1)
    upsample = Upsample(6)

    def arrange(weight):
        return weight.permute(2, 1, 0).flatten(0, 1)  # [in, out, tap] as [tap * out, in]

    with torch.no_grad():
        upsample.weight.copy_(arrange(reference.weight))
        upsample.bias.copy_(reference.bias)
    weights = [(upsample.weight, reference.weight, arrange), (upsample.bias, reference.bias, same)]
    assert_same(upsample, reference, torch.randn(steps, batch, 6), weights)


@pytest.mark.parametrize("offset", [0.0, 10.0])
@pytest.mark.parametrize("batch", BATCHES)
def test_group_norm_equals_torchs(batch, offset):
    torch.manual_seed(0)
    reference, norm = nn.GroupNorm(4, 8), TemporalGroupNorm(4, 8)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.uniform_(0.5, 1.5)
    norm.load_state_dict(reference.state_dict())
    x = torch.randn(8, batch, 8) + offset
    weights = [(norm.weight, reference.weight, same), (norm.bias, reference.bias, same)]
    assert_same(norm, reference, x, weights, tolerance=1e-3 if offset else 2e-4)
    with torch.no_grad():  # sampling takes another way
        expected = reference(x.permute(1, 2, 0)).permute(2, 0, 1)
        torch.testing.assert_close(norm(x), expected, atol=1e-4, rtol=1e-4)


def reference_unet(net, noisy, step, condition):
    """The U-Net of Diffusion Policy from torch's own functions, with ``net``'s weights."""
    films = net.condition_projection(F.silu(torch.cat([net.step_embedding(step), condition], dim=-1)))
    films = iter(films.split(net.film_sizes, dim=-1))

    def convolve(conv, x):
        return F.conv1d(x, conv.weight.permute(0, 2, 1), conv.bias, conv.stride, conv.padding)

    def conv_block(block, x):
        norm = block.norm
        return F.silu(
            F.group_norm(convolve(block.conv, x), norm.num_groups, norm.weight, norm.bias, norm.eps)
        )

    def residual(block, x):
        scale, shift = next(films)[..., None].chunk(2, dim=1)
        shortcut = block.shortcut(x.transpose(1, 2)).transpose(1, 2)
        return conv_block(block.second, scale * conv_block(block.first, x) + shift) + shortcut

    def upsample(up, x):
        weight = up.weight.unflatten(0, (4, -1)).permute(2, 1, 0)
        return F.conv_transpose1d(x, weight, up.bias, stride=2, padding=1)

    x, skips = noisy.transpose(1, 2), []
    for first, second, down in net.down:
        x = residual(second, residual(first, x))
        skips.append(x)
        x = convolve(down, x) if isinstance(down, TemporalConv) else x
    for middle in net.middle:
        x = residual(middle, x)
    for first, second, up in net.up:
        x = upsample(up, residual(second, residual(first, torch.cat([x, skips.pop()], dim=1))))
    return net.output(conv_block(net.final, x).transpose(1, 2))


def unet_and_inputs(batch):
    torch.manual_seed(batch)
    net = ConditionalUnet(5, 7, (16, 32, 32), groups=4, embedding_size=16)
    with torch.no_grad():  # so that no scale is one and no shift zero by chance
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net, (torch.randn(batch, 16, 5), torch.full((batch,), 40.0), torch.randn(batch, 7))


@pytest.mark.parametrize("batch", BATCHES)
def test_the_unet_equals_torchs_layers(batch):
    net, inputs = unet_and_inputs(batch)
    twin = copy.deepcopy(net)
    out, expected = net(*inputs), reference_unet(twin, *inputs)
    torch.testing.assert_close(out, expected, atol=5e-4, rtol=5e-4)
    out.square().sum().backward()
    expected.square().sum().backward()
    for (name, mine), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        error = float((mine.grad - theirs.grad).abs().max())
        assert error <= 2e-3 * scale, f"{name}: {error:.3g} of {scale:.3g}"
    with torch.inference_mode():
        torch.testing.assert_close(net(*inputs), expected, atol=5e-4, rtol=5e-4)


@pytest.mark.parametrize("batch", BATCHES)
def test_a_bound_condition_changes_nothing(batch):
    net, (noisy, step, condition) = unet_and_inputs(batch)
    with torch.no_grad():
        for _ in range(3):  # whatever is prepared the first time serves the second
            field = net.bind(condition, [float(step[0]), 3.0])
            torch.testing.assert_close(field(noisy, step), net(noisy, step, condition), atol=1e-4, rtol=1e-4)
            for parameter in net.parameters():  # and follows the weights
                parameter.mul_(1.1)


def test_sampling_off_the_cpu_reads_no_number_back():
    """On the meta device there are no numbers to read: what would wait for a GPU fails here."""
    with torch.device("meta"):
        net = ConditionalUnet(2, 3, [8, 16], groups=4, embedding_size=8)
        condition, noise = torch.empty(5, 3), torch.empty(5, 16, 2)
    sampler = DiffusionSampler("ddim", 20, 4)
    field = net.bind(condition, sampler.levels)
    denoise = partial(PREDICTIONS["noise"].clean, sampler.path)

    def denoiser(x, level):
        return denoise(x, level, field(x, level))

    with torch.no_grad():
        assert sampler.sample(denoiser, noise).shape == (5, 16, 2)
    table = sampler.path.alphas_on(noise.device)
    assert table.is_meta
    assert sampler.path.alphas_on(noise.device) is table  # copied once


def test_the_step_embedding_tells_levels_apart():
    embedding = StepEmbedding(16, scale=1000.0)
    vectors = embedding(torch.tensor([0.0, 0.001, 0.5, 1.0]))
    assert vectors.shape == (4, 16)
    assert torch.pdist(vectors).min() > 1e-3


def test_the_mlp_maps_shapes_and_depends_on_all_inputs():
    torch.manual_seed(0)
    net = ConditionalMlp(3, 8, 5, width=32, blocks=2, embedding_size=16)
    inputs = [torch.randn(4, 8, 3), torch.rand(4), torch.randn(4, 5)]
    for value in inputs:
        value.requires_grad_()
    out = net(*inputs)
    assert out.shape == (4, 8, 3)
    out.square().sum().backward()
    assert all(bool((value.grad != 0).any()) for value in inputs)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_image_encoder_takes_any_size(blocks):
    encoder = ImageEncoder(residual_backbone([8, 16], blocks, groups=4), 20, 30, 12)
    assert encoder(torch.randn(2, 3, 20, 30)).shape == (2, 12)
    strides = [module.stride for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert strides.count((4, 4)) == 1  # the stem
    assert strides.count((2, 2)) == 2 * 2  # in each stage's first block the convolution and the shortcut
