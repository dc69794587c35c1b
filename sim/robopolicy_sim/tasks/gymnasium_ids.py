"""Gymnasium ids of our tasks. Importing this module registers them, which is all that it does.

``gymnasium.make("robopolicy_sim.tasks.gymnasium_ids:robopolicy/PickPlace-v0")`` imports it by itself.
The environments are imported when they are made.
"""

from __future__ import annotations

import gymnasium

gymnasium.register(
    id="robopolicy/PickPlace-v0",
    entry_point="robopolicy_sim.tasks.pick_place:PickPlaceEnv",
    reward_threshold=1.0,
)
