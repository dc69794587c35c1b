"""Bounds of nets that were not built to have any: valid for their weights, and honestly loose."""

from __future__ import annotations

from torch import nn

from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.nets.lipschitz.bounds import eclipse_fast_bound, product_bound
from robopolicy_datasets.errors import ConfigError


def plain_sensitivity(net: nn.Module, actions: int) -> Sensitivity:
    """Bounds a net from windows to chunks by ECLipsE-Fast where that applies, else by its layers' norms.

    Args:
        net: plain layers.
        actions: D, represented numbers in one action; each has the bound of all.

    Raises:
        ConfigError: a layer has no bound; says which and why.
    """
    product = product_bound(net)
    try:
        bound = eclipse_fast_bound(net) if isinstance(net, nn.Sequential) else product
    except ConfigError:  # of its activations; the product remains
        bound = product
    tighter = "ECLipsE-Fast" if bound < product else "the product of its layers' norms"
    method = (
        f"The net is not constrained; its bound is {tighter} (the product is {product:.4g}). It is loose."
    )
    return Sensitivity(bound, (bound,) * actions, None, "certified", method)
