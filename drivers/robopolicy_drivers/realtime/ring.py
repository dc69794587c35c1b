"""A ring of fixed-size records in shared memory: one writer, any number of readers, no locks.

A writer marks a slot as invalid, fills it, and then publishes its number with a CRC-32 over number and
content. A reader copies the slot and accepts it only when number and CRC agree before and after, so it
never sees a torn record, whatever the memory order of the processor and wherever the writer was killed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError, SpecError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.memory import SharedMemory

_HEADER_BYTES = 64
_ALIGNMENT = 64
_ATTEMPTS = 1000
_INVALID = 0


@dataclass(frozen=True)
class Record:
    """One record of a ring.

    Attributes:
        number: 1 for the first record ever written, then 2, 3, …
        time_ns: the time that the writer gave [ns, monotonic].
        data: copies, by feature key.
    """

    number: int
    time_ns: int
    data: dict[str, NDArray]


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
        slot_bytes = _slot_dtype(features).itemsize
        self._open(features, slots, SharedMemory(_HEADER_BYTES + slots * slot_bytes))

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
        """Appends a record and returns its number. Only one process (and thread) may write.

        Args:
            time_ns: when the content was true [ns, monotonic].
            data: one array per feature, of the feature's shape.
        """
        number = int(self._latest[0]) + 1
        slot = number % self.slots
        fields = self._fields[slot]
        self._numbers[slot] = _INVALID
        self._times[slot] = time_ns
        for key, field in fields.items():
            value = data[key]
            if np.shape(value) != field.shape:
                raise SpecError(
                    f"The ring's '{key}' has shape {field.shape}, but {np.shape(value)} was written."
                )
            field[...] = value
        self._checksums[slot] = zlib.crc32(self._bytes[slot], number & 0xFFFFFFFF)
        self._numbers[slot] = number
        self._latest[0] = number
        return number

    @property
    def latest(self) -> int:
        """Number of the newest record; 0 while there is none."""
        return int(self._latest[0])

    def newest(self) -> Record | None:
        """Returns the newest record, or None while there is none."""
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
        if number < 1 or int(self._numbers[slot]) != number:
            return None
        checksum = int(self._checksums[slot])
        content = bytes(self._bytes[slot])
        if int(self._numbers[slot]) != number or zlib.crc32(content, number & 0xFFFFFFFF) != checksum:
            return None
        row = np.frombuffer(content, self._content_dtype)[0]
        data = {feature.key: np.array(row[feature.key]) for feature in self.features}
        return Record(number, int(row["time_ns"]), data)

    def _time_of(self, number: int) -> int | None:
        slot = number % self.slots
        if number < 1 or int(self._numbers[slot]) != number:
            return None
        time_ns = int(self._times[slot])
        return time_ns if int(self._numbers[slot]) == number else None

    def close(self) -> None:
        """Closes this process's descriptor of the memory."""
        self.memory.close()

    def _open(self, features: Sequence[Feature], slots: int, memory: SharedMemory) -> None:
        self.features = tuple(features)
        self.slots = slots
        self.memory = memory
        self._content_dtype = _content_dtype(features)
        slot_dtype = _slot_dtype(features)
        table = memory.array(slot_dtype, (slots,), _HEADER_BYTES)
        self._latest = memory.array(np.uint64, (1,))
        self._numbers = table["number"]
        self._checksums = table["checksum"]
        content = table["content"]
        self._times = content["time_ns"]
        self._bytes = [
            _bytes_of(memory, slot_dtype, slot, self._content_dtype.itemsize) for slot in range(slots)
        ]
        self._fields = [
            {
                feature.key: content[feature.key][slot : slot + 1].reshape(feature.shape)
                for feature in features
            }
            for slot in range(slots)
        ]


def _bytes_of(memory: SharedMemory, slot_dtype: np.dtype, slot: int, size: int) -> memoryview:
    offset = _HEADER_BYTES + slot * slot_dtype.itemsize + slot_dtype.fields["content"][1]  # type: ignore[index]
    return memory.array(np.uint8, (size,), offset).data


def _content_dtype(features: Sequence[Feature]) -> np.dtype:
    return np.dtype([("time_ns", np.int64), *((f.key, np.dtype(f.dtype), f.shape) for f in features)])


def _slot_dtype(features: Sequence[Feature]) -> np.dtype:
    content = _content_dtype(features)
    used = 16 + content.itemsize
    return np.dtype(
        {
            "names": ["number", "checksum", "content"],
            "formats": [np.uint64, np.uint32, content],
            "offsets": [0, 8, 16],
            "itemsize": -(-used // _ALIGNMENT) * _ALIGNMENT,
        }
    )
