"""Anonymous shared memory: a file descriptor that child processes inherit.

It has no name, so nothing can be left behind: the kernel frees it when the last process that mapped it
ends, however it ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray


class SharedMemory:
    """A block of zeroed memory that several processes map.

    Pass ``descriptor`` to a child (``DeviceProcess`` does) and call ``SharedMemory.attach`` there.

    Args:
        size: in bytes.
    """

    descriptor: int
    size: int

    def __init__(self, size: int) -> None:
        self._map(_anonymous_file(size), size)

    @classmethod
    def attach(cls, descriptor: int, size: int) -> SharedMemory:
        """Maps the block behind an inherited file descriptor."""
        memory = cls.__new__(cls)
        memory._map(descriptor, size)
        return memory

    def array(self, dtype: np.typing.DTypeLike, shape: tuple[int, ...], offset: int = 0) -> NDArray:
        """Returns a numpy view of the memory from byte ``offset`` on."""
        return np.ndarray(shape, dtype, self._mapping, offset)

    def close(self) -> None:
        """Closes the descriptor; the memory lives as long as views or other processes use it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _map(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self._mapping = mmap.mmap(descriptor, size)

    def __del__(self) -> None:
        self.close()


def _anonymous_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("robopolicy", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
