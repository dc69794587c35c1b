"""Import of LeRobot data sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.exchange.configs import LeRobotFormatConfig
from robopolicy_datasets.exchange.layout import Column, plan_columns, spec_of
from robopolicy_datasets.exchange.lerobot.folder import Folder, damaged
from robopolicy_datasets.exchange.lerobot.index import Entry, read_index, read_tasks
from robopolicy_datasets.exchange.lerobot.info import IMAGE, INFO_FILE, TEXT, VIDEO, Info, read_info
from robopolicy_datasets.exchange.lerobot.record import RECORD_FILE, read_record
from robopolicy_datasets.exchange.lerobot.rows import Plan, read_episodes
from robopolicy_datasets.exchange.record import Record
from robopolicy_datasets.exchange.rows import naming
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import NewEpisode, check_episode
from robopolicy_datasets.store.filling import append_all
from robopolicy_datasets.store.staging import new_store

_log = logging.getLogger(__name__)
_PREFIXES = ("observation.images.", "observation.")


def import_dataset(
    config: LeRobotFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
    codecs: Mapping[str, str] | None = None,
) -> DemoStore:
    """Copies a LeRobot data set, v2.1 or v3.0, into a new store; the target appears complete or not at all.

    Args:
        config: layout, episodes and tolerance.
        source: the folder with ``meta/info.json``.
        target: the new store; must not exist.
        progress: called with (episodes done, episodes in all).
        codecs: of the new store, see ``DemoStore.create``.

    Returns:
        The new store, open for reading. What a store cannot say otherwise is in its attributes: ``names``
        holds the names of the numbers of each key.

    Raises:
        StoreError: the source cannot be read or is not safe to read, a value does not fit its feature, or
            the target exists or cannot be written.
        ConfigError: the settings do not fit the source.
        MissingExtraError: pyarrow or PyAV is not installed.
    """
    config.refuse_given("keys", "codec", "crf", verb="import")
    source = Path(source)
    folder = Folder(source)
    info = read_info(folder)
    record = read_record(folder)
    columns, spec = _plan_columns(config, info, record, folder)
    if not config.tolerance_s > 0:
        raise ConfigError(f"format.tolerance_s is {config.tolerance_s}; it is a time above 0, in seconds.")
    tolerance_ns = seconds_to_ns(min(config.tolerance_s, 0.49 / info.fps))
    plan = Plan(folder, info, columns, spec, read_tasks(folder, info), record, tolerance_ns)
    videos = [field.key for field in plan.fields if field.dtype == VIDEO]
    entries = read_index(folder, info, videos, config.episodes)
    _check_files(folder, entries)
    if record is not None:
        record.check_episodes(info.episodes, str(source / RECORD_FILE))
    _warn_of_what_is_left_out(plan)
    rate_hz = info.fps if record is None else record.rate_hz
    with new_store(source, target, spec, rate_hz=rate_hz, metadata=_metadata(plan), codecs=codecs) as store:
        append_all(store, _episodes(plan, entries, rate_hz), len(entries), progress)
    return DemoStore.open(target)


def _plan_columns(
    config: LeRobotFormatConfig, info: Info, record: Record | None, folder: Folder
) -> tuple[list[Column], Spec]:
    offered = {
        field.key: (field.shape, "uint8" if field.is_image else field.dtype) for field in info.fields.values()
    }
    own = record is not None and not config.is_given
    layout: Mapping[str, Any] = config.layout
    if record is not None and own:
        layout = record.layout
    elif not layout:
        unknown = [key for key, dtype in info.unsupported.items() if dtype not in (VIDEO, IMAGE, TEXT)]
        if unknown:
            raise damaged(
                folder.root / INFO_FILE,
                f"'{unknown[0]}' has the dtype '{info.unsupported[unknown[0]]}', which is not known. If it "
                "is meant, name the features to take with format.layout",
            )
        layout = {key: _our_key(key) for key in offered}
    try:
        columns = plan_columns(layout, config.features, offered, config.next_step)
        if record is None or not own:
            return columns, spec_of(columns)
    except ConfigError as error:
        if config.is_given:
            raise
        raise StoreError(
            f"{folder.root} does not fit a store as it is; say with format.layout what becomes of its keys. "
            f"{error}"
        ) from error
    return record.restored(columns, str(folder.root / RECORD_FILE)), record.spec


def _check_files(folder: Folder, entries: Sequence[Entry]) -> None:
    """Checks that every file is there, before hours go into the first ones."""
    for entry in entries:
        for name in (entry.file, *(clip.file for clip in entry.clips.values())):
            if not folder.holds(name):
                raise StoreError(
                    f"{folder.root / name} is missing, which episode {entry.episode} needs. Copy the data "
                    "set again, name the episodes that are whole with format.episodes, or leave the feature "
                    "out with format.layout."
                )
            folder.file(name)


def _our_key(key: str) -> str:
    """Returns LeRobot's key without its prefix, in characters that a store allows."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return "".join(character if character.isalnum() or character in "_-" else "_" for character in key)


def _metadata(plan: Plan) -> dict[str, Any]:
    if plan.record is not None:
        return dict(plan.record.metadata)
    names = {}
    for column in plan.columns:
        given = plan.info.fields[column.source].names
        if given and column.place is None:
            names[column.feature.key] = list(given[slice(*column.columns)] if column.columns else given)
    return {
        "format": "lerobot",
        "version": plan.info.version,
        "source": plan.folder.root.name,
        "names": names,
    }


def _warn_of_what_is_left_out(plan: Plan) -> None:
    if plan.record is not None:
        return
    if plan.info.unsupported:
        _log.warning(
            "%s: %s cannot be held by a store (texts, and images without three channels) and is left out.",
            plan.folder.root,
            ", ".join(plan.info.unsupported),
        )
    left_out = sorted(set(plan.info.fields) - {field.key for field in plan.fields})
    if left_out:
        _log.info("%s: the layout leaves out %s.", plan.folder.root, ", ".join(left_out))


def _episodes(plan: Plan, entries: Sequence[Entry], rate_hz: float) -> Iterator[NewEpisode]:
    for entry, episode in read_episodes(plan, entries):
        with naming(f"{entry.file}, episode {entry.episode}"):
            check_episode(episode, plan.spec, rate_hz, ())
        yield episode
        del episode  # its images must not stay while the next ones are decoded
