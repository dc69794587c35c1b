"""A writer that is killed at any moment loses no committed episode and leaves no half one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from robopolicy_datasets.doctor.check import check_store
from robopolicy_datasets.doctor.findings import Severity
from robopolicy_datasets.doctor.merge import merge_stores
from robopolicy_datasets.doctor.repair import repair_store
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore

SPEC = Spec(
    (Feature("camera0_rgb", (16, 16, 3), "uint8", kind="rgb"), Feature("pos", (3,))),
    (Feature("action", (2,)),),
)
WRITER = """
import sys
import numpy as np
from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, Stream


def episode(number):
    random = np.random.default_rng(number)
    length = int(random.integers(1, 60))
    data = {
        "camera0_rgb": random.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
        "pos": random.normal(size=(length, 3)).astype(np.float32),
        "action": random.normal(size=(length, 2)).astype(np.float32),
    }
    wrench = Stream(random.normal(size=(9 * length, 6)), np.arange(9 * length))
    return data, EpisodeInfo(task=f"number {number}"), wrench, Event("remark", 0, 1, f"event {number}")


def append(store):
    while True:
        data, info, wrench, event = episode(len(store))
        store.append_episode(data, info, streams={"wrench": wrench}, events=[event])
        print(len(store) - 1, flush=True)


def record(store):
    with Recorder(store) as recorder:
        while True:
            recorder.start()  # fumbled
            for step in range(140):
                recorder.step({key: rows[0] for key, rows in episode(0)[0].items()}, step)
            recorder.discard()
            data, info, wrench, event = episode(len(store))
            recorder.start(info)
            for step in range(len(data["action"])):
                recorder.step({key: rows[step] for key, rows in data.items()}, step)
                part = slice(9 * step, 9 * (step + 1))
                recorder.samples("wrench", wrench.value[part], wrench.time_ns[part])
            recorder.event(event)
            print(recorder.save().index, flush=True)


store = DemoStore.open(sys.argv[1], "a")
print("open", flush=True)
{"append": append, "record": record}[sys.argv[2]](store)
"""


def check_episode(episode):
    random = np.random.default_rng(episode.index)
    length = int(random.integers(1, 60))
    assert episode.length == length
    assert episode.info.task == f"number {episode.index}"
    images = random.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(episode.data["camera0_rgb"], images)
    for key, width in (("pos", 3), ("action", 2)):
        np.testing.assert_array_equal(
            episode.data[key], random.normal(size=(length, width)).astype(np.float32)
        )
    wrench = random.normal(size=(9 * length, 6)).astype(np.float32)
    np.testing.assert_array_equal(episode.streams["wrench"].value, wrench)
    assert [event.text for event in episode.events] == [f"event {episode.index}"]


@pytest.mark.parametrize("how", ["append", "record"])
def test_kills_lose_nothing(tmp_path, count, how):
    path = tmp_path / "a.zarr"
    DemoStore.create(path, SPEC, rate_hz=10, streams=[Feature("wrench", (6,))])
    moments = random.Random(0)
    committed = 0
    for _ in range(count(30, 300)):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n", writer.stderr and writer.stderr.read()
        time.sleep(moments.uniform(0, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        output, _ = writer.communicate()
        announced = [int(line) for line in output.splitlines() if line.isdigit()]
        store = DemoStore.open(path)
        # what the writer announced is there; one more may have been committed just before the kill
        expected = max(announced, default=committed - 1) + 1
        assert expected <= len(store) <= expected + 1
        for index in range(max(0, committed - 1), len(store)):
            check_episode(store.episode(index))
        committed = len(store)
    assert committed > 0
    store, repaired = DemoStore.open(path), tmp_path / "repaired.zarr"
    repair_store(store, repaired, check_store(store))
    for opened in (store, DemoStore.open(repaired)):
        assert len(opened) == committed
        for episode in opened:
            check_episode(episode)
    assert not [finding for finding in check_store(opened) if finding.severity == Severity.ERROR]


MERGER = """
import sys
from robopolicy_datasets.doctor.merge import merge_stores
from robopolicy_datasets.store import DemoStore
print("begin", flush=True)
merge_stores([DemoStore.open(path) for path in sys.argv[2:]], sys.argv[1])
print("end", flush=True)
"""


def test_a_killed_merge_leaves_nothing_or_all(tmp_path, count):
    sources = []
    for number in range(2):
        store = DemoStore.create(tmp_path / f"{number}.zarr", SPEC, rate_hz=10)
        random_numbers = np.random.default_rng(number)
        for _ in range(20):
            store.append_episode(
                {
                    "camera0_rgb": random_numbers.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8),
                    "pos": np.zeros((30, 3), np.float32),
                    "action": np.zeros((30, 2), np.float32),
                }
            )
        sources.append(store)
    target = tmp_path / "merged.zarr"
    moments = random.Random(0)
    for _ in range(count(10, 100)):
        merger = subprocess.Popen(
            [sys.executable, "-c", MERGER, str(target), *(str(store.path) for store in sources)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert merger.stdout is not None
        assert merger.stdout.readline() == "begin\n"
        time.sleep(moments.uniform(0, 0.2))
        os.kill(merger.pid, signal.SIGKILL)
        output, _ = merger.communicate()
        assert target.exists() or "end" not in output
        if target.exists():
            merged = DemoStore.open(target)
            expected = np.concatenate([store.array("camera0_rgb") for store in sources])
            np.testing.assert_array_equal(merged.array("camera0_rgb"), expected)
            shutil.rmtree(target)
    merge_stores(sources, target)  # clears what the killed ones have left
    assert {path.name for path in tmp_path.iterdir()} == {"0.zarr", "1.zarr", "merged.zarr"}
    assert not [f for f in check_store(DemoStore.open(target)) if f.severity == Severity.ERROR]
