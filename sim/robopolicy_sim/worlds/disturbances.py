"""What makes a simulated robot's life as hard as a real one's: forces, drift, delay, shaking cameras.

The force is that of UMI-on-Air (arXiv 2510.02614, released code): every 0.8 s a new target, uniform within
plus and minus the scale along each axis, that the force approaches with a factor of 0.02 every 20 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robopolicy_datasets.geometry import Array
from robopolicy_sim.worlds.configs import DisturbanceConfig
from robopolicy_sim.worlds.world import World

FORCE_INTERVAL_S = 0.8  # between two targets of the force
FORCE_PERIOD_S = 0.02  # in which the force approaches its target ...
FORCE_APPROACH = 0.02  # ... by this factor
DRIFT_MEMORY_S = 5.0  # after which a drift is as good as forgotten


class Disturbances:
    """Disturbs one world as its config says; nothing is drawn for what is switched off.

    Args:
        world: to disturb.
        config: how much.
        period_s: between two calls of ``push`` [s].
        measured_s: between two calls of ``measured`` [s].
    """

    def __init__(self, world: World, config: DisturbanceConfig, period_s: float, measured_s: float) -> None:
        self._world, self._config, self._period = world, config, period_s
        self._keep = np.exp(-measured_s / DRIFT_MEMORY_S)
        self._approach = 1.0 - (1.0 - FORCE_APPROACH) ** (period_s / FORCE_PERIOD_S)
        self.reset(np.random.default_rng(0))

    def reset(self, random: np.random.Generator) -> None:
        """Begins an episode, in which ``random`` decides everything."""
        self._random = random
        robots = len(self._world.robots)
        self._force, self._force_target = np.zeros((robots, 3)), np.zeros((robots, 3))
        self._force_age = np.inf
        self._drift = np.zeros((robots, 3))
        if self._config.drift:
            self._drift = random.normal(0.0, self._config.drift, (robots, 3))
        self._waiting: deque[Array] = deque(maxlen=self._config.delay_steps + 1)

    def delayed(self, action: Array) -> Array:
        """Returns the action that arrives at the robots now; the first one arrives until others do."""
        self._waiting.append(action)
        return self._waiting[0]

    def push(self) -> None:
        """Sets the forces for the next tick: at flying bases, at the hands of others."""
        scale = self._config.force
        if not scale:
            return
        if self._force_age >= FORCE_INTERVAL_S:
            self._force_target = self._random.uniform(-scale, scale, self._force.shape)
            self._force_age = 0.0
        self._force_age += self._period
        self._force += self._approach * (self._force_target - self._force)
        for robot, force in zip(self._world.robots, self._force, strict=True):
            pushed = robot.base_body if robot.embodiment.base else robot.hand_body
            self._world.data.xfrc_applied[pushed, :3] = force

    def measured(self, state: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Returns what the robots believe that their state is: positions drift slowly."""
        changed = dict(state)
        if self._config.drift:
            fresh = self._random.normal(0.0, self._config.drift, self._drift.shape)
            self._drift = self._keep * self._drift + np.sqrt(1.0 - self._keep**2) * fresh
            for number, drift in enumerate(self._drift):
                key = f"robot{number}_eef_pos"
                changed[key] = (changed[key] + drift).astype(np.float32)
        return changed

    def shake(self) -> None:
        """Turns every camera a little, until the physics goes on."""
        scale = self._config.camera_jitter
        if not scale:
            return
        for axes in self._world.data.cam_xmat:
            turn = self._random.normal(0.0, scale, 3)
            axes[:] = (Rotation.from_rotvec(turn).as_matrix() @ axes.reshape(3, 3)).ravel()
