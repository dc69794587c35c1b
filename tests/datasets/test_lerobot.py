"""LeRobot data sets: real parquet and video files, read and written, whole, damaged and hostile."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, MissingExtraError, StoreError
from robopolicy_datasets.exchange.configs import LeRobotFormatConfig
from robopolicy_datasets.exchange.lerobot import write as write_module
from robopolicy_datasets.exchange.lerobot.folder import fill_template
from robopolicy_datasets.exchange.lerobot.images import decode_image, encode_png
from robopolicy_datasets.exchange.lerobot.read import import_dataset
from robopolicy_datasets.exchange.lerobot.videos import VideoWriter
from robopolicy_datasets.exchange.lerobot.write import export_store
from robopolicy_datasets.registry import formats
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo

av = pytest.importorskip("av", reason="the extra 'formats' is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra 'formats' is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'formats' is not installed")

HEIGHT, WIDTH = 32, 48
LENGTHS = (5, 1, 12)
TASKS = ("push the block", "lift it", "push the block")
SPEC = Spec(
    (
        Feature("camera0_rgb", (HEIGHT, WIDTH, 3), "uint8", kind="rgb", rate_hz=10),
        Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="world"),
        Feature("contact", (), "bool"),
        Feature("robot0_gripper_width", (1,), kind="width", unit="m"),
        Feature("markers", (2, 3), "float64", kind="touch"),
        Feature("ticks", (2,), "int64"),
    ),
    (Feature("action", (7,), kind="pose_width", unit="m, rad", frame="world"),),
)
RECORD = "meta/robopolicy.json"


def picture(level: int) -> np.ndarray:
    """A smooth image whose mean is near ``level`` (20 to 235)."""
    ramp = np.linspace(-15, 15, WIDTH)[None, :, None] + np.zeros((HEIGHT, WIDTH, 3))
    return np.clip(level + ramp, 0, 255).astype(np.uint8)


def make_store(path: Path) -> DemoStore:
    store = DemoStore.create(path, SPEC, rate_hz=10, metadata={"lab": "A"})
    values = np.random.default_rng(0)
    for number, length in enumerate(LENGTHS):
        data = {
            "camera0_rgb": np.stack([picture(40 + 50 * number + 4 * step) for step in range(length)]),
            "robot0_eef_pos": values.normal(size=(length, 3)).astype(np.float32),
            "contact": values.random(length) > 0.5,
            "robot0_gripper_width": values.random((length, 1)).astype(np.float32),
            "markers": values.normal(size=(length, 2, 3)),
            "ticks": values.integers(-(2**62), 2**62, (length, 2)),
            "action": values.normal(size=(length, 7)).astype(np.float32),
        }
        jitter = np.cumsum(values.integers(90_000_000, 110_000_001, length))
        info = EpisodeInfo(TASKS[number], number != 1, "ada", "arm", 1_700_000_000_123_456_789)
        store.append_episode(data, info, time_ns=jitter + 2**60)
    return store


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with ``store.zarr`` and its exports by codec, not to be changed."""
    folder = tmp_path_factory.mktemp("lerobot")
    make_store(folder / "store.zarr")
    for codec in ("libsvtav1", "libx264", "png"):
        export_store(LeRobotFormatConfig(codec=codec), folder / "store.zarr", folder / codec)
    return folder


@pytest.fixture
def dataset(exported, tmp_path) -> Path:
    """A copy of the H.264 export without our record: what any LeRobot data set is."""
    return copy(exported / "libx264", tmp_path / "set", record=False)


def copy(source: Path, target: Path, *, record: bool) -> Path:
    shutil.copytree(source, target)
    if not record:
        (target / RECORD).unlink()
    return target


def mean_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(int) - expected).mean())


# --- round trip ---------------------------------------------------------------------------------------------


def assert_same_but_images(found: DemoStore, expected: DemoStore) -> None:
    assert (found.spec, found.rate_hz, dict(found.attributes)) == (
        expected.spec,
        expected.rate_hz,
        dict(expected.attributes),
    )
    np.testing.assert_array_equal(found.episode_ends, expected.episode_ends)
    for key in [*expected.keys(), "time_ns"]:
        if key != "camera0_rgb":
            assert found.array(key).dtype == expected.array(key).dtype
            assert found.array(key).tobytes() == expected.array(key).tobytes(), key
    for index in range(len(expected)):
        assert found.episode_info(index) == expected.episode_info(index)


@pytest.mark.parametrize(("codec", "error"), [("libsvtav1", 2.0), ("libx264", 1.5), ("png", 0.0)])
def test_a_round_trip_keeps_every_number_time_text_and_boundary(exported, tmp_path, codec, error):
    original = DemoStore.open(exported / "store.zarr")
    calls = []
    store = formats.build(
        "lerobot",
        LeRobotFormatConfig(),
        exported / codec,
        tmp_path / "new.zarr",
        lambda *call: calls.append(call),
    )
    assert calls[-1] == (3, 3)
    assert_same_but_images(store, original)
    assert mean_error(store.array("camera0_rgb"), original.array("camera0_rgb")) <= error
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new.zarr"]


def test_files_are_begun_anew_when_they_are_full(exported, tmp_path, monkeypatch):
    for name, value in (("_DATA_MB", 0), ("_VIDEO_MB", 0), ("_CHUNK_FILES", 2)):
        monkeypatch.setattr(write_module, name, value)
    target = tmp_path / "set"
    export_store(LeRobotFormatConfig(codec="libx264"), exported / "store.zarr", target)
    names = sorted(path.relative_to(target / "data").as_posix() for path in target.glob("data/*/*"))
    assert names == ["chunk-000/file-000.parquet", "chunk-000/file-001.parquet", "chunk-001/file-000.parquet"]
    store = import_dataset(LeRobotFormatConfig(), target, tmp_path / "new.zarr")
    assert_same_but_images(store, DemoStore.open(exported / "store.zarr"))


def test_the_export_is_what_lerobot_expects(exported):
    folder = exported / "libsvtav1"
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"]) == ("v3.0", 10, 3)
    assert (info["total_frames"], info["total_tasks"], info["robot_type"]) == (18, 2, "arm")
    features = info["features"]
    assert features["observation.state"]["shape"] == [4]
    assert features["observation.state"]["names"][2:] == ["robot0_eef_pos.2", "robot0_gripper_width"]
    assert features["observation.images.camera0_rgb"]["info"]["video.codec"] == "av1"
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["push the block", "lift it"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    rows = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_to_index"] for row in rows] == [5, 6, 18]
    assert [row["videos/observation.images.camera0_rgb/from_timestamp"] for row in rows] == [0.0, 0.5, 0.6]
    steps = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    np.testing.assert_array_equal(steps["timestamp"].to_numpy()[6:9], np.float32([0, 0.1, 0.2]))
    assert steps["next.success"].to_pylist() == [*[False] * 4, True, False, *[False] * 11, True]
    found = json.loads((folder / "meta/stats.json").read_text())
    store = DemoStore.open(exported / "store.zarr")
    action = store.array("action").astype(np.float64)
    np.testing.assert_allclose(found["action"]["std"], action.std(axis=0))
    np.testing.assert_allclose(found["action"]["q90"], np.quantile(action, 0.9, axis=0))
    pixels = store.array("camera0_rgb") / 255
    images = found["observation.images.camera0_rgb"]
    np.testing.assert_allclose(images["mean"], pixels.mean(axis=(0, 1, 2)).reshape(3, 1, 1))
    np.testing.assert_allclose(images["std"], pixels.std(axis=(0, 1, 2)).reshape(3, 1, 1))
    assert images["count"] == [18]


def test_odd_image_sizes_survive(tmp_path):
    spec = Spec((Feature("eye", (33, 47, 3), "uint8", kind="rgb"),), (Feature("action", (1,)),))
    store = DemoStore.create(tmp_path / "store.zarr", spec, rate_hz=29.97)
    images = np.full((4, 33, 47, 3), 90, np.uint8)
    store.append_episode({"eye": images, "action": np.zeros((4, 1), np.float32)})
    for codec in ("libsvtav1", "libx264"):
        export_store(LeRobotFormatConfig(codec=codec), store.path, tmp_path / codec)
        found = import_dataset(LeRobotFormatConfig(), tmp_path / codec, tmp_path / f"{codec}.zarr")
        assert mean_error(found.array("eye"), images) <= 1


def test_a_changed_file_of_an_export_is_noticed(exported, tmp_path):
    folder = copy(exported / "libx264", tmp_path / "set", record=True)
    stats = folder / "meta/stats.json"
    stats.write_text(stats.read_text() + " ")
    with pytest.raises(StoreError, match=r"stats\.json was damaged or changed .* remove .*robopolicy\.json"):
        import_dataset(LeRobotFormatConfig(), folder, tmp_path / "new.zarr")


# --- data sets of others ------------------------------------------------------------------------------------


def write_video(path: Path, levels, times, time_base=Fraction(1, 1000), **options) -> None:
    """Writes frames of the given levels at the given times [s]; by default H.264 with B-frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12", "bf": "2", **options})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = time_base
        for level, time in zip(levels, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(level), format="rgb24")
            frame.pts, frame.time_base = round(time / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_v21(root: Path, *, image_dtype: str = "video", step_s: float = 0.1) -> Path:
    """Writes a v2.1 data set: 2 episodes of 6 and 9 steps, frame ``i`` of level ``30 + 10 i``."""
    rows = np.random.default_rng(1)
    (root / "meta").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    number = {"dtype": "int64", "shape": [1], "names": None}
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": ["pan", "lift", "grip"]}},
        "action": {"dtype": "float32", "shape": [3], "names": [["pan", "lift", "grip"]]},
        "observation.images.top": {
            "dtype": image_dtype,
            "shape": [3, HEIGHT, WIDTH],
            "names": ["channels", "height", "width"],
        },
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
        "language_instruction": {"dtype": "string", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "so100",
        "total_episodes": 2,
        "fps": 10,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    tasks = [{"task_index": 0, "task": "pick"}, {"task_index": 1, "task": "place"}]
    (root / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    lengths = [{"episode_index": index, "length": length} for index, length in enumerate((6, 9))]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lengths)))
    for episode, length in enumerate((6, 9)):
        steps = np.arange(length)
        levels = 30 + 10 * steps
        times = steps * step_s
        columns = {
            "observation.state": pa.array(list(rows.normal(size=(length, 3)).astype(np.float32))),
            "action": pa.FixedSizeListArray.from_arrays(rows.normal(size=length * 3).astype(np.float32), 3),
            "next.success": pa.array((steps == length - 1) & (episode == 1)),
            "language_instruction": pa.array(["x"] * length),
            "timestamp": pa.array(times.astype(np.float32)),
            "frame_index": pa.array(steps),
            "episode_index": pa.array(np.full(length, episode)),
            "index": pa.array(steps),
            "task_index": pa.array((steps > 3).astype(int) * episode),
        }
        if image_dtype == "image":
            blobs = [{"bytes": encode_png(picture(level)), "path": "x.png"} for level in levels]
            columns["observation.images.top"] = pa.array(blobs)
        else:
            # Frames halfway between the steps, and one before and after, belong to no step.
            between = np.sort(np.concatenate([times, times + step_s / 2]))
            shown = np.repeat(levels, 2) + np.tile([0, 100], length)
            name = f"videos/chunk-000/observation.images.top/episode_{episode:06d}.mp4"
            write_video(root / name, shown, between)
        pq.write_table(pa.table(columns), root / f"data/chunk-000/episode_{episode:06d}.parquet")
    return root


@pytest.mark.parametrize("image_dtype", ["video", "image"])
def test_v21_arrives_with_the_frame_of_each_timestamp(tmp_path, caplog, image_dtype):
    source = write_v21(tmp_path / "set", image_dtype=image_dtype)
    store = import_dataset(LeRobotFormatConfig(), source, tmp_path / "new.zarr")
    assert store.keys() == ["state", "top", "next_success", "action"]
    assert "language_instruction cannot be held" in caplog.text
    np.testing.assert_array_equal(store.episode_ends, [6, 15])
    for episode in range(2):
        table = pq.read_table(source / f"data/chunk-000/episode_{episode:06d}.parquet")
        found = store.episode(episode)
        for key in ("observation.state", "action"):
            expected = np.array(table[key].to_pylist(), np.float32)
            np.testing.assert_array_equal(found.data[key.removeprefix("observation.")], expected)
        expected = np.round(table["timestamp"].to_numpy().astype(np.float64) * 1e9)
        np.testing.assert_array_equal(found.time_ns, expected)
        shown = found.data["top"].mean(axis=(1, 2, 3))
        np.testing.assert_allclose(shown, 30 + 10 * np.arange(found.length), atol=2)
    assert store.episode_info(0) == EpisodeInfo(task="pick", success=False, embodiment="so100")
    assert store.episode_info(1) == EpisodeInfo(task="pick; place", success=True, embodiment="so100")
    assert store.attributes["names"] == {key: ["pan", "lift", "grip"] for key in ("state", "action")}


def test_v30_without_our_record_is_read_as_any_other(dataset, exported, tmp_path):
    store = import_dataset(LeRobotFormatConfig(), dataset, tmp_path / "new.zarr")
    original = DemoStore.open(exported / "store.zarr")
    names = ["state", "camera0_rgb", "contact", "markers", "ticks", "next_success", "action"]
    assert store.keys() == names
    np.testing.assert_array_equal(store.array("state")[:, :3], original.array("robot0_eef_pos"))
    np.testing.assert_array_equal(store.array("markers"), original.array("markers"))
    assert mean_error(store.array("camera0_rgb"), original.array("camera0_rgb")) <= 1.5
    assert [store.episode_info(index).task for index in range(3)] == list(TASKS)


def test_chosen_episodes_and_a_layout(dataset, exported, tmp_path):
    config = LeRobotFormatConfig(
        layout={"observation.state": {"p": [0, 3], "w": [3, 4]}, "action": "action"},
        features={"p": {"kind": "position", "unit": "m"}},
        episodes=[2, 0],
    )
    store = import_dataset(config, dataset, tmp_path / "new.zarr")
    original = DemoStore.open(exported / "store.zarr")
    np.testing.assert_array_equal(store.episode(0).data["p"], original.episode(2).data["robot0_eef_pos"])
    np.testing.assert_array_equal(store.episode(1).data["action"], original.episode(0).data["action"])
    assert (store.spec["p"].kind, store.attributes["names"]["w"]) == ("position", ["robot0_gripper_width"])


def test_an_action_is_made_of_several_keys_of_the_next_step(dataset, exported, tmp_path):
    """Of an export too: a layout stands above what the export has kept."""
    layout = {"observation.state": "state", "action": ["action", "observation.state"]}
    config = LeRobotFormatConfig(layout=layout, next_step=["action"])
    for number, source in enumerate((dataset, exported / "png")):
        store = import_dataset(config, source, tmp_path / f"{number}.zarr")
        for episode, original in zip(store, DemoStore.open(exported / "store.zarr"), strict=True):
            state = episode.data["state"]
            parts = np.hstack([original.data["action"], state])
            np.testing.assert_array_equal(episode.data["action"], [*parts[1:], parts[-1]])
        assert set(store.attributes.get("names", {"state": 0})) <= {"state"}


def test_a_video_without_a_frame_at_a_step_is_refused(tmp_path):
    source = write_v21(tmp_path / "set")
    video = source / "videos/chunk-000/observation.images.top/episode_000001.mp4"
    write_video(video, range(30, 120, 10), np.arange(9) * 0.102)
    with pytest.raises(StoreError, match=r"episode_000001\.mp4 .* no frame within 0\.001 s of 0\.100000 s"):
        import_dataset(LeRobotFormatConfig(), source, tmp_path / "new.zarr")
    store = import_dataset(LeRobotFormatConfig(tolerance_s=0.02), source, tmp_path / "new.zarr")
    np.testing.assert_allclose(store.episode(1).data["top"].mean(axis=(1, 2, 3)), range(30, 120, 10), atol=2)


def test_the_unitree_recordings(shared_data, tmp_path):
    source = shared_data / "unitree_g1_inspire_lerobot"
    if not source.is_dir():
        pytest.skip(f"{source} is missing")
    low = LeRobotFormatConfig(layout={"observation.state": "state", "action": "action"})
    store = import_dataset(low, source, tmp_path / "low.zarr")
    assert (len(store), store.num_steps, store.rate_hz) == (100, 35_965, 30)
    assert store.attributes["names"]["state"][-1] == "kRightHandThumbRotation"
    assert store.episode_info(7).task == "Pick up the yellow bottle on the table."
    with pytest.raises(StoreError, match=r"episode_000000\.mp4 is missing.*format\.episodes"):
        import_dataset(LeRobotFormatConfig(), source, tmp_path / "all.zarr")
    seen = import_dataset(LeRobotFormatConfig(episodes=[2]), source, tmp_path / "seen.zarr").episode(0)
    np.testing.assert_array_equal(seen.data["state"], store.episode(2).data["state"])
    with av.open(str(source / "videos/chunk-000/observation.images.cam_high/episode_000002.mp4")) as video:
        for step, frame in enumerate(video.decode(video=0)):
            if step % 60 == 0:
                np.testing.assert_array_equal(seen.data["cam_high"][step], frame.to_ndarray(format="rgb24"))
    assert seen.length == step + 1


# --- what is refused ----------------------------------------------------------------------------------------


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_info(**values):
    return lambda root: edit(root / "meta/info.json", lambda info: info.update(values))


def set_feature(key, **values):
    return lambda root: edit(root / "meta/info.json", lambda info: info["features"][key].update(values))


def change_rows(name: str, column: str, change):
    """Rewrites a column of a parquet file by ``change`` of its values."""

    def apply(root: Path) -> None:
        table = pq.read_table(root / name)
        place = table.schema.get_field_index(column)
        values = change(table[column].to_pylist())
        pq.write_table(table.set_column(place, column, pa.array(values)), root / name)

    return apply


def link(name: str):
    def apply(root: Path) -> None:
        outside = root.parent / "outside"
        shutil.move(root / name, outside)
        (root / name).symlink_to(outside)

    return apply


DATA = "data/chunk-000/file-000.parquet"
INDEX = "meta/episodes/chunk-000/file-000.parquet"
MOVIE = "videos/observation.images.camera0_rgb/chunk-000/file-000.mp4"
CLIP = "videos/observation.images.camera0_rgb/"
HOSTILE = {
    "an attribute in a path": (set_info(data_path="{chunk_index.__class__}"), "may hold only"),
    "an unknown name in a path": (set_info(data_path="{home}/x"), r"may hold only \{chunk_index\}"),
    "an absurd width in a path": (set_info(data_path="{chunk_index:0999999999d}"), "may hold only"),
    "a path that does not end": (set_info(data_path="{chunk_index"), r"info\.json cannot be read"),
    "an absolute path": (set_info(data_path="/etc/hostname"), "missing|leaves the data set"),
    "a path upward": (set_info(video_path="../../{video_key}"), "missing|leaves the data set"),
    "a data link outside": (link(DATA), "link that leaves the data set"),
    "a video link outside": (link(MOVIE), "link that leaves the data set"),
    "a folder linked outside": (link("meta/episodes"), "link that leaves the data set"),
    "an unknown version": (set_info(codebase_version="v4.0"), r"'v4\.0'; read are v2\.1 and v3\.0"),
    "no frames a second": (set_info(fps=0), "fps is 0"),
    "another rate": (set_info(fps=30), "are 10 a second, but meta/info.json says 30"),
    "an unknown dtype": (set_feature("action", dtype="flxat32"), "'action' has the dtype 'flxat32', which"),
    "more episodes": (set_info(total_episodes=4), "lists 3 episodes, but meta/info.json says 4"),
    "an absurd shape": (set_feature("action", shape=[60_000, 60_000]), "a step"),
    "a size that is none": (set_feature("action", shape=[-1]), "every size is from 1"),
    "another width": (set_feature("action", shape=[6]), r"'action' has 7 numbers a row.*\[6\] is expected"),
    "another type": (set_feature("action", dtype="int32"), "'action' is float but int32 is expected"),
    "a column that is not there": (
        lambda root: edit(root / "meta/info.json", lambda i: i["features"].update(x=i["features"]["action"])),
        "lacks the column x",
    ),
    "another image size": (
        set_feature("observation.images.camera0_rgb", shape=[64, 48, 3]),
        r"file-000\.mp4 cannot be read: it is 32 x 48, but meta/info\.json says 64 x 48",
    ),
    "rows of another episode": (
        change_rows(DATA, "episode_index", lambda v: [*v[:7], 1, *v[8:]]),
        "rows of episode 1 are where episode 2 should be",
    ),
    "time that stands still": (
        change_rows(DATA, "timestamp", lambda v: [*v[:2], v[1], *v[3:]]),
        "timestamps of episode 0 do not increase",
    ),
    "an action that is NaN": (
        change_rows(DATA, "action", lambda v: [*v[:8], [np.nan] * 7, *v[9:]]),
        r"file-000\.parquet, episode 2: 'action' is not finite .* step 2",
    ),
    "a row without a value": (change_rows(DATA, "action", lambda v: [None, *v[1:]]), "without a value"),
    "rows of different sizes": (change_rows(DATA, "action", lambda v: [[1.0], *v[1:]]), "different sizes"),
    "an unknown task": (change_rows(DATA, "task_index", lambda v: [9] * len(v)), "has the task 9"),
    "a task twice": (change_rows("meta/tasks.parquet", "task_index", lambda v: [0, 0]), "the task 0"),
    "rows that two episodes share": (
        lambda root: (
            change_rows(INDEX, "dataset_from_index", lambda v: [0, 4, 6])(root),
            change_rows(INDEX, "dataset_to_index", lambda v: [5, 5, 18])(root),
        ),
        "episodes 0 and 1 share rows",
    ),
    "a length that is wrong": (change_rows(INDEX, "length", lambda v: [6, 1, 12]), "has 6 steps from row 0"),
    "rows beyond the end": (
        change_rows(INDEX, "data/file_index", lambda v: [7, 7, 7]),
        r"file-007\.parquet is missing, which episode 0 needs",
    ),
    "frames beyond the end": (
        change_rows(INDEX, CLIP + "from_timestamp", lambda v: [*v[:2], 1.5]),
        r"no frame within 0\.001 s of 1\.8",
    ),
    "no index": (lambda root: shutil.rmtree(root / "meta/episodes"), "has no parquet files"),
    "no tasks": (lambda root: (root / "meta/tasks.parquet").unlink(), r"tasks\.parquet is missing"),
    "no info": (lambda root: (root / "meta/info.json").unlink(), r"info\.json is missing"),
    "deep JSON": (lambda root: (root / "meta/info.json").write_text("[" * 100_000), r"info\.json cannot"),
    "a video that is none": (
        lambda root: (root / MOVIE).write_bytes(b"#EXTM3U\n/etc/hostname"),
        "file-000.mp4",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_data_set_is_refused(dataset, tmp_path, case):
    change, message = HOSTILE[case]
    change(dataset)
    with pytest.raises(StoreError, match=message):
        import_dataset(LeRobotFormatConfig(), dataset, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()
    assert not list(tmp_path.glob(".new.zarr*"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
INFO_KEYS = [
    "codebase_version",
    "fps",
    "total_episodes",
    "chunks_size",
    "data_path",
    "video_path",
    "features",
]
FEATURE_KEYS = ["dtype", "shape", "names"]


@given(key=st.sampled_from(INFO_KEYS), value=JSON, feature=st.sampled_from([None, *FEATURE_KEYS]))
def test_any_value_in_info_json_gives_one_error_or_a_store(exported, tmp_path_factory, key, value, feature):
    target = tmp_path_factory.mktemp("info")
    source = copy(exported / "png", target / "set", record=False)

    def change(info):
        if feature is None:
            info[key] = value
        else:
            info["features"]["observation.contact"][feature] = value

    edit(source / "meta/info.json", change)
    message = ""
    try:
        import_dataset(LeRobotFormatConfig(), source, target / "new.zarr")
    except StoreError as error:
        message = str(error)
    assert str(source) in message or (target / "new.zarr").is_dir()
    shutil.rmtree(target)


@given(st.text(alphabet="ab{}:03d/.!_", max_size=30))
def test_a_template_is_filled_or_refused(template):
    try:
        filled = fill_template(template, {"a": 7, "b": "k"})
    except ValueError:
        return
    assert len(filled) <= len(template) + 20


def test_an_image_is_decoded_only_at_its_size():
    data = encode_png(picture(100))
    np.testing.assert_array_equal(decode_image(data, HEIGHT, WIDTH), picture(100))
    for wrong, message in (
        ((data, HEIGHT, WIDTH + 1), "32 x 48; 32 x 49 is expected"),
        ((b"GIF89a", 1, 1), "no JPEG image"),
        ((b"\xff\xd8\xff\xe0\x00", 1, 1), "no JPEG image"),
        ((data[:20], HEIGHT, WIDTH), "cut off"),
        ((data[:60], HEIGHT, WIDTH), "cut off"),
    ):
        with pytest.raises(ValueError, match=message):
            decode_image(*wrong)


# --- settings and failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "png"}, "import does not use format.codec"),
        ({"tolerance_s": 0.0}, "a time above 0"),
        ({"episodes": [3]}, "episodes 0 to 2"),
        ({"episodes": [1, 1]}, "named once"),
        ({"layout": {"observation.stat": "state"}}, r"source key 'observation\.stat'.*observation\.state"),
    ],
)
def test_settings_of_an_import_are_checked(dataset, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        import_dataset(LeRobotFormatConfig(**settings), dataset, tmp_path / "new.zarr")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "h265"}, "codec is 'h265'. Allowed codecs: .*libx264"),
        ({"codec": "png", "crf": 3}, "png loses nothing"),
        ({"crf": 64}, "0 .best. to 63"),
        ({"tolerance_s": 0.01}, "export does not use format.tolerance_s"),
        ({"keys": ["camera0_rbg"]}, "'camera0_rbg'.* camera0_rgb"),
        ({"keys": ["contact"]}, "one action"),
    ],
)
def test_settings_of_an_export_are_checked(exported, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        export_store(LeRobotFormatConfig(**settings), exported / "store.zarr", tmp_path / "set")


def test_what_lerobot_has_no_form_for_is_named(tmp_path):
    depth = Feature("depth", (4, 4), "uint16", kind="depth")
    store = DemoStore.create(tmp_path / "d.zarr", Spec((depth,), (Feature("action", (1,)),)), rate_hz=5)
    with pytest.raises(StoreError, match="no episodes"):
        export_store(LeRobotFormatConfig(), store.path, tmp_path / "set")
    data = {"depth": np.zeros((2, 4, 4), np.uint16), "action": np.zeros((2, 1), np.float32)}
    store.append_episode(data)
    with pytest.raises(ConfigError, match=r"Depth images \(depth\)"):
        export_store(LeRobotFormatConfig(), store.path, tmp_path / "set")
    export_store(LeRobotFormatConfig(keys=["action"]), store.path, tmp_path / "set")
    assert import_dataset(LeRobotFormatConfig(), tmp_path / "set", tmp_path / "n.zarr").keys() == ["action"]


def test_a_failing_export_leaves_nothing(exported, tmp_path, monkeypatch):
    def full(self, image):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("robopolicy_datasets.exchange.lerobot.videos.VideoWriter.append", full)
    with pytest.raises(StoreError, match="set cannot be written: No space left"):
        export_store(LeRobotFormatConfig(), exported / "store.zarr", tmp_path / "set")
    assert not list(tmp_path.iterdir())
    with pytest.raises(StoreError, match="exists already"):
        export_store(LeRobotFormatConfig(), exported / "store.zarr", exported / "png")


@pytest.mark.parametrize("module", ["pyarrow", "av"])
def test_a_missing_library_is_named(exported, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"robopolicy\[formats\]"):
        import_dataset(LeRobotFormatConfig(), exported / "libx264", tmp_path / "new.zarr")
    with pytest.raises(MissingExtraError, match=r"robopolicy\[formats\]"):
        export_store(LeRobotFormatConfig(), exported / "store.zarr", tmp_path / "set")


def test_a_format_for_importing_only_says_so():
    assert formats.load_exporter("lerobot") is export_store
    with pytest.raises(
        ConfigError, match=r"'aloha' is for importing only\. Exported are: diffusion_policy, lerobot, rob"
    ):
        formats.load_exporter("aloha")


@pytest.mark.parametrize("codec", ["libsvtav1", "libx264"])
def test_encoding_leaves_the_scheduling_of_its_thread_alone(tmp_path, codec):
    """libsvtav1 sets a real-time priority where it may; a test run by root notices."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with VideoWriter(tmp_path / "a.mp4", 64, 64, 10, codec, None) as video:
        for _ in range(3):
            video.append(np.zeros((64, 64, 3), np.uint8))
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
