"""Damage to files: what disks, broken copies and hostile hands do to them, drawn from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Bytes = bytearray
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_NUMBERS = (*_INTEGERS, -1, -(2**63), 10**30, 0.5, 1e-300, 1e308, float("nan"), float("inf"), -float("inf"))
_OTHERS = (
    None,
    True,
    False,
    "",
    "0",
    "\ud800",
    "../../etc/passwd",
    "x" * 70_000,
    [],
    {},
    [[]],
    [0],
    {"": None},
)
_RAW = {"@deep": "[" * 50_000 + "]" * 50_000, "@digits": "9" * 5000, "@half": "{"}  # no plain data has them


def damage(generator: random.Random, files: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """Returns the changed files: one as a rule, sometimes several; ``None`` for one that is gone."""
    names = sorted(files)
    changed: dict[str, bytes | None] = {}
    for _ in range(generator.choice((1, 1, 1, 1, 2, 3))):
        name = generator.choice(names)
        content = changed.get(name, files[name])
        other = files[generator.choice(names)]
        fate = generator.random()
        if content is None or fate < 0.03:
            changed[name] = None
        elif fate < 0.06:
            changed[name] = other
        else:
            changed[name] = damaged(generator, content, other)
    return changed


def damaged(generator: random.Random, content: bytes, other: bytes) -> bytes:
    """Returns ``content`` with some change; ``other`` is what a block may come from."""
    if generator.random() < 0.7:
        lines = content.splitlines(keepends=True)
        whole, number = [content], 0
        if len(lines) > 1 and lines[0].rstrip().endswith(b"}"):  # one text a line
            whole, number = lines, generator.randrange(len(lines))
        try:
            whole[number] = _changed_json(generator, json.loads(whole[number]))
            return b"\n".join(whole)
        except (ValueError, RecursionError):
            pass
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        generator.choice(_CHANGES)(generator, data, other)
    return bytes(data)


def _bits(generator: random.Random, data: Bytes, other: bytes) -> None:
    for _ in range(generator.choice((1, 1, 2, 16))):
        if data:
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _values(generator: random.Random, data: Bytes, other: bytes) -> None:
    for _ in range(generator.choice((1, 1, 3, 20))):
        if data:
            data[generator.randrange(len(data))] = generator.choice((0, 255, generator.randrange(256)))


def _cut(generator: random.Random, data: Bytes, other: bytes) -> None:
    del data[_place(generator, data) :]


def _extend(generator: random.Random, data: Bytes, other: bytes) -> None:
    data += generator.choice((bytes(64), generator.randbytes(17), other, bytes(data)))


def _remove(generator: random.Random, data: Bytes, other: bytes) -> None:
    place = _place(generator, data)
    del data[place : place + _size(generator)]


def _double(generator: random.Random, data: Bytes, other: bytes) -> None:
    place = _place(generator, data)
    data[place:place] = data[place : place + _size(generator)]


def _zero(generator: random.Random, data: Bytes, other: bytes) -> None:
    place = _place(generator, data)
    data[place : place + 64] = bytes(len(data[place : place + _size(generator)]))


def _swap(generator: random.Random, data: Bytes, other: bytes) -> None:
    size = _size(generator)
    first, second = sorted((_place(generator, data), _place(generator, data)))
    if first + size <= second and second + size <= len(data):
        held = data[first : first + size]
        data[first : first + size] = data[second : second + size]
        data[second : second + size] = held


def _move_in(generator: random.Random, data: Bytes, other: bytes) -> None:
    source, place, size = _place(generator, other), _place(generator, data), _size(generator)
    block = other[source : source + size]
    data[place : place + len(block)] = block


def _integer(generator: random.Random, data: Bytes, other: bytes) -> None:
    size = generator.choice((1, 2, 4, 4, 8))
    value = generator.choice(_INTEGERS) % (1 << 8 * size)
    place = _place(generator, data)
    data[place : place + size] = value.to_bytes(size, generator.choice(("little", "big")))


_CHANGES: Sequence[Callable[[random.Random, Bytes, bytes], None]] = (
    *(_bits, _bits, _values, _values, _cut, _extend, _remove, _double, _zero, _swap, _move_in),
    *(_integer, _integer),
)


def _place(generator: random.Random, data: bytes | bytearray) -> int:
    return generator.randrange(len(data) + 1)


def _size(generator: random.Random) -> int:
    return generator.choice((1, 2, 4, 8, generator.randrange(1, 64), generator.randrange(1, 2000)))


def _changed_json(generator: random.Random, content: Any) -> bytes:
    """Returns plain data as JSON with one or two of its values changed, removed, repeated or exchanged."""
    for _ in range(generator.choice((1, 1, 1, 2))):
        places = list(_places(content))
        if not places:
            break
        holder, key = generator.choice(places)
        _change_value(generator, holder, key, *generator.choice(places))
    text = json.dumps(content, indent=generator.choice((None, 2)))
    for mark, raw in _RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode("utf-8", "surrogatepass")


def _change_value(generator: random.Random, holder: Any, key: Any, holder2: Any, key2: Any) -> None:
    value, action = holder[key], generator.random()
    if action < 0.12:
        del holder[key]
    elif action < 0.2:
        holder[key] = copy.deepcopy(holder2[key2])
    elif action < 0.25 and isinstance(holder, dict):
        holder[f"{key}{generator.choice(('_', '2', '.'))}"] = holder.pop(key)
    elif action < 0.3 and isinstance(value, list):
        value.append(copy.deepcopy(generator.choice((*value, 1))))
    elif action < 0.65 and isinstance(value, int | float):
        near = (value + 1, value - 1, -value, value * 2, value * 1000, float(value), str(value), bool(value))
        holder[key] = generator.choice((*near, *_NUMBERS))
    elif action < 0.5 and isinstance(value, str):
        place = _place(generator, value.encode())
        holder[key] = value[:place] + generator.choice(("", "/", "\0", "é", "{", "9")) + value[place + 1 :]
    else:
        holder[key] = copy.deepcopy(generator.choice((*_NUMBERS, *_OTHERS, *_RAW)))


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Returns (holder, key) of every value within plain data."""
    found, rest = [], [content]
    while rest:
        holder = rest.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            rest.append(holder[key])
    return found
