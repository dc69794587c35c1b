"""Checkpoints: a folder with ``config.json``, ``model.safetensors`` and ``normalizer.safetensors``."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import robopolicy
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy_datasets.errors import CheckpointError, ConfigError, SpecError
from robopolicy_datasets.registry import policies
from robopolicy_datasets.spec import Spec

SCHEMA = 1
CONFIG, MODEL, NORMALIZER = "config.json", "model.safetensors", "normalizer.safetensors"
_NORMALIZER_PREFIX = "normalizer."


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder as a whole: ``write`` fills a sibling, which then takes the place of ``path``.

    A crash leaves the old folder or the new one, never a mixture; ``find_checkpoint`` knows both places.

    Raises:
        CheckpointError: it cannot be written; what was there is as it was.
    """
    fresh, old = path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        write(fresh)
        for file in [*fresh.rglob("*"), fresh]:
            _sync(file)
        if path.exists():  # else "old", left by a crash, is the only good one until the last rename
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        fresh.rename(path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint '{path}' cannot be written: {one_line(error)} Free some space, or choose a "
            "folder that you may write to."
        ) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Makes a file or the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_policy(
    policy: ChunkPolicy,
    path: str | Path,
    *,
    name: str,
    weights: Mapping[str, Tensor] | None = None,
    details: Mapping[str, Any] | None = None,
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Saves a policy, atomically.

    Args:
        policy: what to save.
        path: the checkpoint folder; replaced when it exists.
        name: under which the policy is registered, e.g. ``"flow"``.
        weights: saved in place of the policy's own, e.g. averaged ones; same names.
        details: further facts for ``config.json`` (seed, steps, data fingerprint).
        extra: writes further files into the folder, e.g. the training state.

    Returns:
        the checkpoint folder.
    """
    path = Path(path)
    state = {key: value.detach().cpu().contiguous() for key, value in policy.state_dict().items()}
    state |= {key: value.detach().cpu().contiguous() for key, value in (weights or {}).items()}
    normalizer = {
        key.removeprefix(_NORMALIZER_PREFIX): state.pop(key)
        for key in list(state)
        if key.startswith(_NORMALIZER_PREFIX)
    }
    config = {
        "schema": SCHEMA,
        "robopolicy_version": robopolicy.__version__,
        "policy": name,
        "config": asdict(policy.config),
        "spec": policy.spec.to_json(),
        "dt": policy.dt,
        **(details or {}),
    }

    def write(folder: Path) -> None:
        save_file(state, folder / MODEL)
        save_file(normalizer, folder / NORMALIZER)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if extra is not None:
            extra(folder)

    write_folder(path, write)
    return path


def find_checkpoint(path: str | Path) -> Path:
    """Returns the checkpoint folder that ``path`` means: itself, or the last one of a run folder.

    A writer that was killed may have left ``last`` under the name ``last.old``.

    Raises:
        CheckpointError: there is none; says what was looked for.
    """
    path = Path(path)
    last = path / "checkpoints" / "last"
    for candidate in (path, last):
        for place in (candidate, candidate.with_name(candidate.name + ".old")):
            if (place / CONFIG).is_file():
                return place
    state = "has no config.json and no checkpoints/last" if path.exists() else "does not exist"
    raise CheckpointError(f"'{path}' is no checkpoint: it {state}. Give a run folder or a checkpoint folder.")


def read_config(path: str | Path) -> dict[str, Any]:
    """Returns ``config.json`` of the checkpoint that ``path`` means (see ``find_checkpoint``).

    Raises:
        CheckpointError: missing or unreadable.
    """
    file = find_checkpoint(path) / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{file}' cannot be read: {error}. Restore the checkpoint.") from error
    schema = config.get("schema") if isinstance(config, dict) else None
    if not isinstance(schema, int):
        raise CheckpointError(f"'{file}' has no schema number; it is not a robopolicy checkpoint.")
    if schema > SCHEMA:
        raise CheckpointError(
            f"'{file}' has schema {schema}; this version reads up to {SCHEMA}. Upgrade robopolicy."
        )
    missing = {"policy", "config", "spec", "dt"} - set(config)
    if missing:
        raise CheckpointError(
            f"'{file}' lacks {', '.join(sorted(missing))}; it is not a robopolicy checkpoint."
        )
    return config


def load_policy(path: str | Path, *, device: str = "cpu", threads: int | None = None) -> ChunkPolicy:
    """Loads a policy, ready for inference.

    Args:
        path: a checkpoint folder, or a run folder (its last checkpoint).
        device: a torch device.
        threads: of torch on the CPU, set for the process; ``None`` leaves it.

    Raises:
        CheckpointError: missing, unreadable, or weights that do not fit the configuration.
        ConfigError: an unknown policy or a device that torch cannot use.
    """
    folder = find_checkpoint(path)
    content = read_config(folder)
    if threads is not None:
        torch.set_num_threads(threads)
    policy = _build(content, folder / CONFIG)
    try:
        state = load_file(folder / MODEL)
        state |= {_NORMALIZER_PREFIX + key: value for key, value in load_file(folder / NORMALIZER).items()}
        policy.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"The weights of '{folder}' cannot be used: {one_line(error)} Restore the checkpoint, or train "
            "again."
        ) from error
    policy.normalizer.check_finite()
    policy.eval()
    try:
        return policy.to(device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises the latter
        raise ConfigError(
            f"The device is '{device}', which torch cannot use: {one_line(error)} Use device=cpu."
        ) from error


def _build(content: Mapping[str, Any], file: Path) -> ChunkPolicy:
    """Builds the policy that a checkpoint's ``config.json`` describes."""
    try:
        config = typed_config(policies.config_class(content["policy"]), content["config"], str(file))
        config.encoder.pretrained = ""  # the checkpoint has its own weights; the file may be gone
        spec, dt = Spec.from_json(content["spec"]), float(content["dt"])
        if not 0 < dt < math.inf:
            raise ValueError(f"dt is {dt}, and must be a time above 0 s.")
        policy: ChunkPolicy = policies.build(content["policy"], config, spec, dt)
    except (SpecError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"'{file}' cannot be used: {one_line(error)} Restore the checkpoint."
        ) from error
    return policy


def typed_config(config_class: type[Any], values: Mapping[str, Any], source: str) -> Any:
    """Builds a config dataclass from plain values, checking names and types.

    Raises:
        CheckpointError: a value is unknown or of the wrong type.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config_class), dict(values)))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise CheckpointError(
            f"'{source}' does not fit {config_class.__name__}: {one_line(error)} Was it made by another "
            "version?"
        ) from error


def one_line(error: Exception) -> str:
    """Returns the text of another library's error, which may be long, as one short sentence."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 300 else text[:300] + " ...").rstrip(".") + "."
