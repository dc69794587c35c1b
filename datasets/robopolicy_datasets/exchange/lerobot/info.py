"""``meta/info.json``: what a LeRobot data set says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.lerobot.folder import Folder, damaged, fill_template
from robopolicy_datasets.store.layout import FILL_VALUES, STRING
from robopolicy_datasets.store.pickles import refuse_pickle

INFO_FILE = "meta/info.json"
V2, V3 = "v2.1", "v3.0"
TIME_FIELD = "time_ns"
"""Our own column: int64 nanoseconds, which LeRobot's float32 timestamps cannot hold."""
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index", TIME_FIELD)
VIDEO, IMAGE, TEXT = "video", "image", "string"
_NUMBERS = frozenset(FILL_VALUES) - {STRING}
_MAX_SIZE = 1 << 16
_MAX_TEXT = 200  # of a key, or of the template of a path
_MAX_ROW_BYTES = 1 << 30
_MAX_EPISODES = 10_000_000


@dataclass(frozen=True)
class Field:
    """One LeRobot feature.

    Attributes:
        key: LeRobot's key, e.g. ``"observation.state"``.
        dtype: ``"video"``, ``"image"`` or numpy's name.
        shape: of one step; images are height, width, channels.
        names: of the numbers of one step; empty where they have none.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether it is an image, in whatever form."""
        return self.dtype in (VIDEO, IMAGE)

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one step."""
        return math.prod(self.shape) * (1 if self.is_image else np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class Info:
    """What ``meta/info.json`` says.

    Attributes:
        version: ``V2`` or ``V3``.
        fps: steps per second.
        episodes: how many there are.
        chunk_episodes: episodes in one folder of a v2.1 data set.
        robot: its type; ``""`` where it is not said.
        fields: by key, those that we can hold, without the bookkeeping.
        unsupported: the dtypes of the others, by key.
        has_time: whether our own nanoseconds are there.
        data_path: template of the parquet files.
        video_path: template of the videos.
    """

    version: str
    fps: float
    episodes: int
    chunk_episodes: int
    robot: str
    fields: Mapping[str, Field]
    unsupported: Mapping[str, str]
    has_time: bool
    data_path: str
    video_path: str

    def file(self, folder: Folder, template: str, values: Mapping[str, int | str]) -> str:
        """Fills one of the path templates.

        Raises:
            StoreError: the template holds what it must not.
        """
        try:
            return fill_template(template, values)
        except ValueError as error:
            raise damaged(folder.root / INFO_FILE, error) from error


def read_info(folder: Folder) -> Info:
    """Reads and checks ``meta/info.json``.

    Raises:
        StoreError: it is missing, damaged, or of a version that is not read.
    """
    if not folder.holds(INFO_FILE):
        refuse_pickle(folder.root)
    content = folder.read_json(INFO_FILE)
    path = folder.root / INFO_FILE
    version = content.get("codebase_version") if isinstance(content, dict) else None
    if version not in (V2, V3):
        raise StoreError(
            f"{path} has the codebase_version {version!r:.40}; read are {V2} and {V3}. "
            "Convert the data set with LeRobot's own tools first."
        )
    try:
        features = content["features"]
        _check(isinstance(features, dict) and len(features) <= _MAX_SIZE, "features is not a mapping")
        fields = [_field(key, feature) for key, feature in features.items() if key not in BOOKKEEPING]
        time = features.get(TIME_FIELD)
        return Info(
            version=version,
            fps=_positive(content, "fps"),
            episodes=_count(content, "total_episodes"),
            chunk_episodes=_count(content, "chunks_size"),
            robot=str(content.get("robot_type") or "")[:200],
            fields={field.key: field for field in fields if _supported(field)},
            unsupported={field.key: field.dtype for field in fields if not _supported(field)},
            has_time=isinstance(time, dict) and time.get("dtype") == "int64",
            data_path=_text(content, "data_path"),
            video_path=_text(content, "video_path") if any(f.dtype == VIDEO for f in fields) else "",
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise damaged(path, reason) from error


def _field(key: str, feature: Any) -> Field:
    _check(len(key) <= _MAX_TEXT, f"the name of the feature '{key[:80]}...' has {len(key)} characters")
    shape = [int(size) for size in feature["shape"]]
    _check(
        len(shape) <= 8 and all(1 <= size <= _MAX_SIZE for size in shape),
        f"the feature '{key[:80]}' has the shape {shape[:8]}; every size is from 1 to {_MAX_SIZE}",
    )
    names = list(_flat_names(feature.get("names")))
    dtype = str(feature["dtype"])[:40]
    if dtype in (VIDEO, IMAGE) and len(shape) == 3:
        if names[:1] in (["channel"], ["channels"]):
            shape = [*shape[1:], shape[0]]
        names = []
    field = Field(key, dtype, tuple(shape), tuple(names) if shape and len(names) == shape[-1] else ())
    _check(
        not _supported(field) or field.row_bytes <= _MAX_ROW_BYTES,
        f"the feature '{key[:80]}' has the shape {shape}, which is more than {_MAX_ROW_BYTES} bytes a step",
    )
    return field


def _supported(field: Field) -> bool:
    if field.is_image:
        return len(field.shape) == 3 and field.shape[2] == 3
    return field.dtype in _NUMBERS


def _flat_names(names: Any, depth: int = 0) -> Iterator[str]:
    """Yields names from the forms in use: a list, a list of lists, and lists by the name of an axis."""
    if isinstance(names, str):
        yield names[:200]
    elif isinstance(names, list | dict) and depth < 4:
        for part in names.values() if isinstance(names, dict) else names:
            yield from _flat_names(part, depth + 1)


def _check(fine: bool, reason: str) -> None:
    if not fine:
        raise ValueError(reason)


def _positive(content: Mapping[str, Any], key: str) -> float:
    value = content[key]
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e6
    _check(fine, f"{key} is {value!r:.40}; it is a positive number")
    return float(value)


def _count(content: Mapping[str, Any], key: str) -> int:
    value = content[key]
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_EPISODES
    _check(fine, f"{key} is {value!r:.40}; it is a whole number from 1 to {_MAX_EPISODES}")
    return int(value)


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content[key]
    _check(isinstance(value, str) and len(value) <= _MAX_TEXT, f"{key} is {value!r:.40}; it is a short text")
    return str(value)
