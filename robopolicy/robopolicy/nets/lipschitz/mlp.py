"""A perceptron with budgets: how far each output may move for each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.activations import MaxMin
from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.dense import AolLinear, LipschitzLinear, SpectralLinear
from robopolicy.nets.lipschitz.module import LipschitzModule, plain_linear, spectral_norm
from robopolicy.nets.lipschitz.residual import SllLinear
from robopolicy.nets.lipschitz.sandwich import SandwichLinear
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy.nets.lipschitz.smooth import TanhSllLinear
from robopolicy_datasets.errors import ConfigError, unknown_name

_LINEAR: dict[str, type[LipschitzLinear]] = {"spectral": SpectralLinear, "aol": AolLinear}
_BLOCK: dict[str, Callable[[int], LipschitzModule]] = {
    "sll": SllLinear,
    "sll_tanh": TanhSllLinear,
    "sandwich": lambda width: SandwichLinear(width, width),
}
LAYERS = (*_LINEAR, *_BLOCK)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "maxmin": MaxMin}


class LipschitzMlp(LipschitzModule):
    """``diag(output_bounds) f(diag(input_bounds) x)`` with f 1-Lipschitz.

    When x moves by dx, output i moves by at most ``output_bounds[i] * |diag(input_bounds) dx|``, whatever the
    weights are.

    Args:
        inputs: features in the input.
        outputs: features in the output.
        width: of the hidden layers.
        depth: hidden layers.
        layer: of the hidden layers: one of ``LAYERS``.
        input_bounds: one number > 0 or one for each input.
        output_bounds: one number > 0 or one for each output.
        activation: after the dense layers ``spectral`` and ``aol``: one of ``ACTIVATIONS``; the others have
            theirs inside.

    Raises:
        ConfigError: a size or a budget is impossible, or a name unknown.
    """

    input_bounds: Tensor
    output_bounds: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        layer: str = "sll",
        input_bounds: float | Sequence[float] = 1.0,
        output_bounds: float | Sequence[float] = 1.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if min(inputs, outputs, width, depth) < 1:
            raise ConfigError(
                f"A Lipschitz net of {inputs} inputs, {outputs} outputs, width {width} and depth {depth} "
                "cannot be built; each must be at least 1."
            )
        self.register_buffer("input_bounds", budget("input_bounds", input_bounds, inputs))
        self.register_buffer("output_bounds", budget("output_bounds", output_bounds, outputs))
        linear = _LINEAR.get(layer, AolLinear)
        self.lift, self.readout = linear(inputs, width), linear(width, outputs)
        self.hidden = LipschitzSequential(*_hidden(layer, activation, width, depth))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., inputs]`` to ``[..., outputs]``."""
        return self.output_bounds * self.readout(self.hidden(self.lift(self.input_bounds * x)))

    def lipschitz_bound(
        self, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
    ) -> float:
        """Returns the bound of some outputs for a change of some inputs, both in l2.

        Args:
            inputs: that change; None: all.
            outputs: that are looked at; None: all.
        """
        before, after = self._first().weight, self._last().weight
        if inputs is not None:
            before = before[:, list(inputs)]
        if outputs is not None:
            after = after[list(outputs)]
        middle = [product_bound(part) for part in self.hidden.fold()]
        return math.prod([spectral_norm(before), *middle, spectral_norm(after)])

    def fold(self) -> LipschitzSequential:
        """Returns plain layers, the first and the last ``nn.Linear`` with the budgets multiplied in."""
        return LipschitzSequential(self._first(), *self.hidden.fold(), self._last()).train(False)

    def _first(self) -> nn.Linear:
        return plain_linear(self.lift.used_weight() * self.input_bounds, self.lift.bias)

    def _last(self) -> nn.Linear:
        scale = self.output_bounds
        return plain_linear(self.readout.used_weight() * scale[:, None], self.readout.bias * scale)


def _hidden(layer: str, activation: str, width: int, depth: int) -> list[nn.Module]:
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    if layer in _BLOCK:
        if activation != "relu":
            raise ConfigError(
                f"The layer '{layer}' has its activation inside and cannot take '{activation}'. Leave that "
                "out, or use spectral or aol."
            )
        return [_BLOCK[layer](width) for _ in range(depth)]
    if layer not in _LINEAR:
        raise unknown_name("Lipschitz layer", layer, LAYERS)
    if activation == "maxmin" and width % 2:
        raise ConfigError(f"maxmin sorts pairs of features; the width is {width}. Make it even.")
    modules: list[nn.Module] = [ACTIVATIONS[activation]()]
    for _ in range(depth - 1):
        modules += [_LINEAR[layer](width, width), ACTIVATIONS[activation]()]
    return modules


def budget(name: str, given: float | Sequence[float], size: int) -> Tensor:
    """Returns the budgets ``[size]`` that one number or a list stands for.

    Raises:
        ConfigError: there are too few or too many, or one is not a finite number above 0 in float32.
    """
    values = [float(given)] * size if isinstance(given, int | float) else [float(value) for value in given]
    if len(values) != size:
        raise ConfigError(f"{name} has {len(values)} numbers; the net has {size}. Give one, or one for each.")
    rounded = torch.tensor(values)
    for value, kept in zip(values, rounded.tolist(), strict=True):
        if not 0 < kept < math.inf:
            raise ConfigError(
                f"{name} holds {value}; a Lipschitz bound must be a finite number above 0 in float32."
            )
    return rounded
