"""``meta/robopolicy.json``: what an export of ours keeps of its store beyond LeRobot's own files.

It also holds the SHA-256 of every file, so that a data set that was damaged or changed since is noticed:
a video or a parquet file without checksums may be decoded to wrong numbers without any error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import SpecError, StoreError
from robopolicy_datasets.exchange.lerobot.folder import Folder, damaged
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.episode import EpisodeInfo

RECORD_FILE = "meta/robopolicy.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """What an export keeps.

    Attributes:
        spec: of the store.
        layout: what becomes of each LeRobot key, as in the config of an import.
        rate_hz: of the store.
        metadata: of the store.
        infos: of every episode.
    """

    spec: Spec
    layout: Mapping[str, Any]
    rate_hz: float
    metadata: Mapping[str, Any]
    infos: Sequence[EpisodeInfo]


def write_record(root: Path, record: Record) -> None:
    """Writes the record of a data set that is complete otherwise.

    Raises:
        OSError: it cannot be written.
    """
    folder = Folder(root)
    names = [name for name in folder.files("**/*") if (root / name).is_file()]
    content = {
        "robopolicy_schema": _SCHEMA,
        "spec": record.spec.to_json(),
        "layout": dict(record.layout),
        "rate_hz": record.rate_hz,
        "metadata": dict(record.metadata),
        "episodes": [asdict(info) for info in record.infos],
        "files": {name: folder.digest(name) for name in names},
    }
    content["digest"] = _digest(content)
    (root / RECORD_FILE).write_text(json.dumps(content, indent=1))


def read_record(folder: Folder) -> Record | None:
    """Reads the record and checks every file against it; ``None`` where there is no record.

    Raises:
        StoreError: a file was damaged or changed since the export.
    """
    if not folder.holds(RECORD_FILE):
        return None
    content = folder.read_json(RECORD_FILE)
    path = folder.root / RECORD_FILE
    if not isinstance(content, dict) or content.pop("digest", None) != _digest(content):
        raise _changed(folder, path)
    try:
        if content["robopolicy_schema"] != _SCHEMA:
            raise StoreError(f"{path} was written by a newer robopolicy. Update robopolicy.")
        for name, digest in content["files"].items():
            if folder.digest(name) != digest:
                raise _changed(folder, folder.root / name)
        return Record(
            spec=Spec.from_json(content["spec"]),
            layout=dict(content["layout"]),
            rate_hz=float(content["rate_hz"]),
            metadata=dict(content["metadata"]),
            infos=[EpisodeInfo.from_json(info) for info in content["episodes"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise damaged(path, error) from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "backslashreplace")).hexdigest()


def _changed(folder: Folder, path: Path) -> StoreError:
    return StoreError(
        f"{path} was damaged or changed after robopolicy exported the data set. Copy or export it again. "
        f"If the change is meant, remove {folder.root / RECORD_FILE}: then it is read as any other data set."
    )
