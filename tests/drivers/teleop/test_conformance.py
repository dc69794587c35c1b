"""All our teleoperation devices conform, and what does not is told."""

import json

import numpy as np
import pytest
from emulators.hid_puck import HidPuck
from practice_arm import PracticeArmConfig
from practice_leader import PracticeLeaderConfig

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.teleop.configs import ReplayConfig, SpaceMouseConfig
from robopolicy_drivers.teleop.conformance import check_teleop
from robopolicy_drivers.teleop.leader import LeaderTeleop
from robopolicy_drivers.teleop.replay import ReplayTeleop
from robopolicy_drivers.teleop.steered import SteeredTeleop

pytestmark = pytest.mark.realtime


@pytest.fixture
def arm(tmp_path):
    with Arm(PracticeArmConfig(folder=str(tmp_path))) as arm:
        yield arm


def test_a_steering_device_conforms(arm, tmp_path):
    puck = HidPuck(tmp_path)
    config = SpaceMouseConfig(path=str(puck.path))
    assert len(check_teleop(lambda robot: SteeredTeleop(config, robot), arm)) == 7
    puck.unplug()


def test_a_leader_conforms(arm, tmp_path, screen, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", screen.environment["DISPLAY"])
    place = {"joints": load_embodiment("ur5e").home_positions.tolist(), "width": 0.05}
    (tmp_path / "leader.json").write_text(json.dumps(place))
    config = PracticeLeaderConfig(port=str(tmp_path / "leader.json"))
    assert check_teleop(lambda robot: LeaderTeleop(config, robot), arm)


def test_a_replay_conforms(arm, tmp_path):
    action = arm.spec.action[0]
    store = DemoStore.create(tmp_path / "a.zarr", Spec((), (action,)), rate_hz=10)
    store.append_episode({"action": np.tile(np.float32([0.4, 0.1, 0.4, 0.1, 0.2, 0.3]), (5, 1))})
    config = ReplayConfig(store=str(store.path))
    assert check_teleop(lambda robot: ReplayTeleop(config, robot), arm)


class Careless:
    """Jumps, says what nobody knows, and does not notice that it is disconnected."""

    def __init__(self, robot):
        self.spec = Spec((), ())

    def connect(self):
        pass

    def close(self):
        pass

    def poll(self):
        return frozenset({"jump"})

    def let_go(self):
        pass

    def command(self, state, last):
        return np.full(6, np.nan)


def test_what_does_not_conform_is_told(arm):
    with pytest.raises(DeviceError, match="does not conform") as told:
        check_teleop(Careless, arm)
    for what in (
        "robot's action",
        "names of buttons",
        "finite targets",
        "the last one",
        "nothing was raised",
    ):
        assert what in str(told.value)
