"""Frames in an mp4 file as LeRobot writes it, read in windows with one decoding thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.exchange.lerobot.videos import DEFAULT_CRF, VideoWriter, load_av

CODECS = tuple(DEFAULT_CRF)
_RATE_HZ = 30.0


class Mp4:
    """An mp4 file that stays open.

    Args:
        path: the file, written by ``write``.
        window: frames that are read together.
    """

    def __init__(self, path: Path, window: int = 2) -> None:
        self._window = window
        self._container: Any = load_av().open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "NONE"
        self._stream.codec_context.thread_count = 1
        self._ticks = round(1 / (_RATE_HZ * self._stream.time_base))  # a frame
        self.bytes_per_frame = path.stat().st_size / self._stream.frames

    @classmethod
    def write(cls, path: Path, images: NDArray[np.uint8], codec: str) -> Mp4:
        """Writes ``images [N, height, width, 3]`` with a key frame at every other one, and opens them.

        Raises:
            MissingExtraError: PyAV is not installed.
        """
        height, width = images.shape[1:3]
        with VideoWriter(path, height, width, _RATE_HZ, codec, crf=None) as video:
            for image in images:
                video.append(image)
        return cls(path)

    def read(self, start: int) -> NDArray[np.uint8]:
        """Returns a window from frame ``start`` on: seeks the key frame before it and decodes from there."""
        self._container.seek(start * self._ticks, stream=self._stream)
        frames = []
        for frame in self._container.decode(self._stream):
            if frame.pts >= start * self._ticks:
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == self._window:
                    break
        return np.stack(frames)
