"""From the keys and columns of a foreign store to our features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SpecError, StoreError, nearest_names
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.foreign import infer_feature

_DESCRIPTION = ("kind", "unit", "frame", "dtype")


@dataclass(frozen=True)
class Column:
    """Where a feature of ours comes from.

    Attributes:
        source: the source key.
        feature: ours.
        columns: (first, end) of the source's last axis; ``None`` for all.
        place: (first, end) of the numbers of the feature, a vector, that this source fills; ``None`` for all.
        next_step: whether each step takes the values of the step after it.
    """

    source: str
    feature: Feature
    columns: tuple[int, int] | None = None
    place: tuple[int, int] | None = None
    next_step: bool = False

    def put(self, rows: NDArray[Any], first_row: int, out: NDArray[Any]) -> None:
        """Writes what this column takes of source rows ``[n, ...]`` into the feature's ``out [n, *shape]``.

        Args:
            rows: of the source key.
            first_row: the store row of ``rows[0]``, for messages.
            out: of the feature.

        Raises:
            StoreError: a value cannot be held exactly by an integer feature.
        """
        part = out if self.place is None else out[:, slice(*self.place)]
        part[...] = self._convert(rows, first_row).reshape(part.shape)

    def _convert(self, rows: NDArray[Any], first_row: int) -> NDArray[Any]:
        """Returns the numbers in the feature's dtype."""
        if self.columns is not None:
            rows = rows[..., self.columns[0] : self.columns[1]]
        wanted = np.dtype(self.feature.dtype)
        if rows.dtype == wanted:
            return rows
        with np.errstate(invalid="ignore", over="ignore"):
            converted = rows.astype(wanted)
        if wanted.kind in "iub":
            wrong = (converted != rows).reshape(len(rows), -1).any(axis=1)
            if wrong.any():
                low, high = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
                row = first_row + int(np.argmax(wrong))
                raise StoreError(
                    f"'{self.source}' becomes '{self.feature.key}' ({wanted}), but in row {row} "
                    f"a value is not a whole number from {low} to {high}. "
                    f"Give '{self.feature.key}' another dtype in the layout's features."
                )
        return converted


def plan_columns(
    layout: Mapping[str, Any],
    descriptions: Mapping[str, Any],
    offered: Mapping[str, tuple[tuple[int, ...], str]],
    next_step: Sequence[str] = (),
) -> list[Column]:
    """Works out where each of our features comes from.

    Args:
        layout: source key to our key, or to ``{our key: [first, end]}``; or our key to a list of source keys,
            whose numbers it holds one after the other. Empty to keep every key.
        descriptions: by our key, any of kind, unit, frame, dtype.
        offered: row shape and dtype of each source key.
        next_step: those of our keys of which each step takes the values of the step after it.

    Raises:
        ConfigError: the layout names what is not there, or is not understood.
    """
    columns: list[Column] = []
    for name, destination in (layout or {key: key for key in offered}).items():
        for source in _sources(name, destination):
            if source not in offered:
                options = ", ".join(nearest_names(source, offered))
                raise ConfigError(f"The layout names the source key '{source}'. The store has: {options}.")
        if isinstance(destination, list | tuple) and destination:
            columns += _join(name, destination, offered, descriptions)
        elif isinstance(destination, Mapping):
            columns += [_slice(name, key, part, offered, descriptions) for key, part in destination.items()]
        elif isinstance(destination, str):
            columns.append(Column(name, _describe(destination, *offered[name], descriptions)))
        else:
            raise ConfigError(
                f"The layout maps '{name}' to {destination!r}; give our key, {{our key: [first, end]}}, or "
                "what a key of ours is made of: [source key, source key, ...]."
            )
    keys = [column.feature.key for column in columns]
    for given, named in (("features describe", descriptions), ("next_step names", next_step)):
        for key in named:
            if key not in keys:
                options = ", ".join(nearest_names(key, keys))
                raise ConfigError(f"The {given} '{key}', but the layout makes only {options}.")
    return [replace(column, next_step=column.feature.key in next_step) for column in columns]


def spec_of(columns: Sequence[Column]) -> Spec:
    """Returns the Spec of the planned features; the one named ``action`` is the action.

    Raises:
        ConfigError: a key is made twice, or there is no action.
    """
    whole = [column for column in columns if column.place is None or column.place[0] == 0]
    features = [column.feature for column in whole]
    action = tuple(feature for feature in features if feature.key == "action")
    if not action:
        made = ", ".join(feature.key for feature in features) or "nothing"
        raise ConfigError(f"The import makes {made} but no 'action'; map a source key to it in the layout.")
    try:
        return Spec(tuple(feature for feature in features if feature.key != "action"), action)
    except SpecError as error:
        raise ConfigError(f"The layout cannot be used: {error}") from error


def layout_sources(layout: Mapping[str, Any]) -> list[str]:
    """Returns the source keys that a layout names."""
    return [source for name, destination in layout.items() for source in _sources(name, destination)]


def take_next_step(data: Mapping[str, NDArray[Any]], columns: Sequence[Column]) -> None:
    """Gives each step of an episode the values of the next one, where planned; the last keeps its own.

    Args:
        data: the episode, ``[T, *shape]`` by our key, changed in place.
        columns: the plan.
    """
    for key in {column.feature.key for column in columns if column.next_step}:
        data[key][:-1] = data[key][1:].copy()


def empty_rows(columns: Sequence[Column], count: int) -> dict[str, NDArray[Any]]:
    """Returns room for ``count`` rows of each planned feature, ``[count, *shape]`` by our key."""
    features = {column.feature.key: column.feature for column in columns}
    return {key: np.empty((count, *feature.shape), feature.dtype) for key, feature in features.items()}


def _sources(name: str, destination: Any) -> list[str]:
    """Returns the source keys of one entry of a layout."""
    return [str(source) for source in destination] if isinstance(destination, list | tuple) else [name]


def _join(
    key: str,
    sources: Sequence[str],
    offered: Mapping[str, tuple[tuple[int, ...], str]],
    descriptions: Mapping[str, Any],
) -> list[Column]:
    """Returns the columns of a feature that holds the numbers of several sources one after the other."""
    ends = np.cumsum([np.prod(offered[source][0], dtype=int) for source in sources]).tolist()
    dtype = np.result_type(*(offered[source][1] for source in sources)).name
    feature = _describe(key, (ends[-1],), dtype, descriptions)
    return [
        Column(source, feature, place=place)
        for source, place in zip(sources, pairwise([0, *ends]), strict=True)
    ]


def _slice(
    source: str,
    key: str,
    part: Any,
    offered: Mapping[str, tuple[tuple[int, ...], str]],
    descriptions: Mapping[str, Any],
) -> Column:
    row_shape, dtype = offered[source]
    bounds = list(part) if isinstance(part, Sequence) and not isinstance(part, str) else []
    width = row_shape[-1] if row_shape else 0
    whole = len(bounds) == 2 and all(isinstance(bound, int) for bound in bounds)
    if not whole or not 0 <= bounds[0] < bounds[1] <= width:
        raise ConfigError(
            f"The layout takes '{key}' from the columns {part!r} of '{source}'; "
            f"give [first, end] with 0 <= first < end <= {width}."
        )
    shape = (*row_shape[:-1], bounds[1] - bounds[0])
    return Column(source, _describe(key, shape, dtype, descriptions), (bounds[0], bounds[1]))


def _describe(key: str, shape: tuple[int, ...], dtype: str, descriptions: Mapping[str, Any]) -> Feature:
    given = descriptions.get(key, {})
    inferred = infer_feature(key, shape, dtype)
    if not isinstance(given, Mapping) or any(name not in _DESCRIPTION for name in given):
        allowed = ", ".join(_DESCRIPTION)
        raise ConfigError(f"The features describe '{key}' by {given!r}; allowed are {allowed}.")
    kind = str(given.get("kind", inferred.kind))
    try:
        return Feature(
            key,
            shape,
            dtype=str(given.get("dtype", "uint8" if kind == "rgb" else dtype)),
            kind=kind,
            unit=str(given.get("unit", inferred.unit)),
            frame=str(given.get("frame", inferred.frame)),
        )
    except SpecError as error:
        raise ConfigError(f"The features describe '{key}' in a way that is not possible: {error}") from error
