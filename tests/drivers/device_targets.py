"""What the tests run in device processes, and how they watch them."""

import atexit
import os
import signal
import time
from pathlib import Path

import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Ring

HAMMER_FEATURES = (
    Feature("counter", (), "int64"),
    Feature("vector", (300,), "float64"),
    Feature("flag", (1,), "bool"),
)


def start_hammer():
    ring = Ring(HAMMER_FEATURES, 4)
    process = DeviceProcess("device_targets:hammer", {}, name="writer", rings={"ring": ring})
    process.start()
    return ring, process


def hammer(channel):
    """Writes as fast as it can."""
    ring = channel.rings["ring"]
    count = ring.latest
    flag, ready = np.array([True]), False
    while not channel.closing:
        count += 1
        ring.write(count, {"counter": np.int64(count), "vector": np.full(300, count), "flag": flag})
        if not ready:
            channel.ready()
            ready = True
        if count % 100 == 0:
            channel.messages()


def echo(channel, greeting):
    """Answers messages at 200 Hz; knows how to fail in several ways."""
    loop = DeadlineLoop(200.0, channel.statistics, channel.sections)
    section, notes = channel.sections.section("messages"), []
    channel.ready(greeting)
    while not channel.closing:
        loop.wait()
        with section:
            for message in channel.messages():
                _answer(message, notes)


def _answer(message, notes):
    if message.name == "echo":
        message.reply(message.payload)
    elif message.name == "note":
        notes.append(message.payload)
    elif message.name == "notes":
        message.reply(notes)
    elif message.name == "sleep":
        time.sleep(message.payload)
    elif message.name == "sleep and reply":
        message.reply(time.sleep(message.payload))
    elif message.name == "fail":
        raise ValueError(message.payload)
    elif message.name == "refuse":
        raise DeviceError(message.payload)
    elif message.name == "exit":
        os._exit(3)
    else:
        message.refuse(f"unknown: {message.name}")


def never_ready(channel):
    while not channel.closing:
        channel.messages()
        time.sleep(0.01)


def deaf(channel):
    """Ignores that it should end."""
    channel.ready()
    begin = now_ns()
    while now_ns() - begin < 60e9:
        time.sleep(0.05)


def ready_without_parent(channel):
    """Becomes ready when its parent has just been killed."""
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: os.getppid() != parent)
    channel.ready()


def fail_at_once(channel):
    raise DeviceError("The cable is not plugged in.")


def count(channel, rate_hz):
    """Writes a counter at a rate, with the time of each record, to every feature of its ring."""
    loop, ring, number = DeadlineLoop(rate_hz, channel.statistics), channel.rings["ring"], 0
    channel.ready()
    while not channel.closing:
        loop.wait()
        number += 1
        data = {f.key: np.full(f.shape, number % 250, f.dtype) for f in ring.features}
        ring.write(now_ns(), data)
        for message in channel.messages():
            message.reply(number)


class JumpingSource:
    """A sensor at 100 Hz; after 20 samples its clock jumps by ``jump_ns``, or, by 0, it falls silent."""

    def __init__(self, jump_ns):
        self.jump_ns, self.number = jump_ns, 0

    def open(self): ...

    def read(self):
        time.sleep(0.01)
        self.number += 1
        if self.number > 20 and not self.jump_ns:
            return None
        return now_ns() + (self.jump_ns if self.number > 20 else 0), {"x": np.array(self.number)}

    def close(self): ...


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


def fails(process, ask=None) -> bool:
    try:
        (ask or process.check)()
    except DeviceError:
        return True
    return False


def wait_until(condition, timeout_s: float = 20.0, pause_s: float = 0.01) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause_s)
    return False


def slow_to_exit(channel):
    """Fails at once, and exits long after it has said so."""
    atexit.register(time.sleep, 30.0)
    channel.ready()
    raise DeviceError("Its cable is cut.")


def stoppable(channel):
    """Notes every stop that it is told, at 200 Hz."""
    loop, stops = DeadlineLoop(200.0, channel.statistics), []
    answers = {"stop": stops.append, "stops": lambda _: stops}
    channel.ready()
    while not channel.closing:
        loop.wait()
        for message in channel.messages():
            message.reply(answers[message.name](message.payload))
