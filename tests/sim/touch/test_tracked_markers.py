"""The tracker of real gels on images of the simulated one: what it sees is what the simulation says."""

from __future__ import annotations

import numpy as np
import pytest
from pad_world import PadWorld

from robopolicy_drivers.touch.marker_tracker import MarkerTracker
from robopolicy_sim.touch import GelPad


@pytest.mark.parametrize(
    ("kind", "size", "height", "force", "torque"),
    [
        ("sphere", (0.006,), 0.006, (0, 0, -8), (0, 0, 0)),
        ("box", (0.006, 0.003, 0.003), 0.003, (3, 1, -8), (0, 0, 0)),
        ("box", (0.006, 0.003, 0.003), 0.003, (0, 0, -8), (0, 0, 0.008)),
    ],
)
def test_tracked_markers_are_the_simulated_ones(kind, size, height, force, torque):
    world = PadWorld(kind, size, height=height)
    pad = world.embodiment.touch[0]
    sensor = GelPad(world.model, world.data, pad, outputs=("markers", "rgb"))
    pixel = np.array([pad.size[1] / 320, pad.size[0] / 240])
    name = pad.key.removesuffix("_markers")
    world.lay(0.02, (1, 0, 0, 0))  # nothing touches the gel
    tracker = MarkerTracker(pad.markers)
    tracker.start(sensor.measure()[f"{name}_rgb"])
    world.lay(height, (1, 0, 0, 0))
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        world.press(share * np.array(force), share * np.array(torque), seconds=0.1)
        reading = sensor.measure()
        tracker.track(reading[f"{name}_rgb"])
    assert tracker.found.all()
    motion = reading[f"{name}_markers"] / pixel
    error = np.linalg.norm(tracker.displacements - motion, axis=1)
    largest = np.linalg.norm(motion, axis=1).max()
    print(f"{kind}: markers move by up to {largest:.1f} px; tracked to {np.median(error):.3f} px,", end=" ")
    print(f"the worst to {error.max():.2f} px")
    assert largest > 2.0
    assert error.max() < 0.6
    assert np.median(error) < 0.1
