"""Touch in simulation: the wrench at the wrist and gel pads on the fingers, computed only when asked for."""

from robopolicy_sim.touch.gel import GELSIGHT_MINI, Gel
from robopolicy_sim.touch.pad import GelPad, touch_sensors
from robopolicy_sim.touch.wrench import WristWrench

__all__ = ["GELSIGHT_MINI", "Gel", "GelPad", "WristWrench", "touch_sensors"]
