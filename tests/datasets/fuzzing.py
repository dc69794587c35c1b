"""Runs a reader over damaged files, many cases in a process of its own, and says which case did what.

A case is a seed: it decides which files are damaged, and how. To see one again, alone, with its traceback::

    python tests/datasets/fuzzing.py fuzz_readers:native 123 1 /tmp/case

What is not allowed: an error that is not one of the reader's, a wrong message or wrong data (``Reader.read``
says so), a case that takes longer than ``Reader.seconds``, memory beyond ``Reader.memory_bytes``, and a crash
of the process. The process notes each case before it starts it, so that a crash is known by its case.
"""

from __future__ import annotations

import importlib
import json
import logging
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_damage import damage

from robopolicy_datasets.errors import ConfigError, RobopolicyError

_MOST_PROBLEMS = 20  # then there is enough to look at
_STATE, _REPORT, _ERRORS = "state", "report.jsonl", "errors.txt"


@dataclass(frozen=True)
class Reader:
    """What is tried.

    Attributes:
        root: the file or folder that is damaged; errors must name it (but not those of settings).
        read: reads all of it, given the changed files; an ``AssertionError`` says that the data are wrong.
        errors: what it may raise.
        names_root: whether its errors must name ``root``.
        memory_bytes: by how much the memory in use may grow.
        address_bytes: by how much the address space may grow; beyond it there is a ``MemoryError``.
        seconds: how long a case may take, many times what the slowest takes.
    """

    root: Path
    read: Callable[[Mapping[str, bytes | None]], Any]
    errors: tuple[type[Exception], ...] = (RobopolicyError,)
    names_root: bool = True
    memory_bytes: int = 256 << 20
    address_bytes: int = 4 << 30
    seconds: int = 60

    def originals(self) -> dict[str, bytes]:
        """Returns the files below ``root`` by their path from its parent."""
        files = [self.root] if self.root.is_file() else sorted(self.root.rglob("*"))
        return {
            str(file.relative_to(self.root.parent)): file.read_bytes() for file in files if file.is_file()
        }

    def place(self, files: Mapping[str, bytes | None]) -> None:
        """Writes files, or removes them."""
        for name, content in files.items():
            path = self.root.parent / name
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)


@dataclass
class Result:
    """What came of the cases: how often each outcome, and what was not allowed, by seed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: dict[int, str] = field(default_factory=dict)
    crashes: dict[int, str] = field(default_factory=dict)


def run(name: str, first: int, count: int, folder: Path, most_crashes: int = 3) -> Result:
    """Runs cases in processes of their own; one that crashes or hangs is followed by another.

    Args:
        name: module and function that makes the reader, given a folder, e.g. ``"fuzz_readers:native"``.
        first: the first seed.
        count: of seeds.
        folder: an empty one, for the reader's files and ours.
        most_crashes: after which no more cases are run.
    """
    result, seed = Result(), first
    end = first + count
    while seed < end and len(result.crashes) < most_crashes and len(result.problems) < _MOST_PROBLEMS:
        (folder / _REPORT).unlink(missing_ok=True)
        environment = {**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, name, str(seed), str(end - seed), str(folder)]
        with (folder / _ERRORS).open("wb") as errors:
            code = subprocess.run(command, stderr=errors, env=environment, check=False).returncode
        if not (folder / _REPORT).exists():
            raise RuntimeError(f"{name} did not begin: {(folder / _ERRORS).read_text()}")
        for line in (folder / _REPORT).read_text().splitlines():
            entry = json.loads(line)
            result.outcomes.update(entry["outcomes"])
            result.problems.update({int(key): text for key, text in entry["problems"].items()})
        (seed,) = struct.unpack("<q", (folder / _STATE).read_bytes())
        if code:
            told = (folder / _ERRORS).read_text("utf-8", "replace")[-3000:]
            result.crashes[seed] = "took too long" if code == -signal.SIGALRM else f"code {code}: {told}"
        seed += 1
    return result


def reader_of(name: str, folder: Path) -> Reader:
    """Makes a reader; its files are made where they are not there yet."""
    module, _, function = name.partition(":")
    made: Reader = getattr(importlib.import_module(module), function)(folder)
    return made


def main(name: str, first: int, count: int, folder: Path) -> None:
    """Runs cases in this process."""
    folder.mkdir(exist_ok=True)
    logging.disable()
    reader = reader_of(name, folder)
    originals = reader.originals()
    reader.read({})  # sound files are read, and everything is imported
    resource.setrlimit(resource.RLIMIT_AS, 2 * (_status(b"VmSize") + reader.address_bytes,))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    limit = _status(b"VmRSS") + reader.memory_bytes
    (folder / _STATE).write_bytes(bytes(8))
    with (folder / _STATE).open("r+b") as file, (folder / _REPORT).open("w") as report:
        state = mmap.mmap(file.fileno(), 8)
        outcomes: Counter[str] = Counter()
        told = 0
        for seed in range(first, first + count):
            state[:] = struct.pack("<q", seed)
            signal.setitimer(
                signal.ITIMER_REAL, reader.seconds
            )  # ends the process, in the midst of C code too
            changed = damage(random.Random(seed), originals)
            reader.place(changed)
            outcome, problem = _outcome(reader, changed)
            signal.setitimer(signal.ITIMER_REAL, 0)
            reader.place({file: originals[file] for file in changed})
            peak = _status(b"VmHWM")
            if peak > limit:
                problem, limit = f"used {peak >> 20} MiB; {problem}", 1 << 60
            outcomes[outcome] += 1
            if problem or seed % 100 == 99 or seed == first + count - 1:  # a crash loses some counts at most
                problems = {seed: f"{sorted(changed)}: {problem}"} if problem else {}
                told += len(problems)
                report.write(json.dumps({"outcomes": outcomes, "problems": problems}) + "\n")
                report.flush()
                outcomes.clear()
            if told >= _MOST_PROBLEMS:
                return
            if count == 1:
                reader.place(changed)
                print(outcome, sorted(changed), problem)


def _outcome(reader: Reader, changed: Mapping[str, bytes | None]) -> tuple[str, str]:
    try:
        reader.read(changed)
    except reader.errors as error:
        if reader.names_root and not (reader.root.name in str(error) or isinstance(error, ConfigError)):
            return "refused", f"does not name {reader.root.name}: {error}"
        return "refused", ""
    except BaseException:
        return "failed", traceback.format_exc()[-3000:]
    return "read", ""


def _status(key: bytes) -> int:
    """Returns a size of this process [bytes]."""
    text = Path("/proc/self/status").read_bytes()
    return int(text[text.index(b"%s:" % key) :].split(None, 2)[1]) << 10


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    os._exit(0)  # a library that ends badly after the last case harms nobody
