"""A server process for the tests: ``policy_server.py '<config as JSON>'`` prints its address.

Its policy needs no torch. What it does is told by the first number of the observation's state.
"""

import asyncio
import json
import os
import signal
import sys
import time

import numpy as np

from robopolicy.serving.configs import ServerConfig
from robopolicy.serving.server import PolicyServer
from robopolicy_datasets.spec import Feature, Spec

IMAGE = Feature("camera0_rgb", (24, 32, 3), "uint8", kind="rgb")
STATE = Feature("robot0_state", (4,))
ACTION = Feature("action", (4,))
FAIL, SLEEP, NAN, EXIT = -1.0, -2.0, -3.0, -4.0


class TellingPolicy:
    """Row t of a chunk is the newest state plus t; the last column is the mean of the newest image.

    With a prefix the first rows are its actions.
    """

    takes_prefix = True
    observation_steps, action_steps, dt = 2, 4, 0.05

    def __init__(self, weights=0.0, spec=None):
        self.spec = spec or Spec((IMAGE, STATE), (ACTION,))
        self.weights = weights

    def reset(self):
        pass

    def infer(self, observation, *, seeds=None, prefix=None):
        state = observation["robot0_state"][:, -1].astype(np.float64)
        orders = set(state[:, 0])
        if FAIL in orders:
            raise ValueError("the net fell apart")
        if SLEEP in orders:
            time.sleep(float(state[:, 1].max()))
        if EXIT in orders:
            os.kill(os.getpid(), signal.SIGKILL)
        chunk = state[:, None] + np.arange(8.0)[None, :, None]
        chunk[:, :, 2] = self.weights if seeds is None else np.asarray(seeds)[:, None]
        chunk[:, :, 3] = observation["camera0_rgb"][:, -1].mean(axis=(1, 2, 3))[:, None]
        if prefix is not None:
            chunk[:, : prefix.frozen] = prefix.actions[: prefix.frozen]
        if NAN in orders:
            chunk[:] = np.nan
        return chunk


def observation(*numbers, grey=100, rows=1):
    """Returns what the policy sees ``[rows, 2, ...]``."""
    state = np.zeros((rows, 2, 4), np.float32)
    state[:, :, : len(numbers)] = numbers
    return {"camera0_rgb": np.full((rows, 2, *IMAGE.shape), grey, np.uint8), "robot0_state": state}


async def serve(config, other_spec, takes_prefix):
    spec = Spec((IMAGE, STATE), (Feature("action", (4,), unit="m"),)) if other_spec else None
    policy = TellingPolicy(spec=spec)
    policy.takes_prefix = takes_prefix
    server = PolicyServer(policy, ServerConfig(**{"port": 0, **config}))
    # New weights whenever the test asks for them.
    loop, version = asyncio.get_running_loop(), iter(range(1, 1000))
    loop.add_signal_handler(signal.SIGUSR1, lambda: server.swap(TellingPolicy(float(next(version)))))
    await server.run(lambda address: print(address, flush=True))


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    asyncio.run(serve(settings, settings.pop("other_spec", False), settings.pop("takes_prefix", True)))
