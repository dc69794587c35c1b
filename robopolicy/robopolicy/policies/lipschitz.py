"""The Lipschitz policy: deterministic feedback whose reaction to a wrong observation is bounded by proof.

Al Makdah, Krishnan and Pasqualetti, "Learning Lipschitz Feedback Policies from Expert Demonstrations" (arXiv
2103.16629): the loss is minimized subject to ``lip <= bound``, or the bound subject to ``loss <= margin``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.mlp import LipschitzMlp
from robopolicy.nets.lipschitz.module import LipschitzModule
from robopolicy.policies.chunk_policy import Array, ChunkPolicy
from robopolicy.policies.configs import LipschitzConfig
from robopolicy.policies.normalizer import SMALLEST_SCALE
from robopolicy.policies.representation import has_unit_size
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Spec


class LipschitzPolicy(ChunkPolicy):
    """A Lipschitz net from the encoded window of observations to the chunk.

    Low-dimensional features reach the net as they are represented and normalized, so that the bound holds
    from them to the chunk. Images and histories of a fast sensor pass through encoders of their own: the
    bound then holds from the features of these, and of an encoder with ``backbone=aol`` from its pixels too.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.

    Raises:
        ConfigError: a bound is not positive, or another setting is impossible.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: LipschitzConfig

    def __init__(self, config: LipschitzConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        bounds = _action_bounds(config, self.action.size)
        self.net = LipschitzMlp(
            self.encoder.size,
            config.horizon * self.action.size,
            config.width,
            config.depth,
            config.layer,
            output_bounds=bounds * config.horizon,
            activation="maxmin" if config.layer in ("aol", "spectral") else "relu",
        )
        self.search = SmallestBound(config.margin) if config.margin > 0 else None
        self._folded: tuple[list[Tensor], nn.Module] | None = None

    def fit_normalizer(self, observation: Mapping[str, Array], windows: Mapping[str, Any]) -> None:
        """Fits the normalizer on training data, see ``ChunkPolicy``.

        Raises:
            SpecError: a feature cannot be normalized, so that no bound would mean anything.
        """
        for feature in self.spec.observation:
            if not feature.is_image:
                _check_normalizable(feature.key, observation[feature.key], scaled=not has_unit_size(feature))
        _check_normalizable("action", windows["action"])
        super().fit_normalizer(observation, windows)

    def sensitivity(self) -> Sensitivity:
        """Returns the proven Lipschitz constants, in float64 from the weights that are used.

        Raises:
            RobopolicyError: a weight is not finite.
        """
        scale, size = self._scale(), self.action.size
        rows = range(self.config.horizon)
        per_action = [
            scale * self.net.lipschitz_bound(outputs=[row * size + number for row in rows])
            for number in range(size)
        ]
        method = f"Product of the layers' bounds, in float64, of the Lipschitz net '{self.config.layer}'."
        if encoded := [*self.encoder.cameras, *self.encoder.histories]:
            method += (
                f" It holds from the features that encoders make of {', '.join(encoded)}, beside the "
                "low-dimensional features; from what those encoders see only where a finding says so."
            )
        return Sensitivity(
            chunk=scale * self.net.lipschitz_bound(),
            per_action=tuple(per_action),
            noise=None,
            kind="certified",
            method=method,
        )

    def pixel_bounds(self) -> dict[str, float]:
        """Returns the proven Lipschitz constant from each camera's images to the normalized chunk.

        Images are those of the window, their numbers in [-1, 1], l2. A camera whose encoder has no bound
        (``encoder.backbone`` other than ``aol``) is left out.
        """
        chunk = self.sensitivity().chunk
        bounds = {}
        for name, camera in self.encoder.cameras.items():
            backbone, head = (camera.get_submodule(part) for part in ("backbone", "head"))
            if isinstance(backbone, LipschitzModule):
                bounds[name] = chunk * product_bound(backbone) * product_bound(head)
        return bounds

    @torch.no_grad()
    def rounding(self, windows: Tensor) -> float:
        """Returns how far chunks that are inferred in float32 are from ones in float64, l2, normalized.

        Args:
            windows: encoded observations ``[N, C]``; the farthest counts.
        """
        chunks = self._chunk(copy.deepcopy(self._plain_net()).double(), windows.double())
        return float((self.respond(windows) - chunks).flatten(1).norm(dim=1).max())

    def _scale(self) -> float:
        return 1.0 if self.search is None else math.exp(float(self.search.log_scale.detach()))

    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        error = F.mse_loss(self._chunk(self.net, condition).float(), clean)
        return error if self.search is None or not self.training else self.search(error)

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        return self._chunk(self.net if torch.is_grad_enabled() else self._plain_net(), condition)

    def _chunk(self, net: nn.Module, condition: Tensor) -> Tensor:
        flat = net(condition)
        if self.search is not None:
            flat = self.search.log_scale.exp() * flat
        return flat.unflatten(-1, (self.config.horizon, self.action.size))

    def _plain_net(self) -> nn.Module:
        """Returns the net's plain layers, made anew whenever a weight has changed.

        Their values are compared: fused optimizers and writes to ``.data`` leave no other trace.
        """
        weights = [*self.net.parameters(), *self.net.buffers()]
        if self._folded is None or not all(map(_equal, weights, self._folded[0])):
            self._folded = [weight.detach().clone() for weight in weights], self.net.fold()
        return self._folded[1]


class SmallestBound(nn.Module):
    """Searches the smallest bound with which the loss stays within a margin.

    The Lagrangian of ``log bound -> min subject to error <= margin``: the optimizer descends in the net and
    in the bound, and ascends in the multiplier, whose gradient is turned round.

    Args:
        margin: the loss to allow.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.multiplier = nn.Parameter(torch.zeros(()))  # before softplus, which keeps it positive

    def forward(self, error: Tensor) -> Tensor:
        """Returns what to minimize for a loss ``error``."""
        excess, multiplier = error / self.margin - 1, F.softplus(self.multiplier)
        return self.log_scale + multiplier.detach() * excess - multiplier * excess.detach()


def _equal(one: Tensor, other: Tensor) -> bool:
    return (one.device, one.dtype) == (other.device, other.dtype) and torch.equal(one, other)


def _action_bounds(config: LipschitzConfig, size: int) -> list[float]:
    """Returns the bound of each represented action number."""
    bounds = config.action_bounds or [config.bound] * size
    if len(bounds) != size:
        raise ConfigError(
            f"policy.action_bounds has {len(bounds)} numbers; the represented action has {size}. Give one "
            "for each, or none and policy.bound."
        )
    for name, value in (("bound", config.bound), *(("action_bounds", bound) for bound in bounds)):
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(
                f"policy.{name} has the value {value}; a Lipschitz bound must be finite and above 0."
            )
    if not 0 <= config.margin < math.inf:
        raise ConfigError(f"policy.margin is {config.margin}; it must be 0 (none) or a loss above it.")
    return bounds


def _check_normalizable(key: str, values: Array, *, scaled: bool = True) -> None:
    """Refuses training values ``[N, ...]`` with which a bound would mean nothing.

    Args:
        key: whose they are.
        values: rows of numbers, or single ones.
        scaled: whether they are divided by their spread.
    """
    rows = np.asarray(values, float).reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    if not np.isfinite(rows).all():
        reason = "holds values that are not finite"
    elif scaled and np.ptp(rows, axis=0).max() < 2 * SMALLEST_SCALE:
        reason = f"changes by less than {2 * SMALLEST_SCALE:g}"
    else:
        return
    raise SpecError(
        f"'{key}' cannot be normalized: it {reason} in the training data, so that a bound in units of "
        "its spread means nothing. Repair the data, or leave it out of policy.observation_keys."
    )
