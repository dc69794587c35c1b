"""What demonstrations say of the states between them: how dense they are, and how steep the expert is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from robopolicy.certify.finding import Finding
from robopolicy_datasets.errors import ConfigError

Array = NDArray[Any]
MOST_NODES = 4_000_000
NEIGHBOURS = 8
STEEP = 0.95  # quantile of the slopes that stands for the expert: noise in a few labels is no slope


def box_covering_radius(points: Array, low: Array, high: Array, *, nodes: int) -> Finding:
    """Bounds how far a state of a box can be from the nearest of the points, by a grid.

    Args:
        points: demonstrated states ``[N, n]``.
        low: lower corner ``[n]``.
        high: upper corner ``[n]``.
        nodes: of the grid along each axis; more of them make the bound tighter.

    Raises:
        ConfigError: the grid is too large, as it is in more than about five dimensions.
    """
    if nodes < 2 or nodes ** len(low) > MOST_NODES:
        raise ConfigError(
            f"A grid of {nodes} nodes in {len(low)} dimensions was asked for; give at least 2, and at most "
            f"{int(MOST_NODES ** (1 / len(low)))}."
        )
    axes = [np.linspace(a, b, nodes) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(low))
    half_diagonal = float(np.linalg.norm((np.asarray(high) - low) / (nodes - 1)) / 2)
    farthest = float(cKDTree(points).query(grid)[0].max())
    return Finding(farthest + half_diagonal, "certified", "The region is the box that was gridded.")


def sampled_covering_radius(points: Array, samples: Array) -> Finding:
    """Returns how far a sample of the region is from the nearest of the points, at most.

    Args:
        points: demonstrated states ``[N, n]``.
        samples: other states of the region ``[M, n]``, such as those of held-out episodes.
    """
    farthest = float(cKDTree(points).query(samples)[0].max())
    return Finding(farthest, "estimated", f"The region is what {len(samples)} held-out windows show of it.")


def expert_lipschitz(points: Array, actions: Array) -> Finding:
    """Estimates the expert's Lipschitz constant from the slopes between neighbouring demonstrations.

    A true constant cannot be had from samples: between two of them the expert may do anything.

    Args:
        points: demonstrated states ``[N, n]``.
        actions: what the expert did there ``[N, m]``.

    Raises:
        ConfigError: all points coincide, or there is one only.
    """
    if len(points) < 2:
        raise _no_slope("There is one demonstrated state")
    count = min(NEIGHBOURS + 1, len(points))
    distances, neighbours = cKDTree(points).query(points, k=count)
    # very near pairs show the noise of the labels, not the slope of the expert
    apart = distances > 0.1 * np.median(distances[:, 1:])
    change = np.linalg.norm(actions[neighbours] - actions[:, None], axis=-1)
    slopes = change[apart] / distances[apart]
    if not slopes.size:
        raise _no_slope("All demonstrated states coincide")
    return Finding(
        float(np.quantile(slopes, STEEP)),
        "estimated",
        f"The expert is as steep as {STEEP:.0%} of the pairs of neighbouring demonstrations.",
    )


def _no_slope(reason: str) -> ConfigError:
    return ConfigError(
        f"{reason}: the expert's slope cannot be estimated. Give certificate.expert_lipschitz, or no data."
    )
