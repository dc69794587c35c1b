"""``check_env``: whether a class really behaves as a task environment. Third-party tasks can run it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robopolicy_datasets.errors import RobopolicyError, SpecError
from robopolicy_datasets.spec import Spec

_SEEDS = (11, 12)
_STEPS = 4


def check_env(make_env: Callable[[], Any]) -> list[str]:
    """Checks a task environment: a Gymnasium environment that says in a ``Spec`` what it observes.

    Args:
        make_env: builds an environment, as ``Env(config)`` does; called twice.

    Returns:
        What was checked, one line each.

    Raises:
        SpecError: lists everything that does not conform.
    """
    check = _Check(make_env)
    check.run()
    if check.problems:
        raise SpecError("The environment does not conform: " + " ".join(check.problems))
    return check.passed


class _Check:
    """Collects what holds and what does not."""

    def __init__(self, make_env: Callable[[], Any]) -> None:
        self.make_env = make_env
        self.passed: list[str] = []
        self.problems: list[str] = []

    def run(self) -> None:
        env = self.make_env()
        spec = getattr(env, "data_spec", None)
        if not isinstance(spec, Spec) or len(spec.action) != 1:
            given = type(spec).__name__
            self.problems.append(
                f"'data_spec' must be a robopolicy Spec with one action feature, not {given}."
            )
            return
        self.that(getattr(env, "dt", 0) > 0, "'dt' is a control step above 0 s")
        self.that(getattr(env, "max_steps", 0) >= 1, "'max_steps' is at least 1")
        self._observations_fit(env, spec)
        self._episode_ends(env)
        self._seeds_decide(env)
        self._bad_actions_are_refused(env, spec)
        self._renders(env)
        env.close()

    def that(self, holds: bool, statement: str) -> None:
        if holds:
            self.passed.append(statement)
        else:
            self.problems.append(f"Not so: {statement}.")

    def _observations_fit(self, env: Any, spec: Spec) -> None:
        first, info = env.reset(seed=_SEEDS[0])
        kept = {key: np.array(value) for key, value in first.items()}
        answer = env.step(_actions(env)[0])
        self.that(isinstance(answer, tuple) and len(answer) == 5, "step() returns five things")
        reused = any(not np.array_equal(first[key], kept[key]) for key in first)
        self.that(not reused, "step() leaves earlier observations as they were")
        for name, observation in (("reset", first), ("step", answer[0])):
            problem = _misfit(observation, spec)
            self.that(problem == "", f"observations of {name}() fit the Spec{problem}")
            inside = env.observation_space.contains(observation)
            self.that(inside, f"observations of {name}() lie in observation_space")
        same_shape = env.action_space.shape == spec.action[0].shape
        self.that(same_shape, f"action_space has the shape {spec.action[0].shape} of '{spec.action[0].key}'")
        for name, content in (("reset", info), ("step", answer[-1])):
            is_told = isinstance(content.get("success"), (bool, np.bool_))
            self.that(is_told, f"info of {name}() has a bool 'success'")
            self.that(0.0 <= content.get("score", -1.0) <= 1.0, f"info of {name}() has a 'score' from 0 to 1")

    def _episode_ends(self, env: Any) -> None:
        _, info = env.reset(seed=_SEEDS[0])
        scores, over, steps = [info.get("score", 0.0)], False, 0
        while not over and steps < env.max_steps:
            _, _, terminated, truncated, info = env.step(_actions(env)[0])
            scores.append(info.get("score", 0.0))
            over, steps = terminated or truncated, steps + 1
        self.that(over, f"the episode ends within max_steps = {env.max_steps}")
        self.that(bool(np.all(np.diff(scores) >= 0)), "the score never falls within an episode")

    def _seeds_decide(self, env: Any) -> None:
        other = self.make_env()
        once, again = _record(env, _SEEDS[0]), _record(other, _SEEDS[0])
        other.close()
        self.that(_equal(once, again), "equal seeds and actions give equal episodes, in another instance too")
        different = not _equal(once[:1], _record(env, _SEEDS[1])[:1])
        self.that(different, "different seeds give different episodes")

    def _bad_actions_are_refused(self, env: Any, spec: Spec) -> None:
        env.reset(seed=_SEEDS[0])
        expected = spec.action[0].shape
        wrong_shape = np.zeros((expected[0] + 1, *expected[1:]), dtype=np.float32)
        not_finite = np.full(expected, np.nan, dtype=np.float32)
        for what, action in (("of a wrong shape", wrong_shape), ("that is not finite", not_finite)):
            statement = f"an action {what} is refused by a RobopolicyError"
            try:
                env.step(action)
            except RobopolicyError as error:
                self.that(len(str(error)) > 0, statement)
            else:
                self.that(False, statement)

    def _renders(self, env: Any) -> None:
        env.reset(seed=_SEEDS[0])
        frame = np.asarray(env.render())
        is_image = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[-1] == 3
        self.that(is_image, "render() returns a uint8 image [H, W, 3]")


def _actions(env: Any) -> list[Any]:
    """Returns the same few random actions whenever it is called."""
    env.action_space.seed(_SEEDS[0])
    return [env.action_space.sample() for _ in range(_STEPS)]


def _record(env: Any, seed: int) -> list[dict[str, Any]]:
    observations = [env.reset(seed=seed)[0]]
    for action in _actions(env):
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append({**observation, "_outcome": np.array([reward, terminated, truncated])})
    return observations


def _equal(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    return all(
        set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(left, right, strict=True)
    )


def _misfit(observation: dict[str, Any], spec: Spec) -> str:
    """Returns what does not fit as the end of a sentence; empty where all fits."""
    expected = {feature.key: feature for feature in spec.observation}
    if set(observation) != set(expected):
        return f" (keys are {sorted(observation)} but should be {sorted(expected)})"
    for key, feature in expected.items():
        value = np.asarray(observation[key])
        if value.shape != feature.shape or value.dtype != np.dtype(feature.dtype):
            return f" ('{key}' is {value.dtype}{list(value.shape)} but should be {feature.describe()})"
        if not np.isfinite(value).all():
            return f" ('{key}' is not finite)"
    return ""
