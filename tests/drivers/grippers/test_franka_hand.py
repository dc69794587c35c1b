"""A Franka Hand through franky and libfranka, against franky-sim: a third party's protocol peer.

``emulators/franka_faults.py`` answers a motion that is stopped, as libfranka expects; franky-sim does not.
"""

import signal
import time
from contextlib import closing

import numpy as np
import pytest
from device_targets import wait_until
from franka_peer import franka_peer, own_host

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.grippers.franka_hand import FrankaHandConfig
from robopolicy_drivers.grippers.gripper import WIDTH, HostedGripper

pytest.importorskip("franky", reason="the extra 'franka' is not installed")
pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def peer():
    peer = franka_peer()
    yield peer
    peer.close()


def width(hand):
    return float(hand.state()[1][WIDTH][0])


def go(hand, opening):
    hand.command(np.array([opening]), now_ns())


def test_it_conforms(peer):
    assert check_driver(lambda: HostedGripper(FrankaHandConfig(host=peer.host)))


def test_openings_are_reached_also_when_it_has_to_turn_back(peer):
    with HostedGripper(FrankaHandConfig(host=peer.host)) as hand:
        go(hand, 0.07)
        assert wait_until(lambda: abs(width(hand) - 0.07) < 2e-3)
        go(hand, 0.01)
        assert wait_until(lambda: width(hand) < 0.06)
        go(hand, 0.08)
        assert wait_until(lambda: abs(width(hand) - 0.08) < 2e-3)
        assert not hand.safety_events()


def test_a_stop_halts_moving_fingers(peer):
    with HostedGripper(FrankaHandConfig(host=peer.host)) as hand:
        go(hand, 0.08)
        assert wait_until(lambda: width(hand) > 0.078)
        go(hand, 0.0)
        assert wait_until(lambda: width(hand) < 0.06)
        hand.stop("enough")
        time.sleep(0.5)
        rest = width(hand)
        assert rest > 0.01
        time.sleep(0.3)
        assert abs(width(hand) - rest) < 1e-3
        hand.release()
        go(hand, 0.08)
        assert wait_until(lambda: width(hand) > 0.078)


def test_it_homes_where_that_is_asked_for(peer):
    with HostedGripper(FrankaHandConfig(host=peer.host, homing=True)) as hand:
        assert width(hand) >= 0.0


def test_a_hand_that_is_not_there_is_told():
    with pytest.raises(DeviceError, match="refuses the connection"):
        HostedGripper(FrankaHandConfig(host=own_host())).connect()


def test_a_killed_controller_ends_the_run(peer, reaction):
    def fails():
        try:
            hand.state()
        except DeviceError as error:
            return "is lost" in str(error)
        return False

    with HostedGripper(FrankaHandConfig(host=peer.host)) as hand:
        peer.send(signal.SIGKILL)
        reaction("a killed controller of a hand (error)", fails)


@pytest.mark.parametrize(("settings", "words"), [({"speed": 1.0}, "m/s"), ({"force": 200.0}, "N")])
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        FrankaHandConfig(**settings)


def test_what_was_wanted_during_a_motion_that_fails_waits_for_the_release(monkeypatch):
    """The hand is a few lines of Python here: no peer's fingers jam."""
    import franky

    from robopolicy_drivers.grippers.franka_hand_link import FrankaHandLink

    class JammingHand:
        width, moves = 0.04, []

        def __init__(self, host):
            pass

        def move(self, width, speed):
            self.moves.append(width)
            time.sleep(0.2)
            if len(self.moves) == 1:
                raise franky.CommandException("the fingers are jammed")
            return True

    monkeypatch.setattr(franky, "Gripper", JammingHand)
    with closing(FrankaHandLink(FrankaHandConfig())) as link:
        link.open()
        link.send(0.08)
        assert wait_until(lambda: JammingHand.moves)
        link.send(0.02)  # while the first motion goes on
        assert wait_until(link.fault)
        time.sleep(0.3)
        assert JammingHand.moves == [0.08]
        link.recover()
        assert not link.fault()
        link.send(0.06)
        assert wait_until(lambda: len(JammingHand.moves) > 1)
        assert JammingHand.moves[1] == 0.06
