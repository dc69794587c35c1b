"""A robot, a camera and a policy to test the runtime with: kinematic, in real time, without processes."""

import time

import numpy as np

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart

POSITION = Feature("robot0_eef_pos", (2,), "float64", kind="position", unit="m")
ACTION = Feature("action", (2,), "float64", kind="position", unit="m")
IMAGE = Feature("camera0_rgb", (4, 4, 3), "uint8", kind="rgb")
STEP_M = 0.02
DT_S = 0.05


class PointRobot:
    """A point that is exactly where its trajectory says, without a process: the executor is under test."""

    spec = Spec((POSITION,), (ACTION,))

    def __init__(self):
        self.trajectory = WaypointInterpolator(np.zeros(2), (WaypointPart(2, 1.0),))
        self.commands = []
        self.held, self.stopped = 0, []

    def here(self):
        return self.trajectory.evaluate(now_ns())

    def state(self):
        now = now_ns()
        return now, {"robot0_eef_pos": self.trajectory.evaluate(now)}

    def command(self, target, at_ns):
        self.commands.append((now_ns(), target.copy(), at_ns))
        self.trajectory.schedule(target, at_ns, now_ns())
        return target

    def hold(self):
        self.held += 1
        self.trajectory.hold(now_ns())

    def stop(self, reason):
        self.stopped.append(reason)
        self.trajectory.hold(now_ns())


class StillCamera:
    spec = Spec((IMAGE,), ())

    def __init__(self, age_s=0.0):
        self.age_s = age_s

    def read(self):
        return now_ns() - seconds_to_ns(self.age_s), {"camera0_rgb": np.zeros((4, 4, 3), np.uint8)}


class TowardsGoal:
    """Feedback: from where the point was seen, straight to the goal at a bounded speed."""

    observation_steps = 2
    action_steps = 4
    dt = DT_S
    goal = np.array([0.4, -0.3])

    def __init__(self, latency_s=0.0, keys=(POSITION,)):
        self.spec = Spec(keys, (ACTION,))
        self.latency_s = latency_s
        self.shapes = set()
        self.calls = []
        self.resets = 0
        self.running = 0

    def reset(self):
        self.resets += 1
        self.calls.clear()

    def infer(self, observation, *, seeds=None):
        self.running += 1
        assert self.running == 1
        self.calls.append(seeds)
        self.shapes |= {(key, value.shape) for key, value in observation.items()}
        latency_s = self.latency_s() if callable(self.latency_s) else self.latency_s
        time.sleep(latency_s)
        here = observation["robot0_eef_pos"][0, -1]
        way = self.goal - here
        shares = np.minimum(np.arange(1, 17) * STEP_M / max(np.linalg.norm(way), 1e-9), 1.0)
        self.running -= 1
        return (here + shares[:, None] * way)[None]
