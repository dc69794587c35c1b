"""The conditional 1-D U-Net of Diffusion Policy (Chi et al. 2023).

Inside the net tensors are time-major, ``[T, B, C]``: see ``temporal``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.program import MOST_ROWS, UnetProgram, program_for
from robopolicy.nets.temporal import StepEmbedding, TemporalConv, TemporalGroupNorm, Upsample


class ConvBlock(nn.Module):
    """Convolution, group normalization, SiLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.conv = TemporalConv(in_channels, out_channels, kernel_size)
        self.norm = TemporalGroupNorm(groups, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[T, B, in]`` to ``[T, B, out]``."""
        return F.silu(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolution blocks; the condition scales and shifts the channels between them (FiLM)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.first = ConvBlock(in_channels, out_channels, kernel_size, groups)
        self.second = ConvBlock(out_channels, out_channels, kernel_size, groups)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """Maps ``[T, B, in]`` and the FiLM parameters ``[B, 2 * out]`` to ``[T, B, out]``."""
        scale, shift = film.chunk(2, dim=-1)
        hidden = torch.addcmul(shift, scale, self.first(x))
        return self.second(hidden) + self.shortcut(x)


Levels = list[tuple[ResidualBlock, ResidualBlock, nn.Module]]
"""Of each level: two blocks, then what changes the time resolution."""


class _StepFilms:
    """The noise levels' share of a net's FiLM parameters, a quarter of what a sample reads from memory.

    They are kept until their weights change. That shows in the weights' addresses, in the version counters by
    which autograd notices changes, and, since fused optimizers and ``.data`` count no version, in a hundred
    numbers of each weight.

    Args:
        weights: those that the films depend on.
        levels: the noise levels.
        of_level: the films ``[sum(film_sizes)]`` of each level.
    """

    def __init__(
        self, weights: Sequence[Tensor], levels: Sequence[float], of_level: dict[float, Tensor]
    ) -> None:
        self.weights = [weight.detach() for weight in weights]  # held, so that no others get their addresses
        self.state = self._state(weights)
        self.probes = [_probe(weight).clone() for weight in self.weights]
        self.levels = list(levels)
        self.of_level = of_level

    def fits(self, weights: Sequence[Tensor], levels: Sequence[float]) -> bool:
        """Tells whether these are the films of ``levels`` and of the weights as they are now."""
        return (
            self.levels == list(levels)
            and self.state == self._state(weights)
            and all(
                now.data_ptr() == then.data_ptr() for now, then in zip(weights, self.weights, strict=True)
            )
            and all(torch.equal(_probe(now), then) for now, then in zip(weights, self.probes, strict=True))
        )

    @staticmethod
    def _state(weights: Sequence[Tensor]) -> list[object]:
        autocast = torch.is_autocast_enabled(weights[0].device.type)
        return [autocast, *((weight.dtype, weight._version) for weight in weights)]


def _probe(weight: Tensor) -> Tensor:
    """Returns about a hundred numbers from all over a weight."""
    return weight.detach().flatten()[:: weight.numel() // 100 + 1]


class ConditionalUnet(nn.Module):
    """Predicts a field over an action chunk from the noisy chunk, the noise level and a condition.

    All blocks' FiLM parameters come from one linear layer: one large product is faster than many small ones.

    Args:
        action_size: numbers in one action.
        condition_size: numbers in the condition vector.
        channels: per level, coarse last; the horizon must be divisible by ``2 ** (len(channels) - 1)``.
        kernel_size: of the convolutions.
        groups: of the group normalizations.
        embedding_size: of the noise-level embedding.
        step_scale: multiplies the noise level before its embedding.
        side_size: further numbers that the net sees of each step, after those of the noisy action.
    """

    def __init__(
        self,
        action_size: int,
        condition_size: int,
        channels: Sequence[int] = (64, 128, 256),
        kernel_size: int = 5,
        groups: int = 8,
        embedding_size: int = 256,
        step_scale: float = 1.0,
        side_size: int = 0,
    ) -> None:
        super().__init__()
        self.step_embedding = StepEmbedding(embedding_size, step_scale)
        film_sizes: list[int] = []

        def block(in_channels: int, out_channels: int) -> ResidualBlock:
            film_sizes.append(2 * out_channels)
            return ResidualBlock(in_channels, out_channels, kernel_size, groups)

        self.input_size = action_size + side_size
        levels = list(zip([self.input_size, *channels[:-1]], channels, strict=True))
        self.down = nn.ModuleList()
        for index, (in_channels, out_channels) in enumerate(levels):
            last = index == len(levels) - 1
            resample = nn.Identity() if last else TemporalConv(out_channels, out_channels, 3, stride=2)
            blocks = block(in_channels, out_channels), block(out_channels, out_channels)
            self.down.append(nn.ModuleList([*blocks, resample]))
        self.middle = nn.ModuleList([block(channels[-1], channels[-1]), block(channels[-1], channels[-1])])
        self.up = nn.ModuleList()
        for in_channels, out_channels in reversed(levels[1:]):
            blocks = block(2 * out_channels, in_channels), block(in_channels, in_channels)
            self.up.append(nn.ModuleList([*blocks, Upsample(in_channels)]))
        self.final = ConvBlock(channels[0], channels[0], kernel_size, groups)
        self.output = nn.Linear(channels[0], action_size)
        self.film_sizes = film_sizes
        self.condition_projection = nn.Linear(embedding_size + condition_size, sum(film_sizes))
        self._step_films: _StepFilms | None = None

    def forward(self, noisy: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Evaluates the net.

        Args:
            noisy: noisy action chunks ``[B, T, action_size + side_size]``.
            step: noise levels ``[B]``.
            condition: ``[B, condition_size]``.

        Returns:
            the predicted field ``[B, T, action_size]``.
        """
        embedded = torch.cat([self.step_embedding(step), condition], dim=-1)
        return self._evaluate(noisy, self.condition_projection(F.silu(embedded)))

    def bind(self, condition: Tensor, levels: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the net with its condition bound, for sampling.

        The FiLM parameters are a sum of a part that depends on the noise level and one that depends on the
        condition. The latter is computed once, the former kept for the next call too. Off the CPU the former
        is computed at each evaluation: to look it up would be to wait for the device.

        Args:
            condition: ``[B, condition_size]``.
            levels: the noise levels that a sampler visits.

        Returns:
            a function of noisy chunks ``[B, T, action_size + side_size]`` and a level, the same for all rows,
            ``[B]``. It serves one thread at a time.
        """
        projection = self.condition_projection
        split = projection.in_features - condition.shape[1]
        condition_film = F.linear(F.silu(condition), projection.weight[:, split:], projection.bias)
        on_cpu = condition.device.type == "cpu"
        of_level = self._films_of(levels) if on_cpu else {}
        program: UnetProgram | None = None

        def field(noisy: Tensor, level: Tensor) -> Tensor:
            nonlocal program
            step_film = of_level.get(float(level[0])) if on_cpu else None
            if step_film is None:
                step_film = self._step_films_at(level[:1])[0]
            film = step_film + condition_film
            if not self._few_rows(noisy):
                return self._evaluate(noisy, film)
            program = program or program_for(self, *noisy.shape[:2])
            return program(noisy, film)

        return field

    def _step_films_at(self, levels: Tensor) -> Tensor:
        """Returns the share of noise levels ``[N]`` in the FiLM parameters ``[N, sum(film_sizes)]``."""
        embedded = F.silu(self.step_embedding(levels))
        return F.linear(embedded, self.condition_projection.weight[:, : embedded.shape[1]])

    def _films_of(self, levels: Sequence[float]) -> dict[float, Tensor]:
        """Returns the share of each noise level in the FiLM parameters ``[sum(film_sizes)]``, on the CPU.

        It is kept where gradients are off, but for weights made in inference mode, which count no versions.
        """
        projection = self.condition_projection.weight
        weights = [*self.step_embedding.parameters(), projection]
        unversioned = any(weight.is_inference() for weight in weights)
        keep = not torch.is_grad_enabled() and not unversioned
        if keep and self._step_films is not None and self._step_films.fits(weights, levels):
            return self._step_films.of_level
        steps = torch.tensor(levels, dtype=torch.float32)
        of_level = dict(zip(steps.tolist(), self._step_films_at(steps), strict=True))
        self._step_films = _StepFilms(weights, levels, of_level) if keep else None
        return of_level

    def levels(self) -> tuple[Levels, Levels]:
        """Returns the modules of the way down and of the way up."""
        return cast("Levels", list(self.down)), cast("Levels", list(self.up))

    def _few_rows(self, noisy: Tensor) -> bool:
        """Tells whether a prepared program can evaluate these chunks, and faster."""
        dtype = self.output.weight.dtype
        plain = noisy.device.type == "cpu" and noisy.dtype == dtype in (torch.float32, torch.bfloat16)
        differs = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        return plain and not differs and noisy.shape[0] * noisy.shape[1] <= MOST_ROWS

    def _evaluate(self, noisy: Tensor, film: Tensor) -> Tensor:
        films = iter(film.split(self.film_sizes, dim=-1))
        down_levels, up_levels = self.levels()
        x = noisy.transpose(0, 1)
        skips: list[Tensor] = []
        for first, second, down in down_levels:
            x = second(first(x, next(films)), next(films))
            skips.append(x)
            x = down(x)
        for middle in self.middle:
            x = middle(x, next(films))
        for first, second, up in up_levels:
            x = torch.cat([x, skips.pop()], dim=-1)
            x = up(second(first(x, next(films)), next(films)))
        return self.output(self.final(x)).transpose(0, 1)
