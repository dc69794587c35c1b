"""Sampling on one thread: one evaluation of the U-Net, DDIM in 10 and flow in 5 steps, beside plain torch.

Sizes as in the suite ``train``. The reference is the plain net in a plain loop. Ours is what the policies do:
the condition is bound once, then the sampler evaluates the bound net. The ``overhead`` rows compare a sample
with its bare evaluations of the same net: what the sampler itself costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from robopolicy.nets.unet import ConditionalUnet
from robopolicy.sampling.denoiser import PREDICTIONS, Denoiser, Prediction
from robopolicy.sampling.diffusion import DiffusionSampler
from robopolicy.sampling.flow import FlowSampler
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._reference import ReferenceUnet, ddim, euler
from robopolicy_launch.benchmarks._timing import side_by_side, threads

ACTION, CONDITION, HORIZON = 2, 40, 16


def run(
    *,
    channels: Sequence[int] = (64, 128, 256),
    batches: Sequence[int] = (1, 8),
    large: Sequence[int] = (256, 512, 1024),
    seconds: float = 6.0,
) -> Iterator[Row]:
    """Measures samples.

    Args:
        channels: of the U-Net.
        batches: batch sizes.
        large: channels of Diffusion Policy's own U-Net, which samples one chunk, in bfloat16 too.
        seconds: to spend on each row.
    """
    torch.manual_seed(0)
    net = ConditionalUnet(ACTION, CONDITION, channels).eval()
    peer = ReferenceUnet(ACTION, CONDITION, channels).eval()
    with threads(1), torch.inference_mode():
        for batch in batches:
            noise, condition = torch.randn(batch, HORIZON, ACTION), torch.randn(batch, CONDITION)
            for name, ours, reference in _pairs(net, peer, noise, condition):
                times = side_by_side(ours, reference, seconds=seconds)
                yield Row(f"{name}_b{batch}", *times, "ms", "plain torch, plain loop")
            for name, sampler, prediction in (
                ("ddim10", DiffusionSampler("ddim", 100, 10), PREDICTIONS["noise"]),
                ("flow5", FlowSampler("euler", 5), PREDICTIONS["clean"]),
            ):
                denoiser = _denoiser(net, condition, sampler, prediction)
                evaluate = net.bind(condition, sampler.levels)
                levels = [torch.full((batch,), level) for level in sampler.levels]
                times = side_by_side(
                    partial(sampler.sample, denoiser, noise),
                    partial(_evaluate_all, evaluate, noise, levels),
                    seconds=seconds,
                )
                yield Row(f"overhead_{name}_b{batch}", *times, "ms", "the net's evaluations alone")
        yield from _large(large, seconds)


def _large(channels: Sequence[int], seconds: float) -> Iterator[Row]:
    sampler = DiffusionSampler("ddim", 100, 10)
    net = ConditionalUnet(ACTION, CONDITION, channels).eval()
    peer = ReferenceUnet(ACTION, CONDITION, channels).eval()
    noise, condition = torch.randn(1, HORIZON, ACTION), torch.randn(1, CONDITION)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for weights in net.parameters():
            weights.data = weights.data.to(dtype)
        ours = partial(_sample, net, noise, condition, sampler)
        reference = partial(ddim, peer, noise, condition, sampler.path.alphas, sampler.levels)
        times = side_by_side(ours, reference, seconds=seconds)
        yield Row(f"large_ddim10_{name}_b1", *times, "ms", "plain torch in fp32, plain loop")


def _sample(net: ConditionalUnet, noise: Tensor, condition: Tensor, sampler: DiffusionSampler) -> Tensor:
    return sampler.sample(_denoiser(net, condition, sampler, PREDICTIONS["noise"]), noise)


def _pairs(
    net: ConditionalUnet, peer: ReferenceUnet, noise: Tensor, condition: Tensor
) -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    diffusion, flow = DiffusionSampler("ddim", 100, 10), FlowSampler("euler", 5)
    level = torch.full((len(noise),), diffusion.levels[0])
    bound = net.bind(condition, diffusion.levels)
    yield "forward", lambda: bound(noise, level), lambda: peer(noise, level, condition)
    yield (
        "sample_ddim10",
        lambda: _sample(net, noise, condition, diffusion),
        lambda: ddim(peer, noise, condition, diffusion.path.alphas, diffusion.levels),
    )
    yield (
        "sample_flow5",
        lambda: flow.sample(_denoiser(net, condition, flow, PREDICTIONS["clean"]), noise),
        lambda: euler(peer, noise, condition, flow.steps),
    )


def _denoiser(
    net: ConditionalUnet, condition: Tensor, sampler: DiffusionSampler | FlowSampler, prediction: Prediction
) -> Denoiser:
    dtype = net.output.weight.dtype
    bound = net.bind(condition.to(dtype), sampler.levels)
    return lambda x, level: prediction.clean(sampler.path, x, level, bound(x.to(dtype), level).to(x.dtype))


def _evaluate_all(evaluate: Denoiser, noise: Tensor, levels: Sequence[Tensor]) -> None:
    for level in levels:
        evaluate(noise, level)
