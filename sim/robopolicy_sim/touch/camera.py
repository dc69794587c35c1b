"""The image of a camera behind a gel, as of a GelSight: the imprint of what touches, in coloured light."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.geometry import pose_matrix
from robopolicy_datasets.spec import Feature
from robopolicy_sim.rendering import shared_renderer
from robopolicy_sim.touch.fields import MarkerField, pad_name
from robopolicy_sim.touch.gel import Gel
from robopolicy_sim.touch.loads import CellLoads, LoadProbe, grid_coordinates

IMAGE_SIZE = (240, 320)  # height and width [px], as of the real recordings
SMOOTHING = 0.00025  # [m] standard deviation; the coat of the gel bends, it does not fold. Chosen
BEHIND = 0.004  # [m] things are looked for from so far behind the gel: rigid bodies do overlap a little
REACH = 0.006  # [m] farther than any imprint is deep
MARKER_RADIUS = 0.0003  # [m] as in the real recordings: 5 px
_SHARPNESS = 4  # fractional bits of a marker's place, in cv2's way

# Colour of the untouched gel, and what each light adds for a unit of slope towards it (rgb of 0 to 255). The
# directions are the lights' in the image, x to the right and y down. Chosen to look like the recordings.
_BACKGROUND = np.array([75.0, 100.0, 118.0], np.float32)
_LIGHTS = [  # direction [rad], rgb
    (math.radians(90.0), (110.0, 15.0, 25.0)),
    (math.radians(210.0), (10.0, 25.0, 110.0)),
    (math.radians(330.0), (15.0, 110.0, 35.0)),
]
_MARKER_COLOR = (28, 30, 32)


class GelCamera:
    """RGB images ``uint8 [240, 320, 3]`` of the gel from behind, x of the pad to the right and y down.

    The distances from the pad to whatever is before it are drawn by MuJoCo. Rigid bodies do not sink into
    each other, so the imprint's depth comes from the force: the gel, as a bed of springs, is pushed in by the
    shape just so far that the springs carry the pressing force. Equal states give equal images.

    Args:
        probe: of the pad.
        gel: its soft layer; the markers in it are drawn where its field has them.
    """

    def __init__(self, probe: LoadProbe, gel: Gel) -> None:
        pad, name = probe.pad, pad_name(probe.pad)
        self.feature = Feature(
            f"{name}_rgb", (*IMAGE_SIZE, 3), "uint8", kind="rgb", rate_hz=pad.rate_hz, frame=name
        )
        self._probe, self._size, self._gel = probe, pad.size, gel
        self._pixel = np.array(pad.size[::-1]) / IMAGE_SIZE[::-1]  # [m] along x and y
        self._field = MarkerField(probe, gel)
        self._markers = np.stack(np.meshgrid(*grid_coordinates(pad)), axis=-1).reshape(-1, 2)

    def reading(self, loads: CellLoads) -> NDArray[np.uint8]:
        """Returns the image under the forces on the cells of the pad."""
        image = self._shaded(self.imprint(float(loads.pressing.sum())))
        self._draw_markers(image, self._markers + self._field.reading(loads))
        return image

    def imprint(self, force: float) -> NDArray[np.float32]:
        """Returns how deep the gel is pushed in ``[240, 320]`` [m], nowhere where ``force`` [N] is 0."""
        if force <= 0.0:
            return np.zeros(IMAGE_SIZE, np.float32)
        probe = self._probe
        axes = probe.data.site_xmat[probe.site].reshape(3, 3)
        pose = pose_matrix(probe.data.site_xpos[probe.site] - BEHIND * axes[:, 2], axes)
        height, width = IMAGE_SIZE
        distances = shared_renderer(probe.model, fine=True).distances(
            probe.data, pose, self._size, BEHIND + REACH, width=width, height=height
        )
        volume = force / self._gel.foundation_stiffness / float(np.prod(self._pixel))
        depth = np.maximum(pushed_in(distances, volume) - distances, 0.0)
        deviations = SMOOTHING / self._pixel
        return cv2.GaussianBlur(depth, (0, 0), sigmaX=deviations[0], sigmaY=deviations[1])

    def _shaded(self, depth: NDArray[np.float32]) -> NDArray[np.uint8]:
        slope_y, slope_x = np.gradient(depth, self._pixel[1], self._pixel[0])
        flatness = 1.0 / np.sqrt(1.0 + slope_x**2 + slope_y**2)
        image = _BACKGROUND * flatness[..., None]
        for angle, color in _LIGHTS:
            lit = (slope_x * math.cos(angle) + slope_y * math.sin(angle)) * flatness
            image += lit[..., None] * np.array(color, np.float32)
        return np.clip(image, 0.0, 255.0).astype(np.uint8)

    def _draw_markers(self, image: NDArray[np.uint8], places: NDArray[np.float64]) -> None:
        pixels = places / self._pixel + 0.5 * np.array(IMAGE_SIZE[::-1]) - 0.5
        fixed = np.rint(pixels * 2**_SHARPNESS).astype(int).tolist()
        radius = round(MARKER_RADIUS / self._pixel[0] * 2**_SHARPNESS)
        for place in fixed:
            cv2.circle(image, place, radius, _MARKER_COLOR, -1, cv2.LINE_AA, _SHARPNESS)


def pushed_in(distances: NDArray[np.float32], volume: float) -> float:
    """Returns how far a shape is pushed into a bed of springs that it displaces a volume of.

    Args:
        distances: of the shape from the bed for each spring, any shape [m].
        volume: the sum of the springs' depths [m].

    Returns:
        the way [m] from where distance 0 just touches, so that the sum of ``max(way - distance, 0)`` is the
        volume.
    """
    nearest = np.sort(distances, axis=None).astype(np.float64)
    # Were only the n nearest pushed, the way would be this; each n that is wrong gives more.
    return float(np.min((volume + np.cumsum(nearest)) / np.arange(1, nearest.size + 1)))
