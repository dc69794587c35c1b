"""The optimizer of a training and the course of its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from robopolicy.training.configs import TrainerConfig


def make_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.AdamW:
    """Returns AdamW over a model's parameters; what decays is the weights of its layers.

    Biases, the scales of normalizations, learned embeddings and single numbers do not, as in Diffusion
    Policy's transformer: pulling those to zero smoothes nothing.

    Args:
        model: to be trained.
        config: gives the decay and the betas.
    """
    decaying: list[nn.Parameter] = []
    constant: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decaying if name.endswith("weight") and parameter.dim() > 1 else constant).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": constant, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(config: TrainerConfig, step: int) -> float:
    """Returns the learning rate of a step, from 1 on: it rises evenly, and falls to zero along a cosine."""
    warm = min(1.0, step / max(config.warmup_steps, 1))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
