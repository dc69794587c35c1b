"""The window tells which keys are held, misses no tap, and says so where there is no screen."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.teleop.window import SIZE, Window

pytestmark = pytest.mark.realtime

PATIENCE = 120.0  # [s] with a window that does not tell what it should
TARGET = str(Path(__file__).with_name("window_target.py"))


@pytest.fixture
def window(screen):
    command = [sys.executable, TARGET]
    process = subprocess.Popen(
        command, env=screen.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    screen.wait_for(process, lambda picture: picture != screen.empty)
    patience = threading.Timer(PATIENCE, process.kill)  # ends the reading of its lines
    patience.start()
    yield process
    patience.cancel()
    process.kill()
    process.communicate()


def lines_until(window, wanted):
    """Returns what the window tells up to the first line that is as wanted."""
    lines = []
    while not lines or not wanted(lines[-1]):
        text = window.stdout.readline()
        assert text, window.communicate()
        lines.append(json.loads(text))
    return lines


def test_keys_are_held_until_they_come_up(screen, window):
    screen.do("keydown", "w")
    lines_until(window, lambda line: line["held"] == ["w"])
    screen.do("key", "space", "Prior")
    taps = lines_until(window, lambda line: "page up" in line["pressed"])
    assert any("space" in line["pressed"] for line in taps)
    assert all(set(line["pressed"]) <= set(line["held"]) for line in taps)  # however short the tap
    assert all("w" in line["held"] and "w" not in line["pressed"] for line in taps)
    screen.do("keydown", "shift", "keydown", "a")
    lines_until(window, lambda line: {"left shift", "a", "w"} <= set(line["held"]))
    screen.do("keyup", "w", "keyup", "a", "keyup", "shift")
    lines_until(window, lambda line: line["held"] == [])
    screen.do("key", "Escape")
    assert window.wait(60) == 0


def test_a_dragged_mouse_is_measured_in_heights_of_the_picture(screen, window):
    screen.do("mousemove", "400", "300", "mousemove", "390", "300")  # without a button: nothing
    screen.do("mousedown", "1", "mousemove", "438", "276", "mouseup", "1", "key", "p")
    lines = lines_until(window, lambda line: "p" in line["pressed"])
    drag = [sum(line["drag"][axis] for line in lines) for axis in (0, 1)]
    assert drag == pytest.approx([48 / SIZE[1], -24 / SIZE[1]])


def test_without_a_display_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeviceError, match=r"needs a screen.*neither DISPLAY.*teleop=scripted"):
        Window("none")


def test_a_display_that_does_not_answer_is_no_screen():
    environment = {**os.environ, "DISPLAY": ":98765"}
    environment.pop("WAYLAND_DISPLAY", None)
    result = subprocess.run([sys.executable, TARGET], env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert "DeviceError: teleop=keyboard needs a screen" in result.stderr


def test_without_pygame_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['pygame'] = None; "
        "from robopolicy_drivers.teleop.window import Window; Window('none')"
    )
    environment = {**os.environ, "DISPLAY": ":98765"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "MissingExtraError: teleop=keyboard needs the extra 'keyboard'" in result.stderr
