"""The files of a new store of ours, empty."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import ConfigError, StoreError, nearest_names
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.codecs import AUTO, ChunkCodec, parse_codec
from robopolicy_datasets.store.layout import (
    ENDS_LAYOUT,
    INFO_LAYOUT,
    LOSSLESS,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    STREAMS,
    TIME_KEY,
    TIME_LAYOUT,
    UNDECIDED,
    ArrayLayout,
    checked_key,
    data_folder,
    group_metadata,
    to_json_bytes,
)
from robopolicy_datasets.store.streams import StreamFiles
from robopolicy_datasets.store.transaction import sync_folder, write_durably, write_error


def create_files(
    path: Path,
    spec: Spec,
    rate_hz: float,
    metadata: Mapping[str, Any],
    codecs: Mapping[str, str],
    streams: Sequence[Feature],
) -> None:
    """Creates an empty store at ``path``, which must not exist; it appears whole or not at all.

    Raises:
        StoreError: the path exists, the Spec cannot be stored, or the disk cannot be written.
        ConfigError: a codec is none of ours, or for neither a key nor a kind of the features.
    """
    _check_keys(spec, streams)
    _check_codecs(codecs, (*spec.features, *streams))
    attributes = {
        SCHEMA_KEY: SCHEMA_VERSION,
        "rate_hz": rate_hz,
        "spec": spec.to_json(),
        "metadata": dict(metadata),
        UNDECIDED: [f.key for f in spec.features if _given(f, codecs) == AUTO and f.kind == "rgb"],
        STREAMS: [asdict(feature) for feature in streams],
    }
    chosen = {
        feature.key: ArrayLayout.of_feature(feature, _first_codec(feature, codecs))
        for feature in (*spec.features, *streams)
    }
    arrays = {data_folder(checked_key(feature.key)): chosen[feature.key] for feature in spec.features}
    for feature in streams:
        arrays |= StreamFiles.layouts(feature, chosen[checked_key(feature.key)])
    arrays |= {
        data_folder(TIME_KEY): TIME_LAYOUT,
        "meta/episodes": INFO_LAYOUT,
        "meta/events": INFO_LAYOUT,
        "meta/episode_ends": ENDS_LAYOUT,
    }
    try:
        files = {"": to_json_bytes(group_metadata(attributes))}
    except (TypeError, ValueError) as error:
        raise StoreError(f"The metadata of a store must be plain JSON data: {error}.") from error
    groups = ["data", "meta"]
    if streams:
        groups += ["streams", *(f"streams/{feature.key}" for feature in streams)]
    files |= {group: to_json_bytes(group_metadata({})) for group in groups}
    files |= {name: to_json_bytes(layout.metadata(0)) for name, layout in arrays.items()}
    staging = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        for name, data in files.items():
            (staging / name).mkdir(exist_ok=True)
            write_durably(staging / name / "zarr.json", data)
        for name in files:
            sync_folder(staging / name)
        os.rename(staging, path)
        sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_keys(spec: Spec, streams: Sequence[Feature]) -> None:
    """Checks that no two streams have one key, and that a stream is what the steps show under its key.

    Raises:
        StoreError: names the keys.
    """
    keys = [feature.key for feature in streams]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise StoreError(f"A store names each stream once; given more than once: {', '.join(repeated)}.")
    steps = {feature.key: feature for feature in spec.features}
    for stream in streams:
        step = steps.get(stream.key, stream)
        if replace(step, rate_hz=stream.rate_hz) != stream:
            raise StoreError(
                f"The stream '{stream.key}' has the key of a step's feature but is another one: "
                f"{stream.describe()}; the steps have {step.describe()}. Give it a key of its own."
            )


def _check_codecs(codecs: Mapping[str, str], features: Sequence[Feature]) -> None:
    """Checks that every codec is for something.

    Raises:
        ConfigError: one is for neither a key nor a kind of the features.
    """
    allowed = {feature.key for feature in features} | {feature.kind for feature in features}
    for name in codecs:
        if name not in allowed:
            options = ", ".join(nearest_names(name, allowed))
            raise ConfigError(
                f"A codec is given for '{name}', which is neither a key nor a kind of the store: {options}."
            )


def _given(feature: Feature, codecs: Mapping[str, str]) -> str | None:
    return codecs.get(feature.key, codecs.get(feature.kind))


def _first_codec(feature: Feature, codecs: Mapping[str, str]) -> ChunkCodec:
    """Returns the codec to begin with; ``auto`` may choose another one with the first episodes."""
    given = _given(feature, codecs)
    return LOSSLESS if given in (None, AUTO) else parse_codec(given)
