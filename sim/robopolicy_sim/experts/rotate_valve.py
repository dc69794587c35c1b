"""A scripted expert for rotating a valve."""

from __future__ import annotations

from robopolicy_datasets.geometry import Array
from robopolicy_sim.experts.fixtures import FixtureExpert, Thing
from robopolicy_sim.tasks.rotate_valve import GRIP_RADIUS, LEVER_HALF_SIZE, RANGE, RotateValveScene


class RotateValveExpert(FixtureExpert):
    """Takes the lever and turns it, rolling the tool along with it; see ``FixtureExpert``."""

    scene: RotateValveScene

    def thing(self) -> Thing:
        """The lever."""
        return Thing("lever", self.scene.grip_pose(self.scene.angle), 2 * LEVER_HALF_SIZE[1], True)

    def bring(self) -> Array:
        """Along the lever's arc, no further in a step than the tool can roll."""
        step = min(self._largest_turn, self._largest_move / GRIP_RADIUS)
        return self._same_way(self.scene.grip_pose(min(self.scene.angle + step, RANGE)))
