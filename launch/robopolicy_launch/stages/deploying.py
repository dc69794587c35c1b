"""Deployment: a policy drives a robot through the driver interface, in real time."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.registry import robots
from robopolicy_datasets.store.episode import EpisodeInfo
from robopolicy_drivers.interfaces import ReportsCycles
from robopolicy_launch import console
from robopolicy_launch.run_folder import write_text_atomic
from robopolicy_launch.settings import registered_name
from robopolicy_launch.stages.deployment_store import DeploymentStore
from robopolicy_launch.stages.teleoperating import operated

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import ChunkPolicy
    from robopolicy_drivers.realtime.sections import CycleSummary
    from robopolicy_drivers.runtime.configs import RuntimeConfig
    from robopolicy_drivers.runtime.preflight import Candidate, Finding
    from robopolicy_drivers.runtime.records import EpisodeReport, StepRecord
    from robopolicy_drivers.teleop.operator import TeleopOperator

STORE = "episodes.zarr"
VIDEO_PIXELS = 192  # smallest height of a camera image in the videos


@runtime_checkable
class KnowsTask(Protocol):
    """A robot that can set up a task's scene and judge it, as a simulated one can."""

    def reset(self, seed: int) -> None:
        """Sets up the scene of a seed."""

    def success(self) -> bool:
        """Returns whether the task is done."""


@dataclass
class Deployment:
    """Reports of the episodes so far.

    Attributes:
        cycles: what the cycles of the robot's loop consisted of, where it measures that.
        reports: seed and report of each episode.
        judged: whether the robot or a person can tell success.
        taken_over: whether a person may take the robot over.
        samples: of streams that were stored.
        missing: samples of streams that are known to be missing.
    """

    judged: bool
    taken_over: bool = False
    samples: int = 0
    missing: int = 0
    cycles: CycleSummary | None = None
    reports: list[tuple[int, EpisodeReport]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Returns the summary of all episodes."""
        reports = [report for _, report in self.reports]
        latencies_ms = 1e3 * np.concatenate([report.inference_s for report in reports] or [np.zeros(0)])
        steps = sum(report.steps for report in reports)
        figures: dict[str, Any] = {"episodes": len(reports)}
        if self.judged:
            successes = sum(report.success for report in reports)
            figures |= {"successes": successes, "success": successes / max(len(reports), 1)}
        figures |= {
            "steps": steps,
            "holds": sum(report.holds for report in reports),
            "retreats": sum(report.retreats for report in reports),
            "skipped_steps": sum(report.skipped for report in reports),
            "dropped_rows": sum(report.dropped_rows for report in reports),
        }
        if self.samples or self.missing:
            figures |= {"samples": self.samples, "missing_samples": self.missing}
        if self.taken_over:
            figures |= {
                "human_steps": sum(report.human for report in reports),
                "takeovers": sum(len(report.events) for report in reports),
            }
        if latencies_ms.size:
            for name, share in (("p50", 50), ("p99", 99)):
                figures[f"inference_{name}_ms"] = float(np.percentile(latencies_ms, share))
            figures["inference_max_ms"] = float(latencies_ms.max())
        loops = [report.robot for report in reports if report.robot is not None]
        if loops:
            ticks, late = sum(loop.ticks for loop in loops), sum(loop.late_10ms for loop in loops)
            figures |= {
                "ticks": ticks,
                "late_ticks": late,
                "late_share": late / max(ticks, 1),
                "very_late_ticks": sum(loop.late_50ms for loop in loops),
                "max_lateness_ms": max(loop.max_ms for loop in loops),
            }
        if self.cycles is not None:
            figures["overruns"] = self.cycles.overruns
        return figures

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row an episode, for ``episodes.csv``."""
        rows = []
        for index, (seed, report) in enumerate(self.reports):
            latencies_ms = 1e3 * report.inference_s
            rows.append(
                {
                    "episode": index,
                    "seed": seed,
                    "success": int(report.success) if self.judged else "",
                    "score": float(report.success) if self.judged else "",
                    "duration_s": round(report.duration_s, 3),
                    "steps": report.steps,
                    "holds": report.holds,
                    "skipped_steps": report.skipped,
                    "inference_p50_ms": round(float(np.median(latencies_ms)), 2) if latencies_ms.size else "",
                    "inference_max_ms": round(float(latencies_ms.max()), 2) if latencies_ms.size else "",
                    "late_ticks": report.robot.late_10ms if report.robot is not None else "",
                    "max_lateness_ms": round(report.robot.max_ms, 3) if report.robot is not None else "",
                }
            )
        return rows

    def timing(self) -> dict[str, Any]:
        """Returns inference latencies, the histogram of lateness and the sections of cycles, all in ms."""
        bins: Counter[tuple[float, float]] = Counter()
        for _, report in self.reports:
            if report.robot is not None:
                edges = report.robot.histogram_edges_ms
                for low, high, count in zip(edges, edges[1:], report.robot.histogram, strict=False):
                    bins[low, high] += count
        latencies = [1e3 * float(value) for _, report in self.reports for value in report.inference_s]
        return {
            "inference_ms": latencies,
            "lateness_ms": [[*edges, count] for edges, count in sorted(bins.items())],
            "sections": [] if self.cycles is None else list(map(vars, self.cycles.sections)),
        }


def deploy(
    candidate: Candidate,
    robot_config: Any,
    folder: Path,
    *,
    episodes: int,
    first_seed: int,
    seconds: float,
    videos: int,
    runtime: RuntimeConfig | None = None,
    teleop: Any = None,
) -> dict[str, Any]:
    """Lets a policy drive a robot for some episodes.

    Args:
        candidate: the policy.
        robot_config: config of a registered robot.
        folder: for ``episodes.csv``, ``timing.json``, videos, and ``episodes.zarr``, a demo store of it all.
        episodes: how many.
        first_seed: of the policy's noise and, in simulation, of the scenes.
        seconds: longest duration of an episode [s].
        videos: of the first episodes.
        runtime: how chunks become commands; None for the defaults.
        teleop: config of a device by which a person may take the robot over; None: nobody may.

    Returns:
        success, late ticks, latencies and more.

    Raises:
        SpecError: the robot does not offer what the policy needs; nothing has moved.
        DeviceError: the checks before it moves have failed, or a device has failed.
    """
    if episodes < 1 or first_seed < 0 or not seconds > 0:
        raise ConfigError(
            f"episodes is {episodes}, first_seed {first_seed} and seconds {seconds}; "
            "give at least 1, at least 0 and more than 0."
        )
    if videos:
        from robopolicy_sim.video import require_encoder

        require_encoder()
    with contextlib.ExitStack() as resources:
        name, robot, cameras = resources.enter_context(ready_robot(robot_config, [candidate]))
        operator = None if teleop is None else resources.enter_context(operated(teleop, robot))
        policy = candidate.policy
        folder.mkdir(parents=True, exist_ok=True)
        judged = isinstance(robot, KnowsTask) or operator is not None
        deployment = Deployment(judged, taken_over=operator is not None)
        metadata = {"policy": candidate.source, "robot": name}
        store = resources.enter_context(DeploymentStore(folder / STORE, robot, cameras, policy.dt, metadata))
        progress = resources.enter_context(console.Progress(f"Deploying on '{name}'", episodes))
        for index in range(episodes):
            frames: list[list[NDArray[np.uint8]]] | None = [] if index < videos else None
            seed = first_seed + index
            info = EpisodeInfo(operator="policy", embodiment=getattr(robot_config, "embodiment", ""))
            live = _LiveView()
            recorders = (store.step, live.step, _film(cameras, frames))
            with store.episode(info), progress.showing(live.text):
                report = run_one(robot, cameras, policy, seconds, seed, recorders, runtime, operator)
            store.finish(report.success if judged else None, report.events)
            deployment.samples, deployment.missing = store.samples, store.missing
            deployment.reports.append((seed, report))
            if isinstance(robot, ReportsCycles):
                deployment.cycles = robot.cycles()
            _write(deployment, folder)
            if frames:
                outcome = "success" if report.success else "failure"
                _write_video(folder / "videos" / f"{seed}-{outcome}.mp4", frames, policy.dt)
            progress(index + 1, episodes)
            if operator is not None and operator.wants_the_end:
                break
    return deployment.figures()


@contextlib.contextmanager
def ready_robot(robot_config: Any, candidates: Sequence[Candidate]) -> Iterator[tuple[str, Any, list[Any]]]:
    """Connects a robot with its cameras and looks at everything before it may move.

    Args:
        robot_config: config of a registered robot.
        candidates: the policies that will drive it.

    Yields:
        the robot's name, the robot and its cameras; they are closed at the end.

    Raises:
        SpecError: the robot does not offer what a policy needs.
        DeviceError: a check has failed.
    """
    from robopolicy_drivers.runtime.preflight import preflight, require_fit

    name = registered_name("robot", robot_config)
    robot = robots.build(name, robot_config)
    cameras = list(getattr(robot, "cameras", ()))
    for candidate in candidates:
        require_fit(candidate.policy, robot, cameras, needs=candidate.source, name=f"robot '{name}'")
    with contextlib.ExitStack() as devices:
        for device in (robot, *cameras):
            device.connect()
            devices.callback(device.close)
        _check_before_it_moves(preflight(robot, cameras, candidates))
        yield name, robot, cameras


def run_one(
    robot: Any,
    cameras: Sequence[Any],
    policy: ChunkPolicy,
    seconds: float,
    seed: int,
    recorders: Sequence[Callable[[StepRecord], None]],
    runtime: RuntimeConfig | None = None,
    operator: TeleopOperator | None = None,
) -> EpisodeReport:
    """Runs one episode.

    Args:
        robot: connected; one that knows its task is reset to the seed's scene.
        cameras: connected.
        policy: that drives.
        seconds: longest duration [s].
        seed: of the policy's noise and of the scene.
        recorders: are given every step, in the control thread.
        runtime: how chunks become commands; None for the defaults.
        operator: who may take the robot over, and end the episode.
    """
    from robopolicy_drivers.runtime.executor import run_episode

    knows = isinstance(robot, KnowsTask)
    if knows:
        robot.reset(seed)
    if operator is not None:
        operator.begin_episode()

    def is_over() -> bool:
        return (knows and robot.success()) or (operator is not None and operator.ended)

    def record(step: StepRecord) -> None:
        for recorder in recorders:
            recorder(step)

    report = run_episode(
        robot,
        cameras,
        policy,
        duration_s=seconds,
        seed=seed,
        stop_when=is_over,
        recorder=record,
        runtime=runtime,
        operator=operator,
    )
    return replace(report, success=operator.success) if operator is not None and operator.ended else report


class _LiveView:
    """What an episode looks like now, in words."""

    def __init__(self) -> None:
        self._newest: StepRecord | None = None
        self._counts: Counter[str] = Counter()

    def step(self, record: StepRecord) -> None:
        self._counts[record.status] += 1
        self._newest = record

    def text(self) -> str:
        newest = self._newest
        if newest is None:
            return "the policy warms up"
        age_ms = 1e-6 * (now_ns() - newest.time_ns)
        return f"step {newest.step}, {newest.status}, {self._counts['hold']} holds, seen {age_ms:.0f} ms ago"


def _film(
    cameras: Sequence[Any], frames: list[list[NDArray[np.uint8]]] | None
) -> Callable[[StepRecord], None]:
    """Returns what keeps the images of every step in ``frames``, where there is a list."""
    images = [
        feature.key for camera in cameras for feature in camera.spec.observation if feature.kind == "rgb"
    ]

    def record(step: StepRecord) -> None:
        if frames is not None and images:
            frames.append([step.observation[key] for key in images])

    return record


def _check_before_it_moves(findings: Iterable[Finding]) -> None:
    """Tells each finding as it comes; DeviceError where one forbids to move."""
    failed = []
    console.line("Before it moves:")
    for finding in findings:
        console.line(f"  {'ok' if finding.passed else 'NO':3} {finding.name:13} {finding.text}")
        if not finding.passed:
            failed.append(finding.name)
    if failed:
        raise DeviceError(f"Nothing was moved, because of: {', '.join(failed)}. What was found stands above.")


def _write(deployment: Deployment, folder: Path) -> None:
    rows = deployment.rows()
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomic(folder / "episodes.csv", table.getvalue())
    write_text_atomic(folder / "timing.json", json.dumps(deployment.timing()))


def _write_video(path: Path, frames: Sequence[Sequence[NDArray[np.uint8]]], dt: float) -> None:
    """Writes the cameras' images side by side; smaller ones are enlarged and filled up with black."""
    from robopolicy_sim.video import write_video

    factors = [max(1, -(-VIDEO_PIXELS // image.shape[0])) for image in frames[0]]
    height = max(factor * image.shape[0] for factor, image in zip(factors, frames[0], strict=True))

    def enlarged(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        return np.pad(large, ((0, height - len(large)), (0, 0), (0, 0)))

    rows = [np.concatenate(list(map(enlarged, images, factors)), axis=1) for images in frames]
    write_video(path, rows, 1.0 / dt)
