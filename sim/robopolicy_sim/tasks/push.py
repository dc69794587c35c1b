"""Push: a cube anywhere on the table is pushed onto a pad anywhere on the table, with the fingers closed."""

from __future__ import annotations

from robopolicy_sim.tasks.configs import PushConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.tasks.pick_place import PickPlaceScene

SUCCESS_CLOSED = 0.01  # [m] width that counts as closed


class PushScene(PickPlaceScene):
    """The table of pick and place; the cube gets home without being grasped."""

    name = "push"
    task_text = "push the cube onto the pad"
    extent = (0.15, 0.17, 0.0)  # the tool gets behind the cube, seen from the pad

    def let_go(self) -> bool:
        """Returns whether the gripper is closed and clear of the cube."""
        robot = self._robot
        return robot.gripper_width < SUCCESS_CLOSED and robot.tcp_pose[2, 3] > self.clear_height


class PushEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: PushScene

    def __init__(self, config: PushConfig | None = None, render_mode: str | None = None) -> None:
        config = config or PushConfig()
        super().__init__(config, PushScene(), render_mode)
