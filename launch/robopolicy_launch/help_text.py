"""The text of ``--help``: verbs, groups with their choices, keys with types, defaults and meanings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from robopolicy_launch import settings
from robopolicy_launch.verbs import VERBS, Verb

WIDTH = 110
LEFT_WIDTH = 54

USAGE = """\
robopolicy: collect demonstrations, train policies, deploy them on robots.

Usage: robopolicy VERB [group=choice] [key=value] [group.key=value]
       robopolicy VERB --help       the verb's groups and keys
       robopolicy VERB ... --debug  show the full traceback of an error
"""


def overview() -> str:
    """Returns the help of the command: the verbs and, for every group, its choices."""
    width = max(map(len, VERBS))
    lines = [USAGE, "Verbs:"]
    lines += [f"  {verb.name.ljust(width)}  {verb.summary}" for verb in VERBS.values()]
    lines += ["", "Groups and their choices:"]
    groups = sorted({group for verb in VERBS.values() for group in verb.load().GROUPS})
    lines += [f"  {group.ljust(width)}  {', '.join(settings.choices(group))}" for group in groups]
    lines += ["", "Start here: robopolicy demo"]
    return "\n".join(lines)


def family_help(first: str) -> str:
    """Returns the help of a first word that has several verbs (``data``), or nothing."""
    verbs = [verb for verb in VERBS.values() if verb.name.startswith(f"{first} ")]
    width = max((len(verb.name) for verb in verbs), default=0)
    lines = [f"  robopolicy {verb.name.ljust(width)}  {verb.summary}" for verb in verbs]
    return "\n".join([f"Verbs of '{first}':", *lines]) if verbs else ""


def verb_help(verb: Verb, arguments: Sequence[str] = ()) -> str:
    """Returns the help of one verb.

    Args:
        verb: the verb.
        arguments: overrides; the help shows the keys of the chosen components.
    """
    module = verb.load()
    config = settings.defaults(verb.name, module, arguments)
    positional = "".join(f" {name.upper()}" for name in module.POSITIONAL)
    description = (module.__doc__ or verb.summary).strip()
    lines = [f"robopolicy {verb.name}{positional}: {verb.summary}", "", *description.splitlines()[2:], ""]
    if module.GROUPS:
        width = max(map(len, module.GROUPS))
        lines.append("Groups (group=choice):")
        for group, default in module.GROUPS.items():
            shown = "the task's" if "${" in (default or "") else default or "none"
            lines.append(f"  {group.ljust(width)}  {', '.join(settings.choices(group))}  (default: {shown})")
        lines.append("")
    own = [name for name in config if name not in module.GROUPS]
    lines += ["Keys:", *_keys(config, own, "")]
    for group in module.GROUPS:
        node = OmegaConf.select(config, group)
        if isinstance(node, DictConfig) and len(node):
            title = f"Keys of {group} ({getattr(OmegaConf.get_type(node), '__name__', 'mapping')}):"
            lines += ["", title, *_keys(node, list(node), f"{group}.")]
    return "\n".join(lines)


def _keys(node: DictConfig, names: Sequence[Any], prefix: str) -> list[str]:
    rows = list(_rows(node, names, prefix))
    left = [f"  {key}: {declared} = {default}" for key, declared, default, _ in rows]
    width = min(max(map(len, left), default=0), LEFT_WIDTH)
    lines = []
    for start, row in zip(left, rows, strict=True):
        meaning = textwrap.wrap(row[3], WIDTH - width - 2) or [""]
        if len(start) > width:
            lines.append(start)
            start = ""
        lines.append(f"{start.ljust(width)}  {meaning[0]}".rstrip())
        lines += [" " * (width + 2) + rest for rest in meaning[1:]]
    return lines


def _rows(node: DictConfig, names: Sequence[Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields key, type, default and meaning of the named keys, nested ones in full."""
    meanings = _meanings(OmegaConf.get_type(node))
    for name in map(str, names):
        key, meaning = f"{prefix}{name}", meanings.get(name, "")
        if OmegaConf.is_missing(node, name):
            yield key, settings.type_text(node, name), "required", meaning
        elif isinstance(node[name], DictConfig) and OmegaConf.get_type(node[name]) is not dict:
            yield from _rows(node[name], list(node[name]), f"{key}.")
        else:
            yield key, settings.type_text(node, name), _shown(node[name]), meaning


def _shown(value: Any) -> str:
    if OmegaConf.is_config(value):
        return str(OmegaConf.to_container(value))
    return repr(value) if isinstance(value, str) else str(value)


def _meanings(component: type[Any] | None) -> dict[str, str]:
    """Reads the ``Attributes:`` sections of a dataclass and its bases."""
    found: dict[str, str] = {}
    for base in reversed(component.__mro__ if component is not None else ()):
        section = textwrap.dedent(_section(base.__doc__ or "")).splitlines()
        name = ""
        for text in section:
            start = re.match(r"(\w+):\s*(.*)", text)
            if start:
                name = start[1]
                found[name] = start[2]
            elif name and text.strip():
                found[name] += " " + text.strip()
    return {name: meaning.replace("``", "") for name, meaning in found.items()}


def _section(docstring: str) -> str:
    _, _, after = docstring.partition("Attributes:\n")
    lines = []
    for text in after.splitlines():
        if text.strip() and not text.startswith("     "):
            break
        lines.append(text)
    return "\n".join(lines)
