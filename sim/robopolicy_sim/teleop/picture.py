"""What a person at the keyboard sees: the scene, what the tool's camera sees, directions, and words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.geometry import Array
from robopolicy_drivers.teleop.window import SIZE
from robopolicy_sim.rendering import shared_renderer
from robopolicy_sim.worlds.world import World

INSET = 160  # [px] height and width of the tool's view
ARROW = 45  # [px]
MARGIN = 10  # [px]
LINE = 20  # [px] from one line of words to the next
INK, PAPER = (20, 20, 20), (255, 255, 255)

Picture = NDArray[np.uint8]


def person_axes(camera: Array) -> Array:
    """Returns the world's axes as a person sees them who looks through a camera.

    Args:
        camera: its axes ``[3, 3]`` in the world, as columns: right, up and backward; right is level.

    Returns:
        Three columns ``[3, 3]``: away from the person (the horizontal axis of the world that lies nearest to
        where the camera looks), to the left, and up.
    """
    looks = np.array([-camera[1, 0], camera[0, 0], 0.0])  # a quarter turn to the left of right
    nearest = np.argmax(np.abs(looks))
    away, up = np.sign(looks[nearest]) * np.eye(3)[nearest], np.array([0.0, 0.0, 1.0])
    return np.column_stack([away, np.cross(up, away), up])


class Pictures:
    """Draws a world for a person, through the scene's camera for people.

    Args:
        world: to be seen.

    Attributes:
        axes: the world's axes as this person sees them, see ``person_axes``.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._camera = world.model.camera("video").id
        self._rotation: Array = world.data.cam_xmat[self._camera].reshape(3, 3).copy()
        self.axes = person_axes(self._rotation)

    def draw(self, tool_view: Picture, above: str, below: Sequence[str]) -> Picture:
        """Returns a picture ``[480, 640, 3]``.

        Args:
            tool_view: RGB image of the camera at the tool.
            above: words at the top.
            below: lines of words at the bottom.
        """
        # Fast rather than smooth: shadows take longer than a control step where there is no GPU.
        renderer = shared_renderer(self._world.model)
        width, height = SIZE
        picture = renderer.render(self._world.data, self._camera, width=width, height=height)
        corner = (slice(MARGIN, MARGIN + INSET), slice(width - MARGIN - INSET, width - MARGIN))
        picture[corner] = cv2.resize(tool_view, (INSET, INSET), interpolation=cv2.INTER_NEAREST)
        self._draw_arrows(picture)
        _write(picture, above, LINE)
        for number, text in enumerate(reversed(below)):
            _write(picture, text, height - MARGIN - number * LINE)
        return picture

    def shift(self, drag: tuple[float, float], tool: Array) -> Array:
        """Returns the movement (3) [m] in the world, parallel to the picture, that a dragged mouse asks for.

        Args:
            drag: to the right and down [heights of the picture].
            tool: where the tool center point is (3) [m]; there, the tool follows the mouse.
        """
        depth = (self._world.data.cam_xpos[self._camera] - tool) @ self._rotation[:, 2]
        field = math.radians(self._world.model.cam_fovy[self._camera])
        height = 2.0 * depth * math.tan(0.5 * field)
        return height * (drag[0] * self._rotation[:, 0] - drag[1] * self._rotation[:, 1])

    def _draw_arrows(self, picture: Picture) -> None:
        """Draws which key moves the tool which way."""
        right, up = self._rotation[:, 0], self._rotation[:, 1]
        middle = np.array([SIZE[0] - MARGIN - 0.5 * INSET, 2 * MARGIN + INSET + 1.5 * ARROW])
        for key, axis in zip("WAR", self.axes.T, strict=True):
            way = ARROW * np.array([axis @ right, -(axis @ up)])
            start, end = middle.astype(int).tolist(), (middle + way).astype(int).tolist()
            cv2.arrowedLine(picture, start, end, INK, 2, cv2.LINE_AA, tipLength=0.2)
            place = (middle + 1.3 * way - (5, -5)).astype(int).tolist()
            cv2.putText(picture, key, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)


def _write(picture: Picture, text: str, height: int) -> None:
    for color, thickness in ((PAPER, 3), (INK, 1)):
        cv2.putText(
            picture, text, (MARGIN, height), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, thickness, cv2.LINE_AA
        )
