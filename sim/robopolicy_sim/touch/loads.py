"""The forces on a touch pad: MuJoCo's contact points, and their spread over the cells of the pad.

The pad's frame is that of a camera behind it: x along the columns (the tool's z, towards the tip), y along
the rows, z out of the finger; its origin is the middle of the pad.

A reading is due at every tick, so the few numbers are moved in as few numpy calls as possible: ``dot`` and
``take`` are several times faster here than ``@`` and indexing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.embodiments import TouchPad
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.touch.sensor import site_id

Floats = NDArray[np.float64]

CONTACT_RADIUS = 0.0015  # [m] standard deviation of the pressure that a contact point stands for; chosen
_SECOND_MINUS_FIRST = np.array([-1.0, 1.0])
_FACING = 0.7  # a contact belongs to the pad where its normal is at most 45 degrees from the pad's


def grid_coordinates(pad: TouchPad) -> tuple[Floats, Floats]:
    """Returns where the columns ``[C]`` and the rows ``[R]`` of a pad's cells and markers are [m].

    A marker is in the middle of its cell; the cells fill the pad.
    """
    rows, columns = (
        (np.arange(count) + 0.5 - 0.5 * count) * size / count
        for size, count in zip(pad.size, pad.markers, strict=True)
    )
    return columns, rows


@dataclass
class PadContacts:
    """The contact points that press on a pad.

    Attributes:
        positions: in the frame of the pad ``[K, 3]`` [m].
        wrenches: force and torque ``[K, 6]`` [N, N m] along the axes of each contact, of which the first is
            its normal, as the contact's first body exerts it on the second.
        sign: 1 where the pad is the second body, -1 where it is the first ``[K]``.
        axes: of each contact in the world, in rows ``[K, 9]``.
        pad_axes: of the pad in the world, in columns ``[3, 3]``.
    """

    positions: Floats
    wrenches: Floats
    sign: Floats
    axes: Floats
    pad_axes: Floats

    @property
    def pressing(self) -> Floats:
        """The normal force of each ``[K]`` [N]."""
        return self.wrenches[:, 0]

    @property
    def forces(self) -> Floats:
        """What each exerts on the pad along the axes of the pad ``[K, 3]`` [N]; pressing is along -z."""
        return self._on_pad(self.wrenches[:, :3])

    @property
    def moment(self) -> float:
        """What they exert together about the z axis of the pad [N m]."""
        (x, y, _), (along_x, along_y, _) = self.positions.T, self.forces.T
        return float(x @ along_y - y @ along_x + self._on_pad(self.wrenches[:, 3:])[:, 2].sum())

    def _on_pad(self, vectors: Floats) -> Floats:
        """Turns vectors ``[K, 3]`` along the axes of the contacts to what acts on the pad, along its axes."""
        in_world = np.einsum("ki,kij->kj", vectors, self.axes.reshape(-1, 3, 3))
        return (self.sign[:, None] * in_world) @ self.pad_axes


@dataclass
class CellLoads:
    """The force on each cell of a pad at one moment.

    Attributes:
        pressing: the normal force on each cell ``[R, C]`` [N].
        contacts: the K points that it comes from; None where nothing presses.
        columns: weight of each column for a point ``[K, C]``.
        rows: weight of each row ``[K, R]``.
        scale: times both weights of a cell it is the cell's share of the point ``[K]``.
        grid: where the columns ``[C]`` and the rows ``[R]`` are [m].
    """

    pressing: Floats
    contacts: PadContacts | None
    columns: Floats
    rows: Floats
    scale: Floats
    grid: tuple[Floats, Floats]

    @cached_property
    def forces(self) -> Floats:
        """The force on each cell along x, y, z of the pad ``[3, R, C]`` [N]; pressing is along -z."""
        loads = np.zeros((3, *self.pressing.shape))
        if self.contacts is not None:
            shear = self.contacts.forces[:, :2].T * self.scale
            loads[:2] = (shear[:, None] * self.rows.T) @ self.columns
            loads[:2] += self._missing_couple(loads)
            loads[2] = -self.pressing
        return loads

    def _missing_couple(self, loads: Floats) -> Floats:
        """Returns the forces ``[2, R, C]`` that turn as spreading no longer does, where the pressure is."""
        if self.contacts is None:
            return np.zeros_like(loads[:2])
        x, y = self.grid
        missing = self.contacts.moment - (x @ loads[1].sum(0) - y @ loads[0].sum(1))
        along_x, along_y = self.pressing.sum(0), self.pressing.sum(1)
        from_x, from_y = x - along_x @ x / along_x.sum(), y - along_y @ y / along_y.sum()
        spread = max(along_x @ from_x**2 + along_y @ from_y**2, 1e-12)  # 0 where there is but one cell
        turn = missing / spread * self.pressing
        return np.stack([-turn * from_y[:, None], turn * from_x])


class LoadProbe:
    """Measures the forces on the cells of a pad.

    A pad is soft, and a rigid finger's contact points are few. So each is spread over the cells: by a normal
    distribution as wide as ``CONTACT_RADIUS``, or wider by the scatter of all points: the four corners of a
    flat contact become an even pressure. The face of the finger around the pad counts as pad, because a real
    pad stands out: what touches there acts on the nearest edge. The net force and the net moment about the
    pad's normal are those of the contacts exactly.

    Args:
        model: a ``mujoco.MjModel`` with the pad's site ``pad_left`` or ``pad_right`` on the finger's body.
        data: its ``mujoco.MjData``.
        pad: the sensor, from the embodiment.
        prefix: before the robot's names in the model.

    Attributes:
        model: as given.
        data: as given.
        pad: as given.
        site: index of the pad's site in the model.

    Raises:
        SimulationError: the model lacks the site.
    """

    def __init__(self, model: Any, data: Any, pad: TouchPad, prefix: str = "") -> None:
        self._contact_force = import_mujoco().mj_contactForce
        self.model, self.data, self.pad = model, data, pad
        self.site = site_id(model, f"{prefix}pad_{pad.finger}")
        self._of_finger = (model.geom_bodyid == model.site_bodyid[self.site]).astype(np.float64)
        self._normal = np.zeros(9)
        self._grid = grid_coordinates(pad)
        self._edge = np.array([0.5 * pad.size[1], 0.5 * pad.size[0], 1.0])
        none = np.empty(0)
        self._nothing = CellLoads(np.zeros(pad.markers), None, none, none, none, self._grid)
        self._set_up_spreading()

    def measure(self) -> CellLoads:
        """Returns the present forces."""
        contacts = self.contacts()
        return self._nothing if contacts is None else self._spread(contacts)

    def contacts(self) -> PadContacts | None:
        """Returns the contact points that press on the pad; None where nothing does."""
        data, contact = self.data, self.data.contact
        axes = data.site_xmat[self.site]
        self._normal[:3] = axes[2::3]
        # The normal points from the first geom to the second; into the pad is against its z.
        sign = self._of_finger.take(contact.geom).dot(_SECOND_MINUS_FIRST)
        chosen = (sign * contact.frame.dot(self._normal) < -_FACING).nonzero()[0]
        if not chosen.size:
            return None
        wrenches = np.empty((chosen.size, 6))
        for index, wrench in zip(chosen.tolist(), wrenches, strict=True):
            self._contact_force(self.model, data, index, wrench)
        axes = axes.reshape(3, 3)
        positions = (contact.pos.take(chosen, 0) - data.site_xpos[self.site]).dot(axes)
        return PadContacts(positions, wrenches, sign.take(chosen), contact.frame.take(chosen, 0), axes.copy())

    def _set_up_spreading(self) -> None:
        """The logarithm of a point's weight for a cell at c is (x c - c^2 / 2) / variance, without x^2."""
        x, y = self._grid
        exponents = np.zeros((2, 3, x.size + y.size))
        for axis, (part, cells) in enumerate(zip((slice(x.size), slice(x.size, None)), (x, y), strict=True)):
            exponents[axis, axis, part] = cells
            exponents[axis, 2, part] = -0.5 * cells**2
        self._exponents = exponents.reshape(2, -1)
        self._sums = np.repeat(np.eye(2), (x.size, y.size), axis=0)

    def _spread(self, contacts: PadContacts) -> CellLoads:
        pressing = contacts.pressing
        points = contacts.positions.copy()
        points[:, 2] = 1.0
        np.minimum(points, self._edge, out=points)
        np.maximum(points, -self._edge, out=points)
        x, y, total = pressing.dot(points).tolist()
        xx, yy, _ = pressing.dot(points * points).tolist()
        if total <= 0.0:
            return self._nothing
        narrow = CONTACT_RADIUS**2
        variance_x = xx / total - (x / total) ** 2 + narrow
        variance_y = yy / total - (y / total) ** 2 + narrow
        exponents = np.array((1.0 / variance_x, 1.0 / variance_y)).dot(self._exponents).reshape(3, -1)
        weights = np.exp(points.dot(exponents))
        sums = weights.dot(self._sums)
        count = self._grid[0].size
        columns, rows, scale = weights[:, :count], weights[:, count:], 1.0 / (sums[:, 0] * sums[:, 1])
        cells = (rows.T * (pressing * scale)).dot(columns)
        return CellLoads(cells, contacts, columns, rows, scale, self._grid)
