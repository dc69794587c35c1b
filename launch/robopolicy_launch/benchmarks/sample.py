"""Sampling on one thread: one evaluation of the U-Net, DDIM in 10 and flow in 5 steps, beside plain torch.

Sizes as in the suite ``train``. The reference is the plain net in a plain loop. Ours is what the policies do:
the condition is bound once, then the sampler evaluates the bound net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from robopolicy.nets.unet import ConditionalUnet
from robopolicy.sampling.diffusion import DiffusionSampler
from robopolicy.sampling.flow import FlowSampler
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._reference import ReferenceUnet, ddim, euler
from robopolicy_launch.benchmarks._timing import side_by_side, threads

ACTION, CONDITION, HORIZON = 2, 40, 16


def run(
    *, channels: Sequence[int] = (64, 128, 256), batches: Sequence[int] = (1, 8), seconds: float = 6.0
) -> Iterator[Row]:
    """Measures samples.

    Args:
        channels: of the U-Net.
        batches: batch sizes.
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


def _pairs(
    net: ConditionalUnet, peer: ReferenceUnet, noise: Tensor, condition: Tensor
) -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    diffusion, flow = DiffusionSampler("ddim", 100, 10), FlowSampler("euler", 5)
    level = torch.full((len(noise),), diffusion.levels[0])
    bound = net.bind(condition, diffusion.levels)
    yield "forward", lambda: bound(noise, level), lambda: peer(noise, level, condition)
    yield (
        "sample_ddim10",
        lambda: diffusion.sample(net.bind(condition, diffusion.levels), noise),
        lambda: ddim(peer, noise, condition, diffusion.path.alphas, diffusion.levels),
    )
    yield (
        "sample_flow5",
        lambda: flow.sample(net.bind(condition, flow.levels), noise),
        lambda: euler(peer, noise, condition, flow.steps),
    )
