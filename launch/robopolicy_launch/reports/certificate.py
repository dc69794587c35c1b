"""The part of a report that shows a certificate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robopolicy_launch.reports import charts, page

PLAIN_NAMES = {
    "rounding": "movement of the chunk by rounding in float32",
    "disturbed_action": "movement of the chunk under the disturbance",
    "expert_lipschitz": "Lipschitz constant of the expert",
    "training_error": "error at the demonstrated windows",
    "covering_radius": "distance from a window to the nearest demonstrated one",
    "imitation_error": "error against the expert anywhere in the region",
    "held_out_error": "largest error at held-out windows",
    "held_out_mean": "mean error at held-out windows",
    "contraction": "contraction of the expert's closed loop",
    "input_gain": "gain from actions to the next window",
    "contraction_rate": "contraction of the policy's closed loop (stable below 1)",
    "expert_deviation": "distance from the expert's trajectory",
    "regret": "discounted cost above the expert's",
    "degradation": "discounted cost of the disturbance",
}
PLAIN_PREFIXES = {
    "pixels_": "movement of the chunk for each unit of the pixels of",
    "pixel_radius_": "grey levels (l2) that each action tolerates in",
}


def drawn(content: Mapping[str, Any]) -> list[charts.LineChart | charts.BarChart]:
    """Returns the charts of a certificate.

    Args:
        content: of ``certificate.json``, with ``steepness``: the norms of the Jacobian at the windows.
    """
    lipschitz = content["lipschitz"]
    marks = {"bound": lipschitz["chunk"]["value"], "measured": lipschitz["measured"]["value"]}
    known = {name: value for name, value in marks.items() if value is not None}
    actions = {name: [one[name]["value"] for one in content["actions"]] for name in ("bound", "measured")}
    radii = {
        one["unit"] or "no unit": [
            other["radius"]["value"] if other["unit"] == one["unit"] else None
            for other in content["observations"]
        ]
        for one in content["observations"]
    }
    names = [one["name"] for one in content["actions"]]
    numbers = [str(number) for number in range(1, len(content["observations"]) + 1)]
    lines = [
        charts.LineChart(title, x_label, label, _numbered(values), logarithmic=True, x_names=x_names)
        for title, x_label, x_names, label, values in (
            ("Movement of each action", "action", names, "per unit of the window", actions),
            ("How wrong an observation may be", "number in the table", numbers, "radius in its unit", radii),
        )
        if _numbered(values)
    ]
    return [*lines, charts.histogram("Steepness at windows", "Jacobian norm", content["steepness"], known)]


def tables(content: Mapping[str, Any]) -> str:
    """Returns a certificate's tables and notes as HTML."""
    chunk, measured = content["lipschitz"]["chunk"], content["lipschitz"]["measured"]
    html = page.paragraph(
        f"Lipschitz constant of the whole chunk: {_value(chunk)} ({chunk['kind']}). {chunk['assumption']}"
    )
    of_bound = f", which is {content['lipschitz']['tightness']:.1%} of the bound" if chunk["value"] else ""
    html += page.paragraph(f"Steepest found: {_value(measured)}{of_bound}.")
    html += "".join(page.paragraph(note) for note in content["notes"])
    header = ("", "action", "unit", "bound", "measured", "tolerance", "radius of the window", "kind")
    rows = [
        (
            number,
            one["name"],
            one["unit"],
            one["bound"]["value"],
            one["measured"]["value"],
            one["tolerance"],
            one["window_radius"]["value"] or None,
            one["window_radius"]["kind"],
        )
        for number, one in enumerate(content["actions"], start=1)
    ]
    html += page.heading("How far each action moves") + page.table(rows, header)
    observed = [
        (number, one["name"], one["unit"], one["radius"]["value"] or None, one["radius"]["kind"])
        for number, one in enumerate(content["observations"], start=1)
    ]
    html += page.heading("How wrong each observation may be")
    html += page.table(observed, ("", "observation", "unit", "may be wrong by", "kind"))
    if content["findings"]:
        html += page.heading("What follows")
        html += page.table(_findings(content["findings"]), ("finding", "value", "kind", "vacuous", "because"))
    return html


def pareto(rows: Sequence[Mapping[str, Any]]) -> charts.LineChart:
    """Returns the chart of what several policies give for their bounds.

    Args:
        rows: of ``side_by_side.json``.
    """
    lines = {
        name: sorted((row["lipschitz"], row[key]) for row in rows if row.get(key) and row.get("lipschitz"))
        for key, name in (("held_out_mean", "mean held-out error"), ("measured", "measured slope"))
    }
    shown = {name: points for name, points in lines.items() if points}
    return charts.LineChart(
        "What a bound costs", "Lipschitz bound", "normalized chunk", shown, logarithmic=True
    )


def side_by_side(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of several certificates in a run's folder; none where there are not several."""
    path = folder / "side_by_side.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return rows


def read(folder: Path) -> dict[str, Any] | None:
    """Returns the certificate in a run's folder; None where there is none."""
    path = folder / "certificate.json"
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content["steepness"] = json.loads((folder / "steepness.json").read_text(encoding="utf-8"))
    return content


def _findings(findings: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (_plain_name(name), one["value"], one["kind"], one["vacuous"], one["assumption"])
        for name, one in findings.items()
    ]


def _plain_name(name: str) -> str:
    for prefix, text in PLAIN_PREFIXES.items():
        if name.startswith(prefix):
            return f"{text} {name.removeprefix(prefix)}"
    return PLAIN_NAMES.get(name, name)


def _value(finding: Mapping[str, Any]) -> str:
    return "none" if finding["value"] is None else f"{finding['value']:.4g}"


def _numbered(lines: Mapping[str, Sequence[float | None]]) -> dict[str, list[tuple[float, float]]]:
    """Returns each line's points ``(number, value)``; what is unknown or 0 has none on a logarithmic axis."""
    points = {
        name: [(float(number), value) for number, value in enumerate(values, start=1) if value]
        for name, values in lines.items()
    }
    return {name: its for name, its in points.items() if its}
