"""Touch in simulation: one reading of each sensor of an arm with a cube, beside one step of its physics.

Four contact points press on the pad. The image is measured beside the drawing of its distances alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import mujoco
import numpy as np

from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import repeated, side_by_side, threads
from robopolicy_sim.rendering import shared_renderer
from robopolicy_sim.tasks.pick_place import CUBE_HALF_SIZE, PickPlaceScene
from robopolicy_sim.touch import GelPad, WristWrench
from robopolicy_sim.touch.camera import IMAGE_SIZE
from robopolicy_sim.touch.sensor import SimulatedSensor
from robopolicy_sim.worlds.world import World

ARM = "fr3"
_CALLS = 50  # between two looks at the clock


def run(*, seconds: float = 4.0) -> Iterator[Row]:
    """Measures each sensor.

    Args:
        seconds: to spend on each row.
    """
    world = holding_world()
    model, data = world.model, world.data
    embodiment = load_embodiment(ARM)
    pad = embodiment.touch[0]
    sensors: dict[str, SimulatedSensor] = {
        name: GelPad(model, data, pad, outputs=(name,)) for name in ("markers", "taxels")
    }
    if embodiment.force_torque is not None:
        sensors["wrench"] = WristWrench(model, data, embodiment.force_torque)
    step = partial(mujoco.mj_step, model, data)
    with threads(1):
        for name, sensor in sensors.items():
            times = side_by_side(repeated(sensor.measure, _CALLS), repeated(step, _CALLS), seconds=seconds)
            ours, reference = (1e3 * milliseconds / _CALLS for milliseconds in times)
            yield Row(f"touch_{name}", ours, reference, "us", "one step of the physics")
        image = GelPad(model, data, pad, outputs=("rgb",))
        height, width = IMAGE_SIZE
        draw = partial(
            shared_renderer(model, fine=True).distances,
            data,
            world.robot.tcp_pose,
            pad.size,
            0.01,
            width=width,
            height=height,
        )
        yield Row("touch_rgb", *side_by_side(image.measure, draw, seconds=seconds), "ms", "drawing distances")


def holding_world() -> World:
    """Returns a world whose gripper holds the cube between its pads."""
    world = World(PickPlaceScene(), (ARM,))
    world.reset(np.random.default_rng(0))
    cube, fingers = (world.model.joint(name).qposadr[0] for name in ("cube", "finger_left"))
    world.data.qpos[cube : cube + 3] = world.robot.tcp_pose[:3, 3]
    world.data.qpos[fingers : fingers + 2] = CUBE_HALF_SIZE
    world.robot.set_targets(world.robot.joint_targets, 0.0)
    world.step(100)
    return world
