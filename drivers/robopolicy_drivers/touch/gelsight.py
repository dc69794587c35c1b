"""GelSight and its relatives: a camera looks at a gel, and the markers in it tell how the gel moves."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import ns_to_seconds
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.cameras.opencv import OpenCvSource
from robopolicy_drivers.hosting.sensor import HostedSensor
from robopolicy_drivers.touch.configs import GelSightConfig
from robopolicy_drivers.touch.marker_tracker import MarkerTracker

_LARGEST_WIDTH = 320  # [px] larger pictures are reduced: the markers are tracked no better in them
_LEAST_SEEN = 0.5  # share of the markers
_UNSEEN_S = 0.5


class GelSight(HostedSensor):
    """The displacements of the markers; it fits ``interfaces.Touch``.

    ``float32 [rows * columns, 2]`` [m], rows first, from where each marker was when the sensor was connected
    or set to ``zero``: along x of the pad (the picture's, to the right) and y (down), as of a simulated pad.
    Where the config says so, there are the pictures too, of at most 320 px width.

    Args:
        config: the settings.
    """

    def __init__(self, config: GelSightConfig) -> None:
        super().__init__(
            "robopolicy_drivers.touch.gelsight:GelSightSource",
            config,
            Spec(features(config), ()),
            name=f"gel of {config.camera.label}",
        )


class GelSightSource:
    """Tracks the markers in each picture (a ``sensor_loop.Source``).

    Args:
        config: the settings.
    """

    def __init__(self, config: GelSightConfig) -> None:
        camera = replace(config.camera, image_size=0)
        self._camera = OpenCvSource(camera)
        self._image_key = camera.key
        self._keys = [feature.key for feature in features(config)]
        self._tracker = MarkerTracker((config.rows, config.columns))
        height, width = self._shape = _image_shape(config)
        self._pixel = np.array([config.size[1] / width, config.size[0] / height])  # [m] along x and y
        self._started = False
        self._seen_ns = 0

    def open(self) -> None:
        """Opens the camera.

        Raises:
            DeviceError: it cannot be used.
        """
        cv2.setNumThreads(1)  # so few markers are followed sooner than other threads wake up
        self._camera.open()

    def read(self) -> tuple[int, dict[str, NDArray]] | None:
        """Returns the displacements in the next picture and when it was taken [ns, monotonic].

        Raises:
            DeviceError: the camera failed, or the picture does not show the markers.
        """
        sample = self._camera.read()
        if sample is None:
            return None
        time_ns, image = sample[0], self._reduced(sample[1][self._image_key])
        tracker = self._tracker
        if self._started:
            tracker.track(image)
        else:
            tracker.start(image)
            self._started = True
        self._check_seen(time_ns)
        displacements = (tracker.displacements * self._pixel).astype(np.float32)
        return time_ns, dict(zip(self._keys, (displacements, image), strict=False))

    def zero(self) -> None:
        """Takes the present shape of the gel for the undeformed one.

        Raises:
            DeviceError: some markers are not seen.
        """
        hidden = int((~self._tracker.found).sum())
        if hidden:
            raise DeviceError(
                f"{hidden} of {self._tracker.found.size} markers are not seen, so the gel is not at rest. "
                "Let nothing touch it, and try again."
            )
        self._tracker.zero()

    def close(self) -> None:
        """Releases the camera."""
        self._camera.close()

    def _reduced(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.shape[:2] == self._shape:
            return image
        return np.asarray(cv2.resize(image, self._shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    def _check_seen(self, time_ns: int) -> None:
        share = float(self._tracker.found.mean())
        if share >= _LEAST_SEEN:
            self._seen_ns = time_ns
        elif ns_to_seconds(time_ns - self._seen_ns) > _UNSEEN_S:
            raise DeviceError(
                f"Only {100 * share:.0f} % of the markers have been seen for {_UNSEEN_S} s. Check the light "
                "behind the gel and that the gel sits in its place, then connect again with nothing on it."
            )


def features(config: GelSightConfig) -> tuple[Feature, ...]:
    """Returns what a sample consists of."""
    pad, rate_hz = config.key.removesuffix("_markers"), config.camera.fps
    shape = (config.rows * config.columns, 2)
    markers = Feature(config.key, shape, kind="touch", unit="m", rate_hz=rate_hz, frame=pad)
    if not config.images:
        return (markers,)
    image_shape = (*_image_shape(config), 3)
    return (markers, Feature(f"{pad}_rgb", image_shape, "uint8", "rgb", rate_hz=rate_hz, frame=pad))


def _image_shape(config: GelSightConfig) -> tuple[int, int]:
    """Returns height and width of the pictures in which the markers are tracked [px]."""
    width = min(config.camera.width, _LARGEST_WIDTH)
    return round(config.camera.height * width / config.camera.width), width
