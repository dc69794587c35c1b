"""Servers that die, stall or change, and networks that lose, delay, repeat and reorder; real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from policy_server import ACTION, EXIT, IMAGE, SLEEP, STATE, observation
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve as serve_websocket

from robopolicy.checkpoint import save_policy
from robopolicy.policies.configs import FlowConfig, MlpConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import RemoteError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.client import RemotePolicy
from robopolicy_drivers.client.connection import Connection
from robopolicy_drivers.runtime.executor import run_episode

SLACK_S = 5.0  # for a busy machine: a hang is what these tests look for, not a delay


def fails_within(remote, seconds, match):
    begins = time.monotonic()
    with pytest.raises(RemoteError, match=match):
        remote.infer(observation(1))
    assert time.monotonic() - begins < seconds + 1.0 + SLACK_S


# --- the server ---------------------------------------------------------------------------------------------


def test_a_server_that_is_killed_is_an_error_in_time_and_one_that_comes_back_is_used_again(serve):
    server = serve()
    with RemotePolicy(server.address, timeout_s=1.0) as remote:
        assert remote.infer(observation(1))[0, 0, 0] == 1
        server.kill()
        fails_within(remote, 1.0, "nothing listens there")
        serve(port=server.port)
        assert remote.infer(observation(2))[0, 0, 0] == 2


def test_a_server_that_restarts_in_time_is_no_error_at_all(serve):
    server = serve()
    with RemotePolicy(server.address, timeout_s=60.0) as remote:
        remote.infer(observation(1))
        threading.Timer(0.2, lambda: (server.kill(), serve(port=server.port))).start()
        for step in range(40):
            assert remote.infer(observation(step))[0, 0, 0] == step
            time.sleep(0.01)


def test_a_server_killed_by_its_own_inference(serve):
    server = serve()
    with RemotePolicy(server.address, timeout_s=1.0) as remote:
        begins = time.monotonic()
        with pytest.raises(RemoteError, match="nothing listens there"):
            remote.infer(observation(EXIT))
        assert time.monotonic() - begins < 2.0 + SLACK_S


def test_a_server_that_stands_still_is_an_error_in_time_and_its_late_answer_is_not_used(serve):
    server = serve()
    with RemotePolicy(server.address, timeout_s=0.5) as remote:
        remote.infer(observation(1))
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            fails_within(remote, 0.5, "did not answer in time")
            fails_within(remote, 0.5, "did not answer in time")  # nor does it take a new connection
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        assert eventually(lambda: remote.infer(observation(7))[0, 0, 0]) == 7


def test_a_server_that_takes_no_bytes_is_an_error_in_time(serve):
    server = serve()
    connection = Connection(server.address, authorization="", certificate="", timeout_s=30)
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        begins = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.send(bytes(1 << 26), time.monotonic() + 0.3)
        connection.close()
        assert time.monotonic() - begins < 2.0 + SLACK_S
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def test_an_inference_that_takes_too_long_is_an_error_in_time(serve):
    server = serve()
    with RemotePolicy(server.address, timeout_s=0.3) as remote:
        begins = time.monotonic()
        with pytest.raises(RemoteError, match="no answer within"):
            remote.infer(observation(SLEEP, 3.0))
        assert time.monotonic() - begins < 3.0
        assert eventually(lambda: remote.infer(observation(4))[0, 0, 0]) == 4


def test_another_policy_on_the_same_address_is_refused(serve):
    server = serve()
    with RemotePolicy(server.address, timeout_s=30.0) as remote:
        remote.infer(observation(1))
        server.kill()
        serve(port=server.port, other_spec=True)
        with pytest.raises(RemoteError, match="serves another policy"):
            remote.infer(observation(1))


def test_no_server_at_all_is_told_with_its_address():
    with pytest.raises(
        RemoteError, match=r"ws://127\.0\.0\.1:9 gave no answer within 0\.3 s: nothing listens"
    ):
        RemotePolicy("ws://127.0.0.1:9", connect_timeout_s=0.3)


def eventually(call):
    """The result of ``call``, tried again while the server catches up."""
    for _ in range(40):
        with contextlib.suppress(RemoteError):
            return call()
    return call()


# --- the network --------------------------------------------------------------------------------------------


async def copy(reader, writer, *, pause_s=0.0, most=1 << 60):
    """Passes bytes on, each piece after a pause, and closes after ``most`` of them."""
    passed = 0
    with contextlib.suppress(OSError):
        while passed < most and (data := await reader.read(min(4096, most - passed))):
            passed += len(data)
            await asyncio.sleep(pause_s)
            writer.write(data)
            await writer.drain()
    writer.close()


def through(**options):
    """A handler that passes a connection on, and spoils what comes from the client."""

    async def handle(reader, writer, port):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, server_writer, **options), copy(server_reader, writer))

    return handle


def test_a_slow_network_only_takes_time(serve, proxy):
    address = proxy(through(pause_s=0.01), serve().port)
    with RemotePolicy(address, timeout_s=60, connect_timeout_s=60) as remote:
        for step in range(3):
            assert remote.infer(observation(step))[0, 0, 0] == step


def test_a_network_that_drops_every_connection_soon_only_takes_time(serve, proxy):
    """Each connection lasts for two requests and a half."""
    size = 2 * (2 * 24 * 32 * 3)
    address = proxy(through(most=600 + 5 * size // 4), serve().port)
    with RemotePolicy(address, timeout_s=60, connect_timeout_s=60) as remote:
        for step in range(12):
            assert remote.infer(observation(step))[0, 0, 0] == step


def test_a_network_that_loses_every_request_is_an_error_in_time(serve, proxy):
    address = proxy(through(most=1000), serve().port)
    with RemotePolicy(address, timeout_s=1.0, connect_timeout_s=60) as remote:
        fails_within(remote, 1.0, "no answer within 1 s: the connection broke")


def test_a_network_that_swallows_everything_is_an_error_in_time(serve, proxy):
    """As when a cable is pulled: nothing comes, and nothing says so."""
    pulled = threading.Event()

    async def handle(reader, writer, port):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pass_on(source, target):
            while data := await source.read(4096):
                while pulled.is_set():
                    await asyncio.sleep(0.01)
                target.write(data)

        with contextlib.suppress(OSError):
            await asyncio.gather(pass_on(reader, server_writer), pass_on(server_reader, writer))

    address = proxy(handle, serve().port)
    with RemotePolicy(address, timeout_s=0.5, connect_timeout_s=60) as remote:
        assert remote.infer(observation(1))[0, 0, 0] == 1
        pulled.set()
        fails_within(remote, 0.5, "did not answer in time")
        pulled.clear()
        assert eventually(lambda: remote.infer(observation(3))[0, 0, 0]) == 3


class Meddler:
    """A WebSocket proxy in a thread that sends each reply as often and in the order that a function says."""

    def __init__(self, address, order):
        self.address, self.order, self.replies = address, order, []
        self.loop, ready = asyncio.new_event_loop(), threading.Event()

        async def main():
            server = await serve_websocket(self.handle, "127.0.0.1", 0, compression=None, max_size=None)
            self.own = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            ready.set()

        def run():
            self.loop.run_until_complete(main())
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        assert ready.wait(10)

    async def handle(self, client):
        async with connect(self.address, compression=None, max_size=None) as server:
            await client.send(await server.recv())
            async for request in client:
                await server.send(request)
                self.replies.append(await server.recv())
                for index in self.order(len(self.replies) - 1):
                    await client.send(self.replies[index])


def test_replies_that_come_twice_or_again_later_are_not_taken_for_the_next_one(serve):
    orders = {
        "twice": lambda newest: [newest, newest],
        "all once more": lambda newest: range(newest + 1),
        "the one before, first": lambda newest: [max(newest - 1, 0), newest],
    }
    for name, order in orders.items():
        meddler = Meddler(serve().address, order)
        with RemotePolicy(meddler.own, timeout_s=30) as remote:
            for step in range(6):
                assert remote.infer(observation(step))[0, 0, 0] == step, name


def test_an_old_reply_in_place_of_the_new_one_is_an_error_in_time(serve):
    meddler = Meddler(serve().address, lambda newest: [0])
    with RemotePolicy(meddler.own, timeout_s=0.5) as remote:
        assert remote.infer(observation(1))[0, 0, 0] == 1
        fails_within(remote, 0.5, "did not answer in time")


# --- the robot ----------------------------------------------------------------------------------------------


class StandingRobot:
    """Takes targets and counts stops."""

    spec = Spec((STATE,), (ACTION,))

    def __init__(self):
        self.commands, self.stops = [], []

    def state(self):
        return now_ns(), {"robot0_state": np.zeros(4, np.float32)}

    def command(self, target, at_ns):
        self.commands.append(now_ns())
        return target

    def hold(self):
        pass

    def stop(self, reason):
        self.stops.append(now_ns())


class GreyCamera:
    spec = Spec((IMAGE,), ())

    def read(self):
        return now_ns(), {"camera0_rgb": np.full((24, 32, 3), 50, np.uint8)}


def test_a_robot_stops_when_its_server_is_killed_and_gets_no_command_after_that(serve):
    server, robot = serve(), StandingRobot()
    killed = []

    def kill():
        server.kill()
        killed.append(now_ns())

    with RemotePolicy(server.address, timeout_s=0.5) as remote:
        threading.Timer(1.0, kill).start()
        with pytest.raises(RemoteError, match="gave no answer within"):
            run_episode(robot, [GreyCamera()], remote, duration_s=60.0)
    assert robot.commands
    assert robot.commands[0] < killed[0] < robot.stops[-1]
    assert robot.commands[-1] < robot.stops[-1]
    # A chunk in flight, the time for an answer, a control step.
    assert robot.stops[-1] - killed[0] < (1.0 + 0.5 + 1.0 + SLACK_S) * 1e9


# --- a robot's computer without torch -----------------------------------------------------------------------

ROBOT_COMPUTER = """
import sys
import numpy as np

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.client import RemotePolicy
from robopolicy_drivers.client.connection import Connection
from robopolicy_drivers.runtime.executor import run_episode

class Robot:
    def __init__(self, spec):
        self.spec, self.commands = spec, []
    def state(self):
        return now_ns(), {key.key: np.zeros(key.shape, key.dtype) for key in self.spec.observation}
    def command(self, target, at_ns):
        self.commands.append(target)
        return target
    def hold(self):
        pass

with RemotePolicy(sys.argv[1], timeout_s=30) as policy:
    robot = Robot(policy.spec)
    report = run_episode(robot, [], policy, duration_s=2.0, seed=3)
    assert np.isfinite(robot.commands).all()
    print(report.actions, policy.weights_version)
"""


def tiny_policy(seed):
    import torch

    torch.manual_seed(seed)
    config = FlowConfig(horizon=8, action_steps=4, net="mlp", mlp=MlpConfig(width=32, blocks=1, embedding=16))
    policy = FlowPolicy(config, Spec((STATE,), (ACTION,)), 0.1)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 4)).astype(np.float32)
    windows = {
        "observation": {"robot0_state": np.stack([values, values], axis=1)},
        "action": rng.normal(size=(50, 8, 4)).astype(np.float32),
    }
    policy.fit_normalizer({"robot0_state": values}, windows)
    return policy


@contextlib.contextmanager
def served_by_the_command(*words):
    """Runs ``robopolicy serve``; gives the process and the address."""
    command = [sys.executable, "-m", "robopolicy_launch", "serve", *words, "port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        told = []
        while not told or (told[-1] and "ws://" not in told[-1]):  # what it logs comes first
            told.append(process.stdout.readline())
        assert told[-1], "".join(told)
        yield process, told[-1].split()[2]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return save_policy(tiny_policy(0), tmp_path / "policy", name="flow")


def test_a_robot_without_torch_and_mujoco_is_driven_by_a_server_with_torch(checkpoint):
    with served_by_the_command(f"checkpoint={checkpoint}") as (_, address):
        result = subprocess.run(
            [sys.executable, "-c", ROBOT_COMPUTER, address, "torch", "mujoco"],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr
    actions, version = map(int, result.stdout.split())
    assert actions > 0
    assert version == 1


def test_the_command_tells_a_port_in_use_in_one_line(checkpoint, serve):
    command = [sys.executable, "-m", "robopolicy_launch", "serve", str(checkpoint), f"port={serve().port}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "another server running" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_command_serves_what_the_checkpoint_gives_and_takes_new_weights_over(checkpoint):
    seen = {"robot0_state": np.full((2, 2, 4), 0.3, np.float32)}
    with (
        served_by_the_command(str(checkpoint)) as (process, address),
        RemotePolicy(address, timeout_s=60) as remote,
    ):
        expected = tiny_policy(0).infer(seen, seeds=[1, 2])
        np.testing.assert_allclose(remote.infer(seen, seeds=[1, 2]), expected, rtol=1e-4, atol=1e-4)
        save_policy(tiny_policy(5), checkpoint, name="flow")
        deadline = time.monotonic() + 60
        while remote.weights_version == 1:
            assert time.monotonic() < deadline
            remote.infer(seen, seeds=[1, 2])
        expected = tiny_policy(5).infer(seen, seeds=[1, 2])
        np.testing.assert_allclose(remote.infer(seen, seeds=[1, 2]), expected, rtol=1e-4, atol=1e-4)
        (checkpoint / "model.safetensors").write_bytes(b"damaged")  # told, and the old weights serve on
        time.sleep(2.5)
        np.testing.assert_allclose(remote.infer(seen, seeds=[1, 2]), expected, rtol=1e-4, atol=1e-4)
        process.send_signal(signal.SIGTERM)
        told = process.stdout.read()
        assert process.wait(30) == 0
    assert "version 2" in told
    assert "The weights stay as they are" in told
    assert told.splitlines()[-1] == "Stopped."
    assert "Traceback" not in told
