"""Shows a window until it is closed, and prints what a person does there, one JSON line a change."""

import json
import time

import numpy as np

from robopolicy_drivers.teleop.window import SIZE, Window

window = Window("robopolicy: a window")
window.show(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
last, closed = None, False
while not closed:
    inputs = window.poll()
    closed = inputs.closed
    line = json.dumps(
        {"held": sorted(inputs.held), "pressed": sorted(inputs.pressed), "drag": inputs.drag}, sort_keys=True
    )
    if line != last or any(inputs.drag):
        print(line, flush=True)
    last = line
    time.sleep(0.02)
window.close()
