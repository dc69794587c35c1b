"""The server and its clients over loopback, each server in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_server import ACTION, FAIL, IMAGE, NAN, SLEEP, STATE, TellingPolicy, observation
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from robopolicy.serving.configs import ServerConfig
from robopolicy.serving.server import PolicyServer
from robopolicy.serving.worker import InferenceWorker, Job, PolicyFailedError
from robopolicy_datasets.errors import ConfigError, RemoteError, UnknownNameError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.client import OpenpiPolicy, RemotePolicy
from robopolicy_drivers.client.wire import pack, unpack
from robopolicy_drivers.interfaces import Prefix, TakesPrefix

TOKEN = "0123456789abcdef0123"


@contextlib.contextmanager
def raw_connection(address, **options):
    """A WebSocket that has read the greeting."""
    with connect(address, compression=None, **options) as socket_:
        unpack(socket_.recv(timeout=10), most_bytes=1 << 20)
        yield socket_


def ask(socket_, message):
    socket_.send(message if isinstance(message, bytes | str) else pack(message))
    return socket_.recv(timeout=10)


def one(**changes):
    return {key: value[0] for key, value in observation(1, 2).items()} | changes


# --- the same as a local policy -----------------------------------------------------------------------------


def test_a_remote_policy_is_the_policy_that_is_served(serve):
    local = TellingPolicy()
    with RemotePolicy(serve().address) as remote:
        for name in ("spec", "observation_steps", "action_steps", "dt"):
            assert getattr(remote, name) == getattr(local, name)
        remote.reset()
        seen = observation(3, 4, rows=3) | {"robot0_further": np.zeros((3, 2, 1))}
        seen["robot0_state"][1:] += 5
        np.testing.assert_array_equal(remote.infer(seen), local.infer(seen))
        seeds = [5, 2**62, 7]
        np.testing.assert_array_equal(remote.infer(seen, seeds=seeds), local.infer(seen, seeds=seeds))
        assert remote.weights_version == 1
        assert {"round_trip_ms", "infer_ms", "wait_ms", "total_ms"} <= set(remote.timing)


def test_images_travel_as_jpeg_where_that_is_asked_for(serve):
    server = serve()
    rows, columns = np.mgrid[:24, :32]
    seen = observation(1)
    seen["camera0_rgb"][:] = np.stack([rows * 8, columns * 6, rows + columns], axis=-1)
    found = {}
    for images in ("auto", "raw", "jpeg"):
        with RemotePolicy(server.address, images=images) as remote:
            found[images] = remote.infer(seen)[0, 0, 3]
    exact = seen["camera0_rgb"].mean()
    assert found["auto"] == found["raw"] == exact  # this machine: no need to compress
    assert found["jpeg"] != exact
    assert found["jpeg"] == pytest.approx(exact, abs=2)


def test_a_prefix_reaches_the_policy_of_the_robot_that_sent_it_only(serve):
    server, start = serve(batch_window_s=0.2), threading.Barrier(3)

    def robot(index):
        prefix = Prefix(np.full((3, 4), 10.0 * index), frozen=2) if index else None
        with RemotePolicy(server.address, timeout_s=30) as remote:
            assert isinstance(remote, TakesPrefix)
            assert remote.takes_prefix
            start.wait(30)
            return remote.infer(observation(0.5), seeds=[0], prefix=prefix)[0, :4, 0].tolist()

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(robot, range(3)))
    assert answers == [[0.5, 1.5, 2.5, 3.5], [10, 10, 2.5, 3.5], [20, 20, 2.5, 3.5]]


def test_a_prefix_goes_to_servers_only_that_take_it(serve):
    server = serve(takes_prefix=False)
    with RemotePolicy(server.address) as remote:
        assert not remote.takes_prefix
        with pytest.raises(ConfigError, match="takes no prefix"):
            remote.infer(observation(1), prefix=Prefix(np.zeros((1, 4)), 0))
    with raw_connection(server.address) as socket_:
        prefix = {"actions": np.zeros((1, 4)), "frozen": 0}
        assert "does not take" in ask(socket_, one(robopolicy={"prefix": prefix}))


@pytest.mark.parametrize(
    "prefix",
    [
        3,
        {},
        {"actions": np.zeros((1, 4))},
        {"actions": np.zeros((1, 5)), "frozen": 0},
        {"actions": np.zeros(4), "frozen": 0},
        {"actions": np.full((1, 4), np.nan), "frozen": 0},
        {"actions": [[0.0] * 4], "frozen": 0},
        {"actions": np.zeros((1, 4)), "frozen": -1},
        {"actions": np.zeros((1, 4)), "frozen": 0.5},
    ],
)
def test_a_prefix_that_cannot_be_used_is_told(lasting, prefix):
    with raw_connection(lasting.address) as socket_:
        assert "prefix cannot be used" in ask(socket_, one(robopolicy={"prefix": prefix}))


def test_what_is_wrong_with_a_call_is_told_before_anything_is_sent(serve):
    server = serve()
    with RemotePolicy(server.address) as remote:
        with pytest.raises(RemoteError, match="lacks robot0_state"):
            remote.infer({"camera0_rgb": np.zeros((1, 2, *IMAGE.shape), np.uint8)})
        with pytest.raises(ConfigError, match="2 seeds for 1"):
            remote.infer(observation(1), seeds=[1, 2])
        assert remote.infer(observation(1)).shape == (1, 8, 4)
    for words in ({"images": "jpg"}, {"timeout_s": 0}, {"jpeg_quality": 101}):
        with pytest.raises((ConfigError, UnknownNameError)):
            RemotePolicy(server.address, **words)
    for address in ("127.0.0.1:8000", "http://127.0.0.1:8000", "ws://127.0.0.1", "ws://:8000", "ws://a:b"):
        with pytest.raises(ConfigError, match="no address"):
            RemotePolicy(address)
    with pytest.raises(ConfigError, match="in clear"):
        RemotePolicy("ws://192.168.0.1:8000", token=TOKEN)


def test_the_servers_own_errors_reach_the_caller_and_the_server_goes_on(serve):
    server = serve()
    with RemotePolicy(server.address) as remote:
        for order, told in ((FAIL, "ValueError: the net fell apart"), (NAN, "not finite")):
            with pytest.raises(RemoteError, match=told) as caught:
                remote.infer(observation(order))
            assert "Traceback" not in str(caught.value)
        with pytest.raises(RemoteError, match="NaN"):
            remote.infer(observation(np.nan))
        assert remote.infer(observation(2))[0, 0, 0] == 2


# --- openpi's own client and server -------------------------------------------------------------------------


def test_an_unmodified_openpi_client_is_served(serve, tmp_path):
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    (tmp_path / "token").write_text(TOKEN)
    server = serve(token_file=str(tmp_path / "token"))
    policy = client.WebsocketClientPolicy("127.0.0.1", server.port, api_key=TOKEN)
    assert policy.get_server_metadata()["robopolicy"]["observation_steps"] == 2
    for number in (4.0, 5.0):
        reply = policy.infer(one(robot0_state=np.full((2, 4), number)))
        assert reply["actions"].shape == (8, 4)
        assert reply["actions"][3, 0] == number + 3
        assert reply["server_timing"]["infer_ms"] >= 0
    with pytest.raises(RuntimeError, match="lacks 'robot0_state'"):
        policy.infer({"camera0_rgb": np.zeros((2, *IMAGE.shape), np.uint8)})


OPENPI_SERVER = """
import socket, sys, threading, time
import numpy as np
from openpi_client.base_policy import BasePolicy
from openpi_server import WebsocketPolicyServer

class Policy(BasePolicy):
    def infer(self, obs):
        if obs["observation/state"][0] < 0:
            raise ValueError("negative")
        time.sleep(float(obs["observation/state"][1]))
        return {"actions": np.outer(np.arange(1.0, 6.0), obs["observation/state"]), "said": obs["prompt"]}
    def reset(self):
        pass

port = int(sys.argv[1])
print("here", flush=True)
WebsocketPolicyServer(Policy(), "127.0.0.1", port, {"of": "openpi"}).serve_forever()
"""


@pytest.fixture
def openpi_server():
    """The port of openpi's own server, in a process."""
    pytest.importorskip("openpi_server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", OPENPI_SERVER, str(port)], stderr=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


def openpi_policy(port, **options):
    names = {"camera0_rgb": "observation/image", "robot0_state": "observation/state"}
    return OpenpiPolicy(
        f"ws://127.0.0.1:{port}",
        Spec((IMAGE, STATE), (ACTION,)),
        names,
        dt=0.1,
        action_steps=4,
        constants={"prompt": "pick up the cube"},
        connect_timeout_s=30,
        **options,
    )


def test_an_unmodified_openpi_server_serves_our_client(openpi_server):
    seen = {key: value[:, -1:] for key, value in observation(2, 0, rows=2).items()}
    with openpi_policy(openpi_server) as policy:
        assert policy.metadata == {"of": "openpi"}
        actions = policy.infer(seen)
        np.testing.assert_array_equal(actions[1], np.outer(np.arange(1.0, 6.0), [2, 0, 0, 0]))
        assert policy.timing["infer_ms"] >= 0
        seen["robot0_state"][:] = -1
        with pytest.raises(RemoteError, match="negative"):
            policy.infer(seen)
        seen["robot0_state"][:] = 0
        assert not policy.infer(seen).any()  # on a new connection
    with pytest.raises(RemoteError, match="OpenpiPolicy"):
        RemotePolicy(f"ws://127.0.0.1:{openpi_server}")


def test_a_late_answer_of_an_openpi_server_is_not_taken_for_the_next_one(openpi_server):
    def seen(*state):
        return {key: value[:, -1:] for key, value in observation(*state).items()}

    with openpi_policy(openpi_server, timeout_s=0.5) as policy:
        policy.infer(seen(1, 0))
        with pytest.raises(RemoteError, match="no answer within"):
            policy.infer(seen(7, 1.0))
        for _ in range(20):  # the server infers in its event loop: it answers again when it is done
            with contextlib.suppress(RemoteError):
                assert policy.infer(seen(3, 0))[0, 0, 0] == 3
                break
        else:
            pytest.fail("the server did not come back")


def test_the_mapping_to_an_openpi_server_must_be_whole():
    with pytest.raises(ConfigError, match="robot0_state"):
        OpenpiPolicy(
            "ws://127.0.0.1:1", Spec((IMAGE, STATE), (ACTION,)), {"camera0_rgb": "x"}, dt=1, action_steps=1
        )


# --- several robots, and new weights ------------------------------------------------------------------------


def test_robots_that_ask_together_share_an_inference_and_get_their_own_answers(serve):
    server, robots = serve(batch_window_s=0.2), 5
    start = threading.Barrier(robots)

    def robot(index):
        with RemotePolicy(server.address, timeout_s=30) as remote:
            start.wait(30)
            return [remote.infer(observation(index, step), seeds=[index])[0, 0] for step in range(4)]

    with ThreadPoolExecutor(robots) as pool:
        answers = list(pool.map(robot, range(robots)))
    for index, rows in enumerate(answers):
        assert [row[:3].tolist() for row in rows] == [[index, step, index] for step in range(4)]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(raw_connection(server.address)) for _ in range(3)]
        for socket_ in sockets:
            socket_.send(pack(one()))
        replies = [unpack(socket_.recv(timeout=10), most_bytes=1 << 20) for socket_ in sockets]
        assert max(reply["robopolicy"]["rows"] for reply in replies) > 1


def test_a_robot_with_a_wrong_message_does_not_spoil_the_batch_of_the_others(serve):
    server = serve(batch_window_s=0.5)
    with raw_connection(server.address) as good, raw_connection(server.address) as bad:
        bad.send(pack(one(robot0_state=np.zeros(3))))
        reply = ask(good, one())
        assert unpack(reply, most_bytes=1 << 20)["actions"].shape == (8, 4)
        assert "robot0_state" in bad.recv(timeout=10)


@pytest.mark.parametrize(("order", "told"), [(FAIL, "the net fell apart"), (NAN, "not finite")])
def test_a_robot_whose_numbers_the_policy_cannot_take_does_not_spoil_the_batch_of_the_others(
    serve, order, told
):
    server = serve(batch_window_s=0.5)
    for _ in range(2):  # and it goes on
        with raw_connection(server.address) as good, raw_connection(server.address) as bad:
            bad.send(pack({key: value[0] for key, value in observation(order).items()}))
            reply = ask(good, one())
            assert isinstance(reply, bytes), reply
            assert unpack(reply, most_bytes=1 << 20)["actions"].shape == (8, 4)
            assert told in bad.recv(timeout=10)


@pytest.mark.parametrize("dtype", [np.longdouble, np.complex128, object])
def test_a_policy_that_gives_no_numbers_fails_and_the_thread_goes_on(dtype):
    class Odd(TellingPolicy):
        def infer(self, observation, *, seeds=None, prefix=None):
            return super().infer(observation).astype(dtype)

    worker, answers = InferenceWorker(Odd(), batch_window_s=0.0, most_rows=4), queue.SimpleQueue()
    for _ in range(2):
        worker.submit(Job(pack(one()), answers.put))
        assert isinstance(answers.get(timeout=10), PolicyFailedError)
    worker.close()


def test_weights_change_between_chunks_and_replies_tell_which_they_are_from(serve):
    server = serve()
    with RemotePolicy(server.address) as remote:
        for version in (1, 2, 3):
            deadline = time.monotonic() + 20
            while remote.infer(observation(1))[0, 0, 2] != version - 1:
                assert time.monotonic() < deadline
            assert remote.weights_version == version
            os.kill(server.process.pid, signal.SIGUSR1)
    assert server.alive()


def test_another_policy_is_not_swapped_in():
    server = PolicyServer(TellingPolicy(), ServerConfig(port=0))
    other = TellingPolicy(spec=Spec((STATE,), (ACTION,)))
    other.dt, other.takes_prefix = 1.0, False
    with pytest.raises(ConfigError, match="another spec, dt, takes_prefix"):
        server.swap(other)
    assert server.swap(TellingPolicy()) == 2


# --- who may come in ----------------------------------------------------------------------------------------


def fetch(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as response:
        return response.status, response.read()


def test_healthz_needs_no_token(serve, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    server = serve(token_file=str(tmp_path / "token"))
    assert fetch(server, "/healthz") == (200, b"OK\n")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(server, "/")


def test_healthz_tells_of_an_inference_that_does_not_end(monkeypatch):
    monkeypatch.setattr("robopolicy.serving.server.STUCK_S", 0.1)

    async def main():
        server, address = PolicyServer(TellingPolicy(), ServerConfig(port=0)), asyncio.Future()
        serving = asyncio.create_task(server.run(address.set_result))
        url = (await address).replace("ws:", "http:") + "/healthz"
        async with connect_async(await address) as socket_:
            await socket_.recv()
            await socket_.send(pack(one(robot0_state=np.array([[SLEEP, 2.0, 0, 0]] * 2))))
            await asyncio.sleep(1.0)
            with pytest.raises(urllib.error.HTTPError, match="503"):
                await asyncio.to_thread(urllib.request.urlopen, url, timeout=10)
            await socket_.recv()
            response = await asyncio.to_thread(urllib.request.urlopen, url, timeout=10)
            assert response.status == 200
            response.close()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    asyncio.run(main())


def test_the_token_is_asked_for(serve, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    server = serve(token_file=str(tmp_path / "token"))
    begins = time.monotonic()
    for token in ("", TOKEN[:-1], TOKEN + "x"):
        with pytest.raises(RemoteError, match="token is missing or wrong"):
            RemotePolicy(server.address, token=token, connect_timeout_s=60)
    assert time.monotonic() - begins < 60  # a refusal is final: nothing is tried again
    with RemotePolicy(server.address, token=TOKEN) as remote:
        assert remote.infer(observation(1)).shape == (1, 8, 4)


@pytest.fixture
def certificate(tmp_path):
    """Makes a certificate for 127.0.0.1 that no authority has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    files = [str(tmp_path / name) for name in ("server.pem", "server.key")]
    subprocess.run(
        [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=policy",
            ],
            *["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_tls_with_a_certificate_that_the_client_knows(serve, tmp_path, certificate):
    (tmp_path / "token").write_text(TOKEN)
    server = serve(
        host="0.0.0.0", token_file=str(tmp_path / "token"), certificate=certificate[0], key=certificate[1]
    )
    address = f"wss://127.0.0.1:{server.port}"
    with RemotePolicy(address, token=TOKEN, certificate=certificate[0]) as remote:
        assert remote.infer(observation(6))[0, 0, 0] == 6
    with pytest.raises(RemoteError, match="not trusted"):
        RemotePolicy(address, token=TOKEN)
    with pytest.raises(RemoteError, match="not trusted"):
        RemotePolicy(f"wss://localhost:{server.port}", token=TOKEN, certificate=certificate[0])
    with pytest.raises(RemoteError, match=f"127.0.0.1:{server.port}"):
        RemotePolicy(f"ws://127.0.0.1:{server.port}", connect_timeout_s=1)
    with pytest.raises(ConfigError, match="no file"):
        RemotePolicy(address, certificate=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="no certificate"):
        RemotePolicy(address, certificate=str(tmp_path / "token"))
    trust = ssl.create_default_context(cafile=certificate[0])
    with urllib.request.urlopen(f"https://127.0.0.1:{server.port}/healthz", context=trust) as response:
        assert response.status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "robot.local", "127.evil.com"])
def test_other_machines_are_let_in_with_token_and_tls_only(host, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    for given_ in ({}, {"token_file": str(tmp_path / "token")}, {"certificate": "a", "key": "b"}):
        with pytest.raises(ConfigError, match="token_file, certificate and key"):
            PolicyServer(TellingPolicy(), ServerConfig(host=host, **given_))


@pytest.mark.parametrize("content", ["", "short", "two words of enough length", "ä" * 20])
def test_a_weak_token_is_refused(content, tmp_path):
    (tmp_path / "token").write_text(content)
    with pytest.raises(ConfigError, match="openssl rand"):
        PolicyServer(TellingPolicy(), ServerConfig(token_file=str(tmp_path / "token")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"most_connections": 0},
        {"idle_s": 0},
        {"batch_window_s": -1},
        {"token_file": "/nowhere"},
        {"certificate": "a"},
        {"certificate": "/nowhere", "key": "/nowhere"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        PolicyServer(TellingPolicy(), ServerConfig(**wrong))


def test_a_port_in_use_is_told(serve):
    server = serve()
    with pytest.raises(AssertionError, match="another server running"):
        serve(port=server.port)


def test_a_web_page_in_a_browser_of_this_machine_gets_nothing(serve):
    with pytest.raises(InvalidStatus, match="403"), raw_connection(serve().address, origin="http://evil.com"):
        pass


# --- clients that are too large, too many, too fast, too slow or mad ----------------------------------------


def test_a_message_that_is_too_large_ends_the_connection(serve):
    server = serve()
    with raw_connection(server.address) as socket_:
        with pytest.raises(ConnectionClosed):
            ask(socket_, bytes(1 << 20))
        assert socket_.close_code == 1009
    with RemotePolicy(server.address, timeout_s=60) as remote:
        begins = time.monotonic()
        with pytest.raises(RemoteError, match="too large for it"):
            remote.infer(observation(1) | {"robot0_state": np.zeros((1, 2, 100_000))})
        assert time.monotonic() - begins < 60  # nothing is tried again
    assert fetch(server, "/healthz")[0] == 200


def test_a_robot_too_many_is_refused_and_served_when_there_is_room(serve):
    server = serve(most_connections=2)
    with RemotePolicy(server.address), RemotePolicy(server.address) as second:
        with pytest.raises(RemoteError, match="2 connections"):
            RemotePolicy(server.address, connect_timeout_s=0.5)
        threading.Timer(0.3, second.close).start()
        with RemotePolicy(server.address, connect_timeout_s=30) as third:
            assert third.infer(observation(1)).shape == (1, 8, 4)


def test_a_robot_that_asks_too_fast_waits(serve):
    with RemotePolicy(serve(most_requests_hz=20.0).address) as remote:
        begins = time.monotonic()
        for _ in range(11):
            remote.infer(observation(1))
        assert time.monotonic() - begins >= 10 / 20


def test_an_idle_connection_is_closed_and_made_again_when_needed(serve):
    server = serve(idle_s=0.2)
    with RemotePolicy(server.address) as remote, raw_connection(server.address) as socket_:
        with pytest.raises(ConnectionClosed):
            socket_.recv(timeout=30)
        assert remote.infer(observation(5))[0, 0, 0] == 5


def test_clients_that_never_finish_what_they_begin_are_closed(serve):
    server = serve(slow_s=0.3)
    beginnings = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"]
    for beginning in beginnings:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            slow.sendall(beginning)
            with contextlib.suppress(ConnectionResetError):
                while slow.recv(1024):
                    pass
    with raw_connection(server.address, ping_interval=None) as socket_:
        # The head of a long message, and nothing more: no answer to a ping can follow it.
        socket_.socket.sendall(bytes([0x82, 0xFE, 0x10, 0, 1, 2, 3, 4]))
        with pytest.raises(ConnectionClosed):
            socket_.recv(timeout=30)
    assert fetch(server, "/healthz")[0] == 200


def test_a_client_that_takes_no_replies_is_closed(serve):
    server = serve(slow_s=0.5, most_requests_hz=1e6)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as deaf:
        deaf.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        body = pack(one())
        frame = bytes([0x82, 0xFE]) + len(body).to_bytes(2, "big") + bytes(4) + body  # masked with zeros

        def send_on():
            for _ in range(1_000_000):
                deaf.sendall(frame)

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_on()
    with RemotePolicy(server.address) as remote:
        assert remote.infer(observation(1)).shape == (1, 8, 4)


MAD = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100),
    st.dictionaries(
        st.sampled_from(["camera0_rgb", "robot0_state", "robopolicy", "x"]),
        st.one_of(
            st.none(),
            st.integers(-(2**63), 2**64 - 1),
            st.floats(),
            st.text(max_size=5),
            st.lists(st.floats(), max_size=4),
            st.dictionaries(st.sampled_from(["seed", "number", "x"]), st.integers() | st.text(), max_size=3),
            st.sampled_from([(2, 4), (4,), (2, 24, 32, 3), ()]).map(lambda shape: np.zeros(shape, np.int8)),
        ),
        max_size=4,
    ).filter(lambda message: not any(_large(value) for value in message.values())),
)


def _large(value):
    return isinstance(value, dict) and any(
        type(x) is int and not -(2**63) <= x < 2**64 for x in value.values()
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MAD)
def test_whatever_a_client_sends_it_gets_an_error_text_and_the_server_lives(lasting, message):
    with raw_connection(lasting.address) as socket_:
        reply = ask(socket_, message)
        assert isinstance(reply, str)
        with pytest.raises(ConnectionClosed):
            socket_.recv(timeout=10)
    assert lasting.alive()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_whatever_bytes_come_at_the_port_the_server_lives(lasting, data, upgraded):
    with socket.create_connection(("127.0.0.1", lasting.port), timeout=30) as mad:
        if upgraded:
            mad.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
        mad.sendall(data)
    assert lasting.alive()
    with RemotePolicy(lasting.address) as remote:
        assert remote.infer(observation(1)).shape == (1, 8, 4)


def test_a_client_that_vanishes_in_the_middle_of_its_inference_is_forgotten(serve):
    server = serve()
    for _ in range(5):
        with raw_connection(server.address) as socket_:
            socket_.send(pack(one(robot0_state=np.array([[SLEEP, 0.1, 0, 0]] * 2))))
            socket_.socket.shutdown(socket.SHUT_RDWR)
    with RemotePolicy(server.address, timeout_s=30) as remote:
        assert remote.infer(observation(9))[0, 0, 0] == 9
    assert server.alive()
