"""The report: one HTML file that parses, needs no network, shows what the folder holds, and renders."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from robopolicy_launch.reports import charts, page, report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_sim.video import write_video

VOID = {"meta", "input", "br", "hr", "img", "link"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Checker(HTMLParser):
    """Checks that tags are balanced and collects addresses and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    assert all(address.startswith("data:") for address in checker.addresses)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", html)
    return checker


def fill(folder: RunFolder) -> None:
    """Writes what train, eval and deploy leave."""
    rows = [
        {"step": step, "train_loss": 1 / step, "learning_rate": 1e-3, "seconds": 2.0 * step}
        | (
            {"validation_loss": 1.5 / step, "action_error": 0.1, "eval_success": 0.5, "eval_score": 0.7}
            if step % 5 == 0
            else {}
        )
        for step in range(1, 21)
    ]
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    frames = [np.full((32, 32, 3), 10 * index, np.uint8) for index in range(10)]
    for name, seeds in (("evaluation", range(100, 120)), ("deployment", range(3))):
        with (folder.subfolder(name) / "episodes.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["seed", "success", "score", "steps", "error"])
            table.writerows(
                [[seed, int(seed % 4 > 0), f"{(seed % 4) / 4:.4f}", 40, "<b>&"] for seed in seeds]
            )
        write_video(folder.path / name / "videos" / f"{seeds[0]}-failure.mp4", frames, 10.0)
    section = {"name": "<ik>", "mean_ms": 0.4, "max_ms": 9.5, "mean_in_overruns_ms": 9.25, "longest_in": 2}
    timing = {
        "inference_ms": [20.0, 25.0, 80.0],
        "lateness_ms": [[0.1, 0.2, 900], [5.0, 5.4, 2]],
        "sections": [section],
    }
    (folder.path / "deployment" / "timing.json").write_text(json.dumps(timing))
    figures = {"success": 0.75, "success_low": 0.5, "success_high": 0.9, "score": 0.8, "episodes": 20}
    folder.add_figures(figures, prefix="eval_")
    folder.add_figures(
        {
            "steps": 90,
            "successes": 2,
            "success": 2 / 3,
            "ticks": 902,
            "late_ticks": 0,
            "max_lateness_ms": 5.2,
            "overruns": 3,
        },
        prefix="deploy_",
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    config = OmegaConf.create({"command": ["name=<script>alert(1)</script>"]})
    folder = RunFolder.create("demo", root=tmp_path_factory.mktemp("runs"), name="r", config=config)
    fill(folder)
    return report.write(folder, "A <demo> & more", stages={"collect": 8.0, "train": 100.0})


def test_report_shows_everything_that_the_folder_holds(full):
    html = full.read_text()
    checker = check(html)
    assert checker.tags.count("video") == 2
    assert checker.tags.count("svg") == 6
    for text in (
        "A &lt;demo&gt; &amp; more",
        "Stages",
        "95 % interval 50.0% to 90.0%",
        "2 of 3 episodes",
        "seed 101",
        "Sections of the control cycles (3 overruns)",
        "<td>&lt;ik&gt;</td><td>0.4</td><td>9.5</td><td>9.25</td><td>2</td>",
    ):
        assert text in html
    assert "<script" not in html
    assert "prefers-color-scheme: dark" in html
    assert sorted(path.name for path in (full.parent / "plots").glob("*.png")) == [
        "action_error_on_held-out_episodes.png",
        "inference_latency.png",
        "lateness_of_control_ticks.png",
        "learning_rate.png",
        "loss.png",
        "success_while_training.png",
    ]


def test_a_sweep_over_a_disturbance_is_one_chart_with_what_is_certified(tmp_path):
    folder = RunFolder.create("eval", root=tmp_path, config=OmegaConf.create())
    (folder.subfolder("evaluation") / "robustness.csv").write_text(
        "size,success,success_low,success_high,score,score_low,score_high,chunk_max,certified,margin\n"
        "0.0,0.9,0.8,0.95,0.95,0.9,1.0,,,\n"
        "0.1,0.8,0.7,0.88,0.9,0.85,0.95,0.2,0.5,0.4\n"
        "0.4,0.1,0.05,0.2,0.4,0.3,0.5,0.9,2.0,0.45\n"
    )
    folder.add_figures({"disturbance_unit": "<normalized>"})
    html = report.write(folder, "Evaluation").read_text()
    check(html)
    (svg,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    root = ElementTree.fromstring(svg)
    lines = root.findall("polyline")
    assert len(lines) == 4  # success, score, moved, certified
    xs, ys = zip(*(map(float, point.split(",")) for point in lines[3].get("points").split()), strict=True)
    assert len(xs) == 3  # from nothing to the point above the chart: the page cuts it at the frame
    assert ys[2] < 0 < ys[1]
    assert len([line for line in root.findall("line") if "s0" in line.get("class")]) == 3  # whiskers
    assert [point.text for point in root.findall("circle/title")].count("0.1: 0.5") == 1  # within the chart
    assert "0.4: 2" not in svg  # above it
    assert "0.9 [0.8, 0.95]" in html
    assert '<div class="value">10 %</div><div class="name">success at size 0.4</div>' in html
    assert "No chunk moved by more than 45.0% of what is certified" in html
    assert (folder.path / "plots" / "under_disturbance.png").is_file()


def test_report_of_an_empty_run_is_still_a_page(tmp_path):
    folder = RunFolder.create("eval", root=tmp_path, config=OmegaConf.create({"a": 1}))
    checker = check(report.write(folder, "Nothing").read_text())
    assert "svg" not in checker.tags


def test_large_videos_are_named_but_not_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MAX_VIDEO_BYTES", 10)
    path = write_video(tmp_path / "1-success.mp4", [np.zeros((16, 16, 3), np.uint8)] * 2, 10.0)
    html = page.videos([path], {})
    assert "<video" not in html
    assert "1-success.mp4" in html


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("size", ["1280,900", "390,844"])
def test_report_renders_in_chromium_without_scrolling_sideways(full, tmp_path, size):
    probe = tmp_path / "probe.html"
    script = (
        "<script>onload = () => { const v = document.querySelectorAll('video'); setTimeout(() => {"
        "document.title = [document.documentElement.scrollWidth <= innerWidth, v.length,"
        "[...v].every(x => x.readyState > 1 && x.videoWidth > 0)].join() }, 1500) }</script>"
    )
    probe.write_text(full.read_text().replace("</body>", script + "</body>"))
    result = subprocess.run(
        [
            *[CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}"],
            *["--virtual-time-budget=5000", "--dump-dom", f"--user-data-dir={tmp_path / 'profile'}"],
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title is not None, result.stderr[-2000:]
    assert title[1] == "true,2,true"


numbers = (
    st.floats(-1e12, 1e12) | st.integers(-(10**6), 10**6) | st.sampled_from([math.nan, math.inf, -math.inf])
)


def check_svg(svg: str) -> None:
    for element in ElementTree.fromstring(svg).iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            if name in element.attrib:
                assert math.isfinite(float(element.attrib[name]))
        for pair in element.attrib.get("points", "").split():
            assert all(math.isfinite(float(value)) for value in pair.split(","))


@given(
    st.lists(st.tuples(numbers, numbers)),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
)
def test_any_line_becomes_valid_svg(points, logarithmic, name):
    check_svg(
        charts.to_svg(charts.LineChart(name, "x", "<y>", {name: points, "b": []}, logarithmic=logarithmic))
    )


@example([-1e12, -999999999999.9961], False)
@given(st.lists(numbers), st.booleans())
def test_any_histogram_becomes_valid_svg(values, logarithmic):
    chart = charts.histogram(
        "h", "x", [float(value) for value in values], {"median": float("nan"), "p99": 3.0}
    )
    assert sum(chart.counts) == sum(math.isfinite(value) for value in values)
    check_svg(charts.to_svg(chart))


def test_long_lines_keep_their_ends():
    points = [(float(x), 1.0) for x in range(10_001)]
    svg = charts.to_svg(charts.LineChart("t", "x", "y", {"a": points}))
    (line,) = (e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("polyline"))
    drawn = line.attrib["points"].split()
    assert len(drawn) <= charts.MAX_POINTS + 1
    first, last = float(drawn[0].split(",")[0]), float(drawn[-1].split(",")[0])
    assert first < charts.LEFT + 30
    assert last > charts.WIDTH - charts.RIGHT - 30
