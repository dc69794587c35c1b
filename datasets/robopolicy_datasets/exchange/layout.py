"""From the keys and columns of a foreign store to our features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """

    source: str
    feature: Feature
    columns: tuple[int, int] | None = None

    def convert(self, rows: NDArray[Any], first_row: int) -> NDArray[Any]:
        """Takes this feature out of source rows ``[n, ...]``.

        Args:
            rows: of the source key.
            first_row: the store row of ``rows[0]``, for messages.

        Raises:
            StoreError: a value cannot be held exactly by an integer feature.
        """
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
) -> list[Column]:
    """Works out where each of our features comes from.

    Args:
        layout: source key to our key, or to ``{our key: [first, end]}``; empty to keep every key.
        descriptions: by our key, any of kind, unit, frame, dtype.
        offered: row shape and dtype of each source key.

    Raises:
        ConfigError: the layout names what is not there, or is not understood.
    """
    columns = []
    for source, destination in (layout or {key: key for key in offered}).items():
        if source not in offered:
            options = ", ".join(nearest_names(source, offered))
            raise ConfigError(f"The layout names the source key '{source}'. The store has: {options}.")
        row_shape, dtype = offered[source]
        if isinstance(destination, str):
            columns.append(Column(source, _describe(destination, row_shape, dtype, descriptions)))
        elif isinstance(destination, Mapping):
            columns += [
                _slice(source, key, part, row_shape, dtype, descriptions) for key, part in destination.items()
            ]
        else:
            raise ConfigError(
                f"The layout maps '{source}' to {destination!r}; give our key, or {{our key: [first, end]}}."
            )
    keys = [column.feature.key for column in columns]
    for key in descriptions:
        if key not in keys:
            options = ", ".join(nearest_names(key, keys))
            raise ConfigError(f"The features describe '{key}', but the layout makes only {options}.")
    return columns


def spec_of(columns: Sequence[Column]) -> Spec:
    """Returns the Spec of the planned features; the one named ``action`` is the action.

    Raises:
        ConfigError: a key is made twice, or there is no action.
    """
    features = [column.feature for column in columns]
    action = tuple(feature for feature in features if feature.key == "action")
    if not action:
        made = ", ".join(feature.key for feature in features) or "nothing"
        raise ConfigError(f"The import makes {made} but no 'action'; map a source key to it in the layout.")
    try:
        return Spec(tuple(feature for feature in features if feature.key != "action"), action)
    except SpecError as error:
        raise ConfigError(f"The layout cannot be used: {error}") from error


def _slice(
    source: str, key: str, part: Any, row_shape: tuple[int, ...], dtype: str, descriptions: Mapping[str, Any]
) -> Column:
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
