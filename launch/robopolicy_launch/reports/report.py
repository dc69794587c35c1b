"""The report of a run, composed from what its folder holds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robopolicy_launch.console import format_value
from robopolicy_launch.reports import certificate, charts, page, robustness
from robopolicy_launch.run_folder import RunFolder

MAX_TABLE_ROWS = 400


def write(
    folder: RunFolder, title: str, *, stages: Mapping[str, float] | None = None, failure: str = ""
) -> Path:
    """Writes ``report.html`` and the PNG plots.

    Args:
        folder: the run folder.
        title: the heading.
        stages: name to seconds, for a run of several stages.
        failure: what ended the run early.
    """
    summary = folder.summary
    sections = [page.Section("Failure", page.paragraph(failure))] if failure else []
    sections += [_stages(stages)] if stages else []
    sections += [
        section
        for section in (
            _training(folder),
            _evaluation(folder, summary),
            _robustness(folder, summary),
            _deployment(folder, summary),
            _comparison(folder, summary),
            _certification(folder),
            _configuration(folder),
        )
        if section is not None
    ]
    return page.write_page(
        folder.path / "report.html",
        title=title,
        subtitle=str(folder.path),
        figures=_key_figures(summary) | robustness.cards(robustness.read(folder.path / "evaluation")),
        sections=sections,
    )


CARDS = (
    ("eval_success", "success, simulation", "share"),
    ("success", "success", "share"),
    ("eval_score", "score", "number"),
    ("score", "score", "number"),
    ("deploy_success", "success, deployed", "share"),
    ("late_share", "ticks > 10 ms late", "share"),
    ("deploy_late_share", "ticks > 10 ms late", "share"),
    ("validation_loss", "validation loss", "number"),
    ("train_validation_loss", "validation loss", "number"),
    ("lipschitz", "Lipschitz bound", "number"),
    ("tightness", "measured / bound", "share"),
    ("parameters", "parameters", "number"),
    ("train_parameters", "parameters", "number"),
    ("minutes", "minutes in all", "number"),
)


def _key_figures(summary: Mapping[str, Any]) -> dict[str, str]:
    figures = {}
    for key, name, kind in CARDS:
        value = summary.get(key)
        if value is not None:
            figures[name] = f"{100 * value:.3g} %" if kind == "share" else format_value(value)
    return figures


def _stages(stages: Mapping[str, float]) -> page.Section:
    rows = [(name, seconds) for name, seconds in stages.items()]
    return page.Section("Stages", page.table([*rows, ("all", sum(stages.values()))], ("stage", "seconds")))


def _training(folder: RunFolder) -> page.Section | None:
    path = folder.path / "metrics.jsonl"
    if not path.is_file():
        return None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    drawn = [chart for chart in training_charts(rows) if chart.lines]
    return page.Section("Training", _figures(drawn, folder)) if drawn else None


def training_charts(rows: Sequence[Mapping[str, Any]]) -> list[charts.LineChart]:
    """Returns the charts of a training's metrics: losses, success over minutes, everything else by name.

    Args:
        rows: of ``metrics.jsonl``; each has ``step``.
    """

    def line(key: str) -> list[tuple[float, float]]:
        return [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]

    def minutes_line(key: str) -> list[tuple[float, float]]:
        return [(row["seconds"] / 60.0, float(row[key])) for row in rows if row.get(key) is not None]

    keys = {key for row in rows for key, value in row.items() if isinstance(value, int | float)}
    losses = sorted(key for key in keys if key.endswith("loss"))
    errors = sorted(key for key in keys if "error" in key)
    rates = sorted(key for key in keys if key.endswith("learning_rate"))
    curve = [key for key in ("eval_success", "eval_score") if key in keys]
    return [
        charts.LineChart("Loss", "step", "loss", {key: line(key) for key in losses}, logarithmic=True),
        charts.LineChart(
            "Success while training",
            "minutes of training",
            "share",
            {key.removeprefix("eval_"): minutes_line(key) for key in curve},
            y_range=(0.0, 1.0),
        ),
        charts.LineChart(
            "Action error on held-out episodes", "step", "error", {key: line(key) for key in errors}
        ),
        charts.LineChart("Learning rate", "step", "learning rate", {key: line(key) for key in rates}),
    ]


def _figures(drawn: Sequence[charts.LineChart | charts.BarChart], folder: RunFolder) -> str:
    parts = []
    for chart in drawn:
        charts.write_png(chart, folder.subfolder("plots") / (chart.title.lower().replace(" ", "_") + ".png"))
        parts.append(page.figure(chart.title, charts.to_svg(chart)))
    return f'<div class="charts">{"".join(parts)}</div>'


def _evaluation(folder: RunFolder, summary: Mapping[str, Any]) -> page.Section | None:
    rows = _episodes(folder.path / "evaluation" / "episodes.csv")
    prefix = "eval_" if "eval_success" in summary else ""
    if not rows or f"{prefix}episodes" not in summary:  # a resumed training may hold an older evaluation
        return None
    html = ""
    if all(f"{prefix}{key}" in summary for key in ("success", "success_low", "success_high")):
        value, low, high = (
            float(summary[f"{prefix}{key}"]) for key in ("success", "success_low", "success_high")
        )
        html += page.paragraph(
            f"Success {value:.1%} over {len(rows)} unseen seeds (95 % interval {low:.1%} to {high:.1%})."
        )
        html += page.interval_bar(value, low, high)
    if errors := summary.get(f"{prefix}errors"):
        html += page.paragraph(
            f"{errors:g} of them ended by an error of the simulation and count as failures."
        )
    html += page.outcome_strip(rows)
    html += _videos(folder.path / "evaluation" / "videos", rows)
    html += page.folded("Every seed", _episode_table(rows))
    return page.Section("Evaluation in simulation", html)


def _robustness(folder: RunFolder, summary: Mapping[str, Any]) -> page.Section | None:
    rows = robustness.read(folder.path / "evaluation")
    if not rows:
        return None
    chart = robustness.chart(rows, summary["disturbance_unit"])
    html = page.paragraph(robustness.reading(rows)) + _figures([chart], folder)
    html += robustness.table(rows)
    return page.Section("Under disturbance", html)


def _deployment(folder: RunFolder, summary: Mapping[str, Any]) -> page.Section | None:
    rows = _episodes(folder.path / "deployment" / "episodes.csv")
    if not rows:
        return None
    prefix = "deploy_" if "deploy_steps" in summary else ""
    successes, ticks = summary.get(f"{prefix}successes"), summary.get(f"{prefix}ticks")
    html = ""
    if successes is not None:
        html += page.paragraph(f"{successes} of {len(rows)} episodes succeeded.")
        html += page.outcome_strip(rows)
    if ticks is not None:
        late, worst = summary[f"{prefix}late_ticks"], summary[f"{prefix}max_lateness_ms"]
        html += page.paragraph(
            f"Of {ticks:,} control ticks {late} were more than 10 ms late; the latest by {worst:.3g} ms."
        )
    timing = json.loads((folder.path / "deployment" / "timing.json").read_text(encoding="utf-8"))
    html += _figures(_timing_charts(timing), folder)
    html += _cycles(timing.get("sections", []), summary.get(f"{prefix}overruns", 0))
    html += _videos(folder.path / "deployment" / "videos", rows)
    html += page.folded("Every episode", _episode_table(rows))
    return page.Section("Deployment through the driver interface", html)


def _comparison(folder: RunFolder, summary: Mapping[str, Any]) -> page.Section | None:
    rows = _episodes(folder.path / "comparison" / "trials.csv")
    if not rows:
        return None
    html = ""
    for letter in ("a", "b"):
        value, low, high = (float(summary[f"success_{letter}{end}"]) for end in ("", "_low", "_high"))
        trials = [row for row in rows if row["policy"] == letter.upper()]
        html += page.paragraph(
            f"Policy {letter.upper()}: success {value:.1%} over {summary['pairs']} pairs "
            f"(95 % interval {low:.1%} to {high:.1%})."
        )
        html += page.interval_bar(value, low, high) + page.outcome_strip(trials)
    difference, low, high = (float(summary[f"difference{end}"]) for end in ("", "_low", "_high"))
    html += page.paragraph(
        f"A less B: {difference:+.1%} (95 % interval {low:+.1%} to {high:+.1%}). Pairs differ so often by "
        f"chance with a probability of {float(summary['p_value']):.3g}."
    )
    html += page.folded("Every trial", _episode_table(rows))
    return page.Section("Two policies in blind trials", html)


def _certification(folder: RunFolder) -> page.Section | None:
    place = folder.path / "certification"
    if content := certificate.read(place):
        html = _figures(certificate.drawn(content), folder) + certificate.tables(content)
        return page.Section("Certificate", html)
    rows = certificate.side_by_side(place)
    if not rows:
        return None
    html = _figures([chart for chart in [certificate.pareto(rows)] if chart.lines], folder)
    header = list(dict.fromkeys(key for row in rows for key in row))
    html += page.table([[row.get(key) for key in header] for row in rows], header)
    for row in rows:
        if content := certificate.read(place / str(row["number"])):
            html += page.folded(f"Certificate {row['number']}", certificate.tables(content))
    return page.Section("Certificates", html)


def _cycles(sections: Sequence[Mapping[str, Any]], overruns: int) -> str:
    if not sections:
        return ""
    header = ("section", "mean [ms]", "max [ms]", "mean in overruns [ms]", "longest in overruns")
    keys = ("name", "mean_ms", "max_ms", "mean_in_overruns_ms", "longest_in")
    rows = [[section[key] for key in keys] for section in sections]
    return page.folded(f"Sections of the control cycles ({overruns:,} overruns)", page.table(rows, header))


def _timing_charts(timing: Mapping[str, Any]) -> list[charts.BarChart]:
    drawn = []
    latencies = sorted(timing["inference_ms"])
    if latencies:
        marks = {"median": latencies[len(latencies) // 2], "p99": latencies[int(0.99 * (len(latencies) - 1))]}
        drawn.append(charts.histogram("Inference latency", "latency [ms]", latencies, marks))
    if timing["lateness_ms"]:
        edges, counts = _even_bins(timing["lateness_ms"])
        drawn.append(
            charts.BarChart("Lateness of control ticks", "lateness [ms]", edges, counts, {}, logarithmic=True)
        )
    return drawn


def _even_bins(rows: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Gathers bins of growing width ``[low, high, count]`` into even ones."""
    longest = max(high for _, high, _ in rows)
    width = max(longest, 0.1) / charts.BINS
    counts = [0.0] * charts.BINS
    for low, high, count in rows:
        counts[min(int((low + high) / 2 / width), charts.BINS - 1)] += count
    return [index * width for index in range(charts.BINS + 1)], counts


def _episodes(path: Path) -> list[dict[str, Any]]:
    """Reads a per-seed table; numbers become numbers, ``success`` and ``score`` are always there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = [
            {key: _number(text) for key, text in row.items() if key is not None}
            for row in csv.DictReader(file)
        ]
    for row in rows:
        row["success"] = str(row.get("success", "")).lower() in ("1", "1.0", "true")
        score = row.get("score")
        row["score"] = float(score) if isinstance(score, int | float) else float(row["success"])
    return rows


def _number(text: Any) -> Any:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return text
    return int(value) if value.is_integer() and math.isfinite(value) else value


def _episode_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = list(rows[0])
    return page.table([[row[key] for key in header] for row in rows[:MAX_TABLE_ROWS]], header)


def _videos(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    outcomes = {str(row.get("seed")): row["success"] for row in rows}
    paths = sorted(folder.glob("*.mp4"))
    captions = {}
    for path in paths:
        seed = path.stem.partition("-")[0]
        if seed in outcomes:
            captions[path.stem] = f"seed {seed}: {'success' if outcomes[seed] else 'no success'}"
    return page.videos(paths, captions) if paths else ""


def _configuration(folder: RunFolder) -> page.Section:
    text = (folder.path / "config.yaml").read_text(encoding="utf-8")
    summary = "\n".join(f"{key}: {format_value(value)}" for key, value in folder.summary.items())
    html = page.folded("Settings (config.yaml)", page.preformatted(text))
    return page.Section(
        "Details", html + page.folded("All figures (summary.json)", page.preformatted(summary))
    )
