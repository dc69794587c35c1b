"""The small JSON files that calibrations are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import ConfigError


@contextmanager
def calibration_file(path: str | Path, problem: str, command: str) -> Iterator[Any]:
    """Yields the content of a file; what goes wrong while it is taken apart is told with the file's name.

    Args:
        path: the file.
        problem: what is to be told of one that cannot be used, e.g. ``"is not a latency model"``.
        command: that makes a good one.

    Raises:
        ConfigError: there is no file, it is no JSON, or its content does not fit.
    """
    file = Path(path).expanduser()
    try:
        yield json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"'{file}' {problem} ({type(error).__name__}: {error}). Make one with: {command}"
        ) from error
