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
