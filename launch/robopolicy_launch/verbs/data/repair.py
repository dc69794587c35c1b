"""Writes a demo store without what `robopolicy data check` reports as errors.

Episodes with NaN or infinite values or unreadable bytes are left out, steps stored twice are dropped, and
where time runs back the longest part in order is kept. Steps of an episode that was never finished are left
out. Other warnings are left alone. The source is not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path", "target")


@dataclass
class Settings:
    """Settings of ``robopolicy data repair``.

    Attributes:
        path: the demo store, a *.zarr folder.
        target: the new store, a *.zarr folder that does not exist yet; not written without need.
    """

    path: str = MISSING
    target: str = MISSING


def run(settings: Settings, config: DictConfig) -> int:
    """Repairs the store and prints what was done."""
    from robopolicy_datasets.doctor.check import check_store
    from robopolicy_datasets.doctor.findings import Severity
    from robopolicy_datasets.doctor.repair import repair_store
    from robopolicy_launch.verbs.data.shared import open_store, tell

    store = open_store(settings.path)
    target = Path(settings.target).expanduser()
    with console.Progress(f"Checking {store.path.name}") as progress:
        findings = check_store(store, progress=progress)
    has_errors = any(finding.severity is Severity.ERROR for finding in findings)
    if not has_errors and store.unfinished_steps <= 0:
        console.line(f"{store.path} has no errors; {target} was not written.")
        return 0
    with console.Progress(f"Repairing {store.path.name}") as progress:
        actions = repair_store(store, target, findings, progress)
    for action in actions:
        console.line(f"  {action}")
    tell(open_store(str(target)))
    return 0
