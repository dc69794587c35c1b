"""A ring of fixed-size records in shared memory: one writer, any number of readers, no locks.

A writer marks a slot as invalid, fills it, and then publishes its number with a CRC-32C over number and
content. A reader copies the slot and accepts the copy only when its CRC is right for the number. So it never
takes a torn record (but for one in 2^32 of those that it meets), whatever the memory order of the processor
and wherever the writer was killed. The newest number is also the word that readers sleep on, see ``futex``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError, SpecError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime import futex
from robopolicy_drivers.realtime.memory import SharedMemory

_ALIGNMENT = 64  # bytes of a processor's cache line; the header takes one
_ATTEMPTS = 1000
_INVALID = 0
_LOW_HALF = 0xFFFFFFFF
# The words of a slot, 8 bytes each. The content begins with its time.
_NUMBER, _CHECKSUM, _CONTENT = range(3)
_TIME = struct.Struct("q")


class Record(NamedTuple):
    """One record of a ring.

    Attributes:
        number: 1 for the first record ever written, then 2, 3, …
        time_ns: the time that the writer gave [ns, monotonic].
        data: copies, by feature key.
    """

    number: int
    time_ns: int
    data: dict[str, NDArray]

    def age_s(self) -> float:
        """Returns for how long its content has been true [s]; it grows while nothing newer comes."""
        return ns_to_seconds(now_ns() - self.time_ns)


class Ring:
    """See the module text.

    Args:
        features: what a record holds, besides its time.
        slots: records kept; a reader that is slower than the writer loses the oldest.
    """

    def __init__(self, features: Sequence[Feature], slots: int = 64) -> None:
        if slots < 2:
            raise SpecError(
                f"A ring of {slots} slots was asked for; it needs at least 2, to write and to read."
            )
        self._open(features, slots, SharedMemory(_ALIGNMENT + slots * _slot_bytes(_content_dtype(features))))

    @classmethod
    def attach(cls, handle: Mapping[str, Any]) -> Ring:
        """Opens, in a child process, the ring whose ``handle`` was passed to it."""
        ring = cls.__new__(cls)
        features = [Feature(**row) for row in handle["features"]]
        ring._open(features, handle["slots"], SharedMemory.attach(handle["descriptor"], handle["size"]))
        return ring

    def handle(self) -> dict[str, Any]:
        """Returns what ``attach`` needs, as plain data; the child must inherit ``descriptor``."""
        return {
            "features": [vars(feature) for feature in self.features],
            "slots": self.slots,
            "descriptor": self.memory.descriptor,
            "size": self.memory.size,
        }

    def write(self, time_ns: int, data: Mapping[str, NDArray]) -> int:
        """Appends a record, wakes who waits for it, and returns its number; never waits itself.

        Only one process (and thread) may write. A writer that is started again after it was killed goes on
        with the number after the newest.

        Args:
            time_ns: when the content was true [ns, monotonic].
            data: one array per feature, of the feature's shape.
        """
        number = self.latest + 1
        slot = number % self.slots
        words, first = self._words, self._first_words[slot]
        words[first + _NUMBER] = _INVALID
        self._times[slot] = time_ns
        for key, field in self._fields[slot].items():
            if key not in data:
                raise SpecError(f"The ring's '{key}' was not written; given: {', '.join(data) or 'nothing'}.")
            if np.shape(data[key]) != field.shape:
                raise SpecError(
                    f"The ring's '{key}' has shape {field.shape}, but {np.shape(data[key])} was written."
                )
            field[...] = data[key]
        words[first + _CHECKSUM] = google_crc32c.extend(number & _LOW_HALF, self._contents[slot])
        words[first + _NUMBER] = number
        words[0] = number
        futex.wake(self._address)
        return number

    @property
    def latest(self) -> int:
        """Number of the newest record; 0 while there is none."""
        return self._words[0]

    def newest(self) -> Record | None:
        """Returns the newest record, or None while there is none.

        It is as new as the call: at least the record that was the newest when it began.
        """
        for _ in range(_ATTEMPTS):
            number = self.latest
            if number == 0:
                return None
            record = self.read(number)
            if record is not None:
                return record
        raise DeviceError(
            f"No intact record was found in {_ATTEMPTS} attempts: the writer overtakes this reader. "
            f"Give the ring more than {self.slots} slots, or write less often."
        )

    def wait_newer(self, number: int, timeout_s: float) -> Record | None:
        """Sleeps until there is a record after ``number``; returns the newest, or None when the time is up.

        Nobody tells a reader that the writer has died: after None, ask ``DeviceProcess.check``.

        Args:
            number: of the last record that the caller knows; 0 for none.
            timeout_s: how long to wait at most [s].
        """
        deadline_ns = now_ns() + seconds_to_ns(timeout_s)
        while (latest := self.latest) <= number:
            if now_ns() >= deadline_ns:
                return None
            futex.wait(self._address, latest & _LOW_HALF, deadline_ns)
        return self.newest()

    def newer_than(self, number: int) -> list[Record]:
        """Returns the records after ``number`` that are still in the ring, oldest first."""
        latest = self.latest
        first = max(number + 1, latest - self.slots + 2, 1)
        records = (self.read(index) for index in range(first, latest + 1))
        return [record for record in records if record is not None]

    def history(self, count: int) -> list[Record]:
        """Returns up to ``count`` of the newest records, oldest first."""
        return self.newer_than(self.latest - count)

    def nearest(self, time_ns: int) -> Record | None:
        """Returns the record in the ring whose time is nearest to ``time_ns``, or None while there is none.

        Times must not decrease from record to record.
        """
        number = self.latest
        while (before := self._time_of(number - 1)) is not None and before >= time_ns:
            number -= 1
        candidates = [record for index in (number, number - 1) if (record := self.read(index)) is not None]
        return min(candidates, key=lambda record: abs(record.time_ns - time_ns), default=self.newest())

    def read(self, number: int) -> Record | None:
        """Returns the record ``number``, or None when it is no longer (or not yet) there."""
        slot = number % self.slots
        words, first = self._words, self._first_words[slot]
        if number < 1 or words[first + _NUMBER] != number:
            return None
        checksum = words[first + _CHECKSUM]
        content = self._contents[slot].copy()
        if google_crc32c.extend(number & _LOW_HALF, content) != checksum:
            return None
        data = {key: np.ndarray(shape, dtype, content, at) for key, shape, dtype, at in self._layout}
        return Record(number, _TIME.unpack_from(content.data)[0], data)

    def _time_of(self, number: int) -> int | None:
        slot = number % self.slots
        at = self._first_words[slot] + _NUMBER
        if number < 1 or self._words[at] != number:
            return None
        time_ns = int(self._times[slot])
        return time_ns if self._words[at] == number else None

    def close(self) -> None:
        """Closes this process's descriptor of the memory."""
        self.memory.close()

    def _open(self, features: Sequence[Feature], slots: int, memory: SharedMemory) -> None:
        self.features = tuple(features)
        self.slots = slots
        self.memory = memory
        content = _content_dtype(features)
        size = _slot_bytes(content)
        header = memory.array(np.uint64, (memory.size // 8,))
        self._address = header.ctypes.data  # of the newest number's low half
        # Views made once, because making one takes as long as copying a small record.
        self._words = header.data
        begins = range(_ALIGNMENT, _ALIGNMENT + slots * size, size)
        self._first_words = [begin // 8 for begin in begins]
        starts = [begin + 8 * _CONTENT for begin in begins]
        self._contents = [memory.array(np.uint8, (content.itemsize,), start) for start in starts]
        self._layout = [(f.key, f.shape, np.dtype(f.dtype), _offset(content, f.key)) for f in features]
        self._fields = [
            {key: memory.array(dtype, shape, start + at) for key, shape, dtype, at in self._layout}
            for start in starts
        ]
        self._times = memory.array(
            {"names": ["time_ns"], "formats": [np.int64], "offsets": [8 * _CONTENT], "itemsize": size},
            (slots,),
            _ALIGNMENT,
        )["time_ns"]


def _content_dtype(features: Sequence[Feature]) -> np.dtype:
    fields = [("time_ns", np.int64), *((f.key, np.dtype(f.dtype), f.shape) for f in features)]
    return np.dtype(fields, align=True)


def _offset(content: np.dtype, key: str) -> int:
    return content.fields[key][1]  # type: ignore[index]


def _slot_bytes(content: np.dtype) -> int:
    return -(-(8 * _CONTENT + content.itemsize) // _ALIGNMENT) * _ALIGNMENT
