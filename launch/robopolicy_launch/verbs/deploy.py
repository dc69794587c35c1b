"""Runs a policy on a robot through its driver.

The robot runs in its own process at its own rate; the policy thinks in a thread of its own and is executed
chunk by chunk. A policy that does not fit the robot is refused before anything moves. With server=... it runs
on another machine, and this one needs no torch.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.deploying import deploy

if TYPE_CHECKING:
    from robopolicy_drivers.runtime.preflight import Candidate

GROUPS: dict[str, str | None] = {"robot": "sim"}
POSITIONAL = ("checkpoint",)


@dataclass
class Settings:
    """Settings of ``robopolicy deploy``.

    Attributes:
        checkpoint: a checkpoint folder, or the run folder of a training; or give a server.
        server: address of a policy server (robopolicy serve), e.g. ws://127.0.0.1:8000.
        token_file: file with the server's token.
        certificate: file with the server's certificate (PEM), where no authority has signed it.
        episodes: number of episodes.
        first_seed: of the policy's noise and, in simulation, of the scenes.
        seconds: longest duration of an episode [s].
        videos: videos of the first episodes.
        name: a word for the run folder's name.
        runs: where run folders lie.
        latency: file of the latencies of robot and cameras (robopolicy devices latency); they fill
            runtime.latencies_s and runtime.action_latency_s.
        runtime: how the policy's chunks become commands.
        robot: what is driven.
    """

    checkpoint: str = ""
    server: str = ""
    token_file: str = ""
    certificate: str = ""
    episodes: int = 10
    first_seed: int = 100_000
    seconds: float = 15.0
    videos: int = 3
    name: str = ""
    runs: str = "runs"
    latency: str = ""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    robot: Any = MISSING

    def __post_init__(self) -> None:
        if bool(self.checkpoint) == bool(self.server):
            raise ConfigError(
                "'robopolicy deploy' needs one of the two: checkpoint=FOLDER (a run folder or a checkpoint "
                "folder), or server=ws://127.0.0.1:8000 (a policy server)."
            )


def run(settings: Settings, config: DictConfig) -> int:
    """Deploys the policy."""
    with contextlib.ExitStack() as resources:
        candidate = _candidate(settings, resources)
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
        )
        folder.add_figures(figures)
        report.write(folder, "Deployment")
        folder.finish()
    return 0


def _candidate(settings: Settings, resources: contextlib.ExitStack) -> Candidate:
    """Returns the policy, local or remote."""
    from robopolicy_drivers.runtime.preflight import Candidate

    if settings.server:
        from robopolicy_drivers.client import RemotePolicy
        from robopolicy_drivers.client.token import read_token

        token = read_token(settings.token_file)
        remote = RemotePolicy(settings.server, token=token, certificate=settings.certificate)
        return Candidate(resources.enter_context(remote), f"policy at {settings.server}")
    from robopolicy.checkpoint import find_checkpoint, load_policy

    checkpoint = find_checkpoint(Path(settings.checkpoint).expanduser())
    return Candidate(load_policy(checkpoint, threads=1), f"checkpoint '{checkpoint}'", checkpoint)


def _runtime(settings: Settings) -> RuntimeConfig:
    """Returns the settings of the runtime, with the measured latencies where they are given."""
    if not settings.latency:
        return settings.runtime
    from robopolicy_drivers.calibration.latency import load_latency

    medians = {name: latency.median_s for name, latency in load_latency(settings.latency).devices.items()}
    robot_s = medians.pop("robot", settings.runtime.action_latency_s)
    medians.pop("gripper", None)  # it goes at its own speed, whenever it is told
    cameras = {key: max(0.0, seconds) for key, seconds in medians.items()}
    latencies_s = cameras | settings.runtime.latencies_s
    return replace(settings.runtime, action_latency_s=max(0.0, robot_s), latencies_s=latencies_s)
