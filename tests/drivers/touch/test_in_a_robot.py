"""Sensors of touch and force as parts of a robot, and recorded at their own rates beside it."""

from __future__ import annotations

import numpy as np
import pytest
from device_targets import wait_until
from practice_arm import PracticeArmConfig

from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store import DemoStore
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.composing import make_composite
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.configs import CompositeConfig
from robopolicy_drivers.realtime.ring_source import RingSource
from robopolicy_drivers.touch.ati_net_ft import AtiNetFt
from robopolicy_drivers.touch.configs import AtiNetFtConfig, FlexiTacConfig
from robopolicy_drivers.touch.flexitac import FlexiTac

pytestmark = pytest.mark.realtime

HOST = "127.0.0.1"


def test_a_robot_is_put_together_from_their_names():
    parts = {
        "arm": {"driver": "sim"},
        "force": {"driver": "ati_net_ft", "host": "192.168.1.7", "rate_hz": 500},
        "left": {"driver": "gelsight", "camera": {"address": "/dev/video3"}},
        "right": {"driver": "flexitac", "key": "robot0_tactile1_taxels", "port": "/dev/ttyUSB3"},
    }
    spec = make_composite(CompositeConfig(parts=parts)).spec
    assert spec["robot0_wrench"].rate_hz == 500
    assert spec["robot0_tactile0_markers"].shape == (63, 2)
    assert spec["robot0_tactile1_taxels"].shape == (12, 32)


def test_each_is_recorded_at_its_own_rate(tmp_path, emulator):
    port, web_port = map(int, emulator("net_ft", HOST, 1000).told)
    arm = Arm(PracticeArmConfig(folder=str(tmp_path)))
    force = AtiNetFt(AtiNetFtConfig(host=HOST, port=port, web_port=web_port))
    touch = FlexiTac(FlexiTacConfig(port=emulator("flexitac_board", 100).told[0]))
    streams = (*force.spec.observation, *touch.spec.observation)
    steps = [feature for feature in arm.spec.observation if feature.key != "robot0_wrench"]
    with CompositeRobot([arm, touch]), force:  # this arm has a wrench of its own, and one is enough
        store = DemoStore.create(tmp_path / "touch.zarr", Spec(steps, ()), rate_hz=20, streams=streams)
        sources = [
            RingSource(arm.ring, [feature.key for feature in steps]),
            RingSource(force.ring),
            RingSource(touch.ring),
        ]
        with Recorder(store, sources) as recorder:
            recorder.start()
            assert wait_until(lambda: recorder.steps >= 20)
            saved = recorder.save()
    assert saved.fault == ""
    (episode,) = DemoStore.open(store.path)
    assert set(np.diff(episode.time_ns)) == {50_000_000}
    counts = np.rint(episode.streams["robot0_wrench"].value[:, 0] * 1e6)
    taxels = episode.streams["robot0_tactile0_taxels"].value[:, 0, 0]
    np.testing.assert_array_equal(np.diff(counts), 1)  # not one is missing
    np.testing.assert_array_equal(np.diff(taxels) % 160, 1)
    assert len(counts) >= 900
    assert len(taxels) >= 90
