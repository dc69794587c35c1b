"""Lipschitz perceptrons on one thread, folded at batch 1 and in training, beside plain ones of equal shape.

The plain net is ``nn.Linear`` and ReLU with as many inputs, outputs, and hidden layers of the same width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.mlp import LAYERS, LipschitzMlp
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import repeated, side_by_side, threads

INPUTS, OUTPUTS = 24, 32
CALLS = 100  # a forward takes some 20 us


def run(
    *, widths: Sequence[int] = (64, 256), depth: int = 3, batch: int = 256, seconds: float = 3.0
) -> Iterator[Row]:
    """Measures one action, and one training step.

    Args:
        widths: of the hidden layers.
        depth: hidden layers.
        batch: of the training step.
        seconds: to spend on each row.
    """
    torch.manual_seed(0)
    with threads(1):
        for width in widths:
            plain = _plain(width, depth)
            for layer in LAYERS:
                net = LipschitzMlp(INPUTS, OUTPUTS, width, depth, layer)
                times = side_by_side(_steps(net, batch), _steps(plain, batch), seconds=seconds)
                yield Row(f"{layer}_w{width}_train_b{batch}", *times, "ms", "plain perceptron")
                folded, x = net.fold(), torch.randn(1, INPUTS)
                with torch.inference_mode():
                    times = side_by_side(_calls(folded, x), _calls(plain, x), seconds=seconds)
                ours, reference = (time / CALLS * 1e3 for time in times)
                yield Row(f"{layer}_w{width}_folded_b1", ours, reference, "us", "plain perceptron")


def _plain(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(INPUTS, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, OUTPUTS))


def _calls(net: nn.Module, x: Tensor) -> Callable[[], None]:
    return repeated(lambda: net(x), CALLS)


def _steps(net: nn.Module, batch: int) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x, target = torch.randn(batch, INPUTS), torch.randn(batch, OUTPUTS)

    def step() -> None:
        optimizer.zero_grad()
        (net(x) - target).square().mean().backward()
        optimizer.step()

    return step
