"""What the suites ``loop`` and ``ring`` run in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.scheduling import request_punctuality, set_timer_slack


def beat(channel: DeviceChannel, rate_hz: float, asks_for: str) -> None:
    """Does nothing, punctually.

    Args:
        channel: to the benchmark.
        rate_hz: of the loop.
        asks_for: of the operating system: "fifo" (all that a control loop asks for), "slack" or "nothing".
    """
    {"fifo": request_punctuality, "slack": set_timer_slack, "nothing": bool}[asks_for]()
    loop = DeadlineLoop(rate_hz, channel.statistics)
    channel.ready()
    while not channel.closing:
        loop.wait()
        channel.messages()


def sample(channel: DeviceChannel, channels: Sequence[int], cores: Sequence[int]) -> None:
    """Samples from a policy's net on one thread, again and again, on some of the cores."""
    import torch

    from robopolicy.nets.unet import ConditionalUnet
    from robopolicy.sampling.flow import FlowSampler

    os.sched_setaffinity(0, cores)
    torch.set_num_threads(1)
    net, sampler = ConditionalUnet(2, 40, channels).eval(), FlowSampler("euler", 5)
    with torch.inference_mode():
        bound = net.bind(torch.randn(1, 40), sampler.levels)
        sampler.sample(bound, torch.randn(1, 16, 2))
        channel.ready()
        while not channel.closing:
            sampler.sample(bound, torch.randn(1, 16, 2))
            channel.messages()


def publish(channel: DeviceChannel, rate_hz: float) -> None:
    """Writes records of random bytes to a ring; the time of each is when its writing began."""
    set_timer_slack()
    ring, loop = channel.rings["ring"], DeadlineLoop(rate_hz, channel.statistics)
    random = np.random.default_rng(0)
    data = {f.key: random.integers(0, 256, f.shape).astype(f.dtype) for f in ring.features}
    channel.ready()
    while not channel.closing:
        loop.wait()
        ring.write(now_ns(), data)
        channel.messages()
