"""Metrics of a run: one JSON object a line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from robopolicy_datasets.errors import ConfigError

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends to ``metrics.jsonl`` and to a TensorBoard event file in ``folder``.

    Args:
        folder: of the run; made where it is missing.
        resume_step: lines after this step are dropped first: a resumed run writes them again.

    Raises:
        ConfigError: the folder cannot be written; ``write`` and ``close`` raise it too.
    """

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import; only training needs it

        self._folder = folder
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            kept = [row for row in read_metrics(folder) if row["step"] <= resume_step]
            fresh = folder / f".{METRICS}.new"
            fresh.write_text("".join(json.dumps(row) + "\n" for row in kept))
            fresh.replace(folder / METRICS)
            self._file = (folder / METRICS).open("a")
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step."""
        with self._writing():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        with self._writing():
            self._file.close()
            self._board.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"The run folder '{self._folder}' cannot be written: {error}. Free some space, or choose a "
                "folder that you may write to."
            ) from error


def read_metrics(folder: str | Path) -> list[dict[str, float]]:
    """Returns the rows of a run's ``metrics.jsonl``; none when it does not exist.

    A last line that a killed run left half written is passed over.

    Raises:
        ConfigError: a line before it is damaged.
    """
    path = Path(folder) / METRICS
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(row := json.loads(line))
            int(row["step"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"'{path}' is damaged in line {number}: {error}. Take the line out.") from error
    return rows
