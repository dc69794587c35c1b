"""Slow-fast: a slow policy samples chunks of latents, a fast decoder makes an action of them at every step.

The slow policy is a ``ChunkPolicy`` whose rows are latents, one for each step of the fast rate; its ``dt`` is
that rate's and its ``action_steps`` the interval of the slow inferences (Reactive Diffusion Policy,
Xue et al. 2025). Its latency is dropped by count, as that of actions. The decoder reads the newest sample of
a sensor, so that contact is answered at the fast rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import Chunk, Robot
from robopolicy_drivers.runtime.scheduler import ScheduledAction

Array = NDArray[np.float64]
_REMEMBERED_STEPS = 1024


class FastDecoder(Protocol):
    """Turns one latent and one sample at a time into an action; carries a hidden state from row to row."""

    def reset(self) -> None:
        """Forgets the hidden state, before the first row of a chunk."""

    def step(self, latent: Array, sample: Array) -> Array:
        """Returns the action ``[A]`` of the next row.

        Args:
            latent: ``[L]``; what it needs besides, such as a base pose, is part of it.
            sample: newest of the sensor ``[S]``.
        """


class FastSensor(Protocol):
    """A sensor whose newest sample is there at any time."""

    def read(self) -> tuple[int, NDArray]:
        """Returns the time of the newest sample [ns, monotonic] and the sample ``[S]``; does not wait."""


class StateSensor:
    """The robot's own state as a fast sensor.

    Args:
        robot: connected.
        keys: of its observation; their numbers follow each other.
    """

    def __init__(self, robot: Robot, keys: Sequence[str]) -> None:
        for key in keys:
            robot.spec[key]  # raises, with the nearest names
        self._robot, self._keys = robot, tuple(keys)

    def read(self) -> tuple[int, NDArray]:
        """See ``FastSensor``."""
        time_ns, state = self._robot.state()
        return time_ns, np.concatenate([np.ravel(state[key]) for key in self._keys])


class SlowFast:
    """Decodes what the scheduler plans, with the hidden state that the decoder has in training.

    A chunk is decoded from its first row on. It comes late, by the slow policy's latency, so the rows before
    the present one are made up for with the samples of their steps.

    Args:
        decoder: the fast one.
        sensor: what it reads.
        max_sample_age_s: an older sample is not acted on: the robot holds [s].
    """

    def __init__(self, decoder: FastDecoder, sensor: FastSensor, max_sample_age_s: float = 0.1) -> None:
        if not max_sample_age_s > 0:
            raise ConfigError(f"max_sample_age_s is {max_sample_age_s}; give more than 0 s.")
        self._decoder, self._sensor = decoder, sensor
        self._max_age_s = max_sample_age_s
        self._samples: deque[tuple[int, Array]] = deque(maxlen=_REMEMBERED_STEPS)
        self._chunk: Chunk | None = None
        self._decoded = 0  # rows of the chunk

    def decode(self, step: int, planned: ScheduledAction) -> ScheduledAction:
        """Returns ``planned`` with the action in place of the latent.

        Call it at every control step, so that it has their samples. Where the scheduler holds, or the sample
        is too old, the status says that nothing new is to be commanded and the action is None.

        Args:
            step: absolute control step.
            planned: what the scheduler plans for it.

        Raises:
            SpecError: sample or action is not a finite vector.
        """
        time_ns, sample = self._sensor.read()
        self._samples.append((step, _vector(sample, "The sensor's sample")))
        if planned.status != "fresh" or planned.chunk is None:
            return replace(planned, action=None)
        if ns_to_seconds(now_ns() - time_ns) > self._max_age_s:
            return replace(planned, action=None, status="hold")
        if planned.chunk is not self._chunk:
            self._chunk, self._decoded = planned.chunk, 0
            self._decoder.reset()
        return replace(planned, action=self._action(planned.chunk, step))

    def _action(self, chunk: Chunk, step: int) -> Array:
        action = np.empty(0)
        last = step - chunk.first_step
        for row in range(self._decoded, last + 1):
            latent = np.asarray(chunk.actions[row], np.float64)
            action = self._decoder.step(latent, self._sample(chunk.first_step + row))
        self._decoded = last + 1
        return _vector(action, "The fast decoder's action")

    def _sample(self, step: int) -> Array:
        """Returns the newest sample that was there at a step, or the oldest one of all."""
        older = (sample for at, sample in reversed(self._samples) if at <= step)
        return next(older, self._samples[0][1])


def _vector(value: NDArray, what: str) -> Array:
    vector = np.array(value, np.float64)
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise SpecError(f"{what} is {vector.tolist()}; a vector of finite numbers is needed.")
    return vector
