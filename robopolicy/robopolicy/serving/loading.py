"""Checkpoints as served policies: on the device there is, warmed up, and again when they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from robopolicy.checkpoint import CONFIG, MODEL, NORMALIZER, find_checkpoint, load_policy
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.serving.server import PolicyServer
from robopolicy_datasets.errors import CheckpointError
from robopolicy_drivers.runtime.certificate import check_certificate

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_TRIES = 3
_Signature = tuple[tuple[int, int, int], ...]


def load_served(checkpoint: Path, *, device: str, threads: int) -> ChunkPolicy:
    """Loads a checkpoint for serving, warmed up; on a GPU that computes bfloat16 it samples in that.

    Args:
        checkpoint: a checkpoint folder, or the run folder of a training.
        device: a torch device; ``auto``: a GPU where there is one.
        threads: of torch on the CPU.

    Raises:
        CheckpointError: it cannot be used, or has a certificate of other files than its own.
        ConfigError: torch cannot use the device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = find_checkpoint(checkpoint)
    policy = load_policy(folder, device=device, threads=threads)
    check_certificate(folder)
    if policy.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        policy.sample_in_bfloat16()
    # Once, so that the first robot does not wait for what is allocated and compiled then.
    policy.infer(
        {
            feature.key: np.zeros((1, policy.observation_steps, *feature.shape), feature.dtype)
            for feature in policy.spec.observation
        }
    )
    return policy


class Watcher:
    """Swaps a checkpoint's weights into a server whenever its folder is written anew.

    Args:
        checkpoint: a checkpoint folder, or the run folder of a training.
        load: loads it.
    """

    def __init__(self, checkpoint: Path, load: Callable[[Path], ChunkPolicy]) -> None:
        self._checkpoint, self._load = checkpoint, load
        self._seen: _Signature = ()

    def load(self) -> ChunkPolicy:
        """Loads the checkpoint as it is now, whole even while it is being replaced.

        Raises:
            CheckpointError: it cannot be used.
            ConfigError: torch cannot use the device.
        """
        for _ in range(_TRIES):
            self._seen = _signature(self._checkpoint)
            policy = self._load(self._checkpoint)
            if _signature(self._checkpoint) == self._seen:
                return policy
        raise CheckpointError(f"'{self._checkpoint}' changes while it is loaded. Save less often.")

    async def run(self, server: PolicyServer) -> None:
        """Looks once a second, until it is cancelled; what cannot be used is told once and left out."""
        told = ""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                if await asyncio.to_thread(_signature, self._checkpoint) == self._seen:
                    continue
                version = server.swap(await asyncio.to_thread(self.load))
                logger.info("'%s' has new weights: version %d", self._checkpoint, version)
            except Exception as error:  # whatever is wrong with new weights, the old ones serve on
                if str(error) != told:
                    logger.warning("The weights stay as they are: %s", error)
                told = str(error)


def _signature(checkpoint: Path) -> _Signature:
    """Returns what changes when a checkpoint is written anew.

    Raises:
        CheckpointError: there is none.
    """
    folder = find_checkpoint(checkpoint)
    try:
        stats = [(folder / name).stat() for name in (CONFIG, MODEL, NORMALIZER)]
    except OSError as error:
        raise CheckpointError(f"'{folder}' is incomplete: {error}. Restore the checkpoint.") from error
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
