"""Charts, described once and drawn twice: as inline SVG for the report, as PNG for ``plots/``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 26, 42  # the frame, at which page.html cuts lines
MAX_POINTS = 400  # a line's points in the SVG; more would only make the page heavy
BINS = 48
COLOURS = ("#3b76d6", "#d9772b", "#2f9e77", "#a35bc4")
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LineChart:
    """Lines over a common axis.

    Attributes:
        title: above the chart.
        x_label, y_label: at the axes, with units.
        lines: name to points ``(x, y)``; points that are not finite are left out.
        logarithmic: whether the y axis is logarithmic.
        y_range: fixed range of the y axis, beyond which lines are cut; or None to fit the lines.
        x_range: of the x axis, likewise.
        bands: (name, first x, last x) of parts to be shaded.
        intervals: name of a line to its intervals ``(x, low, high)``, drawn as whiskers.
        x_names: of x = 1, 2, ..., where these are things of which no one lies between others: dots without
            lines.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Points]
    logarithmic: bool = False
    y_range: tuple[float, float] | None = None
    x_range: tuple[float, float] | None = None
    bands: Sequence[tuple[str, float, float]] = ()
    intervals: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)
    x_names: Sequence[str] = ()


@dataclass(frozen=True)
class BarChart:
    """Counts in bins, with marked values.

    Attributes:
        title: above the chart.
        x_label: of the binned quantity, with its unit.
        edges: ``[K + 1]`` edges of the bins.
        counts: ``[K]`` counts.
        marks: name to value, drawn as vertical lines.
        logarithmic: whether the counts are drawn on a logarithmic axis.
    """

    title: str
    x_label: str
    edges: Sequence[float]
    counts: Sequence[float]
    marks: Mapping[str, float] = field(default_factory=dict)
    logarithmic: bool = False


def histogram(
    title: str, x_label: str, values: Sequence[float] | NDArray, marks: Mapping[str, float]
) -> BarChart:
    """Bins values evenly from zero (or their minimum, where that is negative) to their maximum."""
    data = np.asarray(values, float)
    data = data[np.isfinite(data)]
    low, high = (min(0.0, data.min()), data.max()) if data.size else (0.0, 1.0)
    room = 2 * BINS * float(np.spacing(max(abs(low), abs(high))))  # so that float64 tells the edges apart
    if high - low < room:
        high = low + max(1.0, room)
    counts, edges = np.histogram(data, bins=BINS, range=(low, high))
    return BarChart(title, x_label, edges.tolist(), counts.tolist(), marks)


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels and chooses round ticks."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1,) if len(decades) > 4 else (1, 2, 5)
            values = [step * 10.0**decade for decade in decades for step in steps]
        else:
            raw = (self.high - self.low) / 5
            unit = 10 ** math.floor(math.log10(raw))
            step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
            first = math.ceil(self.low / step - 1e-9)
            values = [index * step for index in range(first, first + 12)]
        slack = 1e-9 * abs(self.high - self.low)
        return [value for value in values if self.low - slack <= value <= self.high + slack]


def _span(values: Sequence[float], logarithmic: bool = False) -> tuple[float, float]:
    """Returns a range that holds the values and is not empty."""
    usable = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = (min(usable), max(usable)) if usable else (0.1, 1.0)
    if logarithmic:
        return (low / 1.15, high * 1.15)
    margin = 0.04 * (high - low) or max(abs(high), 1.0) * 0.05
    return (low - margin, high + margin)


def _finite(points: Points, logarithmic: bool) -> list[tuple[float, float]]:
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not logarithmic)]
    return kept if len(kept) <= MAX_POINTS else _thinned(kept)


def _thinned(points: Points) -> list[tuple[float, float]]:
    """Returns the lowest and the highest point of each of ``MAX_POINTS / 2`` parts, so no peak is lost."""
    bounds = np.linspace(0, len(points), MAX_POINTS // 2 + 1).astype(int).tolist()
    kept = []
    for first, last in itertools.pairwise(bounds):
        part = sorted(points[first:last], key=lambda point: point[1])
        kept += sorted({part[0], part[-1]})
    return kept


def to_svg(chart: LineChart | BarChart) -> str:
    """Returns the chart as an SVG element; colours come from the page's style sheet."""
    body = _lines_svg(chart) if isinstance(chart, LineChart) else _bars_svg(chart)
    name = escape(chart.title)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}" class="chart">{body}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _frame(x: _Axis, y: _Axis, x_label: str, y_label: str, x_names: Sequence[str] = ()) -> str:
    parts = []
    for tick in y.ticks():
        level = y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
        )
        parts.append(_text(LEFT - 6, level + 4, _short(tick), "end"))
    x_ticks: list[tuple[float, str]] = [(tick, _short(tick)) for tick in x.ticks()]
    if x_names:
        x_ticks = [(float(number), name) for number, name in enumerate(x_names, start=1)]
    parts += [_text(x(tick), HEIGHT - BOTTOM + 17, name, "middle") for tick, name in x_ticks]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle"))
    parts.append(_text(4, 12, y_label))
    return "".join(parts)


def _short(tick: float) -> str:
    size = abs(tick)
    if size >= 1e6 or 0 < size < 1e-3:
        mantissa, _, exponent = f"{tick:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{tick:,.0f}" if size >= 1000 else f"{tick:.3g}"


def _axes(
    x_range: tuple[float, float], y_range: tuple[float, float], logarithmic: bool
) -> tuple[_Axis, _Axis]:
    return _Axis(*x_range, LEFT, WIDTH - RIGHT), _Axis(*y_range, HEIGHT - BOTTOM, TOP, logarithmic)


def _lines_svg(chart: LineChart) -> str:
    lines = {name: _finite(points, chart.logarithmic) for name, points in chart.lines.items()}
    every = [point for points in lines.values() for point in points]
    x, y = _axes(
        chart.x_range or _span([point[0] for point in every]),
        chart.y_range or _span([point[1] for point in every], chart.logarithmic),
        chart.logarithmic,
    )
    parts = [_band(x, *band) for band in chart.bands]
    parts.append(_frame(x, y, chart.x_label, chart.y_label, chart.x_names))
    for index, (name, points) in enumerate(lines.items()):
        for at, low, high in chart.intervals.get(name, ()):
            ends = f'x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"'
            parts.append(f'<line class="line whisker s{index % len(COLOURS)}" {ends}/>')
        if not chart.x_names:
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
            parts.append(f'<polyline class="line s{index % len(COLOURS)}" points="{path}"/>')
        if len(points) <= 60:
            parts += [
                f'<circle class="dot s{index % len(COLOURS)}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
                f"<title>{a:.5g}: {b:.4g}</title></circle>"
                for a, b in points
                if y.low <= b <= y.high
            ]
    parts += _legend(list(lines))
    return "".join(parts)


def _band(x: _Axis, name: str, first: float, last: float) -> str:
    left, right = (min(max(x(value), LEFT), WIDTH - RIGHT) for value in (first, last))
    return (
        f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{max(1.5, right - left):.1f}" '
        f'height="{HEIGHT - BOTTOM - TOP}"><title>{escape(name)}</title></rect>'
    )


def _legend(names: Sequence[str]) -> list[str]:
    if len(names) < 2:
        return []
    parts, right = [], float(WIDTH - RIGHT)
    for index, name in reversed(list(enumerate(names))):
        right -= 7.2 * len(name) + 34
        parts.append(
            f'<rect class="swatch s{index % len(COLOURS)}" x="{right:.0f}" y="6" width="12" height="4"/>'
        )
        parts.append(_text(right + 17, 12, name))
    return parts


def _bars_svg(chart: BarChart) -> str:
    top = max([*chart.counts, 1])
    marks = [mark for mark in chart.marks.values() if math.isfinite(mark)]
    x_range = _span([chart.edges[0], chart.edges[-1], *marks])
    x, y = _axes(x_range, (0.5 if chart.logarithmic else 0.0, top * 1.15), chart.logarithmic)
    parts = [_frame(x, y, chart.x_label, "count")]
    for low, high, count in zip(chart.edges, chart.edges[1:], chart.counts, strict=False):
        if count:
            width, height = max(x(high) - x(low) - 1, 1), HEIGHT - BOTTOM - y(count)
            parts.append(
                f'<rect class="bar" x="{x(low):.1f}" y="{y(count):.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"><title>{low:.4g} to {high:.4g}: {count:g}</title></rect>'
            )
    for index, (name, value) in enumerate(chart.marks.items()):
        if math.isfinite(value):
            at = x(value)
            shift, anchor = (-5, "end") if at > 0.75 * WIDTH else (5, "start")
            parts.append(
                f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            )
            parts.append(_text(at + shift, TOP + 10 + 14 * index, f"{name} {value:.3g}", anchor))
    return "".join(parts)


def write_png(chart: LineChart | BarChart, path: Path) -> Path:
    """Draws the chart with matplotlib.

    Args:
        chart: what to draw.
        path: the PNG file; its folder exists.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if isinstance(chart, LineChart):
        for (name, points), colour in zip(chart.lines.items(), COLOURS * 8, strict=False):
            kept = _finite(points, chart.logarithmic)
            style = "o" if chart.x_names else "-"
            axes.plot([x for x, _ in kept], [y for _, y in kept], style, color=colour, label=name)
            for at, low, high in chart.intervals.get(name, ()):
                axes.vlines(at, low, high, color=colour, alpha=0.6)
        axes.set_ylabel(chart.y_label)
        for _, first, last in chart.bands:
            axes.axvspan(first, last, color="#888888", alpha=0.25)
        axes.set_ylim(chart.y_range)
        axes.set_xlim(chart.x_range)
        if chart.x_names:
            axes.set_xticks(range(1, len(chart.x_names) + 1), chart.x_names)
        if len(chart.lines) > 1:
            axes.legend(frameon=False)
    else:
        axes.stairs(chart.counts, chart.edges, fill=True, color=COLOURS[0])
        for name, value in chart.marks.items():
            axes.axvline(value, color="#666666", linestyle="--", linewidth=1)
            axes.annotate(
                f"{name} {value:.3g}", (value, 0.95), xycoords=("data", "axes fraction"), fontsize=8
            )
        axes.set_ylabel("count")
    if chart.logarithmic:
        axes.set_yscale("log")
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x_label)
    axes.grid(alpha=0.25)
    figure.savefig(path)
    return path
