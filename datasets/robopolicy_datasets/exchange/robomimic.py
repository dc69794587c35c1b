"""Import of robomimic's HDF5 files."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, StoreError, nearest_names
from robopolicy_datasets.exchange.configs import RobomimicFormatConfig
from robopolicy_datasets.exchange.hdf5_reader import Hdf5Group, Hdf5Reader
from robopolicy_datasets.exchange.layout import Column, layout_sources, plan_columns, spec_of
from robopolicy_datasets.exchange.record import IMPORT_OF_EXPORT, RECORD_KEY, Record, changed
from robopolicy_datasets.exchange.rows import check_usable, naming, read_episode
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode
from robopolicy_datasets.store.filling import append_all
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.staging import new_store

_log = logging.getLogger(__name__)
_DEMO = re.compile(r"demo_(\d{1,9})")


def import_store(
    config: RobomimicFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
    codecs: Mapping[str, str] | None = None,
) -> DemoStore:
    """Copies a robomimic file into a new store of ours; the target appears complete or not at all.

    Args:
        config: rate, layout and mask.
        source: the HDF5 file.
        target: the new store; must not exist.
        progress: called with (episodes done, episodes in all).
        codecs: of the new store, see ``DemoStore.create``.

    Returns:
        The new store, open for reading. Its attribute ``masks`` lists the episodes of each filter.

    Raises:
        StoreError: the source cannot be read or is not safe to read, a value does not fit its feature, or
            the target exists or cannot be written.
        ConfigError: the layout or mask does not fit the source, or the rate is not known.
        MissingExtraError: h5py is not installed.
    """
    source = Path(source)
    with Hdf5Reader() as reader:
        reader.open(source)
        demos, environment = _demos(reader)
        kept = None if config.is_given else _read_record(reader, config, len(demos))
        infos = {} if kept is None else dict(zip(demos, kept.infos, strict=True))
        masks = _masks(reader)
        demos = _chosen(demos, masks, config.mask, source)
        first = reader.group(f"data/{demos[0]}", depth=2)
        offered = {key: (array.row_shape, array.dtype) for key, array in first.arrays.items()}
        layout: Mapping[str, Any] = config.layout if kept is None else kept.layout
        with naming(source):
            layout = layout or _default_layout({*first.arrays, *first.problems})
            check_usable(layout_sources(layout), first.problems)
        columns = plan_columns(layout, config.features, offered, config.next_step)
        if kept is None:
            kept = _described(config, source, columns, environment, _numbered(masks, demos))
        else:
            columns = kept.restored(columns, f"'{RECORD_KEY}' in {source}")
        left_out = sorted({*first.arrays, *first.problems} - {column.source for column in columns})
        if left_out:
            _log.info("%s: the layout leaves out %s.", source, ", ".join(left_out))
        sparse = _part(environment, "env_kwargs").get("reward_shaping") is False
        task = config.task or str(environment.get("env_name", ""))

        def episodes() -> Iterator[NewEpisode]:
            for demo in demos:
                group = reader.group(f"data/{demo}", depth=2, attributes=("num_samples", "success"))
                with naming(f"In {demo}"):
                    _check_length(group)
                    info = infos.get(demo) or EpisodeInfo(
                        task, _success(group, sparse=sparse), config.operator, config.embodiment
                    )
                    episode = read_episode(group.arrays, group.problems, columns, offered, info)
                    yield replace(episode, time_ns=_time_ns(group)) if infos else episode

        with new_store(
            source, target, kept.spec, rate_hz=kept.rate_hz, metadata=kept.metadata, codecs=codecs
        ) as store:
            append_all(store, episodes(), len(demos), progress)
    return DemoStore.open(target)


def _read_record(reader: Hdf5Reader, config: RobomimicFormatConfig, demos: int) -> Record | None:
    """Returns what an export of ours has kept."""
    array = reader.group("").arrays.get(RECORD_KEY)
    if array is None:
        return None
    config.refuse_given("rate_hz", "task", "operator", "embodiment", verb=IMPORT_OF_EXPORT)
    place = f"'{RECORD_KEY}' in {reader.path}"
    try:
        content = json.loads(array.read(0, array.rows).tobytes())
    except (ValueError, RecursionError) as error:
        raise changed(place, str(error)) from error
    record = Record.from_json(content, place)
    record.check_episodes(demos, place)
    return record


def _described(
    config: RobomimicFormatConfig,
    source: Path,
    columns: Sequence[Column],
    environment: Mapping[str, Any],
    masks: Mapping[str, list[int]],
) -> Record:
    """Returns what becomes of a file of others, its episodes aside."""
    rate_hz = config.rate_hz or _number(_part(environment, "env_kwargs").get("control_freq"))
    if not rate_hz > 0:
        raise ConfigError(f"{source} does not say its rate. Give format.rate_hz, steps per second.")
    metadata = {"format": "robomimic", "source": source.name, "masks": masks}
    return Record(spec_of(columns), {}, rate_hz, metadata, [])


def _numbered(masks: Mapping[str, list[str]], demos: Sequence[str]) -> dict[str, list[int]]:
    """Returns the episodes of each filter, by number."""
    numbers = {demo: number for number, demo in enumerate(demos)}
    return {name: [numbers[demo] for demo in chosen if demo in numbers] for name, chosen in masks.items()}


def _time_ns(demo: Hdf5Group) -> NDArray[np.int64]:
    """Returns the times ``[T]`` [ns] that an export of ours has kept."""
    times = demo.arrays.get(TIME_KEY)
    if times is None or (times.dtype, times.row_shape) != ("int64", ()):
        raise StoreError(f"'{TIME_KEY}' is missing or no int64 [T]; the file is incomplete. Export it again.")
    return times.read(0, times.rows)


def _demos(reader: Hdf5Reader) -> tuple[list[str], dict[str, Any]]:
    """Returns the demos by number and the environment's description."""
    names = reader.group("", depth=0).groups
    data = reader.group("data", depth=0, attributes=("env_args",)) if "data" in names else None
    demos = [name for name in (data.groups if data else ()) if _DEMO.fullmatch(name)]
    if data is None or not demos:
        raise StoreError(f"{reader.path} is not a robomimic file: expected are groups data/demo_0, ...")
    linked = [name for name in data.problems if _DEMO.fullmatch(name)]
    if linked:
        raise StoreError(f"{reader.path}: data/{linked[0]} cannot be read: {data.problems[linked[0]]}.")
    others = sorted({*data.groups, *data.problems}.difference(demos))
    if others:
        _log.warning(
            "%s: data holds %s, which are no demos; they are ignored.", reader.path, ", ".join(others)
        )
    try:
        environment = json.loads(data.attributes.get("env_args", "{}"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"The attribute env_args of {reader.path} is not JSON: {error}.") from error
    return sorted(demos, key=_number_of), environment if isinstance(environment, dict) else {}


def _number_of(demo: str) -> tuple[int, str]:
    return int(demo.removeprefix("demo_")), demo


def _masks(reader: Hdf5Reader) -> dict[str, list[str]]:
    """Returns the names of the demos of each filter."""
    if "mask" not in reader.group("", depth=0).groups:
        return {}
    group = reader.group("mask")
    for name, problem in group.problems.items():
        _log.warning("%s: the filter mask/%s is ignored: %s.", reader.path, name, problem)
    return {
        name: [entry.decode("ascii", "replace") for entry in array.read(0, array.rows).tolist()]
        for name, array in group.arrays.items()
        if array.dtype.startswith("|S") and not array.row_shape
    }


def _chosen(demos: list[str], masks: dict[str, list[str]], mask: str, source: Path) -> list[str]:
    if not mask:
        return demos
    if mask not in masks:
        options = ", ".join(nearest_names(mask, masks)) or "none"
        raise ConfigError(f"{source} has no filter mask/{mask}. It has: {options}.")
    chosen = set(masks[mask])
    missing = sorted(chosen.difference(demos))
    if missing or not chosen:
        raise StoreError(f"The filter mask/{mask} of {source} names {', '.join(missing) or 'no demos'}.")
    return [demo for demo in demos if demo in chosen]


def _default_layout(keys: set[str]) -> dict[str, str]:
    if "actions" not in keys:
        raise StoreError("the first demo has no 'actions'. Name in the layout what becomes 'action'.")
    layout = {key: key.removeprefix("obs/") for key in sorted(keys) if key.startswith("obs/")}
    return {**layout, "actions": "action"}


def _part(environment: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = environment.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _check_length(demo: Hdf5Group) -> None:
    declared = demo.attributes.get("num_samples")
    found = {key: array.rows for key, array in demo.arrays.items()}
    if declared is not None and "actions" in found and found["actions"] != declared:
        raise StoreError(
            f"num_samples is {declared} but there are {found['actions']} actions; the file is incomplete."
        )


def _success(demo: Hdf5Group, *, sparse: bool) -> bool | None:
    """Returns whether a demo says that it succeeded: by attribute, or by a reward for success only."""
    if "success" in demo.attributes:
        return bool(demo.attributes["success"])
    rewards = demo.arrays.get("rewards")
    if not sparse or rewards is None or rewards.row_shape:
        return None
    return bool((rewards.read(0, rewards.rows) > 0).any())
