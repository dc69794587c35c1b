"""A small policy with a certificate of its own: two ReLU layers, each divided by its norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.configs import ChunkPolicyConfig, ImageEncoderConfig
from robopolicy.training.data import TrainingData
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.windows import WindowSampler

BOUND = 2.0


class SpectralPolicy(ChunkPolicy):
    """Chunks of a net whose Lipschitz constant is at most BOUND."""

    def __init__(self, config: ChunkPolicyConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        self.first = nn.Linear(self.encoder.size, 48)
        self.second = nn.Linear(48, config.horizon * self.action.size)
        # rotations predicted by a net that knows nothing yet are near the identity
        if self.action.is_pose:
            rows = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1, 0, 0] * self.action.arms)
            self.second.bias.data = rows.repeat(config.horizon)

    def _weights(self) -> list[Tensor]:
        layers = (self.first, self.second)
        return [layer.weight / torch.linalg.matrix_norm(layer.weight, 2) for layer in layers]

    def _predict(self, condition, seeds, prefix) -> Tensor:
        first, second = self._weights()
        hidden = torch.relu(condition @ first.T + self.first.bias)
        flat = BOUND * hidden @ second.T + self.second.bias
        return flat.unflatten(-1, (self.config.horizon, self.action.size))

    def _chunk_loss(self, clean, condition, generator) -> Tensor:
        return (self._predict(condition, None, None) - clean).square().mean()

    def sensitivity(self) -> Sensitivity:
        first, second = (weight.detach().double() for weight in self._weights())
        rows = second.unflatten(0, (self.config.horizon, self.action.size))
        norm = float(torch.linalg.matrix_norm(first, 2))
        parts = [float(torch.linalg.matrix_norm(rows[:, n], 2)) for n in range(self.action.size)]
        return Sensitivity(
            BOUND * norm * float(torch.linalg.matrix_norm(second, 2)),
            tuple(BOUND * norm * part for part in parts),
            None,
            "certified",
            "The product of the layers' norms.",
        )


def make_policy(
    store: DemoStore, *, kind: type[SpectralPolicy] = SpectralPolicy, **settings
) -> tuple[SpectralPolicy, TrainingData]:
    """Returns a policy whose normalizer is fitted to a store, and the store's split."""
    torch.manual_seed(0)
    config = ChunkPolicyConfig(
        horizon=8, action_steps=4, encoder=ImageEncoderConfig(channels=[8], features=16), **settings
    )
    policy = kind(config, store.spec, 0.1)
    data = TrainingData([store], None, validation_fraction=0.2, seed=0)
    windows = data.training_windows(policy)
    assert isinstance(windows, WindowSampler)
    policy.fit_normalizer(data.training_values(policy), windows.gather(np.arange(len(windows))))
    return policy.eval(), data
