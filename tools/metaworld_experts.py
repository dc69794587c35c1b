"""Measures Meta-World's 50 scripted experts through the bridge and writes their table.

    .venv/bin/python tools/metaworld_experts.py --episodes 50 --log runs/metaworld_experts.jsonl

The log gets one line a task as soon as it is measured; the same command goes on where it was stopped. The
table (Markdown) goes to standard output. Needs ``make metaworld``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from robopolicy.evaluation.statistics import wilson_interval
from robopolicy_sim.bridge.configs import MetaWorldConfig
from robopolicy_sim.bridge.expert import demonstrate_episode
from robopolicy_sim.bridge.metaworld import make_env

FIRST_SEED = 100_000
NAMES = "from metaworld.policies import ENV_POLICY_MAP; print(*sorted(ENV_POLICY_MAP))"


def measure(name: str, episodes: int) -> dict[str, Any]:
    """Returns the figures of one expert.

    Args:
        name: of the task.
        episodes: how many, with consecutive seeds.
    """
    env = make_env(MetaWorldConfig(name=name))
    lengths, successes, started = [], [], time.monotonic()
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        data, success = demonstrate_episode(env, seed)
        lengths.append(len(data["action"]))
        successes.append(success)
    seconds = time.monotonic() - started
    env.close()
    good = [length for length, success in zip(lengths, successes, strict=True) if success]
    return {
        "name": name,
        "episodes": episodes,
        "successes": sum(successes),
        "steps_of_successes": sum(good) / max(len(good), 1),
        "steps_per_second": sum(lengths) / seconds,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the figures as a Markdown table, two tasks a line."""
    cells = []
    for row in sorted(rows, key=lambda row: row["name"]):
        low, high = wilson_interval(row["successes"], row["episodes"])
        share = row["successes"] / row["episodes"]
        steps = f"{row['steps_of_successes']:.0f}" if row["successes"] else "-"
        cells.append(f"{row['name']} | {share:.0%} ({low:.0%}-{high:.0%}) | {steps}")
    half = (len(cells) + 1) // 2
    pairs = zip(cells[:half], cells[half:] + [" | | "] * (len(cells) % 2), strict=True)
    lines = ["| task | success | steps | task | success | steps |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {left} | {right} |" for left, right in pairs)]) + "\n"


def main() -> None:
    """Measures what the log does not have yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--log", type=Path, default=Path("runs/metaworld_experts.jsonl"))
    given = parser.parse_args()
    given.log.parent.mkdir(parents=True, exist_ok=True)
    given.log.touch()
    rows = [json.loads(line) for line in given.log.read_text().splitlines()]
    rows = [row for row in rows if row["episodes"] == given.episodes]
    foreign = [MetaWorldConfig().python, "-c", NAMES]
    names = subprocess.run(foreign, check=True, capture_output=True, text=True).stdout.split()
    for name in names:
        if name not in {row["name"] for row in rows}:
            rows.append(measure(name, given.episodes))
            with given.log.open("a") as log:
                log.write(json.dumps(rows[-1]) + "\n")
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
