"""Moves of observations within a ball: in random directions, or towards the largest change of the actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robopolicy.evaluation.observation_ball import ObservationBall
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy_drivers.interfaces import noise_seed


def ball_of(policy: ChunkPolicy) -> ObservationBall:
    """Returns what moves the observations of a policy."""
    return ObservationBall(policy.spec, policy.observation_steps, policy.normalizer)


def represented(policy: ChunkPolicy, actions: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
    """Returns actions ``[B, T, A]`` as the policy's normalized numbers ``[B, T, D]``.

    Args:
        policy: whose numbers.
        actions: in real units.
        observation: ``{key: [B, To, *shape]}``, whose newest pose is the base of relative actions.
    """
    return policy.normalizer.normalize(
        "action", policy.action.encode(actions, policy.action.base(observation))
    )


def random_directions(seeds: Sequence[int], dimension: int, number: int = 0) -> Tensor:
    """Returns unit vectors ``[B, dimension]``, uniform on the sphere; each depends on its seed alone.

    Args:
        seeds: one for each vector.
        dimension: of the vectors.
        number: of the vector, where a seed has several.
    """
    # the policy draws its noise from the seed itself; a disturbance must not be the same numbers
    generators = [torch.Generator().manual_seed(noise_seed(int(seed), number)) for seed in seeds]
    drawn = [torch.randn(dimension, generator=one, dtype=torch.float64) for one in generators]
    return torch.nn.functional.normalize(torch.stack(drawn), dim=-1)


class RandomMove:
    """Moves every window to the ball's surface in a random direction.

    Args:
        policy: whose observations are moved.
        size: of the moves.
    """

    def __init__(self, policy: ChunkPolicy, size: float) -> None:
        self._ball, self._size = ball_of(policy), size

    def __call__(self, observation: Mapping[str, Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Returns the moved windows; ``observation`` is ``{key: [B, To, *shape]}``, with one seed a row."""
        return self._ball.move(observation, self._size * random_directions(seeds, self._ball.dimension))


class GreedyMove:
    """Moves every window within the ball so that the actions executed next change most.

    Projected gradient ascent (Madry et al. 2018) on the change of the executed actions, which are compared
    in the true frame: the pose that is observed wrongly shifts relative actions, too. It is repeated from
    several random moves, since nets have local maxima. The first is what ``RandomMove`` makes with the same
    seed, and the best that is visited is kept, so it is at least as bad. The adversary is greedy: it looks no
    further than one chunk. It knows the policy and its noise.

    Args:
        policy: whose observations are moved.
        size: largest size of the moves.
        steps: of each ascent, each as long as the ball's radius.
        starts: moves from which it ascends.
    """

    def __init__(self, policy: ChunkPolicy, size: float, steps: int, starts: int) -> None:
        self._policy, self._ball, self._size = policy, ball_of(policy), size
        self._steps, self._starts = steps, starts

    def __call__(self, observation: Mapping[str, Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Returns the moved windows; ``observation`` is ``{key: [B, To, *shape]}``, with one seed a row."""
        with torch.no_grad():
            calm = self._executed(observation, observation, seeds)
        best = torch.zeros(len(seeds), self._ball.dimension, dtype=torch.float64, device=calm.device)
        largest = torch.full_like(best[:, 0], -torch.inf)
        for start in range(self._starts):
            by = (self._size * random_directions(seeds, self._ball.dimension, start)).to(calm.device)
            for step in range(self._steps + 1):
                by = by.detach().requires_grad_()
                moved = self._ball.move(observation, by)
                change = (self._executed(moved, observation, seeds) - calm).flatten(1).square().sum(1)
                better = change.detach() > largest
                best = torch.where(better[:, None], by.detach(), best)
                largest = torch.where(better, change.detach(), largest)
                if step < self._steps:
                    (slope,) = torch.autograd.grad(change.sum(), by)
                    by = self._within(by + self._size * torch.nn.functional.normalize(slope, dim=-1))
        return {key: value.detach() for key, value in self._ball.move(observation, best).items()}

    def _executed(
        self, seen: Mapping[str, Tensor], true: Mapping[str, Tensor], seeds: Sequence[int]
    ) -> Tensor:
        """Returns the actions that a robot executes ``[B, Ta, D]`` which is at ``true`` and sees ``seen``."""
        now = self._policy.observation_steps - 1
        actions = self._policy.predict(seen, seeds)[:, now : now + self._policy.action_steps]
        return represented(self._policy, actions, true).double()

    def _within(self, by: Tensor) -> Tensor:
        return by * (self._size / by.norm(dim=-1, keepdim=True)).clamp_max(1.0)
