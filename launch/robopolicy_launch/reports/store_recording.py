"""The episodes of a demo store as a recording that Rerun's viewer shows (``rerun view.rrd``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.doctor.evidence import stream_name, streamed
from robopolicy_datasets.doctor.motion import flat
from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.codecs import encode_jpeg
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.layout import TIME_KEY

TIMELINE = "time"  # since the episode's first step
JPEG_QUALITY = 90
BLOCK_BYTES = 64 << 20  # decoded images in memory at a time


def write_store_recording(
    store: DemoStore,
    path: Path,
    episodes: Sequence[int],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the recording: each episode below ``episode_N/``, its time from its first step.

    Images are written as JPEG of quality 90, numbers as one series a component, streams at their own times,
    events as texts. An episode that cannot be read says why.

    Args:
        store: the store.
        path: the ``.rrd`` file; replaced where it is there.
        episodes: numbers of the episodes to show.
        progress: called with (episodes done, episodes in all).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb"):
            pass  # Rerun's own message for a path that cannot be written names neither path nor reason
        with rerun.RecordingStream("robopolicy") as recording:
            recording.save(partial)
            recording.set_log_time_enabled(False)
            recording.send_recording_name(store.path.name)
            for done, episode in enumerate(episodes, start=1):
                _write_episode(recording, store, episode)
                if progress is not None:
                    progress(done, len(episodes))
            recording.flush()
            recording.disconnect()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write_episode(recording: rerun.RecordingStream, store: DemoStore, episode: int) -> None:
    ends = store.episode_ends
    start, end = (int(ends[episode - 1]) if episode else 0), int(ends[episode])
    top = f"episode_{episode}"
    try:
        time_ns = _time_ns(store, start, end)
        first_ns = int(time_ns[0])
        for feature in store.spec.features:
            if feature.is_image:
                _write_images(recording, f"{top}/{feature.key}", store, feature, start, time_ns)
            elif not streamed(feature):
                values = store.rows(feature.key, start, end)
                _write_series(recording, f"{top}/{feature.key}", values, time_ns - first_ns)
        for feature in store.streams:
            samples = store.stream(feature.key, episode)
            entity = f"{top}/{stream_name(store, feature)}"
            _write_series(recording, entity, samples.value, samples.time_ns - first_ns)
        _write_texts(recording, top, store, episode, first_ns)
    except StoreError as error:
        told = f"This episode cannot be read: {error}"
        recording.log(top, rerun.TextDocument(told), static=True)


def _time_ns(store: DemoStore, start: int, end: int) -> NDArray[np.int64]:
    """Returns the time ``[T]`` of each step [ns]; by the rate where nothing says it."""
    if store.has_time:
        return store.rows(TIME_KEY, start, end)
    return np.round(np.arange(end - start) * (NANOSECONDS / (store.rate_hz or 1.0))).astype(np.int64)


def _column(time_ns: NDArray[np.int64]) -> list[rerun.TimeColumn]:
    return [rerun.TimeColumn(TIMELINE, duration=time_ns.astype("timedelta64[ns]"))]


def _write_series(
    recording: rerun.RecordingStream, entity: str, values: NDArray[Any], time_ns: NDArray[np.int64]
) -> None:
    """Writes ``values [N, *shape]`` as one series a component."""
    numbers = flat(values)
    names = [str(component) for component in range(numbers.shape[1])]
    recording.log(entity, rerun.SeriesLines(names=names), static=True)
    if len(numbers):
        columns = rerun.Scalars.columns(scalars=numbers.reshape(-1))
        recording.send_columns(entity, _column(time_ns), columns.partition([numbers.shape[1]] * len(numbers)))


def _write_images(
    recording: rerun.RecordingStream,
    entity: str,
    store: DemoStore,
    feature: Feature,
    start: int,
    time_ns: NDArray[np.int64],
) -> None:
    """Writes the images of a camera, some of them at a time."""
    block = max(1, BLOCK_BYTES // (feature.size * np.dtype(feature.dtype).itemsize))
    for first in range(0, len(time_ns), block):
        last = min(first + block, len(time_ns))
        images = store.rows(feature.key, start + first, start + last)
        if feature.kind == "rgb":
            blobs = [encode_jpeg(image, JPEG_QUALITY) for image in images]
            columns = rerun.EncodedImage.columns(blob=blobs, media_type=["image/jpeg"] * len(blobs))
            recording.send_columns(entity, _column(time_ns[first:last] - time_ns[0]), columns)
            continue
        for image, moment in zip(images, time_ns[first:last] - time_ns[0], strict=True):
            recording.set_time(TIMELINE, duration=moment.astype("timedelta64[ns]"))
            recording.log(entity, rerun.DepthImage(image.reshape(image.shape[:2]), meter=1.0))


def _write_texts(
    recording: rerun.RecordingStream, top: str, store: DemoStore, episode: int, first_ns: int
) -> None:
    """Writes what the episode was, and what happened in it."""
    info = store.episode_info(episode)
    told = {
        "task": info.task,
        "success": info.success,
        "operator": info.operator,
        "embodiment": info.embodiment,
    }
    lines = [f"{name}: {value}" for name, value in told.items() if value not in ("", None)]
    recording.log(top, rerun.TextDocument("\n".join(lines)), static=True)
    for event in store.events(episode):
        recording.set_time(TIMELINE, duration=np.timedelta64(event.start_ns - first_ns, "ns"))
        seconds = (event.end_ns - event.start_ns) / NANOSECONDS
        parts = [event.kind, f"for {seconds:g} s" if seconds else "", event.text, event.author]
        recording.log(f"{top}/events", rerun.TextLog(", ".join(filter(None, parts))))
