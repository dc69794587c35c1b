"""Typed settings of the disturbances that an evaluation sweeps over. Imports no torch.

``target`` names a function ``(policy, task, size, config) -> (policy, task)`` that returns what is evaluated
in place of an undisturbed policy and task. A size of 0 is no disturbance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class RandomMoveConfig:
    """Every observation window is moved in a random direction.

    Attributes:
        sizes: of the moves: Euclidean norm over all normalized low-dimensional numbers of a window.
    """

    target: ClassVar[str] = "robopolicy.evaluation.disturbances:random_moves"
    unit: ClassVar[str] = "normalized observation"

    sizes: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.4])


@dataclass
class GreedyMoveConfig:
    """Every observation window is moved so that the actions executed next change most (white box).

    Attributes:
        sizes: largest moves: Euclidean norm over all normalized low-dimensional numbers of a window.
        steps: of each projected gradient ascent.
        starts: random moves from which it ascends; one alone often ends in a local maximum.
    """

    target: ClassVar[str] = "robopolicy.evaluation.disturbances:greedy_moves"
    unit: ClassVar[str] = "normalized observation"

    sizes: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.4])
    steps: int = 5
    starts: int = 4


@dataclass
class ImageNoiseConfig:
    """Gaussian noise on every pixel of every camera image.

    Attributes:
        sizes: standard deviations in grey levels (of 0 to 255).
    """

    target: ClassVar[str] = "robopolicy.evaluation.disturbances:image_noise"
    unit: ClassVar[str] = "grey levels"

    sizes: list[float] = field(default_factory=lambda: [0.0, 5.0, 10.0, 20.0, 40.0])


@dataclass
class DelayConfig:
    """Actions arrive late: ``task.disturbance.delay_steps``.

    Attributes:
        sizes: control steps.
    """

    target: ClassVar[str] = "robopolicy.evaluation.disturbances:delay"
    unit: ClassVar[str] = "control steps"

    sizes: list[float] = field(default_factory=lambda: [0.0, 1.0, 2.0, 3.0, 4.0])


@dataclass
class PushConfig:
    """A wandering force pushes the robot: ``task.disturbance.force``.

    Attributes:
        sizes: largest force along each axis [N].
    """

    target: ClassVar[str] = "robopolicy.evaluation.disturbances:push"
    unit: ClassVar[str] = "N"

    sizes: list[float] = field(default_factory=lambda: [0.0, 4.0, 8.0, 16.0, 32.0])
