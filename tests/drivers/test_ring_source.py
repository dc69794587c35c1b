"""Device processes recorded through their rings."""

import os
import signal

import numpy as np
import pytest
from device_targets import wait_until

from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.ring_source import LOST, RingSource

pytestmark = pytest.mark.realtime

CAMERA = Feature("camera0_rgb", (48, 64, 3), "uint8", kind="rgb", rate_hz=30)
ARM = (Feature("robot0_eef_pos", (3,), rate_hz=100), Feature("action", (2,), rate_hz=100))
WRENCH = Feature("robot0_wrench", (6,), rate_hz=500)


@pytest.fixture
def devices():
    """A camera, an arm and a force sensor, each in a process of its own."""
    processes = {}
    for name, features, slots, rate_hz in (
        ("camera", [CAMERA], 16, 30.0),
        ("arm", ARM, 64, 100.0),
        ("force", [WRENCH], 1024, 500.0),
    ):
        ring = Ring(features, slots)
        processes[name] = DeviceProcess(
            "device_targets:count", {"rate_hz": rate_hz}, name=name, rings={"ring": ring}
        )
        processes[name].start()
    yield processes
    for process in processes.values():
        process.close()


def test_every_record_is_read_once_and_lost_ones_are_counted():
    ring = Ring([Feature("x", (2,), "int64")], 8)
    source = RingSource(ring)
    assert source.keys == ["x"]
    assert len(source.read().time_ns) == 0
    read, lost = [], 0
    for written in (3, 0, 7, 20, 1):
        for _ in range(written):
            ring.write(5 * (ring.latest + 1), {"x": np.full(2, ring.latest + 1)})
        samples = source.read()
        assert samples.values["x"].shape == (len(samples.time_ns), 2)
        np.testing.assert_array_equal(samples.time_ns, 5 * samples.values["x"][:, 0])
        read += samples.values["x"][:, 0].tolist()
        lost += samples.lost.sum()
    assert read == sorted(set(read))
    assert len(read) + lost == ring.latest
    assert lost == 20 - 7  # a ring of 8 slots shows 7


def test_what_a_device_has_lost_is_counted_and_what_it_tells_twice_is_not():
    ring = Ring([Feature("robot0_x", (), "int64"), LOST], 32)
    source = RingSource(ring, rename=lambda key: key.replace("0", "1"))
    assert source.keys == ["robot1_x"]
    ring.write(1, {"robot0_x": np.array(1), LOST.key: np.array(100)})
    assert source.read().lost.tolist() == [0]  # those before are not ours
    for time_ns, lost in ((1, 100), (2, 103), (2, 103), (3, 103), (4, 110)):
        ring.write(time_ns, {"robot0_x": np.array(time_ns), LOST.key: np.array(lost)})
    samples = source.read()
    assert samples.time_ns.tolist() == samples.values["robot1_x"].tolist() == [2, 3, 4]
    assert samples.lost.tolist() == [3, 0, 7]
    assert source.read().lost.tolist() == []


def test_device_processes_are_recorded_at_their_own_rates(tmp_path, devices):
    store = DemoStore.create(
        tmp_path / "a.zarr", Spec((CAMERA, ARM[0]), ARM[1:]), rate_hz=20, streams=[WRENCH]
    )
    sources = [RingSource(process.rings["ring"]) for process in devices.values()]
    with Recorder(store, sources, patience_s=0.2) as recorder:
        recorder.start()
        assert wait_until(lambda: recorder.steps >= 20)
        saved = recorder.save()
        assert saved.fault == ""
        recorder.start()
        assert wait_until(lambda: recorder.steps >= 5)
        os.kill(devices["camera"].pid, signal.SIGKILL)
        before = recorder.steps
        assert wait_until(lambda: recorder.steps >= before + 20)  # the others go on
        recorder.save()
    whole, cut = DemoStore.open(store.path)
    assert set(np.diff(whole.time_ns)) == {50_000_000}
    wrench = whole.streams["robot0_wrench"].value[:, 0].astype(int)
    np.testing.assert_array_equal(np.diff(wrench) % 250, 1)  # not one is missing
    assert len(wrench) >= 400
    for key, per_step in (("camera0_rgb", 1.5), ("robot0_eef_pos", 5), ("action", 5)):
        counters = whole.data[key].reshape(whole.length, -1)[:, 0].astype(int)
        assert np.mean(np.diff(counters) % 250) == pytest.approx(per_step, abs=0.5)
    images = cut.data["camera0_rgb"][:, 0, 0, 0].astype(int)
    assert len(set(images[-10:])) == 1
