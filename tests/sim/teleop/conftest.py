"""A screen of the tests' own, and hands that press its keys."""

import os
import shutil
import subprocess
import time

import pytest

PATIENCE = 120.0  # [s] with a process that hangs


class Screen:
    """An X server whose picture is a file.

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
        patience = time.monotonic() + PATIENCE
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
