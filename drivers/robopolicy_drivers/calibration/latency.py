"""The latency model: how late each device is, measured, as one small JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.calibration.files import calibration_file

VERSION = 1


@dataclass(frozen=True)
class DeviceLatency:
    """How late one device is.

    Attributes:
        median_s: the median of the measurements [s].
        p95_s: their 95th percentile: what a schedule that must rarely be late reckons with [s].
        samples: how many measurements.
        measured: when (ISO 8601, UTC).
    """

    median_s: float
    p95_s: float
    samples: int
    measured: str

    @classmethod
    def of(cls, seconds: Sequence[float], measured: str) -> DeviceLatency:
        """Summarises measurements.

        Args:
            seconds: at least one [s].
            measured: when (ISO 8601, UTC).

        Raises:
            ConfigError: there are none, or one is not finite.
        """
        values = np.asarray(seconds, np.float64)
        if not values.size or not np.isfinite(values).all():
            raise ConfigError(f"The latencies {values.tolist()} cannot be summarised; give finite ones.")
        median, p95 = np.percentile(values, (50, 95)).tolist()
        return cls(median, p95, values.size, measured)


@dataclass(frozen=True)
class LatencyModel:
    """The latencies of a set-up.

    ``robot`` and ``gripper`` are how much later than asked they are where they were commanded to be; a camera
    is how much later than what it shows the time stamp of its image is. ``inference`` is how long a policy
    takes for a chunk, a server and the network to it included.

    Attributes:
        devices: latency by name, e.g. ``"robot"``, ``"inference"`` or the key of a camera's image.
    """

    devices: Mapping[str, DeviceLatency] = field(default_factory=dict)

    def __getitem__(self, device: str) -> DeviceLatency:
        if device not in self.devices:
            raise unknown_name("device with a measured latency", device, self.devices)
        return self.devices[device]

    def to_json(self) -> str:
        """Returns the model as JSON text."""
        devices = {name: asdict(latency) for name, latency in self.devices.items()}
        return json.dumps({"version": VERSION, "devices": devices}, indent=2) + "\n"


def load_latency(path: str | Path) -> LatencyModel:
    """Reads a latency model.

    Args:
        path: the file, written from ``LatencyModel.to_json``.

    Raises:
        ConfigError: there is none, or it is not a latency model that this version reads.
    """
    command = "robopolicy devices latency robot=..."
    with calibration_file(path, "is not a latency model", command) as content:
        if content["version"] != VERSION:
            raise ValueError(f"its version is {content['version']}, not {VERSION}")
        devices = {str(name): _device(values) for name, values in content["devices"].items()}
    return LatencyModel(devices)


def _device(values: Mapping[str, object]) -> DeviceLatency:
    latency = DeviceLatency(
        float(values["median_s"]),  # type: ignore[arg-type]
        float(values["p95_s"]),  # type: ignore[arg-type]
        int(values["samples"]),  # type: ignore[call-overload]
        str(values["measured"]),
    )
    if not np.isfinite([latency.median_s, latency.p95_s]).all():
        raise ValueError(f"a latency is not finite: {latency}")
    return latency
