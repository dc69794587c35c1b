"""Real-time chunking: a sampled chunk continues what the robot is about to play (Black et al. 2025).

At every step of a sampler the estimate of the clean chunk is pulled toward the prefix, through the Jacobian
of that estimate (arXiv 2506.07339, algorithm 1), so that the rest of the chunk follows. What is wrapped is
the field; the samplers know nothing of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robopolicy.sampling.diffusion import Field

MAX_GUIDANCE = 5.0


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
    return torch.where(index < end, mask, 0.0)


def guidance_weight(time: Tensor) -> Tensor:
    """Returns the weight of the pull at the flow's ``time`` in [0, 1), at most ``MAX_GUIDANCE``."""
    remaining = 1 - time
    ratio = (time.square() + remaining.square()) / remaining.square()
    return (remaining / time * ratio).clamp_max(MAX_GUIDANCE)  # infinite at time 0


def continue_flow(field: Field, prefix: ChunkPrefix) -> Field:
    """Returns the field of a flow that continues a prefix.

    Args:
        field: predicts the clean chunk from a point on the straight path and its time; differentiable.
        prefix: to be continued.
    """

    def guided(x: Tensor, time: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            clean = field(point, time)
        estimate = clean.detach()
        error = prefix.mask[:, None] * (prefix.target - estimate)
        (pull,) = torch.autograd.grad(clean, point, error.to(clean.dtype))
        along = time.to(x.dtype)[:, None, None]
        # The published velocity is v + w * pull; as an estimate of the clean chunk that is:
        return estimate + (1 - along) * guidance_weight(along) * pull

    return guided


def continue_diffusion(field: Field, prefix: ChunkPrefix, alphas: Tensor) -> Field:
    """Returns the field of a denoising diffusion that continues a prefix.

    A noisy chunk, scaled, is a point on the flow's straight path, so the flow's guidance holds for it.

    Args:
        field: predicts the noise from a noisy chunk and its level; differentiable.
        prefix: to be continued.
        alphas: cumulative products of the schedule ``[levels]``.
    """

    def guided(x: Tensor, level: Tensor) -> Tensor:
        alpha = alphas.to(x)[level]
        signal, noise = alpha.sqrt()[:, None, None], (1 - alpha).sqrt()[:, None, None]

        def clean(point: Tensor, _: Tensor) -> Tensor:
            noisy = (signal + noise) * point
            return ((noisy - noise * field(noisy, level)) / signal).clamp(-1, 1)  # as the sampler does

        time = (signal / (signal + noise))[:, 0, 0]
        estimate = continue_flow(clean, prefix)(x / (signal + noise), time)
        return (x - signal * estimate) / noise

    return guided
