"""``check_policy``: whether a registered policy really behaves as one. Third parties can run it on theirs.

A policy is registered under the entry-point group ``robopolicy.policies`` and built as
``policies.build(name, config, spec, dt)``; see ``robopolicy.policies.chunk_policy.ChunkPolicy``.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robopolicy.checkpoint import load_policy, save_policy
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.training.batches import to_tensors
from robopolicy_datasets.errors import RobopolicyError, SpecError
from robopolicy_datasets.registry import policies
from robopolicy_datasets.spec import Feature, Spec

SAMPLES = 10
TOLERANCE = 1e-3  # between a batch and its rows one by one, in units of the actions' spread
OVERFIT_ERROR = 0.5  # largest error of memorised actions, in units of their spread
_SPREAD = {"position": (-0.2, 0.2), "width": (0.0, 0.1), "angle": (-3.0, 3.0), "axis_angle": (-0.8, 0.8)}
_DT = 0.1

Array = NDArray[Any]


def check_policy(name: str, config: Any, spec: Spec, *, overfit_steps: int = 300) -> list[str]:
    """Checks a policy: shapes, determinism, batches, errors, checkpoints, and that it can learn.

    Args:
        name: under which the policy is registered.
        config: its settings; small nets make this quick.
        spec: of the data that it is built for.
        overfit_steps: optimizer steps to memorise ten samples; 0 leaves this out.

    Returns:
        what was checked, one line each.

    Raises:
        RobopolicyError: lists what does not conform.
    """
    check = _Check(name, config, spec)
    for part in (check.interface, check.chunks, check.rows, check.refusals, check.gradients):
        part()
        if check.problems:  # the later parts rely on what the earlier ones found
            break
    else:
        if overfit_steps > 0:
            check.memory(overfit_steps)
        check.checkpoint()
    if check.problems:
        raise RobopolicyError(f"The policy '{name}' does not conform: " + " ".join(check.problems))
    return check.passed


class _Check:
    """Collects what holds and what does not."""

    def __init__(self, name: str, config: Any, spec: Spec) -> None:
        self.name, self.config, self.spec = name, config, spec
        self.passed: list[str] = []
        self.problems: list[str] = []
        torch.manual_seed(0)
        self.policy: ChunkPolicy = self.build(spec)
        self.windows = example_windows(self.policy, spec, seed=0)
        self.observation: dict[str, Array] = self.windows["observation"]
        self.seeds = list(range(SAMPLES))

    def build(self, spec: Spec) -> ChunkPolicy:
        policy: ChunkPolicy = policies.build(self.name, copy.deepcopy(self.config), spec, _DT)
        return policy

    def that(self, holds: bool, what: str, otherwise: str = "") -> None:
        if holds:
            self.passed.append(what)
        else:
            self.problems.append(f"Not so: {what}{f' ({otherwise})' if otherwise else ''}.")

    def infer(self, rows: slice = slice(None), *, seeds: list[int] | None = None) -> Array:
        observation = {key: value[rows] for key, value in self.observation.items()}
        return self.policy.infer(observation, seeds=self.seeds[rows] if seeds is None else seeds)

    def batch(self) -> dict[str, Any]:
        return to_tensors(copy.deepcopy(self.windows), str(self.policy.device))

    def interface(self) -> None:
        """The attributes that roll-outs and executors use."""
        policy, offered = self.policy, set(self.spec.observation)
        self.that(isinstance(policy.spec, Spec), "spec is a Spec")
        self.that(set(policy.spec.observation) <= offered, "the policy observes only what the data offers")
        self.that(policy.spec.action == self.spec.action, "the policy commands the data's action")
        self.that(policy.dt == _DT, "dt is the one that the policy was built with")
        self.that(min(policy.observation_steps, policy.action_steps) >= 1, "To and Ta are at least 1")
        policy.reset()

    def chunks(self) -> None:
        """What ``infer`` returns, and what it leaves alone."""
        weights = {key: value.clone() for key, value in self.policy.state_dict().items()}
        given = copy.deepcopy(self.observation)
        for value in self.observation.values():
            value.flags.writeable = False
        chunk = self.infer()
        size = sum(feature.size for feature in self.spec.action)
        self.that(
            isinstance(chunk, np.ndarray)
            and chunk.dtype in (np.float32, np.float64)
            and chunk.ndim == 3
            and chunk.shape[::2] == (SAMPLES, size)
            and chunk.shape[1] >= self.policy.action_steps
            and bool(np.isfinite(chunk).all()),
            f"chunks are finite numpy floats [{SAMPLES}, at least {self.policy.action_steps}, {size}]",
            f"{getattr(chunk, 'dtype', type(chunk).__name__)}{list(np.shape(chunk))}",
        )
        same = all(np.array_equal(given[key], value) for key, value in self.observation.items())
        self.that(same, "infer leaves its input alone, which may be read-only")
        same = all(torch.equal(weights[key], value) for key, value in self.policy.state_dict().items())
        self.that(same, "infer leaves the weights alone")

    def rows(self) -> None:
        """Determinism, and independence of the rows of a batch."""
        chunk = self.infer()
        self.that(np.array_equal(chunk, self.infer()), "the same seeds give the same actions, bit for bit")
        others = self.infer(seeds=[seed + SAMPLES for seed in self.seeds])
        if self.policy.stochastic:
            self.that(not np.array_equal(chunk, others), "other seeds give other actions")
        else:
            self.that(np.array_equal(chunk, others), "seeds change nothing")
        single = [self.infer(slice(row, row + 1)) for row in range(SAMPLES)]
        difference = float(np.abs(np.concatenate(single) - chunk).max() / max(np.std(chunk), 1e-6))
        self.that(
            difference < TOLERANCE, "a batch gives what its rows give one by one", f"off by {difference:.2g}"
        )
        pair = {key: value[:2] for key, value in self.observation.items()}
        self.that(self.policy.infer(pair).shape == (2, *chunk.shape[1:]), "infer works without seeds too")

    def refusals(self) -> None:
        """What does not fit is a SpecError."""
        first = self.policy.spec.observation[0]
        rest = tuple(feature for feature in self.spec.observation if feature != first)
        without = {key: value for key, value in self.observation.items() if key != first.key}
        wrong = {**self.observation, first.key: self.observation[first.key][:, :, :1]}
        short = {**self.observation, first.key: self.observation[first.key][:, :0]}
        named = copy.deepcopy(self.config)
        named.observation_keys = [first.key]
        for what, attempt in (
            ("an observation that lacks a key", lambda: self.policy.infer(without)),
            ("an observation of a wrong shape", lambda: self.policy.infer(wrong)),
            ("a history of a wrong length", lambda: self.policy.infer(short)),
            ("a Spec without an action", lambda: self.build(Spec(self.spec.observation, ()))),
            (
                "data without a feature that the config names",
                lambda: policies.build(self.name, named, Spec(rest, self.spec.action), _DT),
            ),
        ):
            self.that(_raises_spec_error(attempt), f"{what} is a SpecError")

    def gradients(self) -> None:
        """The loss is deterministic and reaches every parameter; fits the normalizer on the way."""
        low = {f.key: self.observation[f.key] for f in self.policy.spec.observation if not f.is_image}
        self.policy.fit_normalizer(
            {key: value.reshape(-1, *value.shape[2:]) for key, value in low.items()},
            {"observation": low, "action": self.windows["action"]},
        )
        self.policy.train()
        first, second = (self.policy.loss(self.batch(), _generator(self.policy, 7)) for _ in range(2))
        self.that(first.ndim == 0 and torch.equal(first, second), "the loss is a number, one per seed")
        first.backward()
        trained = [(name, weight) for name, weight in self.policy.named_parameters() if weight.requires_grad]
        gradients = {name: weight.grad for name, weight in trained}
        idle = [name for name, gradient in gradients.items() if gradient is None]
        self.that(not idle, "every parameter takes part in the loss", ", ".join(idle[:3]))
        finite = [torch.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None]
        self.that(all(finite), "gradients are finite")

    def memory(self, steps: int) -> None:
        """Ten samples can be memorised."""
        optimizer = torch.optim.AdamW(self.policy.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        batch = self.batch()
        for step in range(steps):
            self.policy.train()
            optimizer.zero_grad()
            self.policy.loss(batch, _generator(self.policy, step)).backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        chunk = self.infer()
        first = self.policy.observation_steps - 1
        truth = self.windows["action"][:, first : first + chunk.shape[1]]
        error = float(np.sqrt(np.mean(((chunk - truth) / truth.std(axis=(0, 1))) ** 2)))
        what = f"{SAMPLES} samples are memorised"
        self.that(error < OVERFIT_ERROR, what, f"error {error:.2f} of the actions' spread")

    def checkpoint(self) -> None:
        """A saved policy comes back as it was."""
        chunk = self.infer()
        with tempfile.TemporaryDirectory() as scratch:
            loaded = load_policy(save_policy(self.policy, Path(scratch) / "policy", name=self.name))
        again = loaded.infer(self.observation, seeds=self.seeds)
        self.that(np.array_equal(chunk, again), "a loaded checkpoint gives the same actions, bit for bit")
        before = (self.policy.spec, self.policy.config, self.policy.dt)
        same = (loaded.spec, loaded.config, loaded.dt) == before
        self.that(same, "a loaded checkpoint has the same Spec, settings and dt")


def example_windows(policy: ChunkPolicy, spec: Spec, *, seed: int) -> dict[str, Any]:
    """Returns ten random windows ``{"observation": {key: [10, To, ...]}, "action": [10, Tp, A]}``.

    Args:
        policy: says how long the windows are.
        spec: says what is in them.
        seed: of the numbers.
    """
    rng = np.random.default_rng(seed)
    horizon = policy.config.horizon
    observation = {
        feature.key: _example(rng, feature, policy.observation_steps) for feature in policy.spec.observation
    }
    (action,) = spec.action
    start, end = _example(rng, action, 1), _example(rng, action, 1)
    progress = np.linspace(0.0, 1.0, horizon)[None, :, None]
    return {"observation": observation, "action": (start + progress * (end - start)).astype(action.dtype)}


def _example(rng: np.random.Generator, feature: Feature, steps: int) -> Array:
    shape = (SAMPLES, steps, *feature.shape)
    if feature.is_image:  # coarse patterns: shifted by a pixel they are still the same
        height, width, channels = feature.shape
        coarse = rng.integers(0, 256, (SAMPLES, steps, 4, 4, channels))
        rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
        return coarse[:, :, rows[:, None], columns].astype(feature.dtype)
    if feature.kind == "pose_width":
        arms = feature.size // 7
        low, high = (
            np.tile([-0.2] * 3 + [-0.8] * 3 + [0.0], arms),
            np.tile([0.2] * 3 + [0.8] * 3 + [0.1], arms),
        )
        return rng.uniform(low, high, shape).astype(feature.dtype)
    return rng.uniform(*_SPREAD.get(feature.kind, (-1.0, 1.0)), shape).astype(feature.dtype)


def _generator(policy: ChunkPolicy, seed: int) -> torch.Generator:
    return torch.Generator(policy.device).manual_seed(seed)


def _raises_spec_error(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except SpecError:
        return True
    return False
