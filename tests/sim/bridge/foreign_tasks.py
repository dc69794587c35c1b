"""Environments for the tests of the bridge; imported by the foreign interpreter only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Point(gymnasium.Env):
    """Moves a point to the origin; its observations are of every type that the bridge takes."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, size=1.0, render_mode=None):
        self.render_mode, self.size = render_mode, size
        self.action_space = spaces.Box(-0.1, 0.1, (2,), np.float64)
        self.observation_space = spaces.Dict(
            {
                "position": spaces.Box(-np.inf, np.inf, (2,), np.float64),
                "count": spaces.Box(0, 1000, (), np.int64),
                "view": spaces.Box(0, 255, (8, 10, 3), np.uint8),
            }
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.count = self.np_random.uniform(-self.size, self.size, 2), 0
        return self.observe(), {"is_success": False, "many": [1, 2], "start": self.position[0]}

    def step(self, action):
        assert action.dtype == np.float64
        self.position = self.position + np.clip(action, -0.1, 0.1)
        self.count += 1
        done = bool(np.linalg.norm(self.position) < 0.1)
        return self.observe(), -1.0, False, False, {"is_success": done, "python": sys.executable}

    def observe(self):
        view = np.full((8, 10, 3), self.count, np.uint8)
        return {"position": self.position, "count": np.array(self.count), "view": view}

    def render(self):
        return np.full((6, 4, 3), 7 + self.count, np.uint8)

    def expert_action(self):
        return np.clip(-self.position, -0.1, 0.1)


class Faulty(Point):
    """Does what its first action says it should do wrong."""

    faults = ("die", "exit", "hang", "raise", "nan", "garbage", "nonsense", "shape", "print", "child")

    def step(self, action):
        fault = self.faults[round(100 * float(action[0]))]
        sockets = [f for f in range(3, 64) if os.path.exists(f"/proc/self/fd/{f}") and is_socket(f)]
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "exit":
            print("the motor is on fire")
            sys.exit(3)
        elif fault == "hang":
            time.sleep(1000)
        elif fault == "raise":
            raise RuntimeError("the motor is too hot")
        elif fault == "nan":
            self.position = np.full(2, np.nan)
        elif fault == "garbage":
            os.write(sockets[0], b"Hello, I am a text on the wrong file descriptor.")
        elif fault == "nonsense":
            os.write(sockets[0], b"RPB1\x00\x00\x00\x02" + bytes(8) + b"42")
        elif fault == "print":
            print("x" * 300_000)
            os.write(1, b"y" * 300_000)
        elif fault == "child":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "robopolicy-orphan"])
            os.kill(os.getpid(), signal.SIGKILL)
        observation, *others = super().step(action)
        return ({**observation, "position": np.zeros(3)} if fault == "shape" else observation), *others


def is_socket(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")


class Odd(gymnasium.Env):
    """What the bridge cannot take, by name."""

    def __init__(self, odd, render_mode=None):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
        box = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2) if odd == "action" else box
        self.observation_space = {"text": spaces.Text(5), "image": box}.get(odd, box)
        if odd == "make":
            raise ValueError("no such world")

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}


gymnasium.register("test/Point-v0", entry_point=Point, max_episode_steps=40)
gymnasium.register("test/Faulty-v0", entry_point=Faulty, max_episode_steps=40)
gymnasium.register("test/Odd-v0", entry_point=Odd)
