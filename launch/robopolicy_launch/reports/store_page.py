"""The page of a demo store: images and plots of its episodes in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.doctor.evidence import stream_name, streamed
from robopolicy_datasets.doctor.motion import flat, groups
from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.summary import HEADER, StoreSummary, summarise
from robopolicy_launch.console import format_value
from robopolicy_launch.reports import charts, page

IMAGE_WIDTH = 128  # px, in the page
JPEG_QUALITY = 80
MAX_COMPONENTS = 16  # of a feature drawn one by one; of more, only lowest, mean and highest
EVENT_HEADER = ("event", "from [s]", "to [s]", "text", "author")
INFO_HEADER = ("task", "success", "operator", "embodiment", "steps", "duration [s]", "recorded")


def write_store_page(
    store: DemoStore,
    path: Path,
    episodes: Sequence[int],
    *,
    frames: int = 12,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the page; an episode that cannot be read shows why.

    Args:
        store: the store.
        path: the HTML file.
        episodes: numbers of the episodes to show.
        frames: images of each camera in an episode, evenly spread.
        progress: called with (episodes done, episodes in all).
    """
    summary = summarise(store)
    features = page.folded("Features", page.table(summary.features(), HEADER))
    sections = [page.Section("Store", page.paragraph(_extent(summary, len(episodes))) + features)]
    for done, episode in enumerate(episodes, start=1):
        sections.append(page.Section(f"Episode {episode}", _episode(store, episode, frames)))
        if progress is not None:
            progress(done, len(episodes))
    return page.write_page(
        path, title=store.path.name, subtitle=str(store.path), figures=_cards(summary), sections=sections
    )


def _cards(summary: StoreSummary) -> dict[str, str]:
    figures = {"episodes": format_value(summary.episodes), "steps": format_value(summary.steps)}
    if summary.hours is not None:
        figures |= {"hours": format_value(summary.hours), "Hz": format_value(summary.rate_hz)}
    if summary.success_rate is not None:
        figures["success of the judged"] = f"{summary.success_rate:.1%}"
    return figures


def _extent(summary: StoreSummary, shown: int) -> str:
    if shown == summary.episodes:
        return "All episodes are shown."
    return f"{shown} of {summary.episodes} episodes are shown. Choose others with episodes=..."


def _episode(store: DemoStore, episode: int, frames: int) -> str:
    """Returns the content of an episode's section."""
    ends = store.episode_ends
    start, end = (int(ends[episode - 1]) if episode else 0), int(ends[episode])
    try:
        seconds = _seconds(store, start, end)
        parts = [_info(store, episode, end - start, seconds), _events(store, episode, start)]
        for feature in store.spec.features:
            if feature.is_image and len(feature.shape) in (2, 3):
                parts.append(page.figure(feature.key, _strip(store, feature, start, end, seconds, frames)))
        drawn = [
            page.figure(chart.title, charts.to_svg(chart))
            for chart in _charts(store, episode, start, end, seconds)
        ]
    except StoreError as error:
        return page.paragraph(f"This episode cannot be read: {error}")
    return "".join(parts) + f'<div class="charts">{"".join(drawn)}</div>'


def _charts(
    store: DemoStore, episode: int, start: int, end: int, seconds: NDArray[np.float64]
) -> list[charts.LineChart]:
    """Returns the plots of all features and streams of an episode, over the same time."""
    drawn = [
        chart
        for feature in store.spec.features
        if not streamed(feature)
        for chart in feature_charts(feature, store.rows(feature.key, start, end), seconds)
    ]
    for feature in store.streams:
        stream = store.stream(feature.key, episode)
        if len(stream.time_ns) and not streamed(feature):
            named = replace(feature, key=stream_name(store, feature))
            drawn += feature_charts(named, stream.value, _since_start(store, stream.time_ns, start))
    bands = []
    for event in store.events(episode):
        times = _since_start(store, np.array([event.start_ns, event.end_ns]), start)
        bands.append((f"{event.kind} {event.text}", *times.tolist()))
    every = [x for chart in drawn for points in chart.lines.values() for x, _ in (points[0], points[-1])]
    span = (min(every), max(every)) if every and min(every) < max(every) else None
    return [replace(chart, bands=bands, x_range=span) for chart in drawn]


def _since_start(store: DemoStore, time_ns: NDArray[np.int64], start: int) -> NDArray[np.float64]:
    """Returns times since the step in row ``start`` [s]."""
    return (time_ns - store.rows(TIME_KEY, start, start + 1)[0]) / NANOSECONDS


def _events(store: DemoStore, episode: int, start: int) -> str:
    """Returns a table of what happened in an episode."""
    rows = []
    for event in store.events(episode):
        first, last = _since_start(store, np.array([event.start_ns, event.end_ns]), start).tolist()
        rows.append((event.kind, first, last, event.text, event.author))
    return page.table(rows, EVENT_HEADER) if rows else ""


def _seconds(store: DemoStore, start: int, end: int) -> NDArray[np.float64]:
    """Returns the time ``[T]`` of each step since the first [s]; the step's number where nothing says it."""
    if store.has_time:
        return _since_start(store, store.rows(TIME_KEY, start, end), start)
    return np.arange(end - start) / (store.rate_hz or 1.0)


def _info(store: DemoStore, episode: int, length: int, seconds: NDArray[np.float64]) -> str:
    info = store.episode_info(episode)
    recorded = "-"
    if info.wall_time_ns and store.has_time:
        start = int(store.episode_ends[episode]) - length
        wall_ns = info.wall_time_ns + int(store.rows(TIME_KEY, start, start + 1)[0])
        recorded = f"{datetime.fromtimestamp(wall_ns / NANOSECONDS, UTC):%Y-%m-%d %H:%M} UTC"
    duration = float(seconds[-1])
    row = (info.task, info.success, info.operator, info.embodiment, length, duration, recorded)
    return page.table([row], INFO_HEADER)


def _strip(
    store: DemoStore, feature: Feature, start: int, end: int, seconds: NDArray[np.float64], frames: int
) -> str:
    """Returns images of one camera, evenly spread over the episode."""
    steps = np.unique(np.linspace(0, end - start - 1, frames).round().astype(int)).tolist()
    images = [store.rows(feature.key, start + step, start + step + 1)[0] for step in steps]
    farthest = max((float(np.nanmax(image, initial=0.0)) for image in images), default=0.0)
    parts = []
    for step, image in zip(steps, images, strict=True):
        shown = image if feature.kind == "rgb" else _grey(image, farthest)
        parts.append((to_jpeg(shown), f"{seconds[step]:.2f} s"))
    return page.image_strip(parts, feature.key)


def _grey(depth: NDArray[Any], farthest: float) -> NDArray[np.uint8]:
    """Returns distances ``[H, W, ...]`` as grey values, the farthest white."""
    near = np.nan_to_num(np.asarray(depth, np.float64).reshape(*depth.shape[:2], -1)[..., 0], posinf=0.0)
    return np.clip(near * (255.0 / farthest if farthest > 0 else 0.0), 0, 255).astype(np.uint8)


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encodes an image ``[H, W, 3]`` (RGB) or ``[H, W]``, at most ``IMAGE_WIDTH`` wide."""
    height, width = image.shape[:2]
    if width > IMAGE_WIDTH:
        size = (IMAGE_WIDTH, max(1, round(height * IMAGE_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    order = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return bytes(cv2.imencode(".jpg", order, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def feature_charts(
    feature: Feature, values: NDArray[Any], seconds: NDArray[np.float64]
) -> Iterator[charts.LineChart]:
    """Yields plots over time of one feature, all of one episode over the same time.

    Args:
        feature: what the values are.
        values: ``[T, *shape]``.
        seconds: ``[T]`` the time of each step [s].
    """
    data = flat(values)
    if data.shape[1] > MAX_COMPONENTS:
        lines = {"lowest": data.min(axis=1), "mean": data.mean(axis=1), "highest": data.max(axis=1)}
        title = f"{feature.key} ({data.shape[1]} components)"
        yield _chart(title, feature.unit, lines, seconds)
        return
    for part, _ in groups(feature):
        for first in range(part.start, part.stop, len(charts.COLOURS)):
            last = min(first + len(charts.COLOURS), part.stop) - 1
            lines = {str(column): data[:, column] for column in range(first, last + 1)}
            numbers = f"[{first}]" if first == last else f"[{first}-{last}]"
            title = feature.key if last - first + 1 == data.shape[1] else f"{feature.key} {numbers}"
            yield _chart(title, feature.unit, lines, seconds)


def _chart(
    title: str, unit: str, lines: dict[str, NDArray[np.float64]], seconds: NDArray[np.float64]
) -> charts.LineChart:
    points = {
        name: list(zip(seconds.tolist(), values.tolist(), strict=True)) for name, values in lines.items()
    }
    return charts.LineChart(title, "time [s]", unit, points)
