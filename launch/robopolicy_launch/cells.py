"""The cells of a long computation, each kept in a file named by the hash of its settings."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robopolicy_launch.run_folder import write_text_atomic


def digest(settings: Mapping[str, Any]) -> str:
    """Returns a name that plain values have for themselves."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


class Cells:
    """Computes each cell once, also when the computation is stopped and begun again.

    Args:
        folder: of the files; made where it is missing.
        common: what the figures of all cells depend on, plain values.

    Attributes:
        folder: of the files.
        taken: cells that were taken from their files.
    """

    def __init__(self, folder: Path, common: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.taken = 0
        self._common = dict(common or {})
        self._used: set[Path] = set()

    def __call__(
        self, settings: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Returns the figures of a cell, from its file where there is one.

        Args:
            settings: all else that the figures depend on, plain values.
            compute: makes the figures, plain values too.
        """
        settings = {**self._common, **settings}
        file = self.folder / f"{digest(settings)}.json"
        self._used.add(file)
        if file.is_file():
            self.taken += 1
            return dict(json.loads(file.read_text(encoding="utf-8"))["figures"])
        figures = dict(compute())
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(file, json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n")
        return figures

    def forget(self) -> None:
        """Removes the files of the cells that were asked for: what they were kept for is done."""
        for file in self._used:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is missing, or holds the cells of others
            self.folder.rmdir()
