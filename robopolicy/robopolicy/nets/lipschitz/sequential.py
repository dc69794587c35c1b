"""Composition: the bound of a sequence is the product of the bounds."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.module import LipschitzModule


class LipschitzSequential(LipschitzModule):
    """Modules one after another.

    Args:
        modules: Lipschitz modules and plain layers that have a bound.

    Raises:
        ConfigError: a module has no Lipschitz bound; says which and why.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        for module in modules:
            product_bound(module)
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluates the modules in turn."""
        for part in self.parts:
            x = part(x)
        return x

    def lipschitz_bound(self) -> float:
        """Returns the product of the modules' bounds."""
        return product_bound(nn.Sequential(*self.parts))

    def fold(self) -> nn.Sequential:
        """Returns one flat sequence of plain layers."""
        return nn.Sequential(*_flat(folded(part) for part in self.parts))


def folded(module: nn.Module) -> nn.Module:
    """Returns the fold of a Lipschitz module, and a copy of any other, in evaluation mode."""
    plain = module.fold() if isinstance(module, LipschitzModule) else copy.deepcopy(module)
    return plain.train(False)


def _flat(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _flat(module)
        else:
            yield module
