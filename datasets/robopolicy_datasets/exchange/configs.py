"""The configs of the formats; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from robopolicy_datasets.errors import ConfigError


@dataclass
class LayoutConfig:
    """What becomes of the keys of recordings, for every format that has keys.

    Attributes:
        layout: what becomes of each source key: the name of our key, or, for a slice of its columns,
            ``{our key: [first, end]}`` with the end excluded. Or what a key of ours is made of: a list of
            source keys, whose numbers follow each other. Source keys that are not named are left out.
            Empty: every key is kept under its name.
        features: by our key, what the numbers mean: any of ``kind``, ``unit``, ``frame`` and ``dtype``.
            Images (``kind: rgb``) become uint8, checked to be whole numbers from 0 to 255.
        next_step: those of our keys of which each step takes the values of the step after it, as an action
            that is made of the poses that were reached; the last step of an episode keeps its own.
    """

    layout: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    next_step: list[str] = field(default_factory=list)

    @property
    def is_given(self) -> bool:
        """Whether anything is said about the keys."""
        return bool(self.layout or self.features or self.next_step)

    def refuse_given(self, *names: str, verb: str) -> None:
        """Refuses settings of the other direction, which would be without effect.

        Args:
            names: the settings that must be as by default.
            verb: what is done, for the message.

        Raises:
            ConfigError: one of them is not.
        """
        default = type(self)()
        given = [name for name in names if getattr(self, name) != getattr(default, name)]
        if given:
            raise ConfigError(f"An {verb} does not use format.{given[0]}; leave it out.")


@dataclass
class DiffusionPolicyFormatConfig(LayoutConfig):
    """A diffusion_policy replay buffer: a zarr folder or zip with ``data/<key>`` and ``meta/episode_ends``.

    Attributes:
        rate_hz: steps per second; such stores do not say.
        task: what was to be done, as a sentence, stored with every episode.
        operator: who moved the robot, likewise.
        embodiment: the robot's name, likewise.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.diffusion_policy:import_store"
    export_target: ClassVar[str] = "robopolicy_datasets.exchange.diffusion_policy_export:export_store"

    rate_hz: float = 10.0
    task: str = ""
    operator: str = ""
    embodiment: str = ""


@dataclass
class RobomimicFormatConfig(LayoutConfig):
    """A robomimic file: ``data/demo_N`` groups with ``actions`` and ``obs/<key>``.

    Attributes:
        rate_hz: steps per second; 0 takes ``control_freq`` of the file's ``env_args``.
        layout: as for ``DiffusionPolicyFormatConfig``; source keys are paths in a demo, e.g. ``obs/object``
            or ``rewards``. Empty: every ``obs/<key>`` is kept as ``<key>``, and ``actions`` as ``action``.
        mask: the name of a filter in the file's ``mask`` group, e.g. ``train``, to import its demos only.
        task: what was to be done, as a sentence; empty takes the environment's name of the file.
        operator: who moved the robot.
        embodiment: the robot's name.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.robomimic:import_store"
    export_target: ClassVar[str] = "robopolicy_datasets.exchange.robomimic_export:export_store"

    rate_hz: float = 0.0
    mask: str = ""
    task: str = ""
    operator: str = ""
    embodiment: str = ""


@dataclass
class AlohaFormatConfig(LayoutConfig):
    """ALOHA recordings: a folder with one ``episode_N.hdf5`` an episode, or one such file.

    Attributes:
        rate_hz: steps per second; such files do not say, ALOHA records at 50.
        layout: as for ``DiffusionPolicyFormatConfig``; source keys are paths in a file, e.g.
            ``observations/qpos`` or ``observations/images/cam_high``. Empty: all that is in ``observations``
            is kept under the last part of its path, and ``action``.
        swap_red_blue: whether the images were recorded with red and blue exchanged, and are to be put right.
        task: what was to be done, as a sentence, stored with every episode.
        operator: who moved the robot, likewise.
        embodiment: the robot's name, likewise.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.aloha:import_store"

    rate_hz: float = 50.0
    swap_red_blue: bool = False
    task: str = ""
    operator: str = ""
    embodiment: str = "aloha"


@dataclass
class LeRobotFormatConfig(LayoutConfig):
    """A LeRobot data set: v2.1 and v3.0 are imported, v3.0 is exported.

    Attributes:
        layout: import: what becomes of each source key, as for diffusion_policy; empty: every key is kept,
            ``observation.state`` as ``state``, ``observation.images.top`` as ``top``.
        episodes: import: the numbers of the episodes to take; empty: all.
        tolerance_s: import: how far a video frame may be from its step's timestamp, in seconds; never
            as much as half a step, so that one frame fits one step.
        keys: export: the keys of the store to write; empty: all.
        codec: export: how rgb images are written: ``libsvtav1`` or ``libx264`` video, or ``png``, which
            loses nothing.
        crf: export: the codec's constant rate factor, lower for better images; none: 30 for libsvtav1, 23
            for libx264.
    """

    target: ClassVar[str] = "robopolicy_datasets.exchange.lerobot.read:import_dataset"
    export_target: ClassVar[str] = "robopolicy_datasets.exchange.lerobot.write:export_store"

    episodes: list[int] = field(default_factory=list)
    tolerance_s: float = 0.001
    keys: list[str] = field(default_factory=list)
    codec: str = "libsvtav1"
    crf: int | None = None
