"""What every simulated sensor is: a ``Sensor`` that looks at a world's physics when it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError, SimulationError
from robopolicy_datasets.spec import Feature, Spec


class SimulatedSensor(ABC):
    """A sensor in a simulated world: a driver's ``read``, and ``measure`` for environments.

    It fits ``robopolicy_drivers.interfaces.Sensor`` and what is built on it (``ForceTorque``, ``Touch``), so
    that a real sensor's driver can take its place. It reads ``data`` as the last step left it; use it in the
    thread that steps the world.

    Attributes:
        spec: what it measures; its features can go into the Spec of an environment.

    Args:
        features: of the readings.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.spec = Spec(tuple(features), ())
        self._types = {feature.key: np.dtype(feature.dtype) for feature in features}
        self._offsets: dict[str, NDArray] = {}
        self._connected = False

    @abstractmethod
    def _present(self) -> dict[str, NDArray]:
        """Returns the readings by key, before what ``zero`` took for nothing is subtracted."""

    def measure(self) -> dict[str, NDArray]:
        """Returns the present reading of every feature by key, connected or not."""
        readings = self._present()
        for key, offset in self._offsets.items():
            readings[key] = readings[key] - offset
        return {key: readings[key].astype(kind) for key, kind in self._types.items()}

    def zero(self) -> None:
        """Takes the present readings for none; images stay as they are."""
        images = {feature.key for feature in self.spec.observation if feature.is_image}
        self._offsets = {key: value for key, value in self._present().items() if key not in images}

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the present readings and the time [ns, monotonic].

        Raises:
            DeviceError: the sensor is not connected.
        """
        if not self._connected:
            keys = ", ".join(self._types)
            raise DeviceError(f"The sensor of {keys} is not connected; call connect() first.")
        return now_ns(), self.measure()

    def connect(self) -> None:
        """Lets it be read."""
        self._connected = True

    def close(self) -> None:
        """Ends the reading; a second call does nothing."""
        self._connected = False

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def renumbered(key: str, prefix: str) -> str:
    """Returns the key that a robot's sensor has where its names in the model begin with ``prefix``.

    An embodiment's keys are those of the first robot, ``robot0_...``, whose names have no prefix; those of
    the second begin with ``robot1_``, in the model and in its keys.
    """
    return prefix + key.partition("_")[2] if prefix else key


def site_id(model: Any, name: str) -> int:
    """Returns the index of a site that a sensor sits at.

    Args:
        model: a ``mujoco.MjModel``.
        name: of the site.

    Raises:
        SimulationError: the model has no such site.
    """
    try:
        return int(model.site(name).id)
    except KeyError as error:
        sites = ", ".join(model.site(index).name for index in range(model.nsite)) or "none"
        raise SimulationError(
            f"The model has no site '{name}', where the sensor is to sit (its sites: {sites}). Build it from "
            "an embodiment that has the sensor, or add the site to your MJCF."
        ) from error
