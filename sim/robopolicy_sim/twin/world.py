"""A world whose physics is PyBullet's: to measure what a policy owes to the simulator it was trained in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array
from robopolicy_sim.twin.physics import BulletPhysics
from robopolicy_sim.worlds.scene import Scene
from robopolicy_sim.worlds.user_model import find_embodiment
from robopolicy_sim.worlds.world import World


class PybulletWorld(World):
    """The same as ``World`` in all but the physics.

    Scene, robots, random beginnings, servos' rates, measurements and success are those of ``World``: PyBullet
    moves the bodies, its state is written into the ``mujoco.MjData``, and MuJoCo draws it. What is seen of
    contacts in the ``mujoco.MjData`` is nothing.

    Args:
        scene: the task's surroundings; serves this world alone.
        embodiments: names or files of the robots, which must stand on fixed bases.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: a robot cannot do the task, or flies.
        SimulationError: the scene or a robot has what PyBullet has not.
    """

    def __init__(self, scene: Scene, embodiments: Sequence[str] = ("ur5e",)) -> None:
        for name in embodiments:
            if find_embodiment(name).base is not None:
                raise ConfigError(
                    f"The embodiment '{name}' flies, and task.simulator=pybullet is for arms on fixed bases. "
                    "Take one of these, or task.simulator=mujoco."
                )
        super().__init__(scene, embodiments)

    def reset(self, random: np.random.Generator) -> None:
        """See ``World``."""
        super().reset(random)
        # A new simulation: the old one's caches of contacts would let an episode depend on the one before.
        self._physics = BulletPhysics(self.model, self.data)

    def set_physics_state(self, state: Array) -> None:
        """See ``World``. Bullet's memory of contacts is not part of a state: it goes on almost the same."""
        super().set_physics_state(state)
        self._physics.put()

    def _advance(self, steps: int) -> None:
        self._physics.advance(steps)
