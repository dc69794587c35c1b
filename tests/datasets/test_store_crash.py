"""A writer that is killed at any moment loses no committed episode and leaves no half one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore

SPEC = Spec(
    (Feature("camera0_rgb", (16, 16, 3), "uint8", kind="rgb"), Feature("pos", (3,))),
    (Feature("action", (2,)),),
)
WRITER = """
import sys
import numpy as np
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, Stream
store = DemoStore.open(sys.argv[1], "a")
print("open", flush=True)
while True:
    number = len(store)
    random = np.random.default_rng(number)
    length = int(random.integers(1, 60))
    store.append_episode(
        {
            "camera0_rgb": random.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
            "pos": random.normal(size=(length, 3)).astype(np.float32),
            "action": random.normal(size=(length, 2)).astype(np.float32),
        },
        EpisodeInfo(task=f"number {number}"),
        streams={"wrench": Stream(random.normal(size=(9 * length, 6)), np.arange(9 * length))},
        events=[Event("remark", 0, 1, f"event {number}")],
    )
    print(number, flush=True)
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


def test_kills_lose_nothing(tmp_path, count):
    path = tmp_path / "a.zarr"
    DemoStore.create(path, SPEC, rate_hz=10, streams=[Feature("wrench", (6,))])
    moments = random.Random(0)
    committed = 0
    for _ in range(count(15, 200)):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
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
    for episode in DemoStore.open(path):
        check_episode(episode)
