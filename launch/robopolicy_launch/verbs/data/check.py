"""Looks for faults in a demo store: time, values, images, units, lengths.

Prints one line a finding. The exit code is 1 when there is an error, which `robopolicy data repair` leaves
out, and 0 otherwise: warnings are for people to judge. Foreign stores are read too.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.doctor.limits import Limits
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path",)

MAX_ROWS = 50  # a store that is wrong throughout would fill the terminal


@dataclass
class Settings:
    """Settings of ``robopolicy data check``.

    Attributes:
        path: the demo store, a *.zarr folder.
        json: a file that all findings are written to.
        limits: beyond which a check speaks up.
    """

    path: str = MISSING
    json: str = ""
    limits: Limits = field(default_factory=Limits)


def run(settings: Settings, config: DictConfig) -> int:
    """Prints the findings; returns 1 where one is an error."""
    from robopolicy_datasets.doctor.check import check_store
    from robopolicy_datasets.doctor.findings import HEADER, Severity, counted
    from robopolicy_datasets.store.demo_store import DemoStore
    from robopolicy_launch.run_folder import write_text_atomic

    store = DemoStore.open(Path(settings.path).expanduser())
    with console.Progress(f"Checking {store.path.name}", len(store)) as progress:
        findings = check_store(store, settings.limits, progress=progress)
    if settings.json:
        content = {"path": str(store.path), "findings": [finding.to_json() for finding in findings]}
        write_text_atomic(Path(settings.json).expanduser(), json.dumps(content, indent=2) + "\n")
    console.table([finding.row() for finding in findings[:MAX_ROWS]], header=HEADER if findings else ())
    if len(findings) > MAX_ROWS:
        console.line(f"  ... and {len(findings) - MAX_ROWS} more; json=FILE writes all of them.")
    counts = Counter(finding.severity for finding in findings)
    told = ", ".join(counted(counts[severity], severity.value) for severity in Severity if counts[severity])
    checked = f"{counted(len(store), 'episode')}, {counted(store.num_steps, 'step')}"
    console.line(f"{checked}: {told or 'nothing found'}.")
    return 1 if counts[Severity.ERROR] else 0
