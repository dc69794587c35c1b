"""Statistics of every component of every feature of a store."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.doctor.evidence import stream_name, streamed
from robopolicy_datasets.doctor.frames import on_grid
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.demo_store import DemoStore

HEADER = ("component", "count", "min", "1 %", "50 %", "99 %", "max", "mean", "std")


@dataclass(frozen=True)
class Statistics:
    """Statistics of one component; those of nothing are NaN.

    Attributes:
        key: the feature.
        component: its place in the flattened sample; for images the channel.
        count: finite values that were looked at.
        not_finite: NaN or infinite values, which are left out.
        minimum: the smallest value, in the feature's unit like all that follow.
        p1: the 1st percentile.
        p50: the median.
        p99: the 99th percentile.
        maximum: the largest value.
        mean: the mean.
        std: the standard deviation.
    """

    key: str
    component: int
    count: int
    not_finite: int
    minimum: float
    p1: float
    p50: float
    p99: float
    maximum: float
    mean: float
    std: float

    def row(self) -> tuple[Any, ...]:
        """Returns the cells of a table with the columns of ``HEADER``."""
        name = f"{self.key}[{self.component}]"
        figures = (self.minimum, self.p1, self.p50, self.p99, self.maximum, self.mean, self.std)
        return (name, self.count, *figures)

    def to_json(self) -> dict[str, Any]:
        """Returns plain data; figures of nothing are None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def statistics(store: DemoStore, *, image_samples: int = 200) -> list[Statistics]:
    """Computes the statistics of every component, feature by feature.

    Args:
        store: the store.
        image_samples: images (and other large samples) that are looked at, evenly spread over the store;
            of large ones a grid of pixels.

    Raises:
        StoreError: bytes of the store are damaged.
    """
    steps = ((feature.key, _columns(store, feature, image_samples)) for feature in store.spec.features)
    streams = ((stream_name(store, feature), _samples(store, feature)) for feature in store.streams)
    return [
        _of_component(key, component, columns[:, component])
        for key, columns in itertools.chain(steps, streams)
        for component in range(columns.shape[1])
    ]


def _samples(store: DemoStore, feature: Feature) -> NDArray[Any]:
    """Returns all samples of a stream ``[N, size]``."""
    samples = [store.stream(feature.key, episode).value for episode in range(len(store))]
    return np.concatenate([part.reshape(-1, feature.size) for part in samples or [np.empty(0)]])


def _columns(store: DemoStore, feature: Feature, image_samples: int) -> NDArray[Any]:
    """Returns values ``[N, C]``: of images one column a channel, of other large samples a single one."""
    if not streamed(feature):
        return store.array(feature.key).reshape(store.num_steps, feature.size)
    count = min(store.num_steps, image_samples)
    chosen = np.linspace(0, store.num_steps - 1, count).astype(int).tolist()
    channels = feature.shape[2] if feature.is_image and len(feature.shape) == 3 else 1
    samples = [on_grid(store.rows(feature.key, row, row + 1)).reshape(-1, channels) for row in chosen]
    return np.concatenate(samples) if samples else np.empty((0, channels), feature.dtype)


def _of_component(key: str, component: int, values: NDArray[Any]) -> Statistics:
    """Returns the statistics of one component, ``[N]``; one at a time, so that no large copy is made."""
    finite = values[np.isfinite(values)].astype(np.float64)
    figures = [math.nan] * 7
    if len(finite):
        percentiles = np.percentile(finite, (1, 50, 99))
        figures = [finite.min(), *percentiles, finite.max(), finite.mean(), finite.std()]
    return Statistics(key, component, len(finite), len(values) - len(finite), *map(float, figures))
