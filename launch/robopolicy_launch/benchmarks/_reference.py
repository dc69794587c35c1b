"""The reference of the suites: Diffusion Policy's networks and loops in plain torch.

Written after the description in Chi et al. 2023 and its appendix: a 1-D U-Net over ``[B, C, T]`` of
``Conv1d``, ``GroupNorm`` and Mish, whose residual blocks are scaled and shifted by a linear layer of the
condition each; strided convolutions on the way down, transposed ones on the way up. Shapes and parameter
count are those of ``robopolicy.nets.unet.ConditionalUnet``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Field = Callable[[Tensor, Tensor], Tensor]


class _Sinusoids(nn.Module):
    """Sines and cosines of a scalar at ``size / 2`` frequencies."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count = size // 2

    def forward(self, step: Tensor) -> Tensor:
        exponents = torch.arange(self.count, device=step.device) / (self.count - 1)
        angles = step.float()[:, None] * torch.exp(-math.log(10_000.0) * exponents)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _conv_block(in_channels: int, out_channels: int, kernel: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2),
        nn.GroupNorm(groups, out_channels),
        nn.Mish(),
    )


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = _conv_block(in_channels, out_channels, kernel, groups)
        self.second = _conv_block(out_channels, out_channels, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * out_channels))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).unsqueeze(-1).chunk(2, dim=1)
        return self.second(scale * self.first(x) + shift) + self.shortcut(x)


class ReferenceUnet(nn.Module):
    """The U-Net, called like ``ConditionalUnet``.

    Args:
        action_size: numbers in one action.
        condition_size: numbers in the condition vector.
        channels: per level, coarse last.
        kernel: of the convolutions.
        groups: of the group normalizations.
        embedding: size of the noise-level embedding.
    """

    def __init__(
        self,
        action_size: int,
        condition_size: int,
        channels: Sequence[int] = (64, 128, 256),
        kernel: int = 5,
        groups: int = 8,
        embedding: int = 256,
    ) -> None:
        super().__init__()

        def block(in_channels: int, out_channels: int) -> _ResidualBlock:
            return _ResidualBlock(in_channels, out_channels, embedding + condition_size, kernel, groups)

        self.step = nn.Sequential(
            _Sinusoids(embedding),
            nn.Linear(embedding, 4 * embedding),
            nn.Mish(),
            nn.Linear(4 * embedding, embedding),
        )
        sizes = [action_size, *channels]
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in itertools.pairwise(sizes):
            self.down.append(nn.ModuleList([block(fine, coarse), block(coarse, coarse)]))
        for size in channels[:-1]:
            self.shrink.append(nn.Conv1d(size, size, 3, stride=2, padding=1))
        self.middle = nn.ModuleList([block(channels[-1], channels[-1]), block(channels[-1], channels[-1])])
        for fine, coarse in zip(channels[-2::-1], channels[:0:-1], strict=True):
            self.up.append(nn.ModuleList([block(2 * coarse, fine), block(fine, fine)]))
            self.grow.append(nn.ConvTranspose1d(fine, fine, 4, stride=2, padding=1))
        self.output = nn.Sequential(
            _conv_block(channels[0], channels[0], kernel, groups), nn.Conv1d(channels[0], action_size, 1)
        )

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Maps ``noisy [B, T, D]``, ``step [B]`` and ``condition [B, C]`` to ``[B, T, D]``."""
        condition = torch.cat([self.step(step), condition], dim=-1)
        x, skips = noisy.transpose(1, 2), []
        for index, blocks in enumerate(self.down):
            x = self.shrink[index - 1](x) if index else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            skips.append(x)
        for block in self.middle:
            x = block(x, condition)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = torch.cat([x, skips.pop()], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            x = grow(x)
        return self.output(x).transpose(1, 2)


def ddim(net: nn.Module, noise: Tensor, condition: Tensor, alphas: Tensor, levels: Sequence[int]) -> Tensor:
    """Samples with DDIM (eta 0, noise prediction, clipped to [-1, 1]).

    Args:
        net: predicts the noise.
        noise: ``[B, T, D]``.
        condition: ``[B, C]``.
        alphas: cumulative products of the noise schedule.
        levels: visited, falling.
    """
    x = noise
    for level, following in zip(levels, [*levels[1:], None], strict=True):
        now = float(alphas[level])
        then = 1.0 if following is None else float(alphas[following])
        predicted = net(x, torch.full((len(x),), level), condition)
        clean = ((x - math.sqrt(1 - now) * predicted) / math.sqrt(now)).clamp(-1, 1)
        direction = (x - math.sqrt(now) * clean) / math.sqrt(1 - now)
        x = math.sqrt(then) * clean + math.sqrt(1 - then) * direction
    return x


def euler(net: nn.Module, noise: Tensor, condition: Tensor, steps: int) -> Tensor:
    """Integrates a flow with Euler steps from t = 0 to 1; the net predicts the clean chunk.

    Args:
        net: predicts the clean chunk.
        noise: ``[B, T, D]``.
        condition: ``[B, C]``.
        steps: of the integration.
    """
    x = noise
    for step in range(steps):
        time = step / steps
        clean = net(x, torch.full((len(x),), time), condition)
        x = x + (clean - x) / (1 - time) / steps
    return x
