"""ChunkScheduler: which action belongs to which control step, whatever the policy's delay.

Every row of a chunk belongs to one absolute control step. Latency is therefore dropped *by count*: rows for
steps that have been played are never played again. A step that no chunk covers is a defined hold of the last
action, and play resumes with the next chunk that covers the then current step; where none comes for long,
the robot is to retreat.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import Chunk
from robopolicy_drivers.runtime.blending import Blending, newest_wins

Status = Literal["fresh", "hold", "retreat", "waiting"]


@dataclass(frozen=True)
class ScheduledAction:
    """What to do at a control step.

    Attributes:
        action: ``[A]``; None while no chunk has ever been played.
        status: "fresh": a row planned for this step; "hold": the last action again, because no chunk
            covers the step; "retreat": the same for so long that the robot should go back along the way it
            came; "waiting": nothing has been planned yet, stay as you are.
        age_steps: control steps since the newest observation behind the action, the held one for a hold.
        due_ns: when it should be reached: row r of a chunk at its observation's time plus (r + 1) dt
            [ns, monotonic]; past, for a hold.
        chunk: the newest chunk behind the action; None while there is none.
    """

    action: NDArray[np.float64] | None
    status: Status
    age_steps: int = 0
    due_ns: int = 0
    chunk: Chunk | None = None


class ChunkScheduler:
    """See the module text. Thread-safe: all methods may be called from different threads.

    Of two chunks from the same step, the one added last replaces the other.

    Args:
        max_age_steps: an action is played at most this many steps after its observation.
        blending: makes one action of the rows that several chunks have for a step; by default the chunk with
            the newest observation wins.
        hold_steps: so many steps are held before the status is "retreat"; None: for ever.
    """

    def __init__(
        self, max_age_steps: int, blending: Blending = newest_wins, hold_steps: int | None = None
    ) -> None:
        if max_age_steps < 0 or (hold_steps is not None and hold_steps < 0):
            raise ConfigError(
                f"max_age_steps is {max_age_steps} and hold_steps is {hold_steps}; give 0 or more."
            )
        self.max_age_steps = max_age_steps
        self.hold_steps = hold_steps
        self._blend = blending
        self._lock = threading.Lock()
        self._chunks: dict[int, Chunk] = {}
        self._step = -1
        self._last: ScheduledAction | None = None
        self._last_step = 0
        self._dropped = 0

    @property
    def dropped_rows(self) -> int:
        """Rows that arrived after their control step had been played."""
        return self._dropped

    def add(self, chunk: Chunk) -> int:
        """Takes in a chunk.

        Returns:
            how many of its rows came too late for their step.

        Raises:
            SpecError: the actions are not ``[T, A]``, not finite, or of another size than before.
        """
        actions = np.array(chunk.actions, np.float64)
        with self._lock:
            self._check(actions)
            late = min(max(0, self._step + 1 - chunk.first_step), len(actions))
            self._dropped += late
            self._chunks[chunk.first_step] = replace(chunk, actions=actions)
            self._forget_past()
            return late

    def action(self, step: int) -> ScheduledAction:
        """Returns what to do at the control step ``step``; steps must not decrease."""
        with self._lock:
            if step < self._step:
                raise SpecError(
                    f"Control step {step} was asked for after step {self._step}; steps never go back."
                )
            self._step = step
            self._forget_past()
            planned = self._planned(step)
            if planned is not None:
                self._last, self._last_step = planned, step
                return planned
            if self._last is None:
                return ScheduledAction(None, "waiting")
            held = step - self._last_step
            retreating = self.hold_steps is not None and held > self.hold_steps
            return replace(
                self._last,
                status="retreat" if retreating else "hold",
                age_steps=self._last.age_steps + held,
            )

    def preview(self, step: int) -> ScheduledAction | None:
        """Returns what is planned for a later control step so far; None where nothing is."""
        with self._lock:
            return self._planned(step)

    def covers(self, step: int) -> bool:
        """Returns whether a chunk has a row for the control step ``step``, the present one or a later one."""
        with self._lock:
            return bool(self._covering(step))

    def prefix(self, step: int) -> NDArray[np.float64]:
        """Returns the rows ``[n, A]`` of the newest chunk for ``step`` and all later steps; n may be 0."""
        with self._lock:
            chunks = self._covering(step)
            if not chunks:
                return np.empty((0, self._action_size() or 0))
            return chunks[0].actions[step - chunks[0].first_step :].astype(np.float64)

    def discard(self) -> None:
        """Forgets all chunks and the last action, so that nothing of what was planned is played."""
        with self._lock:
            self._chunks.clear()
            self._last = None

    def reset(self) -> None:
        """Forgets everything, for the next episode."""
        self.discard()
        with self._lock:
            self._step = -1
            self._dropped = 0

    def _planned(self, step: int) -> ScheduledAction | None:
        chunks = self._covering(step)
        if not chunks:
            return None
        ages = np.array([step - chunk.first_step for chunk in chunks])
        rows = np.stack([chunk.actions[age] for chunk, age in zip(chunks, ages, strict=True)])
        newest, age = chunks[0], int(ages[0])
        due_ns = newest.time_ns + (age + 1) * seconds_to_ns(newest.dt_s)
        return ScheduledAction(self._blend(rows, ages), "fresh", age, due_ns, newest)

    def _check(self, actions: NDArray[np.float64]) -> None:
        if actions.ndim != 2 or not actions.size:
            raise SpecError(f"A chunk has shape [T, A] with T, A > 0; given: {list(actions.shape)}.")
        if not np.isfinite(actions).all():
            raise SpecError("A chunk holds NaN or infinite actions; it was refused.")
        size = self._action_size()
        if size is not None and size != actions.shape[1]:
            raise SpecError(
                f"A chunk with {actions.shape[1]} numbers an action was given after ones with {size}."
            )

    def _action_size(self) -> int | None:
        if self._last is not None and self._last.action is not None:
            return len(self._last.action)
        return next((chunk.actions.shape[1] for chunk in self._chunks.values()), None)

    def _covering(self, step: int) -> list[Chunk]:
        """Returns the chunks with a young enough row for ``step``, the newest observation first."""
        fitting = [
            chunk for chunk in self._chunks.values() if chunk.first_step <= step <= self._last_useful(chunk)
        ]
        return sorted(fitting, key=lambda chunk: -chunk.first_step)

    def _forget_past(self) -> None:
        """Drops chunks that have no row, or none young enough, for the present step or a later one."""
        self._chunks = {
            first_step: chunk
            for first_step, chunk in self._chunks.items()
            if self._last_useful(chunk) >= self._step
        }

    def _last_useful(self, chunk: Chunk) -> int:
        return chunk.first_step + min(len(chunk.actions) - 1, self.max_age_steps)
