"""The HTML page: sections of cards, charts, tables and videos in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from robopolicy_launch.console import format_value
from robopolicy_launch.run_folder import write_text_atomic

MAX_VIDEO_BYTES = 4_000_000  # larger videos are named, not embedded
LONGEST_LINE = 40  # of a table's cell; longer ones are broken

TEMPLATE = Path(__file__).parent / "page.html"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        html: its content; every text in it is escaped already.
    """

    title: str
    html: str


def write_page(
    path: Path, *, title: str, subtitle: str, figures: Mapping[str, str], sections: Sequence[Section]
) -> Path:
    """Writes the page.

    Args:
        path: the HTML file.
        title: the heading.
        subtitle: a line below it.
        figures: the key figures, name to formatted value.
        sections: in order.
    """
    body = "".join(f"<section><h2>{escape(part.title)}</h2>{part.html}</section>" for part in sections)
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    text = template.substitute(
        title=escape(title), subtitle=escape(subtitle), cards=cards(figures), body=body
    )
    write_text_atomic(path, text)
    return path


def cards(figures: Mapping[str, str]) -> str:
    """Returns key figures as large numbers."""
    card = '<div class="card"><div class="value">{}</div><div class="name">{}</div></div>'
    return "".join(card.format(escape(value), escape(name)) for name, value in figures.items())


def figure(title: str, svg: str) -> str:
    """Returns a chart below its title."""
    return f"<figure><h3>{escape(title)}</h3>{svg}</figure>"


def paragraph(text: str) -> str:
    """Returns a paragraph."""
    return f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """Returns the heading of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Returns a table that scrolls sideways on a narrow screen; sentences in it are broken into lines."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(_cell(format_value(value)) for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    kind = ' class="text"' if len(text) > LONGEST_LINE else ""
    return f"<td{kind}>{escape(text)}</td>"


def folded(title: str, html: str) -> str:
    """Returns content that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def preformatted(text: str) -> str:
    """Returns text in a fixed-width block."""
    return f'<pre class="scroll">{escape(text)}</pre>'


def videos(paths: Sequence[Path], captions: Mapping[str, str]) -> str:
    """Returns embedded videos side by side.

    Args:
        paths: MP4 files.
        captions: file stem to caption.
    """
    parts = []
    for path in paths:
        caption = escape(captions.get(path.stem, path.stem))
        if path.stat().st_size > MAX_VIDEO_BYTES:
            note = f"{caption}: too large to embed, see {escape(path.name)}"
            parts.append(f"<figure><figcaption>{note}</figcaption></figure>")
            continue
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        parts.append(
            f'<figure><video src="data:video/mp4;base64,{data}" controls loop muted playsinline autoplay>'
            "</video>"
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<div class="videos">{"".join(parts)}</div>'


def image_strip(images: Sequence[tuple[bytes, str]], name: str) -> str:
    """Returns embedded images in one row that scrolls sideways.

    Args:
        images: JPEG files with their captions.
        name: what they show, for those who cannot see them.
    """
    parts = []
    for data, caption in images:
        text = base64.b64encode(data).decode("ascii")
        parts.append(
            f'<figure><img src="data:image/jpeg;base64,{text}" alt="{escape(name)}, {escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f'<div class="frames">{"".join(parts)}</div>'


def outcome_strip(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns one small square an episode, coloured by success, as deep as its score.

    Args:
        rows: mappings with ``seed``, ``success`` (bool) and ``score`` (0 to 1).
    """
    squares = []
    for row in rows:
        score = float(row["score"])
        kind, outcome = ("good", "success") if row["success"] else ("bad", "no success")
        strength = 1.0 if row["success"] else 0.35 + 0.65 * (1.0 - score)
        words = f"seed {row['seed']}: {outcome}, score {score:.3f}"
        squares.append(f'<i class="{kind}" style="opacity:{strength:.2f}" title="{escape(words)}"></i>')
    return f'<div class="strip" role="img" aria-label="outcome of every seed">{"".join(squares)}</div>'


def interval_bar(value: float, low: float, high: float) -> str:
    """Returns a bar from 0 to 1 with the value and its interval."""
    return (
        f'<div class="interval" role="img" aria-label="{value:.3f}, interval {low:.3f} to {high:.3f}">'
        f'<span style="left:{100 * low:.1f}%;width:{100 * max(high - low, 0.002):.1f}%"></span>'
        f'<b style="left:{100 * value:.1f}%"></b></div>'
    )
