"""The cells of an experiment, each kept in a file named by the hash of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robopolicy_launch.run_folder import write_text_atomic

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Cells:
    """Results by settings.

    Args:
        folder: of the files; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, settings: DataclassInstance, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns the stored result of these settings, computing it where there is none.

        Args:
            settings: a dataclass of plain values that decide the result.
            compute: returns it, as plain data.
        """
        named = {"kind": type(settings).__name__, **asdict(settings)}
        digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{digest}.json"
        if path.is_file():
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return stored["result"]
        result = compute()
        write_text_atomic(path, json.dumps({"settings": named, "result": result}) + "\n")
        return result
