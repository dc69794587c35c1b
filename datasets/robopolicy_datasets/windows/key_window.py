"""Which steps of a key a window shows, and what it shows beyond the ends of its episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.history import points_of
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.stream_samples import StreamSamples, Times


class Edges(StrEnum):
    """What becomes of windows that reach beyond the first or the last step of their episode."""

    REPEAT = "repeat"
    """The first or last step is repeated (as in diffusion_policy)."""
    DROP = "drop"
    """There are no such windows."""
    MASK = "mask"
    """The step is repeated, and the batch says which entries are real."""


@dataclass(frozen=True)
class KeyWindow:
    """The steps of a key that a window shows: ``t + first + stride * i`` for ``i`` in ``[0, steps)``.

    ``t`` is the window's present step. UMI's ``horizon``, ``down_sample_steps`` and ``latency_steps`` are
    ``steps``, ``stride`` and a shift of ``first``.

    Attributes:
        first: the first step shown, relative to the present one.
        steps: how many.
        stride: from one to the next.

    Raises:
        ConfigError: no steps, or a stride below 1.
    """

    first: int
    steps: int
    stride: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.stride < 1:
            raise ConfigError(
                f"A window of {self.steps} steps with stride {self.stride} is not possible: "
                "both must be at least 1."
            )

    @classmethod
    def past(cls, steps: int, *, stride: int = 1, latency: int = 0) -> KeyWindow:
        """Returns the newest steps, as a policy observes them.

        Args:
            steps: how many; without latency the last one is the present step.
            stride: from one to the next.
            latency: whole steps by which the key is seen late; at least 0.

        Raises:
            ConfigError: as for the class, or a latency below 0, which would show the future.
        """
        if latency < 0:
            raise ConfigError(f"The latency is {latency} steps; it must be at least 0.")
        return cls(-latency - stride * (steps - 1), steps, stride)

    @classmethod
    def future(cls, steps: int, *, stride: int = 1) -> KeyWindow:
        """Returns the next steps from the present one on, as a policy predicts its actions.

        Raises:
            ConfigError: as for the class.
        """
        return cls(0, steps, stride)

    @property
    def last(self) -> int:
        """The last step shown, relative to the present one."""
        return self.first + self.stride * (self.steps - 1)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """All steps shown, relative to the present one: ``[steps]``."""
        return self.first + self.stride * np.arange(self.steps, dtype=np.int64)


@dataclass(frozen=True)
class HistoryWindow(KeyWindow):
    """The history of a stream, as it was at each of the steps that a window shows; see ``history_of``.

    Attributes:
        history: what is seen of the stream.
    """

    history: Feature = field(kw_only=True)

    def gather(self, samples: StreamSamples, now: Times, episode: NDArray[np.intp]) -> NDArray[Any]:
        """Gathers the histories of B windows ``[B, steps, points, *shape]``.

        Args:
            samples: of the stream.
            now: ``[B, steps]``, times of the steps [ns].
            episode: ``[B]``.
        """
        steps = now.reshape(-1, 1)
        value, _ = samples.at(steps + points_of(self.history), np.repeat(episode, self.steps))
        return value.reshape(*now.shape, *value.shape[1:])
