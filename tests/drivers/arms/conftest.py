"""One emulated UR controller for all tests that leave it running."""

import pytest
from device_targets import wait_until
from ur_peer import EmulatedUr


@pytest.fixture(scope="session")
def running():
    with EmulatedUr(unlock_after=0.5) as controller:
        yield controller


@pytest.fixture
def controller(running):
    """The running controller, made well again."""
    for line in ("power_on", "normal", "remote", "speed 1", "force 0 0 0 0 0 0"):
        running.say(line)
    assert wait_until(lambda: running.asked("safetystatus").endswith("NORMAL"))
    return running
