"""Checks of images: frozen, black, saturated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.doctor.evidence import Evidence
from robopolicy_datasets.doctor.findings import Finding, Severity, counted
from robopolicy_datasets.doctor.frames import FrameFigures
from robopolicy_datasets.doctor.limits import Limits
from robopolicy_datasets.doctor.motion import MOVING_KINDS, distances, scales, shares

_MIN_REPEATS = 5  # at low rates a second is few steps
_RATE_WHERE_UNKNOWN = 10.0


def frozen(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds runs of identical images during which the robot or its command moves."""
    rate_hz = evidence.rate_hz or _RATE_WHERE_UNKNOWN
    repeats_needed = max(_MIN_REPEATS, round(limits.frozen_seconds * rate_hz))
    for key, figures in _images(evidence):
        found = np.zeros(evidence.rows, bool)
        for first, end in _runs(figures.repeats):
            if end - first >= repeats_needed and _moves(evidence, first - 1, end, limits):
                found[first:end] = True
        for span in evidence.spans(found):
            message = (
                f"{counted(span.count, 'image')} identical to the one before although the robot moves: "
                "the camera was frozen. Cut there with `robopolicy data trim keep=...`, or leave the "
                "episode out."
            )
            yield Finding("frozen_images", Severity.WARNING, message, span.episode, key, span.steps)


def black(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds images without light; for depth, those without any distance."""
    for key, figures in _images(evidence):
        level = limits.dark_level if evidence.spec[key].kind == "rgb" else 0.0
        for span in evidence.spans(figures.brightness <= level):
            message = (
                f"{counted(span.count, 'black image')}: a covered lens, no light, or a camera that had not "
                "started. Cut them with `robopolicy data trim keep=...`, or leave the episode out."
            )
            yield Finding("black_images", Severity.WARNING, message, span.episode, key, span.steps)


def saturated(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds cameras whose images are almost always at full brightness."""
    for key, figures in _images(evidence):
        share = float(np.mean(figures.saturated > limits.saturated_pixels)) if evidence.rows else 0.0
        if share > limits.saturated_frames:
            message = (
                f"{share:.0%} of the images are almost wholly at full brightness. Lower the exposure; "
                "were they float images from 0 to 1 times 255 twice, import them again."
            )
            yield Finding("saturated_images", Severity.WARNING, message, key=key)


def _images(evidence: Evidence) -> Iterator[tuple[str, FrameFigures]]:
    return ((key, figures) for key, figures in evidence.frames.items() if evidence.spec[key].is_image)


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Returns (first, end) of each run of marked rows, the end excluded."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _moves(evidence: Evidence, first: int, end: int, limits: Limits) -> bool:
    """Whether some position, joint or command leaves its place within rows ``first`` to ``end``."""
    for feature in evidence.spec.features:
        moving = feature.kind in MOVING_KINDS or feature in evidence.spec.action
        if feature.key not in evidence.values or not moving:
            continue
        finite = evidence.finite(feature)
        values = evidence.values[feature.key]
        here = values[first:end][finite[first:end]]
        if len(here) > 1:
            share = shares(distances(feature, here, here[:1]), scales(feature, values[finite]))
            if (share > limits.frozen_motion).any():
                return True
    return False
