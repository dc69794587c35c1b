"""Lipschitz nets on one thread, in training and folded at batch 1, beside plain ones of equal shape.

The plain nets are ``nn.Linear`` or ``nn.Conv2d`` with ReLU, of the same widths and as many hidden layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.convolution import aol_backbone
from robopolicy.nets.lipschitz.dense import AolLinear
from robopolicy.nets.lipschitz.mlp import LAYERS, LipschitzMlp
from robopolicy.nets.lipschitz.module import LipschitzModule
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import repeated, side_by_side, threads

INPUTS, OUTPUTS = 24, 32
CALLS = 20  # a forward takes some 20 us


def run(
    *,
    widths: Sequence[int] = (64, 256),
    depth: int = 3,
    channels: Sequence[int] = (32, 64, 128),
    image: int = 64,
    batch: int = 256,
    images: int = 8,
    seconds: float = 3.0,
) -> Iterator[Row]:
    """Measures one evaluation, and one training step.

    Args:
        widths: of the perceptrons' hidden layers.
        depth: their number.
        channels: of the image encoder.
        image: height and width of its images, pixels.
        batch: rows in a training step of a perceptron.
        images: images in a training step of the encoder.
        seconds: to spend on each row.
    """
    torch.manual_seed(0)
    vectors, pictures = torch.randn(batch, INPUTS), torch.randn(images, 3, image, image)
    with threads(1):
        for width in widths:
            perceptron = _perceptron(width, depth)
            nets = {layer: LipschitzMlp(INPUTS, OUTPUTS, width, depth, layer) for layer in LAYERS}
            nets["aol_maxmin"] = LipschitzMlp(INPUTS, OUTPUTS, width, depth, "aol", activation="maxmin")
            for name, net in nets.items():
                yield from _rows(f"{name}_w{width}", net, perceptron, vectors, seconds)
        flat = channels[-1] * (image >> len(channels)) ** 2
        encoder = LipschitzSequential(aol_backbone(channels), nn.Flatten(), AolLinear(flat, OUTPUTS))
        yield from _rows(f"aol_encoder_{image}", encoder, _encoder(channels, flat), pictures, seconds)


def _rows(name: str, net: LipschitzModule, plain: nn.Module, x: Tensor, seconds: float) -> Iterator[Row]:
    times = side_by_side(_steps(net, x), _steps(plain, x), seconds=seconds)
    yield Row(f"{name}_train_b{len(x)}", *times, "ms", "plain net")
    folded, first = net.fold(), x[:1]
    with torch.inference_mode():
        calls = (repeated(lambda: folded(first), CALLS), repeated(lambda: plain(first), CALLS))
        ours, reference = (time / CALLS * 1e3 for time in side_by_side(*calls, seconds=seconds))
    yield Row(f"{name}_folded_b1", ours, reference, "us", "plain net")


def _perceptron(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(INPUTS, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, OUTPUTS))


def _encoder(channels: Sequence[int], flat: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, count in itertools.pairwise((3, *channels)):
        layers += [nn.Conv2d(before, count, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, OUTPUTS))


def _steps(net: nn.Module, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    target = torch.randn(len(x), OUTPUTS)

    def step() -> None:
        optimizer.zero_grad()
        (net(x) - target).square().mean().backward()
        optimizer.step()

    return step
