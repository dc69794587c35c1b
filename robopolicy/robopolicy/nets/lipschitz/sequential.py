"""Composition: the bound of a sequence is the product of the bounds."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator

from torch import nn

from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.module import LipschitzModule


class LipschitzSequential(LipschitzModule, nn.Sequential):
    """Modules one after another.

    Args:
        modules: Lipschitz modules and plain layers that have a bound.

    Raises:
        ConfigError: a module has no Lipschitz bound; says which and why.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.lipschitz_bound()  # refuses what has none

    def lipschitz_bound(self) -> float:
        """Returns the product of the modules' bounds."""
        return math.prod(product_bound(module) for module in self)

    def fold(self) -> LipschitzSequential:
        """Returns one flat sequence of plain layers."""
        return LipschitzSequential(*_flat(folded(module) for module in self)).train(False)


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
