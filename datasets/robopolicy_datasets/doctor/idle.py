"""Idle steps at the ends of episodes: those during which nothing has left its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.doctor.evidence import streamed
from robopolicy_datasets.doctor.motion import MOVING_KINDS, distances, scales, shares
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.store.demo_store import DemoStore


def moving_steps(store: DemoStore, *, still: float, margin: int) -> dict[int, tuple[int, int]]:
    """Returns (first, last) step of what is not idle, by episode; episodes idle throughout are left out.

    A step at the start is idle as long as every position, joint, width and command has stayed near its first
    value, so that a slow start is motion too; likewise at the end. Forces and images do not count.

    Args:
        store: the store.
        still: how far an idle value may be away, as a share of its usual range (of pi for a rotation).
        margin: idle steps to keep at each end.

    Raises:
        ConfigError: a setting is out of range, or the store has nothing that moves.
        StoreError: bytes are damaged.
    """
    if not 0 <= still < 1 or margin < 0:
        raise ConfigError(f"still={still} and margin={margin}: still is from 0 to below 1, margin 0 or more.")
    starts = np.concatenate([[0], store.episode_ends[:-1]]).astype(int)
    near_start, near_end = _near_ends(store, starts, still)
    found = {}
    for episode, (start, stop) in enumerate(zip(starts, store.episode_ends, strict=True)):
        length = int(stop - start)
        leading = _leading(near_start[start:stop])
        if leading < length:
            trailing = _leading(near_end[start:stop][::-1])
            found[episode] = (max(0, leading - margin), min(length, length - trailing + margin) - 1)
    return found


def _near_ends(
    store: DemoStore, starts: NDArray[np.int_], still: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns ``[N]`` each: whether a row is near the first row of its episode, and near the last."""
    features = [
        feature
        for feature in store.spec.features
        if not streamed(feature) and (feature.kind in MOVING_KINDS or feature in store.spec.action)
    ]
    if not features:
        raise ConfigError(
            f"{store.path} has no positions, joints or actions that could be idle. Give the steps: keep=..."
        )
    lengths = np.diff(store.episode_ends, prepend=0)
    anchors = (np.repeat(starts, lengths), np.repeat(store.episode_ends - 1, lengths))
    near = (np.ones(store.num_steps, bool), np.ones(store.num_steps, bool))
    for feature in features:
        values = store.array(feature.key)
        if len(values):
            scale = scales(feature, values)
            for mask, anchor in zip(near, anchors, strict=True):
                mask &= (shares(distances(feature, values, values[anchor]), scale) <= still).all(axis=1)
    return near


def _leading(marked: NDArray[np.bool_]) -> int:
    """Returns how many entries are marked before the first that is not."""
    return len(marked) if marked.all() else int(np.argmin(marked))
