"""Checks of values: not finite, action jumps, suspicious units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.doctor.evidence import Evidence, Span
from robopolicy_datasets.doctor.findings import Finding, Severity, counted
from robopolicy_datasets.doctor.limits import Limits
from robopolicy_datasets.doctor.motion import distances, flat, groups, has_two_states, scales, shares
from robopolicy_datasets.spec import Feature


def not_finite(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds steps with a NaN or infinite value."""
    for feature in evidence.spec.features:
        for span in evidence.spans(~evidence.finite(feature)):
            message = (
                f"{counted(span.count, 'step')} with NaN or infinite values, which spoil a training. "
                "`robopolicy data repair` leaves the episode out; `robopolicy data trim keep=...` saves "
                "a part of it."
            )
            yield Finding("not_finite", Severity.ERROR, message, span.episode, feature.key, span.steps)


def action_jumps(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds steps of an action that are far larger than the others of their episode.

    What rests at the ends of its range, as grippers do, may jump from one to the other.
    """
    for feature in evidence.spec.action:
        if feature.key not in evidence.values:
            continue
        values, finite = evidence.values[feature.key], evidence.finite(feature)
        if np.count_nonzero(finite) < 2:
            continue
        filled = np.where(finite.reshape(-1, *[1] * len(feature.shape)), values, 0)
        both = evidence.follows.copy()
        both[1:] &= finite[1:] & finite[:-1]
        steps = np.zeros((len(values), len(scales(feature, values[finite]))))
        steps[1:] = distances(feature, filled[1:], filled[:-1])
        steps[~both] = 0.0
        share = shares(steps, scales(feature, values[finite]))
        share[:, has_two_states(feature, values[finite])] = 0.0
        for span in evidence.spans((share > limits.jump_share).max(axis=1)):
            yield from _jump(evidence, feature, steps, share, span, limits)


def _jump(
    evidence: Evidence,
    feature: Feature,
    steps: NDArray[np.float64],
    share: NDArray[np.float64],
    span: Span,
    limits: Limits,
) -> Iterator[Finding]:
    """Compares the candidates of one episode with its other steps."""
    start, length = span.row - span.first, int(evidence.lengths[span.episode])
    mine = steps[start : start + length]
    median = np.median(mine, axis=0)
    deviation = 1.4826 * np.median(np.abs(mine - median), axis=0)
    jumps = (share[start : start + length] > limits.jump_share) & (
        mine > median + limits.jump_deviations * deviation
    )
    rows = np.flatnonzero(jumps.any(axis=1))
    if len(rows):
        largest = share[start + rows].max()
        size = f"{largest:.0%} of its usual range" if np.isfinite(largest) else "away from a constant"
        message = (
            f"{counted(len(rows), 'jump')} within one step, at most by {size}. Look at it with "
            "`robopolicy data view`; cut it with `robopolicy data trim keep=...` or leave the episode out."
        )
        yield Finding(
            "action_jump",
            Severity.WARNING,
            message,
            span.episode,
            feature.key,
            (int(rows[0]), int(rows[-1])),
        )


def units(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds values that are too large for their unit: degrees, millimetres, impossible grippers."""
    for feature in evidence.spec.features:
        if feature.key not in evidence.values or feature.unit not in ("", *_UNITS_OF.get(feature.kind, ())):
            continue
        values = evidence.values[feature.key][evidence.finite(feature)]
        if len(values):
            for code, message in _suspicions(feature, flat(values), limits):
                yield Finding(code, Severity.WARNING, message, key=feature.key)


_UNITS_OF = {
    "position": ("m",),
    "axis_angle": ("rad",),
    "angle": ("rad",),
    "joint": ("rad",),
    "width": ("m",),
    "pose_width": ("m, rad",),
}


def _suspicions(feature: Feature, values: NDArray[np.float64], limits: Limits) -> Iterator[tuple[str, str]]:
    parts = _parts(feature, values)
    angles, positions, widths = parts["angle"], parts["position"], parts["width"]
    largest = float(np.percentile(angles, 99)) if angles.size else 0.0
    if largest > limits.angle_rad:
        message = f"angles reach {largest:.4g} rad. Are these degrees? Convert them to radians."
        yield "looks_like_degrees", message
    farthest = float(np.percentile(positions, 99)) if positions.size else 0.0
    if farthest > limits.position_m:
        message = f"positions reach {farthest:.4g} m. Are these millimetres? Convert them to metres."
        yield "looks_like_millimetres", message
    low, high = (float(widths.min()), float(widths.max())) if widths.size else (0.0, 0.0)
    if low < -1e-3 or high > limits.width_m:
        message = (
            f"the gripper opens from {low:.4g} to {high:.4g} m; possible are 0 to {limits.width_m:g} m. "
            "Convert to metres, or correct the zero of the gripper."
        )
        yield "width_range", message


def _parts(feature: Feature, values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Returns the magnitudes of angles and positions and the values of widths, each flat."""
    found: dict[str, list[NDArray[np.float64]]] = {"angle": [], "position": [], "width": []}
    for part, mode in groups(feature):
        columns = values[:, part]
        if mode == "turn":
            found["angle"].append(np.linalg.norm(columns, axis=1))
        elif mode == "angle" or feature.kind == "joint":
            found["angle"].append(np.abs(columns).ravel())
        elif mode == "vector":
            found["position"].append(np.abs(columns).ravel())
        elif feature.kind in ("width", "pose_width"):
            found["width"].append(columns.ravel())
    return {name: np.concatenate(arrays) if arrays else np.empty(0) for name, arrays in found.items()}
