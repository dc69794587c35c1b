"""The ``robopolicy`` command: ``robopolicy VERB [group=choice key=value ...]``.

Exit codes: 0 done, 1 failed, 2 the command line is not understood, 130 interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from robopolicy_datasets.errors import RobopolicyError, missing_extra, unknown_name
from robopolicy_datasets.registry import EXTRA_OF_MODULE
from robopolicy_launch import console, help_text, settings
from robopolicy_launch.verbs import VERBS, Verb

FAILED = 1
NOT_UNDERSTOOD = 2
INTERRUPTED = 130

HELP_FLAGS = ("--help", "-h", "help")
DEBUG_FLAG = "--debug"
PACKAGES = ("robopolicy", "robopolicy_datasets", "robopolicy_drivers", "robopolicy_sim", "robopolicy_launch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: the words after ``robopolicy``; None takes those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG_FLAG in words
    words = [word for word in words if word != DEBUG_FLAG]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        return _run(words)
    except KeyboardInterrupt as interrupt:
        console.error_line(" ".join(["Interrupted.", *_notes(interrupt)]))
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as with `robopolicy ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        console.error_line(" ".join([explain(error), *_notes(error)]))
        return NOT_UNDERSTOOD if isinstance(error, _NotUnderstoodError) else FAILED


class _NotUnderstoodError(RobopolicyError):
    """The command line names something that does not exist, or a value that does not fit."""


def _run(words: list[str]) -> int:
    if not words or words[0] in HELP_FLAGS:
        console.line(help_text.overview())
        return 0
    try:
        asks_help = any(word in HELP_FLAGS for word in words)
        words = [word for word in words if word not in HELP_FLAGS]
        if asks_help and (len(words) == 1) and (family := help_text.family_help(words[0])):
            console.line(family)
            return 0
        verb, rest = _find_verb(words)
        if asks_help:
            console.line(help_text.verb_help(verb, rest))
            return 0
        module = verb.load()
        composed = settings.compose(verb.name, module, rest)
    except RobopolicyError as error:
        raise _NotUnderstoodError(str(error)) from error
    return int(module.run(composed.settings, composed.config))


def _find_verb(words: list[str]) -> tuple[Verb, list[str]]:
    """Returns the verb that the words begin with, and the other words."""
    first, second = [*words, ""][:2]
    if first in VERBS:
        return VERBS[first], words[1:]
    if f"{first} {second}" in VERBS:
        return VERBS[f"{first} {second}"], words[2:]
    members = [name.partition(" ")[2] for name in VERBS if name.startswith(f"{first} ")]
    if not members:
        raise unknown_name("verb", first, {name.partition(" ")[0] for name in VERBS})
    if second:
        raise unknown_name(f"verb of '{first}'", second, members)
    raise RobopolicyError(f"'robopolicy {first}' needs one of: {', '.join(members)}.")


def explain(error: Exception) -> str:
    """Returns what went wrong and what to do, in one line."""
    if isinstance(error, RobopolicyError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        root = (error.name or "").partition(".")[0]
        if root in EXTRA_OF_MODULE:
            return str(missing_extra(f"'{root}', which this verb uses,", EXTRA_OF_MODULE[root]))
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_os_error(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"Unexpected {type(error).__name__}{place}: {error}. Run again with --debug for the traceback."


def _explain_os_error(error: OSError) -> str:
    path = f"'{error.filename2 or error.filename}'" if error.filename is not None else "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {path} could not be written. Free some space, or write elsewhere (runs=...)."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        reason = "the file system is read-only" if error.errno == errno.EROFS else "permission denied"
        return f"{path} could not be used: {reason}. Give a path that you may use (to write: runs=...)."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{path}: a file is where a folder is needed. Give another path (to write: runs=...)."
    if error.errno == errno.ENOENT:
        return f"{path} does not exist."
    return f"{path}: {os.strerror(error.errno or 0)}."


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


if __name__ == "__main__":
    sys.exit(main())
