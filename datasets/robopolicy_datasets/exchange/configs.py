"""The configs of the formats; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class DiffusionPolicyFormatConfig:
    """A diffusion_policy replay buffer: a zarr folder or zip with ``data/<key>`` and ``meta/episode_ends``.

    Attributes:
        rate_hz: steps per second; such stores do not say.
        layout: what becomes of each source key: the name of our key, or, for a slice of its columns,
            ``{our key: [first, end]}`` with the end excluded. Source keys that are not named are left out.
            Empty: every key is kept under its name.
        features: by our key, what the numbers mean: any of ``kind``, ``unit``, ``frame`` and ``dtype``.
            Images (``kind: rgb``) become uint8, checked to be whole numbers from 0 to 255.
        task: what was to be done, as a sentence, stored with every episode.
        operator: who moved the robot, likewise.
        embodiment: the robot's name, likewise.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.diffusion_policy:import_store"

    rate_hz: float = 10.0
    layout: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    task: str = ""
    operator: str = ""
    embodiment: str = ""


@dataclass
class RobomimicFormatConfig:
    """A robomimic file: ``data/demo_N`` groups with ``actions`` and ``obs/<key>``.

    Attributes:
        rate_hz: steps per second; 0 takes ``control_freq`` of the file's ``env_args``.
        layout: as for ``DiffusionPolicyFormatConfig``; source keys are paths in a demo, e.g. ``obs/object``
            or ``rewards``. Empty: every ``obs/<key>`` is kept as ``<key>``, and ``actions`` as ``action``.
        features: likewise.
        mask: the name of a filter in the file's ``mask`` group, e.g. ``train``, to import its demos only.
        task: what was to be done, as a sentence; empty takes the environment's name of the file.
        operator: who moved the robot.
        embodiment: the robot's name.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.robomimic:import_store"

    rate_hz: float = 0.0
    layout: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    mask: str = ""
    task: str = ""
    operator: str = ""
    embodiment: str = ""


@dataclass
class AlohaFormatConfig:
    """ALOHA recordings: a folder with one ``episode_N.hdf5`` an episode, or one such file.

    Attributes:
        rate_hz: steps per second; such files do not say, ALOHA records at 50.
        layout: as for ``DiffusionPolicyFormatConfig``; source keys are paths in a file, e.g.
            ``observations/qpos`` or ``observations/images/cam_high``. Empty: all that is in ``observations``
            is kept under the last part of its path, and ``action``.
        features: likewise.
        swap_red_blue: whether the images were recorded with red and blue exchanged, and are to be put right.
        task: what was to be done, as a sentence, stored with every episode.
        operator: who moved the robot, likewise.
        embodiment: the robot's name, likewise.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.aloha:import_store"

    rate_hz: float = 50.0
    layout: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    swap_red_blue: bool = False
    task: str = ""
    operator: str = ""
    embodiment: str = "aloha"
