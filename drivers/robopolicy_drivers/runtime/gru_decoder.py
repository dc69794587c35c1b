"""A fast decoder in plain numpy: one gated recurrent unit and a linear layer, as trained with torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from robopolicy_datasets.errors import CheckpointError

Array = NDArray[np.float64]
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_out", "bias_out")


class GruDecoder:
    """The decoder of Reactive Diffusion Policy (Xue et al. 2025): a GRU over latents and samples.

    Equal to ``torch.nn.GRUCell`` and ``torch.nn.Linear``, one row at a time.

    Args:
        weights: ``weight_ih [3H, L + S]``, ``weight_hh [3H, H]``, ``bias_ih [3H]`` and ``bias_hh [3H]`` in
            torch's order of gates (reset, update, new), ``weight_out [A, H]`` and ``bias_out [A]``.

    Raises:
        CheckpointError: an array is missing, of a wrong shape or not finite.
    """

    def __init__(self, weights: Mapping[str, NDArray]) -> None:
        missing = [name for name in _NAMES if name not in weights]
        if missing:
            raise CheckpointError(f"The decoder's weights lack {', '.join(missing)}.")
        arrays = {name: np.array(weights[name], np.float64) for name in _NAMES}
        hidden, action = arrays["weight_hh"].shape[-1], arrays["weight_out"].shape[0]
        shapes = {
            "weight_ih": (3 * hidden, arrays["weight_ih"].shape[-1]),
            "weight_hh": (3 * hidden, hidden),
            "bias_ih": (3 * hidden,),
            "bias_hh": (3 * hidden,),
            "weight_out": (action, hidden),
            "bias_out": (action,),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise CheckpointError(
                    f"The decoder's {name} has the shape {arrays[name].shape}; needed are {shape}, finite."
                )
        self._weights = arrays
        self._hidden = np.zeros(hidden)

    def reset(self) -> None:
        """Forgets the hidden state."""
        self._hidden = np.zeros_like(self._hidden)

    def step(self, latent: Array, sample: Array) -> Array:
        """Returns the action ``[A]`` of ``latent [L]`` and ``sample [S]``."""
        weights = self._weights
        inputs = weights["weight_ih"] @ np.concatenate([latent, sample]) + weights["bias_ih"]
        carried = weights["weight_hh"] @ self._hidden + weights["bias_hh"]
        (reset_in, update_in, new_in), (reset_h, update_h, new_h) = np.split(inputs, 3), np.split(carried, 3)
        update = expit(update_in + update_h)
        new = np.tanh(new_in + expit(reset_in + reset_h) * new_h)
        self._hidden = (1 - update) * new + update * self._hidden
        return np.asarray(weights["weight_out"] @ self._hidden + weights["bias_out"])
