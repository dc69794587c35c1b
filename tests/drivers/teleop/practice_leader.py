"""A leader arm that stands where a file says; in the place of one on a bus."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.teleop.configs import LeaderConfig


@dataclass
class PracticeLeaderConfig(LeaderConfig):
    """``port`` is the file: ``{"joints": [...], "width": ...}``; without it, the cable is cut."""

    arm: ClassVar[str] = "practice_leader:PracticeLeader"

    embodiment: str = "ur5e"


class PracticeLeader:
    def __init__(self, port, calibration, embodiment):
        self.file = Path(port)

    def open(self):
        self.positions()

    def positions(self):
        time.sleep(0.005)
        if not self.file.exists():
            raise DeviceError("The leader arm does not answer; plug in its cable.")
        told = json.loads(self.file.read_text())
        return now_ns(), told["joints"], told["width"]

    def close(self):
        pass
