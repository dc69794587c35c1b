"""A residual perceptron over the whole action chunk: the cheap alternative to the U-Net on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.temporal import StepEmbedding


class ModulatedBlock(nn.Module):
    """A residual two-layer perceptron; the condition scales and shifts its normalized input (FiLM)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.wide = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """Maps ``[B, width]`` and FiLM parameters ``[B, 2 * width]`` to ``[B, width]``."""
        scale, shift = film.chunk(2, dim=-1)
        hidden = torch.addcmul(shift, scale + 1, self.norm(x))
        return x + self.narrow(F.silu(self.wide(hidden)))


class ConditionalMlp(nn.Module):
    """Predicts a field over an action chunk, flattened to one vector.

    Args:
        action_size: numbers in one action.
        horizon: actions in a chunk.
        condition_size: numbers in the condition vector.
        width: of the residual stream.
        blocks: residual blocks.
        expansion: width of a block's hidden layer in units of ``width``.
        embedding_size: of the noise-level embedding.
        step_scale: multiplies the noise level before its embedding.
        side_size: further numbers that the net sees of each step, after those of the noisy action.
    """

    def __init__(
        self,
        action_size: int,
        horizon: int,
        condition_size: int,
        width: int = 384,
        blocks: int = 4,
        expansion: int = 2,
        embedding_size: int = 128,
        step_scale: float = 1.0,
        side_size: int = 0,
    ) -> None:
        super().__init__()
        self.action_size = action_size
        self.step_embedding = StepEmbedding(embedding_size, step_scale)
        self.condition = nn.Sequential(
            nn.Linear(embedding_size + condition_size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.film = nn.Linear(width, 2 * width * blocks)
        self.input = nn.Linear(horizon * (action_size + side_size), width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, expansion) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, horizon * action_size)

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Evaluates the net.

        Args:
            noisy: noisy action chunks ``[B, T, action_size + side_size]``.
            step: noise levels ``[B]``.
            condition: ``[B, condition_size]``.

        Returns:
            the predicted field ``[B, T, action_size]``.
        """
        embedded = self.condition(torch.cat([self.step_embedding(step), condition], dim=-1))
        films = self.film(embedded).chunk(len(self.blocks), dim=-1)
        x = self.input(noisy.flatten(1))
        for block, film in zip(self.blocks, films, strict=True):
            x = block(x, film)
        return self.output(self.norm(x)).unflatten(-1, (-1, self.action_size))

    def bind(self, condition: Tensor, levels: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the net with its condition ``[B, C]`` bound, for sampling; ``levels`` are not needed."""
        return lambda noisy, step: self(noisy, step, condition)
