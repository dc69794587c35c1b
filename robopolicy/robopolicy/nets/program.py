"""A U-Net's evaluation for few rows as a fixed list of calls into fixed buffers.

At batch 1 half of an evaluation's time goes into making views and allocating. Here both happen once, and an
evaluation is a loop over prepared calls. The weights are views of the parameters, so updates in place are
seen at once. Nothing here is differentiable: it serves sampling with gradients off.

Tensors are ``[B, T, C]``, or the same memory seen as channels-last images ``[B, C, 1, T]``, the form that
torch's group normalization takes without a copy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.temporal import TemporalConv, TemporalGroupNorm, Upsample

# ConditionalUnet and ResidualBlock import this module, so they stand as Any in the signatures below.

MOST_ROWS = 128
"""Up to so many rows (batch times steps) a program is faster than the net itself."""
FEWEST_ROWS, MOST_INPUTS = 4, 1500
"""With so few rows of so few numbers ``weight @ rows.T`` is faster than ``rows @ weight.T``."""


class _Programs(threading.local):
    """The newest program of each net; one set a thread, because an evaluation uses the program's buffers."""

    def __init__(self) -> None:
        self.of_net: WeakKeyDictionary[nn.Module, UnetProgram] = WeakKeyDictionary()


_programs = _Programs()


def program_for(net: Any, batch: int, steps: int) -> UnetProgram:
    """Returns a program for chunks ``[batch, steps, action_size]``: the last one if it still fits."""
    program = _programs.of_net.get(net)
    if program is None or not program.fits(batch, steps):
        program = _programs.of_net[net] = UnetProgram(net, batch, steps)
    return program


def as_image(rows: Tensor) -> Tensor:
    """Returns ``[B, T, C]`` seen as ``[B, C, 1, T]``."""
    return rows.transpose(1, 2).unsqueeze(2)


class Padded:
    """A buffer ``rows [B, T, C]`` between zeros in time, which the convolutions that read it need."""

    def __init__(self, batch: int, steps: int, channels: int, padding: int, dtype: torch.dtype) -> None:
        self.whole = torch.zeros(batch, steps + 2 * padding, channels, dtype=dtype)
        self.padding = padding
        self.rows = self.whole[:, padding : padding + steps]

    def windows(self, kernel: int, stride: int) -> Tensor:
        """Returns a view ``[B, T / stride, kernel, C]`` of each (strided) step's neighbours."""
        batch, steps, channels = self.rows.shape
        size = (batch, (steps - 1) // stride + 1, kernel, channels)
        strides = (self.whole.stride(0), stride * channels, channels, 1)
        return self.whole.as_strided(size, strides, (self.padding - kernel // 2) * channels)


class UnetProgram:
    """Evaluates a ``ConditionalUnet`` for one batch size and horizon on the CPU, without gradients.

    Args:
        net: whose parameters are read at every evaluation.
        batch: B.
        steps: T.
    """

    @torch.inference_mode(False)  # buffers that inference mode made could not be written outside it
    @torch.no_grad()
    def __init__(self, net: Any, batch: int, steps: int) -> None:
        self.batch = batch
        self.dtype = net.output.weight.dtype
        self.calls: list[Callable[[], Any]] = []
        modules = list(net.modules())
        self.children = [(m._modules, name, child) for m in modules for name, child in m.named_children()]
        self.sources = [
            (m._parameters, name, parameter.data_ptr())
            for m in modules
            for name, parameter in m.named_parameters(recurse=False)
        ]
        self.padding = max(net.final.conv.padding, 1)  # the strided convolutions always have three taps
        self.film = torch.empty(batch, sum(net.film_sizes), dtype=self.dtype)
        films = iter(self.film.split(net.film_sizes, dim=-1))
        self.input = x = self._buffer(steps, net.input_size)
        skips: list[Tensor] = []
        down_levels, up_levels = net.levels()
        for first, second, down in down_levels:
            x = self._block(second, self._block(first, x, films), films)
            skips.append(x.rows)
            if isinstance(down, TemporalConv):
                x = self._into_buffer(self._convolution(down, x))
        for middle in net.middle:
            x = self._block(middle, x, films)
        for first, second, up in up_levels:
            x = self._into_buffer(x.rows, skips.pop())
            x = self._block(second, self._block(first, x, films), films)
            x = self._upsample(cast("Upsample", up), x.rows)
        self.last = as_image(self._convolution(net.final.conv, x))
        self.norm, self.output = net.final.norm, net.output

    def fits(self, batch: int, steps: int) -> bool:
        """Tells whether this program has these sizes and still reads the net's parameters."""
        return (
            (batch, steps) == self.input.rows.shape[:2]
            and all(children[name] is child for children, name, child in self.children)
            and all(parameters[name].data_ptr() == address for parameters, name, address in self.sources)
        )

    def __call__(self, noisy: Tensor, film: Tensor) -> Tensor:
        """Maps noisy chunks ``[B, T, input_size]`` and FiLM parameters ``[B, ...]`` to the field."""
        self.film.copy_(film)
        self.input.rows.copy_(noisy)
        for call in self.calls:
            call()
        return self.output(_normalize(self.norm, self.last).squeeze(2).transpose(1, 2))

    def _buffer(self, steps: int, channels: int) -> Padded:
        return Padded(self.batch, steps, channels, self.padding, self.dtype)

    def _into_buffer(self, *parts: Tensor) -> Padded:
        """Concatenates along channels."""
        buffer = self._buffer(parts[0].shape[1], sum(part.shape[-1] for part in parts))
        self.calls.append(partial(torch.cat, parts, -1, out=buffer.rows))
        return buffer

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiplies a view ``x [B, T, ...]`` of ``in`` numbers a step with ``weight [out, in]``."""
        if x.is_contiguous():
            rows = x
        else:
            rows = torch.empty(x.shape, dtype=self.dtype)
            self.calls.append(partial(rows.copy_, x))
        flat = rows.flatten(0, 1).flatten(1)
        result = torch.empty(*x.shape[:2], len(weight), dtype=self.dtype)
        out = result.flatten(0, 1)
        if len(flat) <= FEWEST_ROWS and flat.shape[1] <= MOST_INPUTS:
            transposed = torch.empty(out.shape[::-1], dtype=self.dtype)
            self.calls.append(partial(torch.mm, weight, flat.t(), out=transposed))
            self.calls.append(partial(torch.add, transposed.t(), 0 if bias is None else bias, out=out))
        elif bias is None:
            self.calls.append(partial(torch.mm, flat, weight.t(), out=out))
        else:
            self.calls.append(partial(torch.addmm, bias, flat, weight.t(), out=out))
        return result

    def _convolution(self, conv: TemporalConv, x: Padded) -> Tensor:
        windows = x.windows(conv.weight.shape[1], conv.stride)
        return self._product(windows, conv.weight.flatten(1), conv.bias)

    def _block(self, block: Any, x: Padded, films: Iterator[Tensor]) -> Padded:
        scale, shift = (part[:, :, None, None] for part in next(films).chunk(2, dim=-1))
        steps, channels = x.rows.shape[1], len(block.first.conv.weight)
        hidden, result = self._buffer(steps, channels), self._buffer(steps, channels)
        first = as_image(self._convolution(block.first.conv, x))
        into_hidden = as_image(hidden.rows)

        def modulate() -> None:
            torch.addcmul(shift, scale, _normalize(block.first.norm, first), out=into_hidden)

        self.calls.append(modulate)
        second = as_image(self._convolution(block.second.conv, hidden))
        shortcut = x.rows
        if isinstance(block.shortcut, nn.Linear):
            shortcut = self._product(x.rows, block.shortcut.weight, block.shortcut.bias)
        added, into_result = as_image(shortcut), as_image(result.rows)

        def add() -> None:
            torch.add(_normalize(block.second.norm, second), added, out=into_result)

        self.calls.append(add)
        return result

    def _upsample(self, up: Upsample, x: Tensor) -> Padded:
        _, steps, channels = x.shape
        parts = self._product(x, up.weight)
        before, middle, after = parts.split([channels, 2 * channels, channels], dim=-1)
        result = self._buffer(2 * steps, channels)
        pairs = result.rows.unflatten(1, (steps, 2))
        self.calls.append(partial(torch.add, middle.unflatten(-1, (2, channels)), up.bias, out=pairs))
        self.calls.append(partial(pairs[:, 1:, 0].add_, after[:, :-1]))
        self.calls.append(partial(pairs[:, :-1, 1].add_, before[:, 1:]))
        return result


def _normalize(norm: TemporalGroupNorm, image: Tensor) -> Tensor:
    """Group normalization and SiLU of ``[B, C, 1, T]``."""
    batch, channels, _, steps = image.shape
    weights = (norm.weight, norm.bias)
    normed, _, _ = torch.native_group_norm(image, *weights, batch, channels, steps, norm.num_groups, norm.eps)
    return F.silu(normed, inplace=True)
