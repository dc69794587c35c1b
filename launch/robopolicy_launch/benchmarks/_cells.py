"""The cells of an experiment, each kept in a file named by the hash of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robopolicy_launch.run_folder import write_text_atomic


def cell(
    folder: Path, settings: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the figures of a cell, from its file where there is one.

    Args:
        folder: of the experiment; made where it is missing.
        settings: all that the figures depend on, plain values.
        compute: makes the figures, plain values too.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{digest}.json"
    if file.is_file():
        return dict(json.loads(file.read_text(encoding="utf-8"))["figures"])
    figures = dict(compute())
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, json.dumps({"settings": dict(settings), "figures": figures}, indent=2) + "\n")
    return figures
