"""A touch pad on a finger, with what is asked of it: markers, taxels, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from numpy.typing import NDArray

from robopolicy_datasets.errors import unknown_name
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.embodiments import Embodiment, TouchPad
from robopolicy_sim.touch.camera import GelCamera
from robopolicy_sim.touch.fields import MarkerField, TaxelGrid
from robopolicy_sim.touch.gel import GELSIGHT_MINI, Gel
from robopolicy_sim.touch.loads import CellLoads, LoadProbe
from robopolicy_sim.touch.sensor import SimulatedSensor, renumbered
from robopolicy_sim.touch.wrench import WristWrench


class Output(Protocol):
    """One of the things that a pad delivers; built from the pad's ``LoadProbe`` and the gel."""

    @property
    def feature(self) -> Feature:
        """Of the reading."""

    def reading(self, loads: CellLoads) -> NDArray:
        """Returns the reading under the forces on the cells of the pad."""


OUTPUTS: dict[str, Any] = {"markers": MarkerField, "taxels": TaxelGrid, "rgb": GelCamera}


class GelPad(SimulatedSensor):
    """A gel pad on the inside of a finger; it fits ``robopolicy_drivers.interfaces.Touch``.

    Only what is asked for is computed. The cells of the taxels are those around the markers.

    Args:
        model: a ``mujoco.MjModel`` with the pad's site ``pad_left`` or ``pad_right``.
        data: its ``mujoco.MjData``, stepped by somebody else.
        pad: from the embodiment.
        outputs: what it delivers, of ``OUTPUTS``: ``markers`` (displacements), ``taxels`` (forces), ``rgb``
            (images of a camera behind the gel).
        gel: its soft layer.
        prefix: before the robot's names in the model, and with it in place of ``robot0_`` in its keys.

    Raises:
        UnknownNameError: there is no such output.
        SimulationError: the model lacks the site.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        pad: TouchPad,
        *,
        outputs: Sequence[str] = ("markers",),
        gel: Gel = GELSIGHT_MINI,
        prefix: str = "",
    ) -> None:
        for name in outputs:
            if name not in OUTPUTS:
                raise unknown_name("output of a touch pad", name, OUTPUTS)
        pad = replace(pad, key=renumbered(pad.key, prefix))
        self._probe = LoadProbe(model, data, pad, prefix)
        self._outputs: list[Output] = [OUTPUTS[name](self._probe, gel) for name in outputs]
        super().__init__([output.feature for output in self._outputs])

    def _present(self) -> dict[str, NDArray]:
        loads = self._probe.measure()
        return {output.feature.key: output.reading(loads) for output in self._outputs}


def touch_sensors(
    model: Any,
    data: Any,
    embodiment: Embodiment,
    *,
    outputs: Sequence[str] = ("markers",),
    prefix: str = "",
) -> list[SimulatedSensor]:
    """Returns the sensors of an embodiment: its wrist's, where it has one, then its touch pads.

    Args:
        model: a ``mujoco.MjModel`` that ``add_robot`` made of the embodiment.
        data: its ``mujoco.MjData``, stepped by somebody else.
        embodiment: the robot.
        outputs: what the pads deliver, see ``GelPad``.
        prefix: before the robot's names in the model, ``"robot1_"`` for the second of a ``World``.

    Raises:
        UnknownNameError: there is no such output.
        SimulationError: the model lacks a site.
    """
    sensors: list[SimulatedSensor] = []
    if embodiment.force_torque is not None:
        sensors.append(WristWrench(model, data, embodiment.force_torque, prefix=prefix))
    for pad in embodiment.touch:
        sensors.append(GelPad(model, data, pad, outputs=outputs, prefix=prefix))
    return sensors
