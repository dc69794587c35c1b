"""An episode that is written while it happens: encoded, made durable along the way, committed at its end."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import StoreError, nearest_names
from robopolicy_datasets.store.episode import EpisodeInfo, EpisodeRecord, check_array
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.layout import TIME_KEY, data_folder, stream_folders
from robopolicy_datasets.store.native import NativeFiles
from robopolicy_datasets.store.spool import ArraySpool, MemoryBudget
from robopolicy_datasets.store.streams import Stream, check_stream
from robopolicy_datasets.store.transaction import write_error


class LiveEpisode:
    """An episode of a store that is held; see ``DemoStore.held``. Any thread may add to it.

    Args:
        files: of the store.
        threads: that encode and write.
        memory: bytes that may wait for them; who adds more waits.
        committed: called with the ``episode_ends`` once it is on disk.
    """

    def __init__(
        self,
        files: NativeFiles,
        *,
        threads: int,
        memory: int,
        committed: Callable[[NDArray[np.int64]], None],
    ) -> None:
        self._files, self._committed = files, committed
        self._features = {feature.key: feature for feature in files.spec.features}
        self._keys = {data_folder(key): key for key in self._features}
        self._streams = {key: stream.feature for key, stream in files.streams.items()}
        self._newest: dict[str, int] = {}  # time of the steps (under TIME_KEY) and of each stream
        self._lock = threading.Lock()
        self._budget = MemoryBudget(memory)
        self._queue: SimpleQueue[Mapping[str, NDArray[Any]] | None] = (
            SimpleQueue()
        )  # an interrupt tears no step
        self._pool = ThreadPoolExecutor(threads, "robopolicy-encode")
        self._failure: Exception | None = None
        self._rows_before = files.committed_rows()
        self._spools: dict[str, ArraySpool] = {}
        self._thread = threading.Thread(target=self._hand_over, name="robopolicy-record", daemon=True)
        self._thread.start()

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        spool = self._spools.get(data_folder(TIME_KEY))
        return spool.rows if spool else 0

    @property
    def samples(self) -> dict[str, int]:
        """Samples taken so far, by stream."""
        spools = {key: self._spools.get(stream_folders(key)[0]) for key in self._streams}
        return {key: spool.rows if spool else 0 for key, spool in spools.items()}

    def add_step(self, values: Mapping[str, ArrayLike], time_ns: int) -> None:
        """Adds one step; waits while too much is to be encoded.

        Args:
            values: ``[*shape]`` for every key of the store's Spec; copied.
            time_ns: later than the step before [ns, monotonic].

        Raises:
            StoreError: the values do not fit, or the disk refuses what was added before.
        """
        if set(values) != set(self._features):
            raise StoreError(
                f"A step has the keys {', '.join(sorted(values)) or 'none'}; the store holds "
                f"{', '.join(self._features)}."
            )
        times = np.array([time_ns], np.int64)
        arrays = {
            data_folder(key): np.array(check_array(feature, np.asarray(values[key])[None]))
            for key, feature in self._features.items()
        }
        self._add(TIME_KEY, arrays | {data_folder(TIME_KEY): times}, times)

    def add_samples(self, key: str, value: ArrayLike, time_ns: ArrayLike) -> None:
        """Adds samples to a stream; waits while too much is to be encoded.

        Args:
            key: of the stream.
            value: ``[n, *shape]``; copied.
            time_ns: int64 ``[n]``, increasing and later than the sample before [ns, monotonic].

        Raises:
            StoreError: the samples do not fit, or the disk refuses what was added before.
        """
        if key not in self._streams:
            options = ", ".join(nearest_names(key, self._streams)) or "none"
            raise StoreError(f"The store {self._files.path} has no stream '{key}'. It has: {options}.")
        stream = check_stream(Stream(value, time_ns), self._streams[key])
        if len(stream.time_ns):
            arrays = (np.array(stream.value), np.array(stream.time_ns))
            self._add(key, dict(zip(stream_folders(key), arrays, strict=True)), stream.time_ns)

    def commit(self, info: EpisodeInfo, events: Sequence[Event] = ()) -> None:
        """Makes the episode a part of the store; it is on disk for good when this returns.

        Args:
            info: task, success, operator, ...
            events: what happened in it.

        Raises:
            StoreError: it has no steps, or cannot be written; the latter can be tried again.
        """
        for event in events:
            event.to_text()  # raises where it cannot be kept
        self._finish()
        if self._failure is not None:
            raise StoreError(
                f"The episode cannot be saved: {self._failure!r}. Discard it."
            ) from self._failure
        if not self.steps:
            raise StoreError("The episode has no steps. Discard it.")
        files = {path: data for spool in self._spools.values() for path, data in spool.files().items()}
        rows = dict.fromkeys(self._rows_before, 0)
        rows |= {folder: spool.rows for folder, spool in self._spools.items()}
        arrays = {key: self._spools[data_folder(key)].array for key in self._features}
        record = EpisodeRecord(rows, info, tuple(events))
        self._committed(self._files.publish_spooled(record, files, arrays))
        self.discard()

    def discard(self) -> None:
        """Forgets what is not committed; nothing can be added any more."""
        self._finish()
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._files.spool_folder, ignore_errors=True)

    def _finish(self) -> None:
        """Takes no more, and waits until all that was taken has been handed over."""
        self._budget.close("The episode has ended; save or discard it, and start another one.")
        with self._lock:  # nobody is adding any more
            self._queue.put(None)
        self._thread.join()

    def _add(self, name: str, arrays: Mapping[str, NDArray[Any]], times: NDArray[np.int64]) -> None:
        """Hands rows over, once there is room for them: all or none."""
        num_bytes = sum(array.nbytes for array in arrays.values())
        self._budget.take(num_bytes)
        with self._lock:
            self._budget.check()
            newest = self._newest.get(name)
            if newest is not None and times[0] <= newest:
                self._budget.give_back(num_bytes)
                what = "steps" if name == TIME_KEY else f"stream '{name}'"
                raise StoreError(
                    f"The times of {what} must increase; {times[0]} ns is not after {newest} ns."
                )
            self._newest[name] = int(times[-1])
            self._queue.put(arrays)

    def _hand_over(self) -> None:
        """Brings rows to their spools, in the order in which they came; in a thread of its own."""
        try:
            while (arrays := self._queue.get()) is not None:
                for folder, rows in arrays.items():
                    self._spool(folder, rows).append(rows, self._budget.give_back)
        except Exception as error:  # told by whatever is called next
            self._failure = error
            self._budget.close(f"Recording has stopped: {error!r}. Discard the episode.")

    def _spool(self, folder: str, first: NDArray[Any]) -> ArraySpool:
        """Returns the spool of an array; an image's codec may be chosen by the ``first`` one."""
        if folder not in self._spools:
            path = self._files.spool_folder / str(len(self._spools))
            try:
                path.mkdir(parents=True)
            except OSError as error:
                self._fail(error)
            key = self._keys.get(folder)
            array = self._files.array_for(key, [first]) if key else self._files.row_arrays()[folder]
            self._spools[folder] = ArraySpool(array, self._rows_before[folder], path, self._pool, self._fail)
        return self._spools[folder]

    def _fail(self, error: OSError) -> None:
        self._budget.close(
            f"{write_error(self._files.path, error)} Recording has stopped there: save the episode as far as "
            "it goes when there is room again, or discard it."
        )
