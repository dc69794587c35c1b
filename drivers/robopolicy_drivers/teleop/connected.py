"""What all teleoperation devices do alike as context managers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Connected(ABC):
    """Is connected within a ``with`` block."""

    @abstractmethod
    def connect(self) -> None:
        """Opens the device; returns when it can be used."""

    @abstractmethod
    def close(self) -> None:
        """Releases the device; calling it again does nothing."""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
