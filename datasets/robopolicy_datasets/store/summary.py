"""What a store holds, in figures: the content of `robopolicy data info`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.demo_store import DemoStore

HEADER = ("key", "role", "shape", "dtype", "kind", "unit", "rate_hz", "frame", "codec")


@dataclass(frozen=True)
class StoreSummary:
    """The figures of a store.

    Attributes:
        path: the store's folder.
        episodes: committed episodes.
        steps: steps of all of them.
        hours: their duration [h]; ``None`` where the store has no rate.
        rate_hz: steps per second; 0 where it is not known.
        disk_bytes: bytes of all files.
        successes: episodes marked as successful.
        judged: episodes marked as successful or not.
        tasks: number of episodes by task text.
        shortest: steps of the shortest episode.
        median: the median number of steps.
        longest: steps of the longest episode.
        observation: the observation features.
        action: the action features.
        streams: the sensors with a rate of their own.
        samples: of each stream, by key.
        events: number of events by kind.
        codecs: how each array is encoded, by key; empty for foreign stores.
    """

    path: Path
    episodes: int
    steps: int
    hours: float | None
    rate_hz: float
    disk_bytes: int
    successes: int
    judged: int
    tasks: dict[str, int]
    shortest: int
    median: float
    longest: int
    observation: tuple[Feature, ...]
    action: tuple[Feature, ...]
    streams: tuple[Feature, ...]
    samples: Mapping[str, int]
    events: Mapping[str, int]
    codecs: Mapping[str, str]

    @property
    def success_rate(self) -> float | None:
        """The share of judged episodes that succeeded; ``None`` where none was judged."""
        return self.successes / self.judged if self.judged else None

    def figures(self) -> list[tuple[str, str]]:
        """Returns (name, value) rows for a table."""
        rate = self.success_rate
        duration = "unknown (no rate)" if self.hours is None else f"{self.hours:.3f} h at {self.rate_hz:g} Hz"
        lengths = f"{self.shortest} / {self.median:g} / {self.longest} steps (min / median / max)"
        tasks = "; ".join(f"{task or '(none given)'} ({count})" for task, count in self.tasks.items())
        events = ", ".join(f"{kind} ({count})" for kind, count in self.events.items())
        samples = ", ".join(f"{count} of {key}" for key, count in self.samples.items())
        rows = [
            ("path", str(self.path)),
            ("episodes", str(self.episodes)),
            ("steps", str(self.steps)),
            ("duration", duration),
            ("episode length", lengths),
            ("success", "not judged" if rate is None else f"{rate:.1%} ({self.successes} of {self.judged})"),
            ("tasks", tasks or "none"),
            ("samples", samples),
            ("events", events),
            ("on disk", f"{self.disk_bytes / 1e6:.1f} MB"),
        ]
        return [row for row in rows if row[1]]

    def features(self) -> list[tuple[str, ...]]:
        """Returns one row a feature, with the columns of ``HEADER``."""
        sides = (("observation", self.observation), ("action", self.action), ("stream", self.streams))
        return [self._row(feature, role) for role, side in sides for feature in side]

    def _row(self, feature: Feature, role: str) -> tuple[str, ...]:
        shape = " x ".join(map(str, feature.shape)) or "scalar"
        rate = f"{feature.rate_hz:g}" if role == "stream" else f"{feature.rate_hz or self.rate_hz:g}"
        codec = self.codecs.get(feature.key, "")
        return (
            feature.key,
            role,
            shape,
            feature.dtype,
            feature.kind,
            feature.unit,
            rate,
            feature.frame,
            codec,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain data."""
        return {
            "path": str(self.path),
            "episodes": self.episodes,
            "steps": self.steps,
            "hours": self.hours,
            "rate_hz": self.rate_hz,
            "disk_bytes": self.disk_bytes,
            "success_rate": self.success_rate,
            "episode_steps_min": self.shortest,
            "episode_steps_median": self.median,
            "episode_steps_max": self.longest,
            "tasks": dict(self.tasks),
            "samples": dict(self.samples),
            "events": dict(self.events),
            "features": [dict(zip(HEADER, row, strict=True)) for row in self.features()],
        }


def summarise(store: DemoStore) -> StoreSummary:
    """Computes the figures of ``store``; reads no steps."""
    lengths = np.diff(store.episode_ends, prepend=0)
    infos = [store.episode_info(index) for index in range(len(store))]
    judged = [info.success for info in infos if info.success is not None]
    return StoreSummary(
        path=store.path,
        episodes=len(store),
        steps=store.num_steps,
        hours=store.num_steps / store.rate_hz / 3600 if store.rate_hz else None,
        rate_hz=store.rate_hz,
        disk_bytes=_disk_bytes(store.path),
        successes=sum(judged),
        judged=len(judged),
        tasks=dict(Counter(info.task for info in infos).most_common()),
        shortest=int(lengths.min()) if len(lengths) else 0,
        median=float(np.median(lengths)) if len(lengths) else 0.0,
        longest=int(lengths.max()) if len(lengths) else 0,
        observation=store.spec.observation,
        action=store.spec.action,
        streams=store.streams,
        samples={feature.key: store.num_samples(feature.key) for feature in store.streams},
        events=dict(Counter(event.kind for event in store.events()).most_common()),
        codecs=store.codecs,
    )


def _disk_bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
