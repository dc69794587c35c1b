"""Real-time chunking: a sampled chunk continues what the robot is about to play.

There are two ways. Any policy can be *pulled*: at every step the estimate of the clean chunk is drawn toward
the prefix, through the Jacobian of that estimate (Black et al. 2025, arXiv 2506.07339, algorithm 1), so that
the rest of the chunk follows. A policy that was *trained* with prefixes (arXiv 2512.05964) is given the rows
that are certain as clean ones; that costs nothing. What is wrapped is the denoiser; the samplers know nothing
of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robopolicy.sampling.denoiser import InformedDenoiser, NoisePath

MAX_GUIDANCE = 10.0  # the paper's own is 5, which counts from 6 steps on: the last step then pulls too little


class ChunkPrefix(NamedTuple):
    """What a sampled chunk should begin with.

    Attributes:
        target: ``[B, T, D]`` in the sampler's numbers, zero where nothing is wanted.
        mask: how much each row counts ``[T]``, from 0 to 1.
    """

    target: Tensor
    mask: Tensor


def soft_mask(frozen: int, rows: int, total: int) -> Tensor:
    """Returns how much the rows of a chunk count ``[total]``: 1 while frozen, then falling exponentially.

    Args:
        frozen: rows that will have been played before the chunk can be.
        rows: rows for which the prefix has an action; later ones count 0.
        total: rows of the chunk.
    """
    end = min(rows, total)
    start = min(frozen, end)
    index = torch.arange(total)
    linear = ((start - 1 - index) / (end - start + 1) + 1).clamp(0, 1)
    mask = linear * torch.expm1(linear) / (math.e - 1)
    # exactly 1 by whatever exponential: these rows are those that a policy trained with prefixes is given
    return torch.where(index < start, 1.0, torch.where(index < end, mask, 0.0))


def guidance_weight(time: Tensor) -> Tensor:
    """Returns the weight of the pull at the flow's ``time`` in [0, 1), at most ``MAX_GUIDANCE``."""
    remaining = 1 - time
    ratio = (time.square() + remaining.square()) / remaining.square()
    return (remaining / time * ratio).clamp_max(MAX_GUIDANCE)  # infinite at time 0


def pull_to_prefix(denoiser: InformedDenoiser, path: NoisePath, prefix: ChunkPrefix) -> InformedDenoiser:
    """Returns a denoiser that continues a prefix, whatever net it has.

    Every path is, scaled, the flow's straight path, for which the published guidance is stated.

    Args:
        denoiser: differentiable.
        path: on which it denoises.
        prefix: to be continued.
    """

    def pulled(
        x: Tensor, level: Tensor, known: Tensor | None = None, feedback: Tensor | None = None
    ) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            clean = denoiser(point, level, known=known, feedback=feedback)
        estimate = clean.detach()
        error = prefix.mask[:, None] * (prefix.target - estimate)
        (pull,) = torch.autograd.grad(clean, point, error.to(clean.dtype))
        signal, noise = (factor.to(x.dtype)[:, None, None] for factor in path.scales(level))
        time = signal / (signal + noise)
        # The published velocity on the straight path is v + w * J^T e, J by that path's point. As an estimate
        # of the clean chunk, with J by ours, which is (signal + noise) times as long:
        return estimate + (1 - time) * guidance_weight(time) * (signal + noise) * pull

    return pulled


def keep_prefix(denoiser: InformedDenoiser, prefix: ChunkPrefix, most: int) -> InformedDenoiser:
    """Returns a denoiser to which the certain rows of a prefix are known.

    Args:
        denoiser: trained with known rows.
        prefix: to be continued.
        most: rows that it was trained with; later ones are left to it.
    """
    certain = prefix.mask >= 1
    rows = (certain & (certain.cumsum(0) <= most)).expand(prefix.target.shape[:2])

    def kept(x: Tensor, level: Tensor, known: Tensor | None = None, feedback: Tensor | None = None) -> Tensor:
        with_target = torch.where(rows[..., None], prefix.target, x)
        clean = denoiser(with_target, level, known=rows, feedback=feedback)
        return torch.where(rows[..., None], prefix.target, clean)

    return kept
