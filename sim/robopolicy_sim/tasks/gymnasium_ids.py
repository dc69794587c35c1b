"""Gymnasium ids of our tasks. Importing this module registers them, which is all that it does.

``gymnasium.make("robopolicy_sim.tasks.gymnasium_ids:robopolicy/PickPlace-v0")`` imports it by itself.
The environments are imported when they are made.
"""

from __future__ import annotations

import gymnasium

for _module, _name in (
    ("pick_place", "PickPlace"),
    ("peel", "Peel"),
    ("wipe", "Wipe"),
    ("lift_together", "LiftTogether"),
    ("tidy_table", "TidyTable"),
    ("push", "Push"),
    ("peg_in_hole", "PegInHole"),
    ("open_and_retrieve", "OpenAndRetrieve"),
    ("rotate_valve", "RotateValve"),
):
    gymnasium.register(
        id=f"robopolicy/{_name}-v0",
        entry_point=f"robopolicy_sim.tasks.{_module}:{_name}Env",
        reward_threshold=1.0,
    )
