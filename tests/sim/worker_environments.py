"""Environments that fail in worker processes; imported there by name."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from robopolicy_datasets.errors import SimulationError
from robopolicy_sim.tasks.configs import PushTStateConfig
from robopolicy_sim.tasks.pusht import PushTEnv


class FragileEnv(PushTEnv):
    """Dies, or fails, in the second step of the episode whose seed says so."""

    def __init__(self, config):
        if config.broken and Path(config.broken).exists():
            raise SimulationError("there is no world any more")
        super().__init__(PushTStateConfig(max_steps=config.max_steps))
        self.fragile = config

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.seed in self.fragile.deadly and self._steps == 1:
            if self.fragile.broken:
                Path(self.fragile.broken).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seed in self.fragile.failing:
            raise SimulationError("physics became unstable")
        if self.seed in self.fragile.wrong:
            raise ValueError("a mistake in the program")
        return super().step(action)


def demonstrate(config, task, seeds):
    """Demonstrates the even seeds; one of them takes its process with it."""
    import numpy as np

    from robopolicy_datasets.store import EpisodeInfo

    for seed in seeds:
        if seed == config.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed % 2 == 0:
            random = np.random.default_rng(seed)
            yield {"action": random.normal(size=(seed + 1, 2))}, EpisodeInfo(task=str(seed))


def fail_late(parent):
    """Fails once the parent has gone."""
    parent.send("begun")
    with contextlib.suppress(EOFError):
        parent.receive()
    raise SimulationError("too late")
