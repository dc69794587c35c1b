"""What runs in the processes of the simulated robot: the control loop and the cameras."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_drivers.embodiments import Latencies
from robopolicy_drivers.hosting.device import RING
from robopolicy_drivers.hosting.robot import STOPPED
from robopolicy_drivers.hosting.robot_loop import RobotLoop
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.scheduling import request_punctuality, set_timer_slack
from robopolicy_sim.configs import Fault, SimulatedRobotConfig
from robopolicy_sim.delay_line import DelayLine
from robopolicy_sim.faults import Faults
from robopolicy_sim.robot import STATE_RING
from robopolicy_sim.robot_control import WorldControl
from robopolicy_sim.tasks.manipulation import RATE_HZ as CONTROL_RATE_HZ
from robopolicy_sim.tasks.manipulation import task_world, world_sensors
from robopolicy_sim.worlds.disturbances import Disturbances
from robopolicy_sim.worlds.world import World

PHYSICS_KEY = "physics"
SUCCESS_KEY = "success"

_CATCH_UP_S = 0.04
_CAMERA_NICENESS = 5

Frames = dict[str, NDArray[np.uint8]]


def control(channel: DeviceChannel, config: SimulatedRobotConfig, latencies: Latencies) -> None:
    """Runs the physics and its controller in real time until the channel closes."""
    loop = _ControlLoop(config, latencies, channel)
    request_punctuality()
    loop.publish()
    channel.ready()
    loop.run()


class _ControlLoop(RobotLoop):
    """Cartesian targets become what the safety gates let pass, and this becomes physics."""

    def __init__(self, config: SimulatedRobotConfig, latencies: Latencies, channel: DeviceChannel) -> None:
        self.world = task_world(config.task, config.embodiment)
        self.sensors = world_sensors(self.world, config.touch)
        workspace = (config.workspace_lower, config.workspace_upper)
        gripper_late_s = latencies.gripper - latencies.command
        self.control = WorldControl(self.world, config.safety, workspace, gripper_late_s)
        rate_hz = self.control.rate_hz
        super().__init__(channel, self.control, rate_hz)
        self.requests["reset"] = self._reset
        period_s = 1.0 / rate_hz
        self.substeps = round(period_s / self.world.timestep)
        self.catch_up_ticks = round(_CATCH_UP_S * rate_hz)
        self.disturbances = Disturbances(self.world, config.disturbance, period_s, period_s)
        self.faults = Faults(self.world, config.fault)
        self.visible = {feature.key for feature in channel.rings[RING].features} - {STOPPED.key}
        self.states = DelayLine[tuple[int, dict[str, NDArray]]](latencies.state, period_s)
        late_s = latencies.command + config.disturbance.delay_steps / CONTROL_RATE_HZ
        self.commands = DelayLine[tuple[NDArray, int]](late_s, period_s)
        self.late_ns = seconds_to_ns(late_s)
        self._track, self._physics, self._publish = map(
            channel.sections.section, ("track", "physics", "publish")
        )

    def cycle(self, elapsed: int) -> None:
        with self._track:
            self._obey()
            self.control.tick(self.loop.deadline_ns)
        with self._physics:
            self.disturbances.push()
            self.faults.spoil()
            # Like a real robot, this one goes on as it was told last while its controller is late.
            self.world.step(self.substeps * min(elapsed, self.catch_up_ticks))
        with self._publish:
            self.publish()

    def publish(self) -> int:
        """Sends the state on its way; returns its time [ns, monotonic]."""
        state = {
            **self.disturbances.measured(self.world.state()),
            PHYSICS_KEY: self.world.get_physics_state(),
            SUCCESS_KEY: np.array(self.world.success()),
        }
        for sensor in self.sensors:
            state |= sensor.measure()
        now = now_ns()
        self.states.put((now, {key: state[key] for key in self.visible}), now)
        for time_ns, arrived in self.states.due(now):
            self.write(time_ns, arrived)
        return now

    def _obey(self) -> None:
        """Plans for the commands that have arrived."""
        now = self.loop.deadline_ns
        for target, at_ns in self.commands.due(now):
            if not self.control.stopped:
                self.control.command(target, at_ns + self.late_ns, now)

    def _command(self, payload: tuple[NDArray, int]) -> None:
        now = self.loop.deadline_ns
        self.control.commanded(now)
        self.commands.put(payload, now)

    def _hold(self, _: None) -> None:
        self._obey()
        self.commands.clear()
        super()._hold(_)

    def _release(self, _: None) -> None:
        self.commands.clear()
        super()._release(_)

    def _reset(self, seed: int) -> int:
        # The same numbers as gymnasium's reset(seed=...) draws from.
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self.world.reset(random)
        self.disturbances.reset(random)
        self.commands.clear()
        self.control.restart(self.loop.deadline_ns)
        time_ns = self.publish()
        self.loop.restart()
        self.channel.statistics.reset()
        return time_ns


def film(channel: DeviceChannel, config: SimulatedRobotConfig, late_s: float) -> None:
    """Draws the newest physics state for every camera of the image ring until the channel closes."""
    # Drawing must never take time from the control loop: one thread, and below everybody else.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    os.nice(_CAMERA_NICENESS)
    world, period_s = task_world(config.task, config.embodiment), 1.0 / config.camera_rate_hz
    disturbances = Disturbances(world, config.disturbance, period_s, period_s)
    faults = Faults(world, config.fault)
    loop = DeadlineLoop(config.camera_rate_hz, channel.statistics)
    set_timer_slack()
    source, images = channel.rings[STATE_RING], channel.rings[RING]
    line, late_ns = DelayLine[tuple[int, Frames]](late_s, period_s), seconds_to_ns(late_s)
    last, ready = 0, False
    while not channel.closing:
        loop.wait()
        channel.messages()
        record = source.newest()
        if record is not None and record.number != last:
            last = record.number
            world.set_physics_state(record.data[PHYSICS_KEY])
            if not (ready and faults.begun(Fault.CAMERA_FROZEN)):
                disturbances.shake()
                line.put((record.time_ns, _draw(world, images, config.image_size)), record.time_ns)
        for time_ns, frames in line.due(now_ns()):
            images.write(time_ns + late_ns, frames)
        if images.latest and not ready:
            ready = True
            channel.ready()
            loop.restart()
            channel.statistics.reset()


def _draw(world: World, images: Ring, size: int) -> Frames:
    return {
        feature.key: world.render(feature.key.removesuffix("_rgb"), size, size) for feature in images.features
    }
