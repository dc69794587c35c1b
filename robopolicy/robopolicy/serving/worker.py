"""Runs a policy in a thread of its own, with the requests that are there at the same time as one batch.

While an inference runs, further requests gather; the next inference takes them all. Where more than one robot
is connected, a request also waits a moment (``batch_window_s``) for the others'. One that has a prefix is an
inference of its own, because all chunks of an inference continue the same.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, RemoteError
from robopolicy_drivers.client.messages import OURS, PolicyDescription, read_request
from robopolicy_drivers.client.wire import pack, unpack
from robopolicy_drivers.interfaces import ChunkPolicy, Prefix

logger = logging.getLogger(__name__)

_CLOSE_S = 5.0


class PolicyFailedError(RemoteError):
    """The policy itself failed; the request was in order."""


@dataclass(frozen=True)
class Job:
    """A request.

    Attributes:
        data: the client's message.
        done: called in the worker's thread with the reply, or with what is wrong.
        arrived_s: time.monotonic() of its arrival.
    """

    data: bytes
    done: Callable[[bytes | RemoteError], None]
    arrived_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Row:
    """A request that is in order."""

    job: Job
    observation: dict[str, NDArray]
    number: int | None
    seed: int | None
    prefix: Prefix | None


class InferenceWorker:
    """The thread that infers.

    Args:
        policy: what is served; called from the thread only.
        batch_window_s: how long a request waits for those of other robots [s].
        most_rows: requests in one inference.

    Attributes:
        description: of the policy; the same for all that follow it.
        robots: number of connected robots; whoever knows it sets it.
    """

    def __init__(self, policy: ChunkPolicy, *, batch_window_s: float, most_rows: int) -> None:
        self.description = PolicyDescription.of(policy)
        self.robots = 0
        self._window_s, self._most_rows = batch_window_s, most_rows
        self._served = (policy, 1)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def weights_version(self) -> int:
        """Number of the weights in use; 1 for the first."""
        return self._served[1]

    def stuck_s(self) -> float:
        """Returns for how long the running inference has run [s]; 0 where none runs."""
        began = self._began_s
        return 0.0 if began is None else time.monotonic() - began

    def submit(self, job: Job) -> None:
        """Puts a request in line."""
        self._jobs.put(job)

    def swap(self, policy: ChunkPolicy) -> int:
        """Uses another policy from the next inference on.

        Returns:
            the number of its weights.

        Raises:
            ConfigError: it has other features, steps or dt; the one before goes on.
        """
        found = PolicyDescription.of(policy)
        different = [
            each.name
            for each in fields(found)
            if getattr(found, each.name) != getattr(self.description, each.name)
        ]
        if different:
            raise ConfigError(
                f"The new policy has another {', '.join(different)} than the one that is served, which "
                "connected robots rely on. Restart the server with it."
            )
        self._served = (policy, self._served[1] + 1)
        return self.weights_version

    def close(self) -> None:
        """Ends the thread once the running inference is done, or after some seconds without it."""
        self._jobs.put(None)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs, ends = self._gathered(job)
            rows = [row for job in jobs if (row := self._read(job)) is not None]
            alone = [row for row in rows if row.prefix is not None]
            for batch in ([row for row in rows if row.prefix is None], *([row] for row in alone)):
                if batch:
                    self._infer(batch)
            if ends:
                return

    def _gathered(self, first: Job) -> tuple[list[Job], bool]:
        """Returns the requests of one batch, and whether the thread shall end after it."""
        jobs, until = [first], time.monotonic() + self._window_s
        while len(jobs) < min(self.robots, self._most_rows):
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _read(self, job: Job) -> _Row | None:
        try:
            message = unpack(job.data, most_bytes=self.description.most_request_bytes)
            observation, request = read_request(message, self.description)
        except RemoteError as error:
            job.done(error)
            return None
        prefix = request.get("prefix")
        return _Row(
            job,
            observation,
            request.get("number"),
            request.get("seed"),
            None if prefix is None else Prefix(prefix["actions"], prefix["frozen"]),
        )

    def _infer(self, rows: Sequence[_Row]) -> None:
        self._began_s = began = time.monotonic()
        try:
            replies = self._replies(rows, began)
        except Exception as error:  # whatever a policy raises is told to the clients; the server goes on
            if len(rows) > 1:  # what one robot sends must not cost the others their chunks
                for row in rows:
                    self._infer([row])
                return
            logger.exception("the policy failed")
            rows[0].job.done(PolicyFailedError(f"The policy failed ({type(error).__name__}: {error})."))
            return
        finally:
            self._began_s = None
        for row, reply in zip(rows, replies, strict=True):
            row.job.done(reply)

    def _replies(self, rows: Sequence[_Row], began_s: float) -> list[bytes]:
        """Returns the replies to some requests, of one inference."""
        policy, version = self._served
        stacked = {key: _stacked([row.observation[key] for row in rows]) for key in rows[0].observation}
        seeds = None
        if any(row.seed is not None for row in rows):
            seeds = [secrets.randbits(63) if row.seed is None else row.seed for row in rows]
        continued = {} if rows[0].prefix is None else {"prefix": rows[0].prefix}
        chunks = np.asarray(policy.infer(stacked, seeds=seeds, **continued))
        if chunks.ndim != 3 or len(chunks) != len(rows) or not np.isfinite(chunks).all():
            raise ValueError(f"it gave {chunks.dtype}{list(chunks.shape)}, or numbers that are not finite")
        infer_s = time.monotonic() - began_s
        return [
            pack(_reply(row, chunk, version, len(rows), began_s, infer_s))
            for row, chunk in zip(rows, chunks, strict=True)
        ]


def _stacked(values: Sequence[NDArray]) -> NDArray:
    """Returns ``[N, ...]``; of a single one a view, because copying images takes a while."""
    return values[0][None] if len(values) == 1 else np.stack(values)


def _reply(
    row: _Row, chunk: NDArray, version: int, rows: int, began_s: float, infer_s: float
) -> dict[str, Any]:
    timing = {
        "infer_ms": 1e3 * infer_s,
        "wait_ms": 1e3 * (began_s - row.job.arrived_s),
        "total_ms": 1e3 * (time.monotonic() - row.job.arrived_s),
    }
    return {
        "actions": chunk,
        "server_timing": timing,
        OURS: {"number": row.number, "weights_version": version, "rows": rows},
    }
