"""How often the scripted experts succeed: 100 seeds of every task and body, as a Markdown table.

    .venv/bin/python tools/expert_report.py experts.json [task ...]

Cells that the file has already are not run again; delete it after a change of tasks or experts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target, tasks
from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig

SEEDS = range(100000, 100100)
TASKS = ("peg_in_hole", "open_and_retrieve", "rotate_valve", "pick_place")
BODIES = ("ur5e", "ur10e", "fr3", "ur3e", "so101", "flying_gripper")


def main() -> None:
    """Runs what is missing and prints the table."""
    path, chosen = Path(sys.argv[1]), sys.argv[2:] or TASKS
    cells: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for task in chosen:
        for body in BODIES:
            if f"{task} {body}" not in cells:
                cells[f"{task} {body}"] = run(task, body)
                path.write_text(json.dumps(cells, indent=1))
    lines = [
        "| task | body | succeeded | median length | largest joint speed | beyond joint range | wall clock |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(name.split())} | {describe(cell)} |" for name, cell in cells.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def describe(cell: dict[str, Any]) -> str:
    """Returns a cell's columns."""
    if "refused" in cell:
        return f"refused: {cell['refused']} | | | |"
    joints = (f"{100 * cell['speed']:.0f} %", f"{100 * cell['beyond']:.1f} %") if cell["speed"] else ("", "")
    words = (
        f"{cell['succeeded']} of {len(SEEDS)}",
        f"{cell['seconds']:.1f} s",
        *joints,
        f"{cell['wall']:.2f} s",
    )
    return " | ".join(words)


def run(task: str, body: str) -> dict[str, Any]:
    """Runs one cell; ``beyond`` is how far a joint was out of its range at most, as a share of it."""
    config_class = tasks.config_class(task)
    try:
        env = load_target(config_class.target)(config_class(embodiment=body, image_size=8))
    except ConfigError as error:
        return {"refused": str(error)}
    expert, watch = load_target(config_class.expert), Watch(env.world)
    begin, results = time.perf_counter(), []
    for seed in SEEDS:
        data, info = collect_episode(env, expert, ScriptedConfig(), np.random.default_rng(seed))
        results.append((info.success, env.dt * len(data["action"])))
    return {
        "succeeded": sum(success for success, _ in results),
        "seconds": statistics.median(seconds for _, seconds in results),
        "speed": watch.speed,
        "beyond": watch.beyond,
        "wall": (time.perf_counter() - begin) / len(SEEDS),
        "failed": [seed for seed, (success, _) in zip(SEEDS, results, strict=True) if not success],
    }


class Watch:
    """Measures an arm after every step of its world's physics."""

    def __init__(self, world: Any) -> None:
        self.speed = self.beyond = 0.0
        self._robot, self._step = world.robot, world.step
        if world.robot.embodiment.joints:
            world.step = self.step

    def step(self, substeps: int = 1) -> None:
        """Advances the world, and looks at the joints after each step."""
        embodiment = self._robot.embodiment
        lower, upper = embodiment.position_limits.T
        for _ in range(substeps):
            self._step()
            positions = self._robot.joint_positions
            beyond = np.maximum(lower - positions, positions - upper) / (upper - lower)
            speed = np.abs(self._robot.joint_velocities) / embodiment.velocity_limits
            self.speed = max(self.speed, float(speed.max()))
            self.beyond = max(self.beyond, float(beyond.max()))


if __name__ == "__main__":
    main()
