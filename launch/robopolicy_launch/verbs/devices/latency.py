"""Measures how late a robot, its gripper and its cameras are. THE ROBOT MOVES.

It makes a small motion that begins and ends where it stands: with the keys below, 2 cm up and back, four
times in four seconds, at most 0.1 m/s; then its gripper closes by 2 cm and opens. Commands and measurements
are compared by cross-correlation, and so are what the robot measures and what its cameras show. Leave room
above the tool, and keep everything else still. Given a checkpoint or a server, it also measures how long the
policy takes for a chunk of what is seen.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_launch import console
from robopolicy_launch.run_folder import RunFolder, write_text_atomic
from robopolicy_launch.stages.choosing import PolicyPlace, chosen_policy

if TYPE_CHECKING:
    from robopolicy_drivers.calibration.delay import Delay
    from robopolicy_drivers.calibration.latency import LatencyModel
    from robopolicy_drivers.calibration.probing import Recording
    from robopolicy_drivers.interfaces import Camera, Robot

GROUPS: dict[str, str | None] = {"robot": None}
POSITIONAL = ()

FILE = "latency.json"
HEADER = ("device", "median [ms]", "p95 [ms]", "samples", "smallest correlation")
INFERENCES = 50


@dataclass
class Settings(PolicyPlace):
    """Settings of ``robopolicy devices latency``.

    Attributes:
        entry: which number of the action moves: 0, 1, 2 are x, y, z of a pose, or the joints.
        amplitude: how far it moves, with its sign [m or rad].
        gripper_amplitude: how far the gripper moves, with its sign [m]; 0 leaves it out.
        seconds: duration of a motion [s].
        cycles: how often a motion goes there and back.
        repeats: motions, each of which is one measurement.
        output: a file that the latencies are written to as well.
        name: a word for the run folder's name.
        runs: where run folders lie.
        robot: what is measured.
    """

    entry: int = 2
    amplitude: float = 0.02
    gripper_amplitude: float = -0.02
    seconds: float = 4.0
    cycles: int = 4
    repeats: int = 3
    output: str = ""
    name: str = ""
    runs: str = "runs"
    robot: Any = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats < 1:
            raise ConfigError(f"repeats={self.repeats} is not possible; give 1 or more.")


@dataclass
class _Measurements:
    """What the motions told, by device.

    Attributes:
        delays: of each device, one a motion.
        failures: why a device could not be measured, at the last motion where it could not.
        examples: the last recording of each motion, by the device that was moved.
        inferences: how long each took [s].
    """

    delays: dict[str, list[Delay]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    examples: dict[str, Recording] = field(default_factory=dict)
    inferences: list[float] = field(default_factory=list)

    def add(self, device: str, recording: Recording) -> None:
        """Adds the delay of a device that was moved; without it there is nothing to measure.

        Raises:
            DeviceError: it did not move, or not as commanded.
        """
        self.delays.setdefault(device, []).append(recording.device_delay())
        self.examples[device] = recording

    def add_cameras(self, recording: Recording) -> None:
        """Adds the delays of the cameras; one that does not see the robot is noted."""
        for key in recording.images:
            try:
                self.delays.setdefault(key, []).append(recording.camera_delay(key))
            except DeviceError as error:
                self.failures[key] = str(error)

    def model(self) -> LatencyModel:
        """Returns the latencies of what could be measured."""
        from robopolicy_drivers.calibration.latency import DeviceLatency, LatencyModel

        now = datetime.now(UTC).isoformat(timespec="seconds")
        seconds = {name: [delay.seconds for delay in delays] for name, delays in self.delays.items()}
        seconds["inference"] = self.inferences
        return LatencyModel({name: DeviceLatency.of(each, now) for name, each in seconds.items() if each})


def run(settings: Settings, config: DictConfig) -> int:
    """Measures, prints a table and writes the latencies."""
    from robopolicy_drivers.runtime.preflight import timed_inferences
    from robopolicy_launch.verbs.devices.connecting import build, connected

    robot = build("robot", settings.robot)
    with contextlib.ExitStack() as resources:
        given = settings.checkpoint or settings.server
        policy = chosen_policy(settings, resources).policy if given else None
        folder = resources.enter_context(
            RunFolder.create("devices-latency", root=settings.runs, name=settings.name, config=config)
        )
        with connected(robot) as cameras:
            measured = _measure(robot, cameras, settings)
            if policy is not None:
                _, measured.inferences = timed_inferences(robot, cameras, policy, INFERENCES)
        model = measured.model()
        paths = [folder.path / FILE, *([Path(settings.output).expanduser()] if settings.output else [])]
        for path in paths:
            write_text_atomic(path, model.to_json())
        console.table(_rows(measured, model), header=HEADER)
        for name, reason in measured.failures.items():
            console.line(f"  {name}: {reason}")
        for name, latency in model.devices.items():
            folder.add_figures(
                {f"{name}_median_ms": 1e3 * latency.median_s, f"{name}_p95_ms": 1e3 * latency.p95_s}
            )
        _write_page(folder, measured, model)
        folder.finish()
    return 0


def _measure(robot: Robot, cameras: tuple[Camera, ...], settings: Settings) -> _Measurements:
    from robopolicy_drivers.calibration.motion import ProbeMotion
    from robopolicy_drivers.calibration.probing import GRIPPER_ENTRY, record_motion

    motion = ProbeMotion(settings.amplitude, settings.seconds, settings.cycles)
    gripper = GRIPPER_ENTRY.get(robot.spec.action[0].kind) if settings.gripper_amplitude else None
    measured = _Measurements()
    total = settings.repeats * (1 if gripper is None else 2)
    with console.Progress("Moving", total) as progress:
        for index in range(settings.repeats):
            recording = record_motion(robot, cameras, settings.entry, motion)
            measured.add("robot", recording)
            measured.add_cameras(recording)
            progress(index + 1)
        if gripper is not None:
            closing = ProbeMotion(settings.gripper_amplitude, settings.seconds, settings.cycles)
            for index in range(settings.repeats):
                measured.add("gripper", record_motion(robot, (), gripper, closing))
                progress(settings.repeats + index + 1)
    return measured


def _rows(measured: _Measurements, model: LatencyModel) -> list[tuple[Any, ...]]:
    return [
        (
            name,
            1e3 * latency.median_s,
            1e3 * latency.p95_s,
            latency.samples,
            min([delay.correlation for delay in measured.delays.get(name, ())], default=""),
        )
        for name, latency in model.devices.items()
    ]


def _write_page(folder: RunFolder, measured: _Measurements, model: LatencyModel) -> None:
    from robopolicy_launch.reports import charts, page

    drawn = []
    for name, recording in measured.examples.items():
        start = recording.commanded.times[0]
        lines = {
            word: [
                (time - start, float(value)) for time, value in zip(trace.times, trace.values, strict=True)
            ]
            for word, trace in (("commanded", recording.commanded), ("measured", recording.measured))
        }
        chart = charts.LineChart(f"The last motion of the {name}", "time [s]", "entry of the action", lines)
        drawn.append(page.figure(chart.title, charts.to_svg(chart)))
    notes = "".join(page.paragraph(f"{name}: {reason}") for name, reason in measured.failures.items())
    page.write_page(
        folder.path / "report.html",
        title="Latency",
        subtitle=str(folder.path),
        figures={name: f"{1e3 * latency.median_s:.1f} ms" for name, latency in model.devices.items()},
        sections=[
            page.Section("Devices", page.table(_rows(measured, model), HEADER) + notes),
            page.Section("Motions", f'<div class="charts">{"".join(drawn)}</div>'),
        ],
    )
