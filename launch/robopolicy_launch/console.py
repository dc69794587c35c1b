"""The console: the one place of the package that writes to the terminal."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from tqdm import tqdm

_STATUS_SECONDS = 0.2
PLAIN_LINE_SECONDS = 10.0  # without a terminal, progress is told at most this often


def line(text: str = "") -> None:
    """Writes one line to standard output at once, so that it is seen through a pipe too."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def error_line(text: str) -> None:
    """Writes one line to standard error; line breaks in ``text`` become spaces."""
    sys.stdout.flush()
    sys.stderr.write("robopolicy: " + " ".join(text.split()) + "\n")
    sys.stderr.flush()


def format_value(value: Any) -> str:
    """Returns a figure as people read it: four significant digits, yes/no, a dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def table(rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> None:
    """Writes rows as aligned columns; numbers are set to the right.

    Args:
        rows: one sequence of cells a row, all of one length.
        header: the columns' names; empty for none.
    """
    cells = [[format_value(cell) for cell in row] for row in rows]
    lines = [list(header), *cells] if header else cells
    if not lines:
        return
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    numeric = [
        column > 0 and all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(widths))
    ]
    for index, row in enumerate(lines):
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        line("  " + "  ".join(parts).rstrip())
        if header and index == 0:
            line("  " + "  ".join("-" * width for width in widths))


def print_table(summary: Mapping[str, Any]) -> None:
    """Writes the figures of a verb, one a line."""
    width = max((len(key) for key in summary), default=0)
    for key, value in summary.items():
        line(f"  {key.ljust(width)}  {format_value(value)}")


class Progress:
    """A progress bar on a terminal, a plain line every few seconds elsewhere.

    Calling it with ``(done, total)`` is the callback that the libraries take.

    Args:
        label: what is being done.
        total: number of steps; may be given later, with the first call.
    """

    def __init__(self, label: str, total: int | None = None) -> None:
        self.label = label
        self._bar = tqdm(total=total, desc=label, leave=False) if sys.stderr.isatty() else None
        self._started = self._told = time.monotonic()

    def __call__(self, done: int, total: int | None = None) -> None:
        """Tells how much is done.

        Args:
            done: steps so far.
            total: steps in all, where it was not known before.
        """
        if self._bar is not None:
            if total is not None:
                self._bar.total = total
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._told >= PLAIN_LINE_SECONDS:
            self._told = now
            line(f"  {self.label}: {done}{f' of {total}' if total else ''} ({now - self._started:.0f} s)")

    @contextlib.contextmanager
    def showing(self, status: Callable[[], str]) -> Iterator[None]:
        """Shows on a terminal, beside the bar, what ``status`` returns several times a second.

        It is asked in a thread of its own: who works meanwhile does not wait for the terminal.
        """
        bar = self._bar
        if bar is None:
            yield
            return
        over = threading.Event()

        def show() -> None:
            while not over.wait(_STATUS_SECONDS):
                bar.set_postfix_str(status())

        thread = threading.Thread(target=show, name="robopolicy-status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
