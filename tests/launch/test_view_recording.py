"""The recording that `robopolicy data view` writes for Rerun, read back with Rerun's own reader."""

from __future__ import annotations

import re
import subprocess
import sys

import cv2
import numpy as np
import pyarrow as pa
import pytest

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, Stream
from robopolicy_launch import command

SPEC = Spec(
    (
        Feature("camera0_rgb", (24, 32, 3), "uint8", kind="rgb"),
        Feature("camera0_depth", (24, 32), kind="depth", unit="m"),
        Feature("robot0_eef_pos", (3,), kind="position", unit="m"),
    ),
    (Feature("action", (3,), kind="position", unit="m"),),
)
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", rate_hz=500.0)


def run(*words):
    return command.main([str(word) for word in words])


READING = "Rerun is not installed (extra viz, a download of 170 MB)"


def record(path):
    """Two episodes with steps of uneven lengths, a stream and an event."""
    store = DemoStore.create(path, SPEC, rate_hz=10, streams=[WRENCH])
    random = np.random.default_rng(0)
    for length in (5, 7):
        images = (
            np.full((length, 24, 32, 3), 90, np.uint8)
            + np.arange(length, dtype=np.uint8)[:, None, None, None]
        )
        data = {key: random.normal(size=(length, 3)) for key in ("robot0_eef_pos", "action")}
        data |= {"camera0_rgb": images, "camera0_depth": random.random((length, 24, 32)).astype(np.float32)}
        time_ns = 7_000_000_000 + np.cumsum(random.integers(1, 10**8, length))
        samples = Stream(random.normal(size=(40, 6)), time_ns=time_ns[0] + np.arange(40) * 2_000_000)
        slip = Event("takeover", int(time_ns[1]), int(time_ns[1]) + 500_000_000, "it slipped", "ann")
        info = EpisodeInfo(task="wipe", success=True)
        store.append_episode(data, info, time_ns=time_ns, streams={"robot0_wrench": samples}, events=[slip])
    return store


def chunks(path):
    """Reads a recording with Rerun's own reader: (entity, whether it is static) to its table."""
    reader = pytest.importorskip("rerun.chunk", reason=READING).RrdReader(path)
    found = {}
    for chunk in reader.stream().to_chunks():
        if chunk.entity_path == "/__properties":
            continue
        table = pa.table(chunk.to_record_batch())
        found.setdefault((chunk.entity_path, chunk.is_static), []).append(table)
    return {key: pa.concat_tables(tables) for key, tables in found.items()}


def test_a_recording_holds_every_value_at_its_time(tmp_path, capsys):
    pytest.importorskip("rerun", reason=READING)
    store = record(tmp_path / "a.zarr")
    target = tmp_path / "view.rrd"
    assert run("data", "view", store.path, target) == 0
    assert f"2 of 2 episodes: {target}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "view.rrd"]
    found = chunks(target)
    for episode in store:
        first_ns = episode.time_ns[0]
        series = {**{key: (episode.data[key], episode.time_ns) for key in ("robot0_eef_pos", "action")}}
        series["robot0_wrench"] = (
            episode.streams["robot0_wrench"].value,
            episode.streams["robot0_wrench"].time_ns,
        )
        for key, (values, time_ns) in series.items():
            table = found[f"/episode_{episode.index}/{key}", False]
            assert table.column_names == ["rerun.controls.RowId", "time", "Scalars:scalars"]
            np.testing.assert_array_equal(np.array(table["Scalars:scalars"].to_pylist()), values)
            np.testing.assert_array_equal(table["time"].cast(pa.int64()).to_numpy(), time_ns - first_ns)
            names = found[f"/episode_{episode.index}/{key}", True]["SeriesLines:names"].to_pylist()
            assert names == [[str(number) for number in range(values.shape[1])]]
        images = found[f"/episode_{episode.index}/camera0_rgb", False]
        for (blob,), image in zip(
            images["EncodedImage:blob"].to_pylist(), episode.data["camera0_rgb"], strict=True
        ):
            shown = cv2.imdecode(np.array(blob, np.uint8), cv2.IMREAD_COLOR_RGB)
            assert np.abs(shown.astype(int) - image).max() <= 2
        depths = found[f"/episode_{episode.index}/camera0_depth", False]
        for (buffer,), image in zip(
            depths["DepthImage:buffer"].to_pylist(), episode.data["camera0_depth"], strict=True
        ):
            np.testing.assert_array_equal(np.array(buffer, np.uint8).view(np.float32).reshape(24, 32), image)
        told = found[f"/episode_{episode.index}/events", False]
        assert told["TextLog:text"].to_pylist() == [["takeover, for 0.5 s, it slipped, ann"]]
        np.testing.assert_array_equal(told["time"].cast(pa.int64()).to_numpy(), episode.time_ns[1] - first_ns)
        (text,) = found[f"/episode_{episode.index}", True]["TextDocument:text"].to_pylist()
        assert text == ["task: wipe\nsuccess: True"]


def test_a_recording_says_what_cannot_be_read(tmp_path, capsys):
    pytest.importorskip("rerun", reason=READING)
    store = record(tmp_path / "a.zarr")
    block = sorted((store.path / "data/camera0_rgb").glob("c.*"))[0]
    block.write_bytes(block.read_bytes()[:10] + b"x" * 20 + block.read_bytes()[30:])
    assert run("data", "view", store.path, tmp_path / "view.rrd") == 0
    texts = [
        chunks(tmp_path / "view.rrd")[f"/episode_{n}", True]["TextDocument:text"].to_pylist()
        for n in range(2)
    ]
    assert ["cannot be read" in text[0][0] for text in texts] == [True, False]
    assert run("data", "view", store.path, tmp_path / "nowhere" / "view.rrd") == command.FAILED
    assert re.search(r"view.rrd.* does not exist", capsys.readouterr().err)


def test_without_rerun_the_extra_is_named(tmp_path):
    store = record(tmp_path / "a.zarr")
    code = (
        "import sys; sys.modules['rerun'] = None; from robopolicy_launch import command;"
        f"sys.exit(command.main(['data', 'view', {str(store.path)!r}, {str(tmp_path / 'view.rrd')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == command.FAILED
    assert result.stderr.count("\n") == 1
    assert "pip install 'robopolicy[viz]'" in result.stderr
    assert not (tmp_path / "view.rrd").exists()
