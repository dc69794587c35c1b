"""What a report tells of a sweep over the size of a disturbance."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from robopolicy_launch.console import format_value
from robopolicy_launch.reports import charts, page

Row = Mapping[str, float | None]

TOP = 1.05  # of the chart: shares end at 1, and actions that move by more than their spread are no use


def read(folder: Path) -> list[Row]:
    """Returns the rows of ``robustness.csv``, smallest first, without empty columns; none without a file."""
    path = folder / "robustness.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {key: float(text) if text else None for key, text in row.items()} for row in csv.DictReader(file)
        ]
    used = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    return [{key: row[key] for key in used} for row in sorted(rows, key=lambda row: row["size"] or 0.0)]


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

    changes = {"actions moved": line("chunk_max"), "certified": line("certified")}
    drawn = {name: [(0.0, 0.0), *points] for name, points in changes.items() if points}
    return charts.LineChart(
        "Under disturbance",
        f"size of the disturbance [{unit}]",
        "share",
        {"success": line("success"), "score": line("score"), **drawn},
        y_range=(0.0, TOP),
        intervals={"success": whiskers("success"), "score": whiskers("score")},
    )


COLUMNS = {
    "executed_mean": "actions moved: mean",
    "executed_max": "most",
    "chunk_max": "chunk moved: most",
    "certified": "certified",
    "margin": "margin",
    "errors": "failed simulations",
}
"""Headings of the columns that have no interval."""


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a table in HTML, each share with its interval."""
    shares = [key for key in ("success", "score") if key in rows[0]]
    others = [key for key in COLUMNS if any(row.get(key) for row in rows)]
    cells = [
        [row["size"], *(_with_interval(row, key) for key in shares), *(row[key] for key in others)]
        for row in rows
    ]
    names = [*(f"{key} [95 %]" for key in shares), *(COLUMNS[key] for key in others)]
    return page.table(cells, ("size", *names))


def _with_interval(row: Row, key: str) -> str:
    value, low, high = (format_value(row[f"{key}{end}"]) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def cards(rows: Sequence[Row]) -> dict[str, str]:
    """Returns success at the smallest and at the largest size, as key figures."""
    return {
        f"success at size {row['size']:g}": f"{100 * (row['success'] or 0):.3g} %"
        for row in rows[:: len(rows) - 1 or 1]
    }


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
