"""The force and torque at a robot's wrist."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.geometry import quaternion_to_matrix
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.embodiments import ForceTorqueSensor
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.touch.sensor import SimulatedSensor, renumbered, site_id

Vector = NDArray[np.float64]


class WristWrench(SimulatedSensor):
    """A force-torque sensor between the arm and its tool.

    The reading is what the surroundings do to the tool: force and torque ``[6]`` [N, N m] along the axes of
    the TCP and about the TCP, of the kind ``wrench``. Pressing down onto a table gives a force upwards. As in
    a real sensor the tool's inertia is in it while the tool accelerates, and each axis of the sensor
    saturates at its range before anything is subtracted.

    Args:
        model: a ``mujoco.MjModel`` with the sites ``wrist`` and ``tcp``, both on the tool's body.
        data: its ``mujoco.MjData``, stepped by somebody else.
        sensor: from the embodiment.
        prefix: before the robot's names in the model, and with it in place of ``robot0_`` in its keys.
        subtract_weight: whether the tool's own weight is subtracted in every orientation, as by a robot
            controller that knows its payload. Otherwise ``zero`` removes it for the present orientation.

    Raises:
        SimulationError: the model lacks a site.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        sensor: ForceTorqueSensor,
        *,
        prefix: str = "",
        subtract_weight: bool = True,
    ) -> None:
        key = renumbered(sensor.key, prefix)
        frame = key.partition("_")[0] + "_tcp"
        wrench = Feature(key, (6,), kind="wrench", unit="N, N m", rate_hz=sensor.rate_hz, frame=frame)
        super().__init__((wrench,))
        self._mujoco = import_mujoco()
        self._model, self._data = model, data
        self._wrist, self._tcp = site_id(model, f"{prefix}wrist"), site_id(model, f"{prefix}tcp")
        self._tool = int(model.site_bodyid[self._wrist])
        self._root = int(model.body_rootid[self._tool])
        mass = float(model.body_subtreemass[self._tool]) if subtract_weight else 0.0
        self._weight = np.concatenate([np.zeros(3), mass * model.opt.gravity])
        self._range = np.repeat([sensor.torque_range, sensor.force_range], 3)
        axes = quaternion_to_matrix(model.site_quat[self._wrist])
        self._tcp_axes = axes.T @ quaternion_to_matrix(model.site_quat[self._tcp])
        self._way_to_tcp = axes.T @ (model.site_pos[self._tcp] - model.site_pos[self._wrist])

    def _present(self) -> dict[str, NDArray]:
        data, nowhere = self._data, np.zeros(3)
        self._mujoco.mj_rnePostConstraint(self._model, data)
        # What the arm does to the tool balances what the surroundings and the weight do.
        load = _transformed(
            -data.cfrc_int[self._tool],
            data.subtree_com[self._root],
            data.site_xpos[self._wrist],
            data.site_xmat[self._wrist],
        )
        sensed = np.minimum(np.maximum(load, -self._range), self._range)
        wrench = _transformed(sensed, nowhere, self._way_to_tcp, self._tcp_axes.ravel())
        wrench -= _transformed(
            self._weight, data.subtree_com[self._tool], data.site_xpos[self._tcp], data.site_xmat[self._tcp]
        )
        return {self.spec.observation[0].key: np.concatenate([wrench[3:], wrench[:3]])}


def _transformed(wrench: Vector, point: Vector, new_point: Vector, new_axes: Vector) -> Vector:
    """Returns a wrench (torque, force) ``[6]`` about another point and along other axes (9, as columns)."""
    result = np.empty(6)
    import_mujoco().mju_transformSpatial(result, wrench, 1, new_point, point, new_axes)
    return result
