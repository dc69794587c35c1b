"""The transformer of Diffusion Policy (Chi et al. 2023): a token for each action, looking at the condition.

The actions attend to each other, and to a *memory*: one token of the noise level, some of the condition.
There is no dropout, so that a loss depends on nothing but its generator; small data are met with weight decay
and noise on the observations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.temporal import StepEmbedding

MEMORY_TOKENS = 4
"""Tokens that the condition vector becomes, by one linear layer."""
EXPANSION = 4
"""Width of a feed-forward layer in units of the net's, as in the paper."""


class ConditionalTransformer(nn.Module):
    """Predicts a field over an action chunk from the noisy chunk, the noise level and a condition.

    Args:
        action_size: numbers in one action.
        horizon: actions in a chunk.
        condition_size: numbers in the condition vector.
        width: of a token; divisible by ``heads``.
        layers: of attention to the actions, attention to the memory, feed-forward.
        heads: of the attention.
        causal: actions look at earlier ones only.
        embedding_size: of the noise-level embedding.
        step_scale: multiplies the noise level before its embedding.
        side_size: further numbers that the net sees of each step, after those of the noisy action.
    """

    mask: Tensor | None

    def __init__(
        self,
        action_size: int,
        horizon: int,
        condition_size: int,
        width: int = 128,
        layers: int = 3,
        heads: int = 4,
        causal: bool = False,
        embedding_size: int = 128,
        step_scale: float = 1.0,
        side_size: int = 0,
    ) -> None:
        super().__init__()
        self.step_embedding = StepEmbedding(embedding_size, step_scale)
        self.step_token = nn.Linear(embedding_size, width)
        self.condition_tokens = nn.Linear(condition_size, MEMORY_TOKENS * width)
        self.memory_places = learned_places(1 + MEMORY_TOKENS, width)
        self.memory_norm = nn.LayerNorm(width)
        self.input = nn.Linear(action_size + side_size, width)
        self.places = learned_places(horizon, width)
        self.layers = nn.ModuleList(transformer_layers(nn.TransformerDecoderLayer, width, heads, layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, action_size)
        later = torch.ones(horizon, horizon, dtype=torch.bool).triu(1)
        self.register_buffer("mask", later if causal else None, persistent=False)

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Evaluates the net.

        Args:
            noisy: noisy action chunks ``[B, T, action_size + side_size]``.
            step: noise levels ``[B]``.
            condition: ``[B, condition_size]``.

        Returns:
            the predicted field ``[B, T, action_size]``.
        """
        return self._evaluate(noisy, step, self._tokens(condition))

    def bind(self, condition: Tensor, levels: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the net with its condition ``[B, C]`` bound, for sampling; ``levels`` are not needed."""
        tokens = self._tokens(condition)
        return lambda noisy, step: self._evaluate(noisy, step, tokens)

    def _tokens(self, condition: Tensor) -> Tensor:
        return self.condition_tokens(condition).unflatten(-1, (MEMORY_TOKENS, -1))

    def _evaluate(self, noisy: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        level = self.step_token(F.silu(self.step_embedding(step)))
        memory = self.memory_norm(torch.cat([level[:, None], tokens], dim=1) + self.memory_places)
        x = self.input(noisy) + self.places
        for layer in self.layers:
            x = layer(x, memory, tgt_mask=self.mask, tgt_is_causal=self.mask is not None)
        return self.output(self.norm(x))


def transformer_layers(kind: type[nn.Module], width: int, heads: int, count: int) -> list[nn.Module]:
    """Returns ``count`` of torch's transformer layers, normalized before each part, without dropout.

    Args:
        kind: ``nn.TransformerEncoderLayer`` or ``nn.TransformerDecoderLayer``.
        width: of a token.
        heads: of the attention.
        count: layers, each with weights of its own (torch's stacks begin with equal ones).
    """
    settings = {"dropout": 0.0, "activation": F.gelu, "batch_first": True, "norm_first": True}
    return [kind(width, heads, EXPANSION * width, **settings) for _ in range(count)]


def learned_places(count: int, width: int) -> nn.Parameter:
    """Returns learned embeddings of the places of tokens."""
    return nn.Parameter(0.02 * torch.randn(count, width))
