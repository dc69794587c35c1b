"""Cameras to test against, each in a process of its own."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EMULATORS = Path(__file__).parent.parent / "emulators"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def start():
    """Starts an emulator with a port and further arguments; returns the process and the port."""
    processes = []

    def begin(name, *arguments):
        port = free_port()
        command = [sys.executable, str(EMULATORS / name), str(port), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process, port

    yield begin
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def mjpeg(start):
    """A motion JPEG camera at 30 Hz (own emulator): its process and address."""
    process, port = start("mjpeg_server.py", 30)
    return process, f"http://127.0.0.1:{port}/"


@pytest.fixture
def rtsp(start):
    """An H.264 camera at 30 Hz behind a third party's RTSP server: its process and address."""
    pytest.importorskip("rtsp", reason="the RTSP server rtsp-rs is not installed")
    process, port = start("rtsp_server.py", 30)
    return process, f"rtsp://127.0.0.1:{port}/stream"
