"""An arm that is a few lines of Python: its joints follow with a lag, and files decide about its faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.configs import ArmConfig
from robopolicy_drivers.arms.link import ArmReading
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.grippers.configs import GripperConfig


@dataclass
class PracticeArmConfig(ArmConfig):
    """The settings."""

    link: ClassVar[str] = "practice_arm:PracticeLink"
    measures_wrench: ClassVar[bool] = True

    embodiment: str = "ur5e"
    folder: str = ""

    @property
    def address(self) -> str:
        return Path(self.folder).name


class NumbPracticeArmConfig(PracticeArmConfig):
    """The settings of an arm that measures no wrench, and so can have a sensor for it."""

    measures_wrench: ClassVar[bool] = False


class PracticeLink:
    """A folder with a file "fault" stops it, "cut" cuts the cable, "force" (newton) presses the tool.

    It stands where a file "start" says (radians), else at home.
    """

    def __init__(self, config: PracticeArmConfig) -> None:
        self.folder, self.lag_s = Path(config.folder), 0.02
        start = [float(angle) for angle in self._told("start").split()]
        self.positions = np.array(start or load_embodiment(config.embodiment).home_positions)
        self.target, self.time_ns = self.positions.copy(), now_ns()

    def _told(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def open(self) -> None:
        if self._told("locked"):
            raise DeviceError("The practice arm is locked; remove the file 'locked'.")

    def read(self) -> ArmReading:
        if self._told("cut"):
            raise DeviceError("The practice arm does not answer; plug in its cable.")
        now = now_ns()
        share = 1.0 - np.exp(-1e-9 * (now - self.time_ns) / self.lag_s)
        before, self.time_ns = self.positions, now
        self.positions = before + share * (self.target - before)
        wrench = np.array([0.0, 0.0, float(self._told("force") or 0.0), 0.0, 0.0, 0.0])
        return ArmReading(now, self.positions.copy(), (self.target - self.positions) / self.lag_s, wrench)

    def send(self, positions) -> None:
        self.target = np.array(positions)

    def fault(self) -> str:
        return self._told("fault")

    def recover(self) -> None:
        if fault := self._told("fault"):
            raise DeviceError(f"{fault} Mend it first.")

    def close(self) -> None:
        (self.folder / "closed").write_text("yes")


@dataclass
class PracticeGripperConfig(GripperConfig):
    """The settings of a gripper whose fingers move at once as far as their speed allows."""

    link: ClassVar[str] = "practice_arm:PracticeGripperLink"

    name: str = "practice"

    @property
    def address(self) -> str:
        return self.name

    @property
    def openings(self) -> tuple[float, float]:
        return 0.0, 0.085


class PracticeGripperLink:
    """Nothing is between its fingers."""

    def __init__(self, config: PracticeGripperConfig) -> None:
        self.speed = config.speed
        self.width = self.target = 0.085
        self.time_ns = now_ns()

    def open(self) -> None: ...

    def read(self) -> tuple[int, float]:
        now = now_ns()
        far = 1e-9 * (now - self.time_ns) * self.speed
        self.width += min(max(self.target - self.width, -far), far)
        self.time_ns = now
        return now, self.width

    def send(self, width: float) -> None:
        self.target = width

    def fault(self) -> str:
        return ""

    def recover(self) -> None: ...

    def close(self) -> None: ...
