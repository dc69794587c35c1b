"""Several training processes under torchrun (gloo on CPUs, NCCL on GPUs); one process without it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_newest: list[Any] = []  # what the newest round of Ranks.any used


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Attributes:
        rank: of this process.
        world_size: number of processes.
        local_rank: of this process on its machine; its GPU.
        owns_group: whether ``join`` made the process group, which ``close`` then leaves.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    owns_group: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns the model with gradients averaged over processes; the model itself when alone."""
        return DistributedDataParallel(model) if self.world_size > 1 else model

    def any(self, flag: bool) -> bool:
        """Returns whether ``flag`` is set on any process."""
        if self.world_size == 1:
            return flag
        value = torch.tensor([float(flag)])
        if dist.get_backend() == "nccl":
            value = value.cuda()
        work = dist.all_reduce(value, op=dist.ReduceOp.MAX, async_op=True)
        work.wait()
        # gloo's thread lets go of these a moment later. Were they the last references, it would need the
        # interpreter for that; where that is gone by then, the process aborts at its end.
        _newest[:] = [work, value]
        return bool(value.item())

    def close(self) -> None:
        """Leaves the process group, unless the caller made it."""
        if self.owns_group:
            dist.destroy_process_group()


def join(device: str) -> Ranks:
    """Joins the process group that torchrun's environment variables describe; alone without them.

    A group that the caller has made already is used as it is. A process can make only one.
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return Ranks()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    owns_group = not dist.is_initialized()
    if owns_group:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), local_rank, owns_group)
