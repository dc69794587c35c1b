"""Codes: a few indices that stand for a policy's noise; each can hold one way of doing the task.

Which code a demonstrated chunk belongs to is not known. It is found as in a mixture of equally likely parts,
by stochastic expectation maximisation: the estimates of all codes say how likely each is to have made the
chunk; one is drawn, and learns it. A large common spread in the beginning lets all codes learn the mean; they
part as it shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robopolicy.policies.random_numbers import RandomNumbers

_RANDOM_CODES = 0.05  # share of the codes drawn regardless, so that none forgets a part of the observations


def seeded_codes(codes: int, count: int, seeds: Sequence[int] | None, device: torch.device) -> Tensor:
    """Draws a code for each of ``count`` rows ``[count]``, with seeds each by its own."""
    if seeds is None:
        return RandomNumbers(None, device).integers(codes, count)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    return torch.cat([RandomNumbers(generator, device).integers(codes, 1) for generator in generators])


def negative_log_likelihood(error: Tensor, log_spread: Tensor) -> Tensor:
    """Returns that of a normal distribution per number, from squared errors and its log. deviation."""
    return (error / (2 * (2 * log_spread).exp()) + log_spread).mean()


@torch.no_grad()
def draw_codes(
    estimate: Callable[[Tensor, Tensor], Tensor],
    codes: int,
    chunk: Tensor,
    condition: Tensor,
    log_spread: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Draws for each demonstrated chunk the code ``[B]`` that may have made it.

    Args:
        estimate: maps conditions ``[N, C]`` and codes ``[N]`` to flat chunks ``[N, D]``.
        codes: how many there are.
        chunk: what was demonstrated, flat ``[B, D]``.
        condition: ``[B, C]``.
        log_spread: of the chunks of one code about its estimate.
        generator: of the draw.
    """
    batch, device = len(chunk), chunk.device
    code = torch.arange(codes, device=device).repeat(batch)
    estimates = estimate(condition.repeat_interleave(codes, 0), code).unflatten(0, (batch, codes))
    error = (estimates - chunk[:, None]).square().sum(-1)
    # of a training that has diverged any code will do: the trainer tells it, by the loss
    likely = torch.softmax(-error / (2 * (2 * log_spread).exp()), dim=-1).nan_to_num()
    weights = (1 - _RANDOM_CODES) * likely + _RANDOM_CODES / codes
    source = device if generator is None else generator.device
    return torch.multinomial(weights.to(source), 1, generator=generator)[:, 0].to(device)
