"""The encoder of a conditional variational autoencoder over action chunks (Zhao et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robopolicy.nets.transformer import learned_places, transformer_layers


class ChunkPosterior(nn.Module):
    """Describes how a chunk was done, given the observation, by a Gaussian over a small latent vector.

    A transformer reads a learned summary token, one token of the condition and one of each action; the
    summary gives mean and variance.

    Args:
        action_size: numbers in one action.
        horizon: actions in a chunk.
        condition_size: numbers in the condition vector.
        latent: numbers in the latent vector.
        width: of a token; divisible by ``heads``.
        layers: of the transformer.
        heads: of the attention.
    """

    def __init__(
        self,
        action_size: int,
        horizon: int,
        condition_size: int,
        latent: int,
        width: int,
        layers: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.summary = learned_places(1, width)
        self.condition = nn.Linear(condition_size, width)
        self.action = nn.Linear(action_size, width)
        self.places = learned_places(2 + horizon, width)
        self.layers = nn.ModuleList(transformer_layers(nn.TransformerEncoderLayer, width, heads, layers))
        self.norm = nn.LayerNorm(width)
        self.gaussian = nn.Linear(width, 2 * latent)

    def forward(self, chunk: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``[B, T, D]`` and the condition ``[B, C]`` to mean and log variance ``[B, latent]``."""
        summary = self.summary.expand(len(chunk), -1, -1)
        x = torch.cat([summary, self.condition(condition)[:, None], self.action(chunk)], dim=1) + self.places
        for layer in self.layers:
            x = layer(x)
        mean, log_variance = self.gaussian(self.norm(x[:, 0])).float().chunk(2, dim=-1)
        return mean, log_variance


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns the Kullback-Leibler divergence from the standard normal ``[B]`` (Kingma and Welling 2014)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
