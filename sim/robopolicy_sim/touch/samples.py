"""What the sensors of a world measure within the control steps, from the time steps of the physics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store import Stream
from robopolicy_sim.touch.sensor import SimulatedSensor
from robopolicy_sim.worlds.world import World


class SensorSamples:
    """Samples of the sensors that measure numbers, each at the multiple of the time step nearest to its rate.

    Nothing is measured before somebody has asked for it with ``listen``. Times count from the reset of the
    world, at which there is a first sample.

    Args:
        world: whose physics are watched; one such object a world.
        sensors: of the world.

    Attributes:
        streams: what can be listened to.
    """

    def __init__(self, world: World, sensors: Sequence[SimulatedSensor]) -> None:
        self._world = world
        self._every: dict[SimulatedSensor, int] = {}
        streams: list[Feature] = []
        for sensor in sensors:
            features = sensor.spec.observation
            if any(feature.is_image for feature in features):
                continue
            steps = max(1, round(1.0 / (features[0].rate_hz * world.timestep)))
            self._every[sensor] = steps
            streams += [replace(feature, rate_hz=1.0 / (steps * world.timestep)) for feature in features]
        self.streams = tuple(streams)
        self._steps = 0
        self._heard: dict[SimulatedSensor, list[tuple[int, dict[str, NDArray]]]] = {}

    def listen(self, keys: Iterable[str]) -> None:
        """Keeps the samples of these streams from the next reset on."""
        wanted = set(keys)
        self._heard = {
            sensor: [] for sensor in self._every if wanted & {f.key for f in sensor.spec.observation}
        }
        self._world.watch = self._take if self._heard else None

    def restart(self) -> None:
        """Begins anew; the world has just been reset."""
        self._steps = -1
        for samples in self._heard.values():
            samples.clear()
        if self._heard:
            self._take()

    def heard(self) -> dict[str, Stream]:
        """Returns the samples since the last call, by key."""
        streams = {}
        for sensor, samples in self._heard.items():
            times = np.array([time_ns for time_ns, _ in samples], np.int64)
            for feature in sensor.spec.observation:
                values = np.array([values[feature.key] for _, values in samples], feature.dtype)
                streams[feature.key] = Stream(values.reshape(len(times), *feature.shape), times)
            samples.clear()
        return streams

    def _take(self) -> None:
        self._steps += 1
        for sensor, samples in self._heard.items():
            if self._steps % self._every[sensor] == 0:
                time_ns = round(self._steps * self._world.timestep * NANOSECONDS)
                samples.append((time_ns, sensor.measure()))
