"""Calibrates cameras (prints the board, takes images, finds the intrinsics and where they sit) and joints.

For cameras, in this order, WHAT is

    board      writes the board for the printer into target=board.pdf
    capture    takes an image of the board into target=FOLDER whenever the board or the robot has been moved
               and rests, of a camera by itself (camera=...) or of a robot's own, then with the robot's pose
               (robot=...; it is not moved: guide it by hand)
    camera     finds the intrinsics from images=FOLDER
    hand_eye   finds where the camera sits from images=FOLDER, with its poses.csv, and intrinsics=FILE

and for an arm whose servos do not know their angles by themselves

    joints     switches the torque off and records the range of each joint while a person moves it from stop
               to stop by hand (robot=so101); the file is the robot's setting calibration
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.calibration.configs import BoardConfig
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {"robot": None, "camera": None}
POSITIONAL = ("what",)

STEPS = {  # what -> (function, keys that it needs)
    "board": (f"{__name__}:write_board", ()),
    "capture": ("robopolicy_launch.verbs.devices.capturing:capture", ("target",)),
    "camera": ("robopolicy_launch.verbs.devices.calibrating:calibrate_camera", ("images",)),
    "hand_eye": ("robopolicy_launch.verbs.devices.calibrating:calibrate_arm", ("images", "intrinsics")),
    "joints": ("robopolicy_launch.verbs.devices.calibrating_joints:calibrate_joints", ("robot",)),
}


@dataclass
class Settings:
    """Settings of ``robopolicy devices calibrate``.

    Attributes:
        what: board, capture, camera, hand_eye or joints.
        board: the calibration board.
        target: what is written: the board (.pdf, .png) or the folder of images.
        images: folder of images of the board (.png, .jpg).
        intrinsics: file of the camera's intrinsics, for hand_eye.
        mount: hand (the camera moves with the tool) or beside (the board is in the hand).
        image: key of the image to capture, e.g. camera0_rgb; may be left out where there is only one.
        count: images to capture.
        output: a file that the result is written to as well.
        name: a word for the run folder's name.
        runs: where run folders lie.
        robot: whose pose is written down, and whose cameras are used, for capture; whose joints are moved,
            for joints.
        camera: that is used, for capture.
    """

    what: str = MISSING
    board: BoardConfig = field(default_factory=BoardConfig)
    target: str = ""
    images: str = ""
    intrinsics: str = ""
    mount: str = "hand"
    image: str = ""
    count: int = 20
    output: str = ""
    name: str = ""
    runs: str = "runs"
    robot: Any = None
    camera: Any = None

    def __post_init__(self) -> None:
        if self.what not in STEPS:
            raise unknown_name("step of a calibration", self.what, STEPS)
        missing = [key for key in STEPS[self.what][1] if not getattr(self, key)]
        if missing:
            raise ConfigError(f"'robopolicy devices calibrate {self.what}' needs {missing[0]}=...")
        if self.what == "capture" and not (self.robot or self.camera):
            raise ConfigError("'robopolicy devices calibrate capture' needs robot=... or camera=...")


def run(settings: Settings, config: DictConfig) -> int:
    """Does one step."""
    function, _ = STEPS[settings.what]
    load_target(function)(settings, config)
    return 0


def write_board(settings: Settings, config: DictConfig) -> None:
    """Writes the board for the printer."""
    from robopolicy_drivers.calibration.boards import make_board, write_board

    target = Path(settings.target or "board.pdf").expanduser()
    write_board(make_board(settings.board), target)
    console.line(
        f"{target}: print it at 100 %, glue it on something flat, measure a square, and give board.square in "
        f"metres where it is not {settings.board.square}."
    )
