"""Saving a recorded episode, beside encoding and writing it when it ends.

An episode of a minute with two cameras of 640 x 480 at 30 Hz and a force sensor at 1 kHz, recorded in real
time: what the operator waits for at its end. The reference keeps all in memory and appends it at the end.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS, now_ns
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.recording import RecordedEpisode, Recorder, Samples
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, Stream
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks.store import camera_like

CAMERA_HZ, ARM_HZ, WRENCH_HZ = 30, 200, 1000
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", unit="N, N m", rate_hz=WRENCH_HZ)


def run(
    *, seconds: float = 60.0, size: tuple[int, int] = (480, 640), codecs: Sequence[str] = ("jpeg", "lz4")
) -> Iterator[Row]:
    """Measures saves of each codec.

    Args:
        seconds: length of the episode.
        size: height and width of the images [px].
        codecs: how the images are stored.
    """
    frames = np.ascontiguousarray(camera_like(30, max(size))[:, : size[0], : size[1]])
    with tempfile.TemporaryDirectory() as folder:
        for codec in codecs:
            paths = [Path(folder) / f"{codec}-{name}" for name in ("live", "later")]
            live, later = (_new_store(path, size, codec) for path in paths)
            processor = time.process_time()
            saved = _record(live, frames, seconds)
            busy = (time.process_time() - processor) / seconds
            _check_complete(saved, seconds)
            episode = live.episode(0)
            streams = {key: Stream(stream.value, stream.time_ns) for key, stream in episode.streams.items()}
            started = time.monotonic()
            later.append_episode(episode.data, streams=streams)
            at_the_end = time.monotonic() - started
            saving, appending = saved.save_s * 1e3, at_the_end * 1e3
            yield Row(f"record_save_{codec}", saving, appending, "ms", "encoding at the end")
            yield Row(f"record_processor_{codec}", busy, os.cpu_count() or 1, "cores", "the cores there are")


class _Device:
    """Brings, whenever it is asked, what is due at its rate."""

    def __init__(self, rate_hz: int, pools: Mapping[str, NDArray]) -> None:
        self.keys, self._rate_hz, self._pools = list(pools), rate_hz, pools
        self._begun_ns, self._brought = now_ns(), 0

    def read(self) -> Samples:
        due = (now_ns() - self._begun_ns) * self._rate_hz // NANOSECONDS
        numbers = np.arange(self._brought, due)
        self._brought = due
        times = self._begun_ns + numbers * NANOSECONDS // self._rate_hz
        return Samples(times, {key: pool[numbers % len(pool)] for key, pool in self._pools.items()})


def _new_store(path: Path, size: tuple[int, int], codec: str) -> DemoStore:
    keys = ("camera0_rgb", "camera1_rgb")
    cameras = [Feature(key, (*size, 3), "uint8", kind="rgb", rate_hz=CAMERA_HZ) for key in keys]
    position = Feature("robot0_eef_pos", (3,), kind="position", unit="m", rate_hz=ARM_HZ)
    spec = Spec((*cameras, position), (Feature("action", (3,), rate_hz=ARM_HZ),))
    codecs = {camera.key: codec for camera in cameras}
    return DemoStore.create(path, spec, rate_hz=CAMERA_HZ, codecs=codecs, streams=[WRENCH])


def _record(store: DemoStore, frames: NDArray[np.uint8], seconds: float) -> RecordedEpisode:
    random = np.random.default_rng(0)
    arm = {key: random.normal(size=(997, 3)).astype(np.float32) for key in ("robot0_eef_pos", "action")}
    wrench = random.normal(size=(997, 6)).astype(np.float32)
    sources = [
        _Device(CAMERA_HZ, {"camera0_rgb": frames}),
        _Device(CAMERA_HZ, {"camera1_rgb": frames[::-1]}),
        _Device(ARM_HZ, arm),
        _Device(WRENCH_HZ, {WRENCH.key: wrench}),
    ]
    with Recorder(store, sources) as recorder:
        recorder.start()
        time.sleep(seconds)
        return recorder.save()


def _check_complete(saved: RecordedEpisode, seconds: float) -> None:
    """A recording that lacks something is no measurement."""
    wanted = {"steps": 0.9 * CAMERA_HZ * seconds - CAMERA_HZ, WRENCH.key: 0.9 * WRENCH_HZ * seconds}
    found = {"steps": saved.steps, WRENCH.key: saved.samples[WRENCH.key]}
    if saved.missing or saved.fault or any(found[key] < wanted[key] for key in wanted):
        raise ConfigError(f"The recording is not complete ({saved}); this machine is too busy to measure on.")
