"""Plain data becomes dataclasses: their type hints are the schema, so files and code cannot disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from robopolicy_datasets.errors import ConfigError, nearest_names

Record = TypeVar("Record")

_WORDS = {float: "a finite number", int: "a whole number", str: "a text"}


def read_record(kind: type[Record], data: Any, where: str) -> Record:
    """Builds a dataclass from plain data.

    Fields are texts, numbers, ``Literal`` words, dataclasses, tuples of these (of one length, or of any), or
    one of these or None.

    Args:
        kind: the dataclass.
        data: as a JSON file has it.
        where: it stands, for messages.

    Raises:
        ConfigError: a field is missing, unknown, of the wrong type or size, or its dataclass refuses it.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where} is {_short(data)}; an object with the fields of {kind.__name__} is needed."
        )
    hints = _hints(kind)  # type: ignore[arg-type]
    for name in data:
        if name not in hints:
            options = ", ".join(nearest_names(name, hints))
            raise ConfigError(f"{where} has the unknown field '{name}'. Allowed: {options}.")
    needed = [field.name for field in fields(kind) if field.default is MISSING]  # type: ignore[arg-type]
    missing = [name for name in needed if name not in data]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}; see {kind.__module__}.{kind.__name__}.")
    values = {name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, data: Any, where: str) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return read_record(hint, data, where)  # type: ignore[arg-type]
    if origin is UnionType:
        (hint,) = (choice for choice in choices if choice is not type(None))
        return None if data is None else _value(hint, data, where)
    if origin is tuple:
        return _values(choices, data, where)
    if origin is Literal:
        if data in choices:
            return data
        raise ConfigError(
            f"{where} is {_short(data)}. Allowed: {', '.join(nearest_names(str(data), choices))}."
        )
    if type(data) is int and hint is float:
        return float(data)
    if type(data) is hint and (hint is not float or math.isfinite(data)):
        return data
    raise ConfigError(f"{where} is {_short(data)}; {_WORDS[hint]} is needed.")


def _values(kinds: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise ConfigError(f"{where} is {_short(data)}; a list is needed.")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(data)
    if len(data) != len(kinds):
        raise ConfigError(f"{where} has {len(data)} entries; {len(kinds)} are needed.")
    return tuple(
        _value(kind, value, f"{where}[{index}]")
        for index, (kind, value) in enumerate(zip(kinds, data, strict=True))
    )


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 40 else text[:37] + "..."
