"""A scripted expert for opening a cabinet and taking a can out of it."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.experts.fixtures import FixtureExpert, Thing
from robopolicy_sim.tasks.open_and_retrieve import (
    CAN_HALF_HEIGHT,
    CAN_RADIUS,
    FLOOR,
    OPEN,
    SUCCESS_DISTANCE,
    TRAVEL,
    OpenAndRetrieveScene,
)

LIFT = 0.015  # [m] of the can before it is drawn out
GRIP_HEIGHT = 0.055  # [m] of the tool above the can's bottom: the palm must pass over the cabinet's floor
SHUT_AGAIN = 0.02  # [m] less than open, from where on the door is opened again
DOOR = 0.02  # [m] that the door stands before the cabinet's front
BEYOND = 0.04  # [m] further out than success asks for


class OpenAndRetrieveExpert(FixtureExpert):
    """Slides the door aside by its handle, lets go, takes the can and draws it out; see ``FixtureExpert``."""

    scene: OpenAndRetrieveScene
    _open_door = False

    def thing(self) -> Thing:
        """The handle until the door is open, then the can."""
        scene = self.scene
        self._open_door = scene.opening > (OPEN - SHUT_AGAIN if self._open_door else OPEN)
        if not self._open_door:
            return Thing("handle", scene.handle_pose(scene.opening), 0.016, True)
        place = np.add(scene.can_position, (0.0, 0.0, GRIP_HEIGHT - CAN_HALF_HEIGHT))
        pose = scene.fixture_pose @ pose_matrix(place, scene.tool)
        return Thing("can", pose, 2 * CAN_RADIUS, False, depth=max(place[0] + DOOR, 0.0))

    def bring(self) -> Array:
        """The handle to the right; the can up a little and out."""
        scene = self.scene
        if not self._open_door:
            return self._same_way(scene.handle_pose(min(scene.opening + self._largest_move, TRAVEL)))
        can = scene.can_position
        low = can[2] < FLOOR + CAN_HALF_HEIGHT + 0.5 * LIFT and can[0] > 0.0
        out = can[0] if low else -SUCCESS_DISTANCE - BEYOND
        goal = np.array([out, can[1], FLOOR + CAN_HALF_HEIGHT + LIFT])
        move = scene.fixture_pose[:3, :3] @ (goal - can)
        forward = self._same_way(scene.fixture_pose @ pose_matrix(goal, scene.tool))
        return pose_matrix(self.world.robot.tcp_pose[:3, 3] + move, forward[:3, :3])
