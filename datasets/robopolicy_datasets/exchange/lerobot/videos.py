"""Video files: frames by their timestamps, and the writing of new files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.errors import ConfigError, missing_extra, nearest_names
from robopolicy_datasets.exchange.lerobot.folder import damaged

DEFAULT_CRF: Mapping[str, int] = {"libsvtav1": 30, "libx264": 23}
"""The video codecs that we write, with their default quality."""
_CODEC_OPTIONS = {"libsvtav1": {"preset": "12"}, "libx264": {"preset": "veryfast"}}
_KEY_FRAME_DISTANCE = "2"  # LeRobot's: any frame is at most one other away from a key frame
_MAX_CRF = {"libsvtav1": 63, "libx264": 51}


def load_av() -> ModuleType:
    """Imports PyAV.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_extra("Reading and writing LeRobot videos", "formats") from error
    return av


def read_frames(
    path: Path, time_ns: NDArray[np.int64], tolerance_ns: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Decodes the frames at given times.

    Args:
        path: an mp4 file.
        time_ns: int64 ``[T]``, strictly increasing, times in the video [ns].
        tolerance_ns: how far a frame may be from its time [ns]; less than half a frame's duration.
        height: of a frame, in pixels.
        width: of a frame, in pixels.

    Returns:
        uint8 ``[T, height, width, 3]``, RGB.

    Raises:
        StoreError: the video is damaged, of another size, or has no frame at one of the times.
    """
    with _opened(path) as (container, stream):
        if stream.codec_context is None:
            raise damaged(path, "its codec is not known")
        _check_size(path, stream.height, stream.width, height, width)
        # A decoder believes the stream and not the container; this keeps it from allocating more, and from
        # hiding what it cannot decode.
        stream.codec_context.options = {
            "max_pixels": str(max(1 << 16, 2 * height * width)),
            "err_detect": "explode",
        }
        stream.thread_type = "AUTO"
        out = np.empty((len(time_ns), height, width, 3), np.uint8)
        if time_ns[0] > tolerance_ns:
            start = Fraction(int(time_ns[0]), NANOSECONDS) / stream.time_base
            container.seek(int(start), stream=stream)
        step = 0
        for frame in container.decode(stream):
            if frame.pts is None:
                raise damaged(path, "a frame has no time")
            at = round(frame.pts * stream.time_base * NANOSECONDS)
            if at < time_ns[step] - tolerance_ns:
                continue
            if at > time_ns[step] + tolerance_ns:
                break
            _check_size(path, frame.height, frame.width, height, width)
            if frame.is_corrupt:
                raise damaged(path, f"the frame at {at / NANOSECONDS:.6f} s is corrupt")
            out[step] = frame.to_ndarray(format="rgb24")
            step += 1
            if step == len(time_ns):
                return out
        raise damaged(
            path,
            f"it has no frame within {tolerance_ns / NANOSECONDS:g} s of {time_ns[step] / NANOSECONDS:.6f} s "
            f"(step {step} of the episode). If its timestamps are less exact, raise format.tolerance_s",
        )


class VideoWriter:
    """Writes one mp4 file, frame by frame.

    Args:
        path: the new file.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        rate_hz: frames per second.
        codec: one of ``DEFAULT_CRF``.
        crf: constant rate factor; ``None`` for the codec's default.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, height: int, width: int, rate_hz: float, codec: str, crf: int | None
    ) -> None:
        self.path = path
        self.frames = 0
        os.environ.setdefault("SVT_LOG", "1")  # errors only; libsvtav1 has no other way to be quiet
        self._av: Any = load_av()
        self._container = self._av.open(str(path), "w", format="mp4")
        quality = DEFAULT_CRF[codec] if crf is None else crf
        options = {**_CODEC_OPTIONS[codec], "crf": str(quality), "g": _KEY_FRAME_DISTANCE}
        rate = Fraction(rate_hz).limit_denominator(10_000)
        self._stream: Any = self._container.add_stream(codec, rate=rate, options=options)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = pixel_format(height, width, codec)
        self._period = self._stream.codec_context.time_base = 1 / rate
        with _own_scheduling():
            self._stream.codec_context.open()

    def append(self, image: NDArray[np.uint8]) -> None:
        """Appends a frame, uint8 ``[height, width, 3]``, RGB.

        Raises:
            OSError: it cannot be written.
        """
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, self._period
        self._encode(frame)
        self.frames += 1

    def close(self) -> None:
        """Writes what is left and ends the file.

        Raises:
            OSError: it cannot be written.
        """
        self._encode(None)
        self._container.close()

    def _encode(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except self._av.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()


@contextmanager
def _own_scheduling() -> Iterator[None]:
    """Gives the calling thread its scheduling back: libsvtav1, run by root, puts it under SCHED_FIFO at 99,
    above all control loops, and so every process that is started afterwards.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def pixel_format(height: int, width: int, codec: str) -> str:
    """Returns the pixel format; odd sizes have no half-size colours in H.264."""
    return "yuv444p" if codec == "libx264" and (height % 2 or width % 2) else "yuv420p"


def check_codec(codec: str, crf: int | None) -> None:
    """Checks the settings of the writing of images.

    Raises:
        ConfigError: no such codec, or its quality is out of range.
        MissingExtraError: PyAV is not installed.
    """
    if codec == "png" and crf is None:
        return
    if codec not in DEFAULT_CRF:
        problem = "png loses nothing and takes no crf" if codec == "png" else f"codec is '{codec}'"
        options = ", ".join(nearest_names(codec, [*DEFAULT_CRF, "png"]))
        raise ConfigError(f"Images cannot be written: {problem}. Allowed codecs: {options}.")
    if crf is not None and not 0 <= crf <= _MAX_CRF[codec]:
        raise ConfigError(f"The crf is {crf}; {codec} takes 0 (best) to {_MAX_CRF[codec]} (smallest).")
    av = load_av()
    try:
        av.codec.Codec(codec, "w")
    except ValueError as error:
        raise ConfigError(
            f"The installed PyAV cannot encode with {codec}. Take another codec, or PyAV's own wheel."
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = load_av()
    try:
        # The format is given: other demuxers (playlists) would open files that a video names.
        with av.open(str(path.resolve()), format="mp4", options={"protocol_whitelist": "file"}) as container:
            if len(container.streams.video) != 1:
                raise damaged(path, f"it has {len(container.streams.video)} video streams; one is expected")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise damaged(path, error) from error


def _check_size(path: Path, found_height: int, found_width: int, height: int, width: int) -> None:
    if (found_height, found_width) != (height, width):
        raise damaged(
            path, f"it is {found_height} x {found_width}, but meta/info.json says {height} x {width}"
        )
