"""The mirror symmetry of Push-T: mirrored demonstrations are demonstrations too.

Block and goal are mirror images of themselves, and the axis of the goal lies on a diagonal of the square
window, from the upper right to the lower left corner. Mirrored at that diagonal, the walls, the goal and
the block's shape stay what they are, so that the mirror image of an episode is an episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SpecError

WINDOW = 512
"""Side of the window, px."""


def _position(values: NDArray[Any]) -> NDArray[Any]:
    return WINDOW - values[..., ::-1]


def _angle(values: NDArray[Any]) -> NDArray[Any]:
    # the block's axis is at angle + pi / 2 and the diagonal at 3 pi / 4; the goal's angle pi / 4 stays
    return np.pi / 2 - values


def _image(values: NDArray[Any]) -> NDArray[Any]:
    return values[..., ::-1, ::-1, :].swapaxes(-3, -2)


_MIRRORED: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "agent_pos": _position,
    "block_pos": _position,
    "block_angle": _angle,
    "camera0_rgb": _image,
    "action": _position,
}


def mirror(key: str, values: NDArray[Any]) -> NDArray[Any]:
    """Returns the mirror image of a feature of Push-T.

    Args:
        key: of the feature.
        values: ``[..., *shape]``: positions [px], the block's angle [rad], or images [height, width, 3].

    Raises:
        SpecError: it is not known how the feature looks in the mirror.
    """
    if key not in _MIRRORED:
        raise SpecError(
            f"Push-T's mirror image of '{key}' is not known; known are: {', '.join(_MIRRORED)}. "
            "Leave the feature out of policy.observation_keys, or set trainer.mirror=false."
        )
    return _MIRRORED[key](values)
