"""Recorded episodes are driven once more: slowly to their beginning, then at their pace, and nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SpecError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import EpisodeInfo
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.teleop import approach, replay
from robopolicy_drivers.teleop.configs import Button, ReplayConfig
from robopolicy_drivers.teleop.replay import ReplayTeleop

ACTION = Feature("action", (7,), kind="pose_width", unit="m, rad", frame="world")
RATE_HZ, TICK_NS = 10.0, 20_000_000


@dataclass
class Disconnected:
    """A robot of which only what it takes is known."""

    spec: Spec


ROBOT = Disconnected(Spec((), (ACTION,)))


@pytest.fixture
def store(tmp_path):
    """Two episodes: to the left and successful; upwards, and a failure."""
    seen = Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="world")
    store = DemoStore.create(tmp_path / "a.zarr", Spec((seen,), (ACTION,)), rate_hz=RATE_HZ)
    for axis, success in ((1, True), (2, False)):
        action = np.tile(np.float32([0.4, 0.0, 0.3, 0.1, 0.2, 0.3, 0.08]), (12, 1))
        action[:, axis] += 0.01 * np.arange(12)
        action[6:, 6] = 0.0
        store.append_episode(
            {"robot0_eef_pos": action[:, :3], "action": action}, EpisodeInfo(success=success)
        )
    return store


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns on."""

    class Clock:
        now = 10**12

    for module in (approach, replay):
        monkeypatch.setattr(module, "now_ns", lambda: Clock.now)
    return Clock


def played(teleop, clock, last, until):
    """Lets a robot follow at once until a button is pressed; returns all targets, and those presses."""
    targets = []
    for _ in range(10_000):
        pressed = teleop.poll()
        if pressed & set(until):
            return np.array(targets), pressed
        last = teleop.command({}, last)
        targets.append(last)
        clock.now += TICK_NS
    raise AssertionError(f"none of {until} was pressed")


def test_episodes_are_approached_slowly_and_played_at_their_pace(store, clock):
    config = ReplayConfig(store=str(store.path))
    last = np.array([0.6, 0.0, 0.3, 0.1, 0.2, 0.3, 0.04])
    with ReplayTeleop(config, ROBOT) as teleop:
        for index, end in ((0, Button.SUCCESS), (1, Button.DISCARD)):
            rows = store.episode(index).data["action"].astype(float)
            way, pressed = played(teleop, clock, last, [Button.TAKE_OVER, *Button])
            assert pressed == {Button.TAKE_OVER}
            steps = np.linalg.norm(np.diff(np.vstack([last, way])[:, :3], axis=0), axis=1)
            assert steps.max() <= config.approach_speed * 0.02 + 1e-6
            np.testing.assert_allclose(way[-1], rows[0], atol=1e-6)
            targets, pressed = played(teleop, clock, way[-1], Button)
            assert pressed == {end}
            times = np.arange(len(targets)) * TICK_NS * 1e-9
            expected = np.interp(times, np.arange(len(rows)) / RATE_HZ, rows[:, 1 + index])
            np.testing.assert_allclose(targets[:, 1 + index], expected, atol=1e-6)
            closed = np.flatnonzero(targets[:, 6] == 0.0)[0]  # the gripper goes at its row, not before
            assert times[closed] == pytest.approx(0.6, abs=0.021)
            last = targets[-1]
        assert teleop.poll() == {Button.END}
        np.testing.assert_array_equal(teleop.command({}, last), last)


def test_an_episode_that_was_let_go_begins_anew(store, clock):
    last = store.episode(1).data["action"][0].astype(float)
    with ReplayTeleop(ReplayConfig(store=str(store.path), episode=1), ROBOT) as teleop:
        played(teleop, clock, last, [Button.TAKE_OVER])
        for _ in range(20):
            last = teleop.command({}, last)
            clock.now += TICK_NS
        teleop.let_go()
        way, _ = played(teleop, clock, last, [Button.TAKE_OVER])
        np.testing.assert_allclose(way[-1], store.episode(1).data["action"][0], atol=1e-6)


def test_what_cannot_be_driven_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"needs teleop\.store"):
        ReplayTeleop(ReplayConfig(), ROBOT).connect()
    with pytest.raises(ConfigError, match="has 2 episodes"):
        ReplayTeleop(ReplayConfig(store=str(store.path), episode=2), ROBOT).connect()
    with pytest.raises(StoreError):
        ReplayTeleop(ReplayConfig(store=str(tmp_path / "none.zarr")), ROBOT).connect()
    joints = Disconnected(Spec((), (Feature("action", (7,), kind="joint", unit="rad"),)))
    with pytest.raises(SpecError, match="same shape, kind and frame"):
        ReplayTeleop(ReplayConfig(store=str(store.path)), joints).connect()
    with pytest.raises(ConfigError, match="speeds above 0"):
        ReplayConfig(approach_speed=0.0)
