"""A camera in a process of its own, which reads every picture, so that the newest is never an old one."""

from __future__ import annotations

from robopolicy_datasets.spec import Spec
from robopolicy_drivers.cameras.configs import CameraConfig
from robopolicy_drivers.hosting.sensor import HostedSensor

_SLOTS = 8  # a third of a second at 30 Hz; images are large


class HostedCamera(HostedSensor):
    """The ``Camera`` interface on the source that a config names.

    Args:
        config: the settings.

    Attributes:
        config: as given.
    """

    def __init__(self, config: CameraConfig) -> None:
        super().__init__(config.source, config, Spec(config.features(), ()), name=config.label, slots=_SLOTS)
        self.config = config
