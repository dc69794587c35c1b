"""Simulated marker fields beside those that people recorded with a real GelSight Mini."""

from __future__ import annotations

import mujoco
import numpy as np
from pad_world import PadWorld

PIXEL = 0.0186 / 320  # [m]
LEAST_MOTION = 1.5  # [px], root mean square of a field that is more than the noise of tracking


def roughness(field):
    """Difference between neighbouring markers over displacement, both as root mean squares."""
    steps = np.concatenate([np.diff(field, axis=axis).ravel() for axis in (0, 1)])
    return np.sqrt(np.mean(steps**2) / np.mean(field**2))


def figures(fields):
    """The largest displacement [px] and the roughness of each field that shows a motion."""
    moving = [field for field in fields if np.sqrt(np.mean(field**2)) > LEAST_MOTION]
    largest = [np.linalg.norm(field, axis=-1).max() for field in moving]
    return np.array(largest), np.array([roughness(field) for field in moving])


def recorded_fields(path):
    """Displacements [px] of 8 x 10 markers; the table has frame, row, column, reference and present place."""
    rows = np.loadtxt(path, delimiter=",").reshape(-1, 8, 10, 7)
    return rows[..., 5:7] - rows[..., 3:5]


def simulated_fields(count=25):
    """Balls, blocks and pegs, pressed with 2 to 10 N somewhere and pushed along within their friction."""
    random = np.random.default_rng(0)
    for kind, size, height in (
        ("sphere", (0.006,), 0.006),
        ("box", (0.006, 0.003, 0.003), 0.003),
        ("cylinder", (0.004, 0.003), 0.003),
    ):
        world = PadWorld(kind, size, height=height)
        for _ in range(count):
            turn, way, force = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi), random.uniform(2, 10)
            world.lay(height, (np.cos(turn / 2), 0, 0, np.sin(turn / 2)))
            world.data.qpos[2:5] += world.pad_axes[:, :2] @ random.uniform(-0.004, 0.004, 2)
            mujoco.mj_forward(world.model, world.data)
            x, y = random.uniform(0, 0.8) * force * np.array([np.cos(way), np.sin(way)])
            world.press((0, 0, -force), seconds=0.1)
            world.press((x, y, -force), (height * y, -height * x, 0), seconds=0.05)
            yield world.pad.measure()["robot0_tactile0_markers"].reshape(7, 9, 2) / PIXEL


def test_fields_are_as_large_and_as_smooth_as_recorded_ones(shared_data):
    folder = shared_data / "gelsight_mini_markers"
    largest, rough = figures(simulated_fields())
    recorded = [figures(recorded_fields(folder / f"marker_locations_{name}.csv")) for name in (0, 3, 5)]
    print(
        "simulated px, roughness:", np.percentile(largest, [10, 50, 90]), np.percentile(rough, [10, 50, 90])
    )
    for theirs in recorded:
        print("recorded px, roughness:", *(np.percentile(figure, [10, 50, 90]) for figure in theirs))
    medians = [(np.median(theirs), np.median(roughly)) for theirs, roughly in recorded]
    smallest, roughest = (min(median[0] for median in medians), max(median[1] for median in medians))
    greatest, smoothest = (max(median[0] for median in medians), min(median[1] for median in medians))
    assert 0.5 * smallest < np.median(largest) < 2 * greatest
    assert 0.5 * smoothest < np.median(rough) < 2 * roughest
