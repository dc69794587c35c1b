"""Import of ALOHA's recordings, one HDF5 file an episode."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.configs import AlohaFormatConfig
from robopolicy_datasets.exchange.hdf5_reader import Hdf5Group, Hdf5Reader
from robopolicy_datasets.exchange.jpeg import JpegRows, SwappedRows
from robopolicy_datasets.exchange.layout import layout_sources, plan_columns, spec_of
from robopolicy_datasets.exchange.rows import RowSource, check_usable, naming, read_episode
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode
from robopolicy_datasets.store.filling import append_all
from robopolicy_datasets.store.pickles import refuse_pickle
from robopolicy_datasets.store.staging import new_store

_log = logging.getLogger(__name__)
_FILE = re.compile(r"episode_(\d{1,9})\.(?:hdf5|h5)")
_IMAGES = "observations/images/"


def import_store(
    config: AlohaFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
    codecs: Mapping[str, str] | None = None,
) -> DemoStore:
    """Copies ALOHA recordings into a new store of ours; the target appears complete or not at all.

    Args:
        config: rate and layout.
        source: the folder with ``episode_N.hdf5`` files, or one such file.
        target: the new store; must not exist.
        progress: called with (episodes done, episodes in all).
        codecs: of the new store, see ``DemoStore.create``.

    Returns:
        The new store, open for reading, its episodes in the order of their numbers.

    Raises:
        StoreError: a file cannot be read or is not safe to read, a value does not fit its feature, or
            the target exists or cannot be written.
        ConfigError: the layout does not fit the source.
        MissingExtraError: h5py is not installed.
    """
    source = Path(source)
    files = _files(source)
    info = EpisodeInfo(task=config.task, operator=config.operator, embodiment=config.embodiment)
    with Hdf5Reader() as reader:
        arrays, group = _open(reader, files[0], swap=config.swap_red_blue)
        offered = {key: (array.row_shape, array.dtype) for key, array in arrays.items()}
        with naming(files[0]):
            layout = config.layout or _default_layout({*arrays, *group.problems})
            check_usable(layout_sources(layout), group.problems)
        columns = plan_columns(layout, config.features, offered, config.next_step)
        left_out = sorted({*arrays, *group.problems} - {column.source for column in columns})
        if left_out:
            _log.info("%s: the layout leaves out %s.", source, ", ".join(left_out))

        def episodes() -> Iterator[NewEpisode]:
            for file in files:
                with naming(f"In {file.name}"):
                    arrays, group = _open(reader, file, swap=config.swap_red_blue)
                    episode = read_episode(arrays, group.problems, columns, offered, info)
                yield episode

        metadata = {"format": "aloha", "source": source.name, "sim": bool(group.attributes.get("sim", False))}
        with new_store(
            source, target, spec_of(columns), rate_hz=config.rate_hz, metadata=metadata, codecs=codecs
        ) as store:
            append_all(store, episodes(), len(files), progress)
    return DemoStore.open(target)


def _files(source: Path) -> list[Path]:
    """Returns the files of the episodes by number."""
    if not source.is_dir():
        return [source]
    found = [(int(match[1]), file) for file in source.iterdir() if (match := _FILE.fullmatch(file.name))]
    if not found:
        refuse_pickle(source)
        raise StoreError(f"{source} holds no ALOHA recordings: expected are files episode_0.hdf5, ...")
    files = [file for _, file in sorted(found)]
    for file in files:
        if file.is_symlink() and not file.resolve().is_relative_to(source.resolve()):
            raise StoreError(f"{file} is a link that leaves the folder; replace it by the file it points to.")
    return files


def _open(reader: Hdf5Reader, file: Path, *, swap: bool) -> tuple[dict[str, RowSource], Hdf5Group]:
    """Returns the file's arrays, images decoded, by path."""
    reader.open(file)
    group = reader.group("", depth=3, attributes=("sim",))
    if "observations" not in group.groups:
        raise StoreError(f"{file} is not an ALOHA recording: expected are observations/qpos, ... and action.")
    lengths = group.arrays.get("compress_len")
    arrays: dict[str, RowSource] = {}
    for key, array in group.arrays.items():
        is_image = key.startswith(_IMAGES) and array.dtype == "uint8"
        if is_image and len(array.row_shape) == 1 and array.rows:
            arrays[key] = JpegRows(array, lengths)
        else:
            arrays[key] = array
        if is_image and swap and len(arrays[key].row_shape) == 3:
            arrays[key] = SwappedRows(arrays[key])
    return arrays, group


def _default_layout(keys: set[str]) -> dict[str, str]:
    if "action" not in keys:
        raise StoreError("there is no 'action'. Name in the layout what becomes 'action'.")
    layout = {key: key.rpartition("/")[2] for key in sorted(keys) if key.startswith("observations/")}
    return {**layout, "action": "action"}
