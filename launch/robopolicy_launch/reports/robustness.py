"""What a report tells of a sweep over the size of a disturbance."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from robopolicy_launch.reports import charts

Row = Mapping[str, float | None]

TOP = 1.05  # of the chart: shares end at 1, and actions that move by more than their spread are no use


def read(folder: Path) -> list[Row]:
    """Returns the rows of ``robustness.csv`` without its empty columns; nothing where there is no file."""
    path = folder / "robustness.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {key: float(text) if text else None for key, text in row.items()} for row in csv.DictReader(file)
        ]
    used = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    return [{key: row[key] for key in used} for row in rows]


def chart(rows: Sequence[Row], unit: str) -> charts.LineChart:
    """Returns success and score over the size, with the change of the actions, measured and certified.

    Args:
        rows: as of ``read``.
        unit: of the size.
    """

    def line(key: str) -> list[tuple[float, float]]:
        points = [(row["size"], row.get(key)) for row in rows]
        return [(size, value) for size, value in points if size is not None and value is not None]

    def whiskers(key: str) -> list[tuple[float, float, float]]:
        lows, highs = line(f"{key}_low"), line(f"{key}_high")
        return [(size, low, high) for (size, low), (_, high) in zip(lows, highs, strict=True)]

    shares = {"success": line("success"), "score": line("score")}
    changes = {"actions moved": line("chunk_max"), "certified": line("certified")}
    drawn = {
        name: [(0.0, 0.0), *(point for point in points if point[1] <= TOP)]
        for name, points in changes.items()
        if points
    }
    return charts.LineChart(
        "Under disturbance",
        f"size of the disturbance [{unit}]",
        "share",
        {**shares, **drawn},
        y_range=(0.0, TOP),
        intervals={"success": whiskers("success"), "score": whiskers("score")},
    )


def reading(rows: Sequence[Row]) -> str:
    """Returns how the chart is to be read."""
    if "chunk_max" not in rows[0]:
        return "The whiskers are 95 % intervals. Every size has the same seeds."
    text = (
        "The whiskers are 95 % intervals. Every size has the same seeds. Actions moved: the largest change "
        "of a chunk, root mean square over its normalized numbers."
    )
    if "certified" not in rows[0]:
        return f"{text} The policy has no certificate, so nothing bounds this change."
    worst = max(row["margin"] or 0.0 for row in rows)
    return f"{text} No chunk moved by more than {worst:.1%} of what is certified for its own disturbance."
