"""The frames in the byte stream of a FlexiTac: two marker bytes, then one byte for each taxel, row by row.

Source: the firmware in the package flexitac 0.3.1. The stream has no checksum, and the markers may also be
readings. So a frame counts only where the next one begins right behind it: a frame that lost a byte, or that
was found at the wrong place, is not taken.
"""

from __future__ import annotations

MARKER = b"\xaa\x55"


class FrameParser:
    """Cuts a stream of bytes into frames.

    Args:
        size: bytes of a frame, without the markers.

    Attributes:
        skipped: bytes that belonged to no frame.
    """

    def __init__(self, size: int) -> None:
        self.skipped = 0
        self._size = size
        self._length = len(MARKER) + size
        self._buffer = bytearray()

    @property
    def wanted(self) -> int:
        """Bytes after which there is a frame at the earliest, or else a place to look for one; at least 1."""
        return max(1, self._length + len(MARKER) - len(self._buffer))

    @property
    def waiting(self) -> int:
        """Bytes that belong to no frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the next bytes and returns the frames that are complete and confirmed now, oldest first."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> bytes | None:
        buffer, length = self._buffer, self._length
        begin = buffer.find(MARKER)
        while begin >= 0 and len(buffer) >= begin + length + len(MARKER):
            if buffer.startswith(MARKER, begin + length):
                frame = bytes(buffer[begin + len(MARKER) : begin + length])
                self._skip(begin)
                del buffer[:length]
                return frame
            begin = buffer.find(MARKER, begin + 1)
        # A marker may have come by half.
        self._skip(begin if begin >= 0 else max(0, len(buffer) - 1))
        return None

    def _skip(self, count: int) -> None:
        del self._buffer[:count]
        self.skipped += count
