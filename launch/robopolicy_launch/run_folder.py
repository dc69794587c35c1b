"""Run folders: ``runs/<verb>/<YYYYMMDD-HHMMSS>-<name>/``, where a verb leaves all that it makes."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console


def write_text_atomic(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new content, never a part of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # a write does not say to which file
            error.filename = str(path)
        raise


class RunFolder:
    """One run's folder: ``config.yaml``, ``summary.json``, ``report.html``, ``checkpoints/``, ``plots/``, ...

    As a context manager it tells, when the run is interrupted or fails, where its partial results are.

    Args:
        path: the folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reopened = (path / "config.yaml").is_file()
        self._started = time.monotonic()
        self._summary: dict[str, Any] = {}

    @classmethod
    def create(
        cls, verb: str, *, root: str | Path = "runs", name: str = "", config: DictConfig | None = None
    ) -> RunFolder:
        """Makes a new folder ``<root>/<verb>/<time>-<name>``.

        Args:
            verb: the verb that runs.
            root: where run folders lie.
            name: a word for people; characters that are no letter, digit, dot or dash become dashes.
            config: the composed settings, kept as ``config.yaml``.
        """
        suffix = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
        stem = time.strftime("%Y%m%d-%H%M%S") + (f"-{suffix}" if suffix else "")
        parent = Path(root).expanduser() / verb.replace(" ", "-")
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / stem
        for number in range(2, 1000):
            try:
                path.mkdir()
                break
            except FileExistsError:
                path = parent / f"{stem}-{number}"
        run = cls(path)
        if config is not None:
            try:
                run.save_config(config)
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)  # an empty folder helps nobody
                raise
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Opens the folder of an earlier run.

        Raises:
            ConfigError: there is no run folder at ``path``.
        """
        folder = Path(path).expanduser()
        if not (folder / "config.yaml").is_file():
            raise ConfigError(
                f"'{folder}' is not a run folder (it has no config.yaml). Give a folder that a verb made, "
                "like runs/train/20250101-120000-flow."
            )
        return cls(folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def summary(self) -> dict[str, Any]:
        """The figures so far."""
        return dict(self._summary)

    @property
    def minutes(self) -> float:
        """Minutes since this object was made."""
        return (time.monotonic() - self._started) / 60.0

    def subfolder(self, name: str) -> Path:
        """Returns ``<run folder>/<name>``, made where it is missing."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def save_config(self, config: DictConfig) -> None:
        """Writes the settings to ``config.yaml``."""
        write_text_atomic(self.path / "config.yaml", OmegaConf.to_yaml(config))

    def add_figures(self, figures: Mapping[str, Any], *, prefix: str = "") -> None:
        """Adds figures to ``summary.json``.

        Args:
            figures: flat; numbers, truth values, texts or None.
            prefix: put before every key.
        """
        self._summary.update({prefix + key: _plain(key, value) for key, value in figures.items()})
        write_text_atomic(self.path / "summary.json", json.dumps(self._summary, indent=2) + "\n")

    def finish(self) -> None:
        """Prints the figures and where everything is."""
        console.line()
        console.print_table(self._summary)
        console.line()
        if (self.path / "report.html").is_file():
            console.line(f"  report      {self.path / 'report.html'}")
        console.line(f"  run folder  {self.path}")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if {entry.name for entry in self.path.iterdir()} <= {"config.yaml"} and not self._reopened:
            shutil.rmtree(self.path, ignore_errors=True)  # nothing was made; an empty folder helps nobody
        else:
            error.add_note(f"What was made so far is in {self.path}.")


def _plain(key: str, value: Any) -> Any:
    """Returns a figure as a JSON value; numbers that are not finite become None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"summary key '{key}' is a {type(value).__name__}; summaries are flat")
