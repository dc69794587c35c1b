"""Runs a policy on a robot through its driver.

The robot runs in its own process at its own rate; the policy thinks in a thread of its own and is executed
chunk by chunk. A policy that does not fit the robot is refused before anything moves. With server=... it runs
on another machine, and this one needs no torch. With teleop=... a person may take the robot over and hand it
back, and ends episodes as success or failure.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.choosing import PolicyPlace, chosen_policy
from robopolicy_launch.stages.deploying import deploy

GROUPS: dict[str, str | None] = {"robot": "sim", "teleop": None}
POSITIONAL = ("checkpoint",)


@dataclass
class Settings(PolicyPlace):
    """Settings of ``robopolicy deploy``.

    Attributes:
        episodes: number of episodes.
        first_seed: of the policy's noise and, in simulation, of the scenes.
        seconds: longest duration of an episode [s].
        videos: videos of the first episodes.
        name: a word for the run folder's name.
        runs: where run folders lie.
        latency: file of the latencies of robot, cameras and policy (robopolicy devices latency); they fill
            runtime.latencies_s, runtime.action_latency_s and runtime.inference_latency_s.
        runtime: how the policy's chunks become commands.
        robot: what is driven.
        teleop: by what a person may take the robot over; none: nobody may.
    """

    episodes: int = 10
    first_seed: int = 100_000
    seconds: float = 15.0
    videos: int = 3
    name: str = ""
    runs: str = "runs"
    latency: str = ""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    robot: Any = MISSING
    teleop: Any = None

    def __post_init__(self) -> None:
        if bool(self.checkpoint) == bool(self.server):
            raise ConfigError(
                "'robopolicy deploy' needs one of the two: checkpoint=FOLDER (a run folder or a checkpoint "
                "folder), or server=ws://127.0.0.1:8000 (a policy server)."
            )


def run(settings: Settings, config: DictConfig) -> int:
    """Deploys the policy."""
    with contextlib.ExitStack() as resources:
        candidate = chosen_policy(settings, resources)
        folder = resources.enter_context(
            RunFolder.create("deploy", root=settings.runs, name=settings.name, config=config)
        )
        figures = deploy(
            candidate,
            settings.robot,
            folder.path / "deployment",
            episodes=settings.episodes,
            first_seed=settings.first_seed,
            seconds=settings.seconds,
            videos=settings.videos,
            runtime=_runtime(settings),
            teleop=settings.teleop,
        )
        folder.add_figures(figures)
        report.write(folder, "Deployment")
        folder.finish()
    return 0


def _runtime(settings: Settings) -> RuntimeConfig:
    """Returns the settings of the runtime, with the measured latencies where they are given."""
    if not settings.latency:
        return settings.runtime
    from robopolicy_drivers.calibration.latency import load_latency

    measured = dict(load_latency(settings.latency).devices)
    inference = measured.pop("inference", None)
    medians = {name: latency.median_s for name, latency in measured.items()}
    robot_s = medians.pop("robot", settings.runtime.action_latency_s)
    medians.pop("gripper", None)  # it goes at its own speed, whenever it is told
    cameras = {key: max(0.0, seconds) for key, seconds in medians.items()}
    latencies_s = cameras | settings.runtime.latencies_s
    return replace(
        settings.runtime,
        action_latency_s=max(0.0, robot_s),
        latencies_s=latencies_s,
        inference_latency_s=settings.runtime.inference_latency_s if inference is None else inference.p95_s,
    )
