"""States at a given time: interpolated between the two records around it.

Images and states are taken at times of their own. What a policy sees together should have been true together,
as in its training data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.ring import Record, Ring
from robopolicy_drivers.runtime.spaces import FeatureSpace


def state_at(ring: Ring, features: Sequence[Feature], time_ns: int) -> tuple[int, dict[str, NDArray]]:
    """Returns the state at a time and that time, the nearest one for which the ring has records.

    Args:
        ring: of states; times do not decrease from record to record.
        features: what is wanted of a record.
        time_ns: when [ns, monotonic]. A state before the oldest or after the newest record is that record:
            nothing is extrapolated.

    Raises:
        DeviceError: the ring is empty.
    """
    nearest = ring.nearest(time_ns)
    if nearest is None:
        raise DeviceError("There is no state yet; nothing was written to the ring.")
    other = ring.read(nearest.number + (1 if nearest.time_ns < time_ns else -1))
    if other is None or nearest.time_ns == time_ns:
        return nearest.time_ns, {feature.key: nearest.data[feature.key] for feature in features}
    before, after = sorted((nearest, other), key=lambda record: record.time_ns)
    if not before.time_ns < time_ns < after.time_ns:
        return nearest.time_ns, {feature.key: nearest.data[feature.key] for feature in features}
    return time_ns, interpolate(features, before, after, time_ns)


def interpolate(
    features: Sequence[Feature], before: Record, after: Record, time_ns: int
) -> dict[str, NDArray]:
    """Returns the state at ``time_ns`` on the way between two records, by feature key.

    Numbers go along a line, angles the shorter way around, rotations along the geodesic. What is no floating
    number (an image, a count, a switch) is taken from the record that is nearer in time.

    Args:
        features: what is wanted; dtypes and shapes are kept.
        before: the record before ``time_ns`` [ns].
        after: the record after it, with a later time.
        time_ns: between both.
    """
    share = (time_ns - before.time_ns) / (after.time_ns - before.time_ns)
    state = {}
    for feature in features:
        first, last = before.data[feature.key], after.data[feature.key]
        if feature.is_image or not np.issubdtype(np.dtype(feature.dtype), np.floating):
            state[feature.key] = first if share < 0.5 else last
            continue
        value = FeatureSpace((feature,)).between(first.reshape(-1), last.reshape(-1), share)
        state[feature.key] = value.reshape(feature.shape).astype(feature.dtype)
    return state
