"""Recording while it happens: what is saved is what was given, and nothing is lost in silence."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from robopolicy_datasets.clock import NANOSECONDS, now_ns
from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.recording import Recorder, Samples
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, Stream
from robopolicy_datasets.store.codecs import ZstdCodec

IMAGE = (6, 8, 3)
SPEC = Spec(
    (Feature("camera0_rgb", IMAGE, "uint8", kind="rgb"), Feature("robot0_eef_pos", (3,))),
    (Feature("action", (2,)),),
)
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", rate_hz=1000.0)


def make_store(path, **settings):
    return DemoStore.create(path, SPEC, rate_hz=10, streams=[WRENCH], **settings)


def make_data(length, seed):
    random = np.random.default_rng(seed)
    return {
        "camera0_rgb": random.integers(0, 256, (length, *IMAGE), dtype=np.uint8),
        "robot0_eef_pos": random.normal(size=(length, 3)).astype(np.float32),
        "action": random.normal(size=(length, 2)).astype(np.float32),
    }


def make_wrench(length, seed):
    values = np.random.default_rng(seed).normal(size=(length, 6)).astype(np.float32)
    return Stream(values, np.arange(1, length + 1) * 1_000_000)


def give(recorder, data, wrench=None):
    """Gives the steps and, in between, the samples of a stream in pieces."""
    length = len(data["action"])
    for number in range(length):
        recorder.step({key: rows[number] for key, rows in data.items()}, (number + 1) * 100_000_000)
        if wrench is not None:
            part = slice(*(len(wrench.time_ns) * (number + add) // length for add in (0, 1)))
            recorder.samples("robot0_wrench", wrench.value[part], wrench.time_ns[part])


def step(number=0):
    return {key: rows[0] for key, rows in make_data(1, number).items()}


@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg:90"])
def test_what_is_recorded_is_what_an_append_stores(tmp_path, codec):
    """Episodes that begin and end anywhere in a block of 128 images or 4096 samples."""
    lengths = (100, 1, 28, 300, 127, 256)
    stores = [make_store(tmp_path / name, codecs={"camera0_rgb": codec}) for name in ("live", "appended")]
    with Recorder(stores[0]) as recorder:
        for number, length in enumerate(lengths):
            info = EpisodeInfo(task=f"task {number}", wall_time_ns=5)
            data, wrench = make_data(length, number), make_wrench(13 * length, number)
            events = [Event("remark", number, number + 1, "so it was")]
            recorder.start(info)
            give(recorder, data, wrench)
            recorder.event(events[0])
            saved = recorder.save()
            assert (saved.index, saved.steps, saved.missing, saved.fault) == (number, length, {}, "")
            assert saved.samples == {"robot0_wrench": 13 * length}
            times = np.arange(1, length + 1) * 100_000_000
            stores[1].append_episode(
                data, info, time_ns=times, streams={"robot0_wrench": wrench}, events=events
            )
    opened = [DemoStore.open(store.path) for store in stores]
    for key in (*SPEC.keys(), "time_ns"):
        np.testing.assert_array_equal(opened[0].array(key), opened[1].array(key), err_msg=key)
    for live, appended in zip(*opened, strict=True):
        assert (live.info, live.events, live.length) == (appended.info, appended.events, appended.length)
        for name in ("value", "time_ns"):
            parts = [getattr(episode.streams["robot0_wrench"], name) for episode in (live, appended)]
            np.testing.assert_array_equal(*parts)
    for file in stores[1].path.rglob("c.*"):
        assert (stores[0].path / file.relative_to(stores[1].path)).read_bytes() == file.read_bytes(), file


def test_a_discarded_episode_leaves_nothing(tmp_path):
    store = make_store(tmp_path / "a.zarr")
    with Recorder(store) as recorder:
        recorder.start()
        give(recorder, make_data(20, 0))
        recorder.save()
        before = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}
        recorder.start()
        give(recorder, make_data(300, 1))  # more than a block
        recorder.discard()
        assert {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()} == before
        recorder.start()
        give(recorder, make_data(30, 2))
        assert recorder.save().index == 1
    np.testing.assert_array_equal(
        DemoStore.open(store.path).episode(1).data["camera0_rgb"], make_data(30, 2)["camera0_rgb"]
    )


def test_the_caller_may_use_its_buffers_again(tmp_path):
    store = make_store(tmp_path / "a.zarr", codecs={"camera0_rgb": "raw"})
    data = make_data(50, 0)
    image, wrench = np.empty(IMAGE, np.uint8), np.empty((1, 6), np.float32)
    with Recorder(store) as recorder:
        recorder.start()
        for number in range(50):
            image[...], wrench[...] = data["camera0_rgb"][number], number
            values = {key: rows[number] for key, rows in data.items()} | {"camera0_rgb": image}
            recorder.step(values, number)
            recorder.samples("robot0_wrench", wrench, np.array([number]))
        recorder.save()
    np.testing.assert_array_equal(store.array("camera0_rgb"), data["camera0_rgb"])
    np.testing.assert_array_equal(store.stream("robot0_wrench", 0).value[:, 0], np.arange(50))


def test_who_brings_more_than_can_be_encoded_waits(tmp_path, monkeypatch):
    store = make_store(tmp_path / "a.zarr")
    gate, encode = threading.Event(), ZstdCodec.encode

    def slow(self, chunk):
        gate.wait()
        return encode(self, chunk)

    monkeypatch.setattr(ZstdCodec, "encode", slow)
    data = make_data(40, 0)
    num_bytes = sum(rows[0].nbytes for rows in data.values()) + 8
    with Recorder(store, memory=10 * num_bytes) as recorder:
        recorder.start()
        producer = threading.Thread(target=give, args=(recorder, data))
        producer.start()
        while recorder.steps < 10:
            time.sleep(0.001)
        producer.join(0.2)
        assert producer.is_alive()
        assert recorder.steps <= 11  # low-dimensional rows are let go at once, so a little more may fit
        gate.set()
        producer.join()
        assert recorder.save().steps == 40
    np.testing.assert_array_equal(store.array("camera0_rgb"), data["camera0_rgb"])


def test_an_episode_can_be_discarded_while_someone_waits(tmp_path, monkeypatch):
    store = make_store(tmp_path / "a.zarr")
    gate = threading.Event()
    monkeypatch.setattr(ZstdCodec, "encode", lambda self, chunk: gate.wait() and b"")
    refused = []

    def produce():
        with pytest.raises(StoreError, match="has ended") as caught:
            give(recorder, make_data(40, 0))
        refused.append(caught.value)

    with Recorder(store, memory=1000) as recorder:
        recorder.start()
        producer = threading.Thread(target=produce)
        producer.start()
        while not recorder.steps:
            time.sleep(0.001)
        threading.Timer(0.1, gate.set).start()
        recorder.discard()
        producer.join(10)
        assert not producer.is_alive()
    assert len(refused) == 1
    assert len(DemoStore.open(store.path)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda r: r.step({"action": np.zeros(2)}),
            "A step has the keys action; the store holds",
        ),
        (lambda r: r.step(step() | {"action": np.zeros(3)}), r"'action' has the shape \[1, 3\]"),
        (lambda r: r.step(step() | {"action": [np.nan, 0.0]}), "'action' is not finite"),
        (lambda r: r.step(step(), 7), "The times of steps must increase; 7 ns is not after 7 ns"),
        (lambda r: r.samples("wrench", [[0.0] * 6], [1]), "no stream 'wrench'. It has: robot0_wrench"),
        (lambda r: r.samples("robot0_wrench", np.zeros((2, 6)), np.array([3, 3])), "must increase"),
        (lambda r: r.event(Event("gap", 2, 1)), "an end not before its start"),
        (lambda r: r.start(), "save or discard it before the next one"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_rest_is_kept(call, message, tmp_path):
    store = make_store(tmp_path / "a.zarr")
    with Recorder(store) as recorder:
        recorder.start()
        recorder.step(step(), 7)
        with pytest.raises(StoreError, match=message):
            call(recorder)
        recorder.step(step(), 8)
        assert recorder.save().steps == 2


def test_calls_at_the_wrong_time_say_what_to_do(tmp_path, caplog):
    store = make_store(tmp_path / "a.zarr")
    recorder = Recorder(store)
    for call in (recorder.save, recorder.discard, lambda: recorder.step(step())):
        with pytest.raises(StoreError, match="No episode is being recorded"):
            call()
    recorder.start()
    with pytest.raises(StoreError, match="no steps"):
        recorder.save()
    with pytest.raises(StoreError, match="has ended; save or discard it"):
        recorder.step(step())
    recorder.discard()
    recorder.start()
    recorder.step(step())
    recorder.close()
    assert "closed while recording; the episode was discarded" in caplog.text
    assert len(DemoStore.open(store.path)) == 0


def test_an_interrupt_tears_no_step(tmp_path, count):
    """Ctrl-C comes anywhere; the episode can still be saved, with as many rows of each key."""
    store, rung = make_store(tmp_path / "a.zarr"), []

    def interrupt(number, frame):
        rung.append(number)
        raise KeyboardInterrupt  # which Python drops where it comes while an object is deleted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Recorder(store) as recorder:
            for _ in range(count(20, 500)):
                recorder.start()
                number = 0
                rung.clear()
                recorder.step(step(), -1)
                with contextlib.suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0.01)
                    while not rung:
                        recorder.step(step(), number)
                        recorder.samples("robot0_wrench", np.full((1, 6), float(number)), np.array([number]))
                        number += 1
                saved = recorder.save()
                assert number + 1 <= saved.steps <= number + 2
                assert number <= saved.samples["robot0_wrench"] <= number + 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for episode in DemoStore.open(store.path):
        assert {len(rows) for rows in episode.data.values()} == {episode.length}


def test_an_automatic_codec_is_chosen_by_the_first_image(tmp_path):
    stores = {}
    for name, noise in (("drawn", 0), ("filmed", 255)):
        spec = Spec((Feature("camera0_rgb", (48, 64, 3), "uint8", kind="rgb"),), (Feature("action", (1,)),))
        stores[name] = DemoStore.create(tmp_path / name, spec, rate_hz=10, codecs={"camera0_rgb": "auto"})
        random = np.random.default_rng(0)
        with Recorder(stores[name]) as recorder:
            for _ in range(2):
                recorder.start()
                for _ in range(10):
                    image = random.integers(0, noise + 1, (48, 64, 3), dtype=np.uint8)
                    recorder.step({"camera0_rgb": image, "action": [0.0]})
                recorder.save()
    assert {name: DemoStore.open(store.path).codecs["camera0_rgb"] for name, store in stores.items()} == {
        "drawn": "zstd:3",
        "filmed": "jpeg:95",
    }


# --- other writers, readers, and the disk -------------------------------------------------------------------


def in_another_process(script, *words):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, timeout=60
    )


APPEND = """
import sys, numpy as np
from robopolicy_datasets.store import DemoStore, Stream
from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.errors import StoreError
store = DemoStore.open(sys.argv[1], "a")
try:
    if sys.argv[2] == "append":
        data = {"robot0_eef_pos": np.zeros((3, 3)), "action": np.zeros((3, 2))}
        data["camera0_rgb"] = np.zeros((3, 6, 8, 3), np.uint8)
        store.append_episode(data, streams={"robot0_wrench": Stream(np.zeros((1, 6)), np.zeros(1, np.int64))})
    else:
        Recorder(store).close()
except StoreError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("how", ["append", "record"])
def test_a_second_writer_is_refused(tmp_path, how):
    store = make_store(tmp_path / "a.zarr")
    with Recorder(store) as recorder:
        recorder.start()
        give(recorder, make_data(20, 0))
        result = in_another_process(APPEND, store.path, how)
        assert result.returncode == 7, result.stderr
        assert "is being recorded into by process" in result.stdout
        assert "robopolicy data merge" in result.stdout
        assert recorder.save().steps == 20
    np.testing.assert_array_equal(DemoStore.open(store.path).array("action"), make_data(20, 0)["action"])
    assert in_another_process(APPEND, store.path, how).returncode == 0


def test_a_forked_child_does_not_keep_other_writers_out(tmp_path):
    """As a data loader's worker that was started while recording."""
    store = make_store(tmp_path / "a.zarr")
    with Recorder(store):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        Recorder(store).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_others_read_the_store_while_it_grows(tmp_path):
    store = make_store(tmp_path / "a.zarr")
    reader = DemoStore.open(store.path)
    with Recorder(store) as recorder:
        for number in range(4):
            recorder.start()
            give(recorder, make_data(70, number), make_wrench(100, number))
            assert reader.refresh() == range(number, number)
            recorder.save()
            assert reader.refresh() == range(number, number + 1)
            for index in range(number + 1):
                np.testing.assert_array_equal(
                    reader.episode(index).data["camera0_rgb"], make_data(70, index)["camera0_rgb"]
                )
            np.testing.assert_array_equal(
                reader.stream("robot0_wrench", number).value, make_wrench(100, number).value
            )
            assert reader.array("action").shape == (70 * (number + 1), 2)


def test_a_store_that_was_replaced_is_not_mistaken_for_the_old_one(tmp_path, make_episode, arm_store):
    reader = DemoStore.open(arm_store.path)
    shutil.rmtree(arm_store.path)
    other = DemoStore.create(arm_store.path, arm_store.spec, rate_hz=10)
    other.append_episode(make_episode(4, 0))
    with pytest.raises(StoreError, match="another store"):
        reader.refresh()


FILL_THE_DISK = """
import os, sys, numpy as np
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore
from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.errors import StoreError
folder, then = sys.argv[1], sys.argv[2]
ballast = os.path.join(folder, "ballast")
with open(ballast, "wb") as file:
    file.write(bytes(8 << 20))
spec = Spec((Feature("camera0_rgb", (96, 96, 3), "uint8", kind="rgb"),), (Feature("action", (2,)),))
store = DemoStore.create(os.path.join(folder, "a.zarr"), spec, rate_hz=10, codecs={"camera0_rgb": "raw"})
image = lambda number: np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
with Recorder(store, memory=4 << 20) as recorder:
    recorder.start()
    for number in range(20):
        recorder.step({"camera0_rgb": image(number), "action": [0.0, 0.0]})
    recorder.save()
    recorder.start()
    given = 0
    try:
        while given < 2000:
            recorder.step({"camera0_rgb": image(given), "action": [0.0, 0.0]})
            given += 1
    except StoreError as error:
        print(error)
    else:
        sys.exit("the disk was never full")
    try:
        recorder.save()
    except StoreError as error:
        print(error)
    else:
        sys.exit("saved on a full disk")
    seen = DemoStore.open(store.path)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen.array("camera0_rgb"), np.stack([image(n) for n in range(20)]))
    if then == "save":
        os.remove(ballast)
        saved = recorder.save()
        print("saved", saved.steps, given)
        assert saved.steps == given
    else:
        recorder.discard()
        os.remove(ballast)
        given = 5
        recorder.start()
        for number in range(given):
            recorder.step({"camera0_rgb": image(number), "action": [0.0, 0.0]})
        recorder.save()
seen = DemoStore.open(store.path)
assert len(seen) == 2
np.testing.assert_array_equal(seen.episode(0).data["camera0_rgb"], np.stack([image(n) for n in range(20)]))
np.testing.assert_array_equal(seen.episode(1).data["camera0_rgb"], np.stack([image(n) for n in range(given)]))
"""


@pytest.mark.parametrize("then", ["save", "discard"])
def test_a_full_disk_is_told_and_loses_nothing(tmp_path, then, on_file_system):
    prefix = on_file_system("size=24m", tmp_path)
    result = subprocess.run(
        [*prefix, sys.executable, "-c", FILL_THE_DISK, str(tmp_path), then], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No space left on device" in result.stdout
    assert "save the episode as far as it goes when there is room again, or discard it" in result.stdout


# --- sources ------------------------------------------------------------------------------------------------


class Clocked:
    """A source that brings, when asked, the samples that are due at its rate; number n has the value n."""

    def __init__(self, shapes, rate_hz, dtype=np.float32):
        self.keys, self.shapes, self.dtype = list(shapes), shapes, dtype
        self.period_ns, self.begun_ns, self.brought = NANOSECONDS / rate_hz, now_ns(), 0
        self.lost, self.error, self.shift_ns = 0, None, 0

    def read(self):
        if self.error is not None:
            raise self.error
        due = int((now_ns() - self.begun_ns) / self.period_ns)
        numbers = np.arange(self.brought + 1, due + 1)
        lost, self.lost, self.brought = self.lost, 0, max(due, self.brought)
        times = (self.begun_ns + self.shift_ns + numbers * self.period_ns).astype(np.int64)
        values = {
            key: np.broadcast_to(numbers.reshape(-1, *(1 for _ in shape)), (len(numbers), *shape))
            .astype(self.dtype)
            .copy()
            for key, shape in self.shapes.items()
        }
        return Samples(times, values, lost)


@pytest.fixture
def sources():
    return [
        Clocked({"camera0_rgb": IMAGE}, 30, np.uint8),
        Clocked({"robot0_eef_pos": (3,), "action": (2,)}, 200),
        Clocked({"robot0_wrench": (6,)}, 1000),
    ]


def rated_store(path):
    spec = Spec(
        (
            Feature("camera0_rgb", IMAGE, "uint8", kind="rgb", rate_hz=30),
            Feature("robot0_eef_pos", (3,), rate_hz=200),
        ),
        (Feature("action", (2,), rate_hz=200),),
    )
    return DemoStore.create(path, spec, rate_hz=20, streams=[WRENCH])


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_sources_of_several_rates_become_steps_and_streams(tmp_path, sources):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources) as recorder:
        for number in range(2):
            time.sleep(0.1)  # what comes between the episodes belongs to none
            recorder.start(EpisodeInfo(task="turn"))
            wait_for(lambda: recorder.steps >= 12)
            saved = recorder.save(success=True)
            assert (saved.index, saved.missing, saved.repeated, saved.fault) == (number, {}, {}, "")
    for episode in DemoStore.open(store.path):
        assert (episode.info.success, episode.info.task) == (True, "turn")
        assert episode.info.wall_time_ns
        assert set(np.diff(episode.time_ns)) <= {50_000_000}
        for source in sources[:2]:
            numbers = np.arange(1, source.brought + 1)
            times = (source.begun_ns + numbers * source.period_ns).astype(np.int64)
            expected = np.searchsorted(times, episode.time_ns, side="right")  # the newest at or before
            for key in source.keys:
                found = episode.data[key].reshape(episode.length, -1)
                assert (found == expected.astype(source.dtype)[:, None]).all()
        wrench = episode.streams["robot0_wrench"]
        numbers = wrench.value[:, 0]
        np.testing.assert_array_equal(np.diff(numbers), 1)
        np.testing.assert_array_equal(
            wrench.time_ns, (sources[2].begun_ns + numbers.astype(np.int64) * 1_000_000)
        )
        assert abs(wrench.time_ns[0] - episode.time_ns[0]) < 1e9


def test_samples_that_a_source_loses_are_counted_and_become_events(tmp_path, sources, caplog):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources) as recorder:
        recorder.start()
        wait_for(lambda: recorder.steps >= 3)
        sources[2].brought += 40
        sources[2].lost = 40
        wait_for(lambda: recorder.steps >= 8)
        saved = recorder.save()
    assert saved.missing == {"robot0_wrench": 40}
    assert "lacks 40 of 'robot0_wrench'" in caplog.text
    (event,) = store.events(0)
    assert (event.kind, event.author, event.data) == (
        "gap",
        "recorder",
        {"key": "robot0_wrench", "missing": 40},
    )
    assert event.end_ns - event.start_ns == 41_000_000


def test_a_source_that_fails_ends_the_episode_which_can_be_saved(tmp_path, sources, caplog):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources) as recorder:
        recorder.start()
        wait_for(lambda: recorder.steps >= 5)
        sources[0].error = OSError("the cable is out")
        wait_for(lambda: "Recording has stopped: the cable is out" in caplog.text)
        saved = recorder.save()
        assert saved.steps >= 5
        assert saved.fault == "OSError: the cable is out"
        assert [event.kind for event in store.events(0)] == ["fault"]
        sources[0].error = None
        recorder.start()
        wait_for(lambda: recorder.steps >= 2)
        assert recorder.save().fault == ""


def test_a_source_that_stalls_is_shown_with_its_last_sample(tmp_path, sources):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources, patience_s=0.1) as recorder:
        recorder.start()
        wait_for(lambda: recorder.steps >= 5)
        sources[0].period_ns, sources[0].brought = 1e12, 0  # the next sample comes in a quarter of an hour
        frozen = recorder.steps
        wait_for(lambda: recorder.steps >= frozen + 10)
        recorder.save()
    images = store.array("camera0_rgb").reshape(store.num_steps, -1)[:, 0]
    assert len(set(images[-5:])) == 1
    assert len(set(store.array("action")[-5:, 0])) == 5


def test_repeated_times_and_other_clocks_are_told(tmp_path, sources):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources) as recorder:
        recorder.start()
        wait_for(lambda: recorder.steps >= 3)
        sources[2].shift_ns = -20_000_000  # twenty samples come again
        wait_for(lambda: recorder.steps >= 6)
        saved = recorder.save()
        assert saved.repeated == {"robot0_wrench": 20}
        assert (np.diff(store.stream("robot0_wrench", 0).time_ns) > 0).all()
        recorder.start()
        sources[2].shift_ns = time.time_ns() - now_ns()
        wait_for(lambda: recorder.fault)
        assert "robot0_wrench have the time" in recorder.fault
        assert "monotonic clock" in recorder.fault
        recorder.discard()


def rated_step(number):
    return {
        "camera0_rgb": np.zeros(IMAGE, np.uint8),
        "robot0_eef_pos": np.full(3, float(number)),
        "action": np.zeros(2),
    }


def test_steps_that_are_given_have_streams_from_sources_beside_them(tmp_path, sources):
    """All samples from half a second before the first step on; those before it and between belong to none."""
    store, wrench = rated_store(tmp_path / "a.zarr"), sources[2]
    with Recorder(store, [wrench]) as recorder:
        for _ in range(2):
            wrench.lost = 700  # while nobody recorded
            recorder.start()
            time.sleep(0.8)  # the policy warms up
            for number in range(10):
                recorder.step(rated_step(number))
                time.sleep(0.05)
            saved = recorder.save()
            assert (saved.steps, saved.repeated, saved.fault) == (10, {}, "")
            assert "robot0_wrench" not in saved.missing  # a step may be late
    for episode in DemoStore.open(store.path):
        found = episode.streams["robot0_wrench"]
        before_s = 1e-9 * (episode.time_ns[0] - found.time_ns[0])
        assert before_s == pytest.approx(0.5, abs=0.002)
        assert found.time_ns[-1] > episode.time_ns[-1]
        np.testing.assert_array_equal(np.diff(found.value[:, 0]), 1)


def test_steps_that_are_given_end_where_a_source_has_failed(tmp_path, sources):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources[2:]) as recorder:
        recorder.start()
        recorder.step(rated_step(0))
        sources[2].error = OSError("the cable is out")
        wait_for(lambda: recorder.fault)
        with pytest.raises(StoreError, match="streams of this episode have ended: OSError: the cable is out"):
            recorder.step(rated_step(1))
        assert recorder.save().fault == "OSError: the cable is out"


def test_a_stream_that_has_brought_nothing_is_told(tmp_path, sources, caplog):
    store = rated_store(tmp_path / "a.zarr")
    with Recorder(store, sources[2:]) as recorder:
        sources[2].period_ns = 1e12
        recorder.start()
        recorder.step(rated_step(0))
        saved = recorder.save()
    assert saved.samples == {"robot0_wrench": 0}
    assert "Episode 0 has no samples of the stream robot0_wrench" in caplog.text


def test_a_source_can_bring_what_is_a_step_and_a_stream(tmp_path, sources):
    spec = Spec((Feature("robot0_wrench", (6,)),), (Feature("action", (2,)),))
    stream = Feature("robot0_wrench", (6,), rate_hz=1000)
    store = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=20, streams=[stream])
    with Recorder(store, [Clocked({"action": (2,)}, 200), sources[2]]) as recorder:
        recorder.start()
        wait_for(lambda: recorder.steps >= 5)
        recorder.save()
    (episode,) = store
    found = episode.streams["robot0_wrench"]
    newest = np.searchsorted(found.time_ns, episode.time_ns, side="right") - 1
    np.testing.assert_array_equal(episode.data["robot0_wrench"], found.value[newest])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[1:], "No source brings camera0_rgb"),
        (lambda s: s[:2], "No source brings robot0_wrench"),
        (lambda s: [*s, Clocked({"action": (2,)}, 10)], "Several sources bring action"),
        (lambda s: [*s, Clocked({"camera1_rgb": IMAGE}, 10)], "brings 'camera1_rgb'.* It holds: camera0_rgb"),
    ],
)
def test_sources_that_do_not_fit_the_store_are_refused(change, message, tmp_path, sources):
    store = rated_store(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=message):
        Recorder(store, change(sources))
    Recorder(store, sources).close()  # the store was not left locked
