"""The expert's closed loop as a linear model, given or fitted, and the metric in which it contracts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from robopolicy.certify.finding import Finding
from robopolicy.certify.theorems import Loop

Array = NDArray[Any]
RATES = 20
RIDGE = 1e-6  # relative to the largest singular value: states that never vary have no effect


def loop_of_model(dynamics: Array, inputs: Array, gain: Array, *, kind: str, assumption: str) -> Loop:
    """Returns the closed loop ``x+ = A x + B u`` with ``u = K x``.

    Every rate between the spectral radius and 1 has a metric, by the Lyapunov equation; taken is the one in
    which wrong actions lead the state least astray.

    Args:
        dynamics: A ``[n, n]``.
        inputs: B ``[n, m]``.
        gain: K ``[m, n]``.
        kind: of what is found.
        assumption: where the model comes from.
    """
    closed = dynamics + inputs @ gain
    radius = float(np.abs(np.linalg.eigvals(closed)).max())
    rates = radius + (1 - radius) * np.linspace(0.05, 1.0, RATES, endpoint=False) if radius < 1 else ()
    pairs = [_in_metric(closed, inputs, rate) for rate in rates]
    pairs.append((float(np.linalg.norm(closed, 2)), float(np.linalg.norm(inputs, 2))))  # l2 as it is
    pairs = [pair for pair in pairs if pair[0] < 1]
    if not pairs:
        unstable = Finding(
            max(radius, 1.0),
            kind,
            f"{assumption} In it no metric was found in which the expert's loop contracts.",
            True,
        )
        return Loop(unstable, Finding(float(np.linalg.norm(inputs, 2)), kind, assumption))
    contraction, input_gain = min(pairs, key=lambda pair: pair[1] / (1 - pair[0]))
    return Loop(Finding(contraction, kind, assumption), Finding(input_gain, kind, assumption))


def estimate_loop(states: Array, actions: Array, following: Array) -> Loop:
    """Fits the expert's loop to demonstrated transitions by least squares.

    Fewer transitions than the model has unknowns in a row give a loop of which nothing follows.

    Args:
        states: ``[N, n]``.
        actions: what the expert did there ``[N, m]``.
        following: the states after it ``[N, n]``.
    """
    count, size = states.shape
    if count <= size + actions.shape[1] + 1:
        few = f"{count} transitions are too few for a model of {size} numbers and {actions.shape[1]} actions."
        unknown = Finding(math.inf, "estimated", few, vacuous=True)
        return Loop(unknown, unknown)
    mean = states.mean(0)
    centred = states - mean
    gain = _regress(centred, actions - actions.mean(0)).T
    both = np.hstack([centred, actions - actions.mean(0)])
    model = _regress(both, following - following.mean(0)).T
    residual = following - following.mean(0) - both @ model.T
    explained = 1 - residual.var() / max(float(following.var(0).mean()), 1e-12)
    return loop_of_model(
        model[:, :size],
        model[:, size:],
        gain,
        kind="estimated",
        assumption=(
            f"The loop is the linear model of {count} demonstrated transitions, which explains "
            f"{explained:.1%} of the variance."
        ),
    )


def _in_metric(closed: Array, inputs: Array, rate: float) -> tuple[float, float]:
    """Returns contraction and input gain in the metric in which the loop contracts by ``rate`` at least.

    Both are infinite where rounding leaves no metric, as of states that hardly decay and differ much in size.
    """
    metric = solve_discrete_lyapunov((closed / rate).T, np.eye(len(closed)))
    if not np.isfinite(metric).all():
        return math.inf, math.inf
    lengths, axes = np.linalg.eigh((metric + metric.T) / 2)
    if lengths.min() <= 0:
        return math.inf, math.inf
    root = axes * np.sqrt(lengths) @ axes.T
    back = axes / np.sqrt(lengths) @ axes.T
    contraction = float(np.linalg.norm(root @ closed @ back, 2))
    return contraction, float(np.linalg.norm(root @ inputs, 2) / np.sqrt(lengths.min()))


def _regress(inputs: Array, outputs: Array) -> Array:
    """Returns X of the smallest ``|inputs X - outputs|``; inputs that never vary get no weight."""
    solution: Array = np.linalg.lstsq(inputs, outputs, rcond=RIDGE)[0]
    return solution
