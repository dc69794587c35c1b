"""Blind comparison of two policies on a robot: whoever judges does not know which of them has moved it."""

from __future__ import annotations

import csv
import io
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.store.episode import EpisodeInfo
from robopolicy_drivers.runtime.preflight import Candidate
from robopolicy_launch import console
from robopolicy_launch.run_folder import write_text_atomic
from robopolicy_launch.stages.deploying import STORE, KnowsTask, ready_robot, run_one
from robopolicy_launch.stages.deployment_store import DeploymentStore

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import ChunkPolicy
    from robopolicy_drivers.runtime.configs import RuntimeConfig

LETTERS = "AB"
RESET_PICTURE = "reset.png"
_REFRESH_S = 0.2
_ANSWERS = {"s": True, "f": False, "r": None}


class EndOfSession(Exception):  # noqa: N818 (no error: the operator wants to end)
    """The operator ended the session."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        pair: both policies are tried once in each.
        seed: of the pair.
        policy: 0 or 1.
        success: as judged.
    """

    pair: int
    seed: int
    policy: int
    success: bool


def compare(
    policies: Sequence[ChunkPolicy],
    checkpoints: Sequence[Path],
    robot_config: Any,
    folder: Path,
    *,
    pairs: int,
    first_seed: int,
    seconds: float,
    ask: bool,
    runtime: RuntimeConfig | None = None,
) -> dict[str, Any]:
    """Tries two policies in pairs of trials, in a random order within each pair.

    Both trials of a pair begin in the same scene: a robot that knows its task sets it up, else the operator
    does, with a picture that lays the scene now over the one of the pair's first trial. An episode is judged
    by the robot where it can, else by the operator, who may also have it repeated.

    Args:
        policies: two.
        checkpoints: the folders that they are from.
        robot_config: config of a registered robot.
        folder: for ``trials.csv``, the picture and ``episodes.zarr``.
        pairs: how many.
        first_seed: of the order, the policies' noise and, in simulation, the scenes.
        seconds: longest duration of a trial [s].
        ask: the operator judges, also where the robot can.
        runtime: how chunks become commands; None for the defaults.

    Returns:
        The success rates with their intervals, the difference, and how likely it is by chance.

    Raises:
        ConfigError: there are not two policies with the same control period, or no pairs.
    """
    if len(policies) != 2 or policies[0].dt != policies[1].dt or pairs < 1 or not seconds > 0:
        raise ConfigError(
            "A comparison needs two policies with one control period and at least one pair of trials; given: "
            f"{len(policies)} with {', '.join(f'{policy.dt:g} s' for policy in policies)}, pairs={pairs}, "
            f"seconds={seconds:g}."
        )
    trials: list[Trial] = []
    candidates = [
        Candidate(policy, f"policy {letter}", checkpoint, letter)
        for letter, policy, checkpoint in zip(LETTERS, policies, checkpoints, strict=True)
    ]
    with ready_robot(robot_config, candidates) as (name, robot, cameras):
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {"policies": list(map(str, checkpoints)), "robot": name}
        with DeploymentStore(folder / STORE, robot, cameras, policies[0].dt, metadata) as store:
            session = _Session(robot, cameras, store, folder, seconds, ask, runtime)
            try:
                for pair in range(pairs):
                    seed = first_seed + pair
                    for policy in np.random.default_rng([first_seed, pair]).permutation(2).tolist():
                        console.line(f"Trial {len(trials) + 1} of {2 * pairs}")
                        success = session.trial(policies[policy], seed, number=len(trials))
                        trials.append(Trial(pair, seed, policy, success))
                        _write(trials, folder)
            except EndOfSession:
                console.line("The session was ended; the pairs that are complete count.")
    return figures(trials)


def figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """Returns the figures of the complete pairs."""
    from robopolicy.evaluation.statistics import (
        paired_difference_interval,
        paired_p_value,
        wilson_interval,
    )

    by_pair: dict[int, dict[int, bool]] = {}
    for trial in trials:
        by_pair.setdefault(trial.pair, {})[trial.policy] = trial.success
    complete = [pair for pair in by_pair.values() if len(pair) == 2]
    count = len(complete)
    wins = [sum(pair[policy] for pair in complete) for policy in (0, 1)]
    summary: dict[str, Any] = {"pairs": count}
    for letter, successes in zip(LETTERS.lower(), wins, strict=True):
        low, high = wilson_interval(successes, count)
        summary |= {
            f"success_{letter}": successes / max(count, 1),
            f"success_{letter}_low": low,
            f"success_{letter}_high": high,
        }
    only_a, only_b = (sum(pair[mine] and not pair[1 - mine] for pair in complete) for mine in (0, 1))
    both = wins[0] - only_a
    low, high = paired_difference_interval(both, only_a, only_b, count - both - only_a - only_b)
    return summary | {
        "difference": (wins[0] - wins[1]) / max(count, 1),
        "difference_low": low,
        "difference_high": high,
        "p_value": paired_p_value(only_a, only_b),
    }


class _Session:
    """Runs trials and asks the operator."""

    def __init__(
        self,
        robot: Any,
        cameras: Sequence[Any],
        store: DeploymentStore,
        folder: Path,
        seconds: float,
        ask: bool,
        runtime: RuntimeConfig | None,
    ) -> None:
        self._robot, self._cameras, self._store, self._folder = robot, cameras, store, folder
        self._seconds, self._ask, self._runtime = seconds, ask, runtime
        self._first: Any = None

    def trial(self, policy: ChunkPolicy, seed: int, *, number: int) -> bool:
        """Returns whether it succeeded; one that the operator wants repeated is not kept."""
        knows = isinstance(self._robot, KnowsTask)
        while True:
            if not knows:
                self._set_up(again=number % 2 == 1)
            with self._store.episode(EpisodeInfo(operator="blind trial")):
                report = run_one(
                    self._robot,
                    self._cameras,
                    policy,
                    self._seconds,
                    seed,
                    [self._store.step],
                    self._runtime,
                )
            success = report.success if knows and not self._ask else self._judged()
            if success is None:
                self._store.drop()
                continue
            self._store.finish(success)
            return success

    def _judged(self) -> bool | None:
        answer = _asked("Was it a success? s = success, f = failure, r = repeat this trial, q = end: ")
        while answer not in _ANSWERS:
            answer = _asked("Please press s, f, r or q, and Enter: ")
        return _ANSWERS[answer]

    def _set_up(self, again: bool) -> None:
        """Waits until the operator has set up the scene; the picture follows it meanwhile."""
        if not again:
            self._first = None
        path = self._folder / RESET_PICTURE
        what = f"as in {path} (it follows the camera)" if again else "for the next pair"
        _asked(f"Set up the scene {what}, then press Enter: ", lambda: self._draw(path))
        if self._first is None:
            self._first = self._image()

    def _image(self) -> Any:
        images = [image for camera in self._cameras[:1] for image in camera.read()[1].values()]
        return images[0] if images else None

    def _draw(self, path: Path) -> None:
        import cv2

        now = self._image()
        if now is None:
            return
        picture = now if self._first is None else cv2.addWeighted(now, 0.5, self._first, 0.5, 0.0)
        temporary = path.with_name(f".{path.name}")
        cv2.imwrite(f"{temporary}.png", picture[..., ::-1])
        Path(f"{temporary}.png").replace(path)


def _asked(question: str, meanwhile: Callable[[], None] = lambda: None) -> str:
    """Returns the operator's line, and does something until it comes.

    Raises:
        EndOfSession: the operator wants to end, or nobody is there.
    """
    console.line(question)
    while not select.select([sys.stdin], [], [], _REFRESH_S)[0]:
        meanwhile()
    text = sys.stdin.readline()
    answer = text.strip().lower()
    if not text or answer == "q":
        raise EndOfSession
    return answer


def _write(trials: Sequence[Trial], folder: Path) -> None:
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["pair", "seed", "policy", "success"])
    writer.writerows([trial.pair, trial.seed, LETTERS[trial.policy], int(trial.success)] for trial in trials)
    write_text_atomic(folder / "trials.csv", table.getvalue())
