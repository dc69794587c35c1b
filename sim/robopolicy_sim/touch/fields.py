"""What a touch pad delivers as numbers: displacements of markers, and forces on taxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.spec import Feature
from robopolicy_drivers.embodiments import TouchPad
from robopolicy_sim.touch.gel import Gel, displacement_matrix
from robopolicy_sim.touch.loads import CellLoads, LoadProbe, grid_coordinates

Floats = NDArray[np.float64]


def pad_name(pad: TouchPad) -> str:
    """Returns what the keys and the frame of a pad begin with, e.g. ``"robot0_tactile0"``."""
    return pad.key.removesuffix("_markers")


class MarkerField:
    """The displacement of each marker in the gel from where it is when nothing touches.

    ``[rows * columns, 2]`` [m] along x and y of the pad, rows first, of the kind ``touch``. The gel follows
    the forces at once.

    Args:
        probe: of the pad.
        gel: its soft layer.
    """

    def __init__(self, probe: LoadProbe, gel: Gel) -> None:
        pad = probe.pad
        rows, columns = pad.markers
        shape = (rows * columns, 2)
        self.feature = Feature(
            pad.key, shape, kind="touch", unit="m", rate_hz=pad.rate_hz, frame=pad_name(pad)
        )
        x, y = grid_coordinates(pad)
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        # A cell's force is even over the cell: a normal distribution of the same standard deviation.
        width = np.sqrt(pad.size[0] / rows * pad.size[1] / columns / 12)
        matrix = displacement_matrix(gel, places, places, width)
        # In three parts, small enough for BLAS to stay on one core: waking another takes longer than all.
        self._responses = [np.ascontiguousarray(part) for part in np.split(matrix, 3, axis=1)]

    def reading(self, loads: CellLoads) -> Floats:
        """Returns the displacements under the forces on the cells of the pad."""
        x, y, z = (
            response.dot(force.ravel()) for response, force in zip(self._responses, loads.forces, strict=True)
        )
        return (x + y + z).reshape(2, -1).T


class TaxelGrid:
    """The force that presses on each cell of a pad: ``[rows, columns]`` [N], of the kind ``touch``.

    Args:
        probe: of the pad.
        gel: does not matter.
    """

    def __init__(self, probe: LoadProbe, gel: Gel) -> None:
        pad, name = probe.pad, pad_name(probe.pad)
        self.feature = Feature(
            f"{name}_taxels", pad.markers, kind="touch", unit="N", rate_hz=pad.rate_hz, frame=name
        )

    def reading(self, loads: CellLoads) -> Floats:
        """Returns the pressing forces on the cells of the pad."""
        return loads.pressing
