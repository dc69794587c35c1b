"""Validation on held-out episodes: the loss and the error of sampled actions."""

from __future__ import annotations

import numpy as np
import torch

from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.training.batches import to_tensors
from robopolicy_datasets.windows import Windows

LOSS_WINDOWS = 256
SAMPLED_WINDOWS = 64


class Validation:
    """Measures a policy on windows that it is not trained on.

    Args:
        policy: what is measured, with whatever weights it has at the time.
        windows: of the held-out episodes, of several stores by weight; None when there are none.
        device: where the policy is.
        seed: of the choice of windows and of the noise.
    """

    def __init__(self, policy: ChunkPolicy, windows: Windows | None, device: str, seed: int) -> None:
        self.policy, self.windows, self.device, self.seed = policy, windows, device, seed
        order = np.zeros(0, np.int64) if windows is None else windows.order(seed=seed, epoch=0)
        self.indices = np.sort(order[:LOSS_WINDOWS])
        count = min(len(self.indices), SAMPLED_WINDOWS)
        self.sampled = self.indices[np.arange(count) * len(self.indices) // max(count, 1)]  # of all episodes

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Returns ``validation_loss`` and ``action_error``; nothing when no episode is held out.

        ``action_error`` is the root mean square difference between sampled and demonstrated actions over
        the executed steps, in the action's own units; rotations of a pose are compared as rot6d.
        """
        if self.windows is None:
            return {}
        self.policy.eval()
        generator = torch.Generator(self.device).manual_seed(self.seed)
        batch = to_tensors(self.windows.gather(self.indices), self.device)
        loss = self.policy.loss(batch, generator)
        return {"validation_loss": float(loss), "action_error": self._action_error(self.windows)}

    def _action_error(self, windows: Windows) -> float:
        window = windows.gather(self.sampled)
        chunk = self.policy.infer(window["observation"], seeds=[self.seed + int(i) for i in self.sampled])
        first, executed = self.policy.observation_steps - 1, self.policy.action_steps
        truth = window["action"][:, first : first + executed]
        # compared as represented: axis-angle vectors of nearly equal rotations can be far apart
        both = [torch.from_numpy(np.ascontiguousarray(part)).float() for part in (chunk[:, :executed], truth)]
        sampled, demonstrated = (self.policy.action.encode(part, None) for part in both)
        return float((sampled - demonstrated).square().mean().sqrt())
