"""Training steps of the U-Net beside the same net in plain torch.

A step is forward, squared error, backward and fused AdamW, at the sizes of Diffusion Policy's small state
net: channels 64-128-256, kernel 5, two observations of 20 numbers, chunks of 16 actions of 2 numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from robopolicy.nets.unet import ConditionalUnet
from robopolicy.training.trainer import computes_bf16
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._reference import ReferenceUnet
from robopolicy_launch.benchmarks._timing import side_by_side, threads

ACTION, CONDITION, HORIZON = 2, 40, 16


def run(
    *,
    channels: Sequence[int] = (64, 128, 256),
    batches: Sequence[int] = (64, 256),
    most_threads: int = 2,
    seconds: float = 5.0,
) -> Iterator[Row]:
    """Measures steps in fp32 and, where the processor computes it, bf16 (autocast), on one and two threads.

    Args:
        channels: of the U-Net.
        batches: batch sizes.
        most_threads: as many as this or as the machine has processors.
        seconds: to spend on each row.
    """
    torch.manual_seed(0)
    nets = ConditionalUnet(ACTION, CONDITION, channels), ReferenceUnet(ACTION, CONDITION, channels)
    precisions = ("fp32", "bf16") if computes_bf16("cpu") else ("fp32",)
    for count in range(1, min(most_threads, len(os.sched_getaffinity(0))) + 1):
        for batch in batches:
            for precision in precisions:
                ours, reference = (_step(net, batch, bf16=precision == "bf16") for net in nets)
                with threads(count):
                    times = side_by_side(ours, reference, seconds=seconds)
                suffix = f"_{count}threads" if count > 1 else ""
                yield Row(
                    f"train_step_b{batch}_{precision}{suffix}", *times, "ms", "plain torch, fused AdamW"
                )


def _step(net: nn.Module, batch: int, *, bf16: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    noisy, target = torch.randn(2, batch, HORIZON, ACTION)
    level, condition = torch.randint(0, 100, (batch,)), torch.randn(batch, CONDITION)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            predicted = net(noisy, level, condition)
        F.mse_loss(predicted.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
