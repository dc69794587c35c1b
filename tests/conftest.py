"""Settings and fixtures of all tests."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from robopolicy_datasets.errors import SimulationError
from robopolicy_sim.rendering import configure_gl

REPOSITORY = Path(__file__).resolve().parent.parent
HANG_S = 120.0  # with a process that hangs
FULL_COUNTS = os.environ.get("ROBOPOLICY_SOAK", "") not in ("", "0")

# MuJoCo reads MUJOCO_GL when it is first imported, so it is set before any test module is. Without a GL
# library the tests that draw fail one by one with that error; the others run.
with contextlib.suppress(SimulationError):
    configure_gl()

# The tests claim and stop robots in a folder of their own: never those that somebody runs here.
os.environ["ROBOPOLICY_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="robopolicy-tests-")
atexit.register(shutil.rmtree, os.environ["ROBOPOLICY_RUNTIME_DIR"], ignore_errors=True)

# A shell starts background jobs with interrupts ignored, which Python and its children take over; some tests
# interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test may depend on how fast the machine is: hypothesis' deadline is off.
hypothesis.settings.register_profile("default", deadline=None, max_examples=50)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("soak" if FULL_COUNTS else "default")


@pytest.fixture(scope="session")
def count() -> Callable[[int, int], int]:
    """``count(small, full)``: how often to repeat; ``full`` under ``make soak``."""
    return lambda small, full: full if FULL_COUNTS else small


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings: ``$ROBOPOLICY_SHARED_DATA``, else ``../shared/data``."""
    folder = Path(os.environ.get("ROBOPOLICY_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is missing (set ROBOPOLICY_SHARED_DATA)")
    return folder


MOUNT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


@pytest.fixture
def on_file_system() -> Callable[[str, Path], tuple[str, ...]]:
    """``on_file_system(options, folder)`` returns the words that run a command with a tmpfs at ``folder``."""
    return _on_file_system


def _on_file_system(options: str, folder: Path) -> tuple[str, ...]:
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, options, str(folder))
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this machine does not allow mounting in a user namespace")
    return prefix


class Screen:
    """An X server whose picture is a file, and hands that press its keys.

    Args:
        folder: for that file.

    Attributes:
        environment: of processes that show their windows there.
    """

    def __init__(self, folder):
        command = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]
        self._server = subprocess.Popen(
            [*command, "-fbdir", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._file = folder / "Xvfb_screen0"
        number = self._server.stdout.readline().strip()
        self.environment = {**os.environ, "DISPLAY": f":{number}"}
        for name in ("WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):  # gym-pusht asks for no screen
            self.environment.pop(name, None)
        self.empty = self.picture()

    def do(self, *words):
        """Lets xdotool press keys or move the mouse; both go to the window in the middle of the screen."""
        subprocess.run(["xdotool", *words], env=self.environment, check=True, timeout=60)

    def picture(self):
        return self._file.read_bytes()

    def wait_for(self, process, holds):
        """Waits until ``holds(picture)`` while a process runs; returns the picture."""
        patience = time.monotonic() + HANG_S
        while not holds(picture := self.picture()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < patience, "the picture does not become what was waited for"
            time.sleep(0.05)
        return picture

    def wait_for_changes(self, process, count):
        """Waits until the picture has changed ``count`` times."""
        picture = self.picture()
        for _ in range(count):
            last = picture
            picture = self.wait_for(process, lambda now, last=last: now != last)

    def close(self):
        self._server.terminate()
        self._server.communicate()


@pytest.fixture(scope="session")
def screen(tmp_path_factory):
    for tool in ("Xvfb", "xdotool"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install xvfb xdotool)")
    screen = Screen(tmp_path_factory.mktemp("screen"))
    yield screen
    screen.close()
