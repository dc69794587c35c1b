"""Writes videos of episodes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, missing_extra

QUALITY = "23"
"""x264's constant rate factor: small files without visible loss."""


def require_encoder() -> None:
    """Asks for PyAV before the episodes run whose videos need it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("av") is None:
        raise missing_extra("Writing videos", "formats")


def write_video(path: str | Path, frames: Sequence[NDArray[np.uint8]], fps: float) -> Path:
    """Writes frames as an H.264 MP4 that browsers play (yuv420p).

    Args:
        path: of the file; missing folders are made, an existing file is replaced.
        frames: images [height, width, 3], RGB, all of one size; an odd last row or column is left out,
            because H.264 needs even sizes.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        MissingExtraError: PyAV is not installed.
        ConfigError: there are no frames, they do not fit, or fps is not positive.
    """
    require_encoder()
    import av

    height, width = _check_frames(frames, fps)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": QUALITY}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Short clips: one thread, so that the file is the same wherever it is written.
        stream.codec_context.thread_count = 1
        for image in frames:
            pixels = np.ascontiguousarray(image[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def _check_frames(frames: Sequence[NDArray[np.uint8]], fps: float) -> tuple[int, int]:
    """Returns the even height and width of the video, or raises ConfigError."""
    if not fps > 0:
        raise ConfigError(f"A video was asked for at {fps} frames per second; give a positive rate.")
    kinds = sorted({f"{image.dtype}{list(image.shape)}" for image in frames})
    if len(kinds) != 1 or frames[0].dtype != np.uint8 or frames[0].ndim != 3 or frames[0].shape[2] != 3:
        raise ConfigError(
            f"A video needs at least one frame, all uint8 [height, width, 3] of one size; given "
            f"{len(frames)} frames of {', '.join(kinds) or 'nothing'}."
        )
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    if height < 2 or width < 2:
        raise ConfigError(f"A video needs frames of at least 2 x 2 pixels; given {kinds[0]}.")
    return height, width
