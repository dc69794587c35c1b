"""A task with two ways: for each observation two actions are demonstrated, both right, and none between them.

The observation is a point of the cube [-1, 1]^3. The ways lie on both sides of a centre; centre and direction
turn with the observation. As often one as the other (``tilt`` 0), or which one follows the observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy_datasets.spec import Feature, Spec

SPEC = Spec((Feature("place", (3,)),), (Feature("action", (2,)),))
SPREAD = 0.06  # of the demonstrations about their way, of which the two are 2 apart


@dataclass(frozen=True)
class TwoWays:
    """Observations with their demonstrated actions and the two ways.

    Attributes:
        place: observations ``[N, 3]``.
        action: demonstrated ``[N, 2]``.
        center: between the ways ``[N, 2]``.
        side: from the centre to one way ``[N, 2]``, of length 1.
        share: of that way ``[N]``.
    """

    place: Tensor
    action: Tensor
    center: Tensor
    side: Tensor
    share: Tensor

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """Returns training windows of some rows."""
        return {"observation": {"place": self.place[rows, None]}, "action": self.action[rows, None]}


def demonstrate(count: int, tilt: float, seed: int) -> TwoWays:
    """Returns demonstrations.

    Args:
        count: how many.
        tilt: how steeply the share of the ways follows the observation; 0: not at all.
        seed: of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)
    place = torch.rand(count, 3, generator=random) * 2 - 1
    center = 0.6 * torch.stack([torch.tanh(2 * place[:, 0]), torch.sin(2 * place[:, 1])], -1)
    side = torch.stack([place[:, 2].cos(), place[:, 2].sin()], -1)
    share = torch.sigmoid(tilt * place[:, 0])
    way = (torch.rand(count, generator=random) < share).float()[:, None] * 2 - 1
    action = center + way * side + SPREAD * torch.randn(count, 2, generator=random)
    return TwoWays(place, action, center, side, share)


def distances(action: Tensor, truth: TwoWays) -> Tensor:
    """Returns how far actions ``[N, 2]`` are from the nearer way ``[N]``."""
    offset = action - truth.center
    return torch.minimum((offset - truth.side).norm(dim=1), (offset + truth.side).norm(dim=1))


def quality(action: Tensor, truth: TwoWays) -> dict[str, float]:
    """Returns how well actions imitate.

    Args:
        action: ``[N, 2]``, for the observations of ``truth``.
        truth: fresh demonstrations.

    Returns:
        ``distance``: mean to the nearer way. ``gap``: share of the actions in the middle 70 % between the
        ways. ``share_error``: mean error of the ways' shares, over ten slices of the observations.
    """
    along = ((action - truth.center) * truth.side).sum(1)
    order = truth.place[:, 0].argsort()
    error = ((along > 0).float() - truth.share)[order].chunk(10)
    return {
        "distance": float(distances(action, truth).mean()),
        "gap": float((along.abs() < 0.7).float().mean()),
        "share_error": float(torch.stack([part.mean().abs() for part in error]).mean()),
    }


def train(policy: ChunkPolicy, data: TwoWays, *, steps: int, batch_size: int, seed: int) -> None:
    """Fits a policy to demonstrations: AdamW, the learning rate rising and falling once."""
    windows = {"observation": {"place": data.place.numpy()[:, None]}, "action": data.action.numpy()[:, None]}
    policy.fit_normalizer({"place": data.place.numpy()}, windows)
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    policy.train()
    for _ in range(steps):
        rows = torch.randint(len(data.place), (batch_size,), generator=random)
        optimizer.zero_grad()
        policy.loss(data.batch(rows), random).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    policy.eval()
