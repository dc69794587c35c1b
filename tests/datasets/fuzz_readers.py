"""Every reader of files that others may have written or damaged, for ``fuzzing.py``.

Each function takes a folder, makes small sound files in it where there are none, and returns the reader.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import google_crc32c
import h5py
import imagecodecs
import numcodecs
import numpy as np
import pyarrow
import pyarrow.parquet
import zarr
from fuzzing import Reader

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange import aloha, diffusion_policy, hdf5_child, robomimic
from robopolicy_datasets.exchange.configs import (
    AlohaFormatConfig,
    DiffusionPolicyFormatConfig,
    LeRobotFormatConfig,
    RobomimicFormatConfig,
)
from robopolicy_datasets.exchange.hdf5_reader import Hdf5Reader
from robopolicy_datasets.exchange.lerobot import read as lerobot
from robopolicy_datasets.exchange.lerobot.images import decode_image, encode_png
from robopolicy_datasets.exchange.lerobot.record import RECORD_FILE
from robopolicy_datasets.exchange.lerobot.videos import VideoWriter, read_frames
from robopolicy_datasets.exchange.lerobot.write import export_store
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, NewEpisode, Stream
from robopolicy_datasets.store.codecs import Lz4Codec, encode_jpeg
from robopolicy_datasets.store.episode import CheckedEpisode, check_episode
from robopolicy_datasets.store.jpegxl import JpegXl
from robopolicy_datasets.store.layout import ArrayLayout, checked_key
from robopolicy_datasets.store.texts import decode_texts, encode_texts

Changed = Mapping[str, bytes | None]
SIDE = 8
LENGTHS = (3, 4)
SPEC = Spec(
    (
        *(
            Feature(f"{codec}_rgb", (SIDE, SIDE, 3), "uint8", kind="rgb")
            for codec in ("raw", "lz4", "zstd", "jpeg")
        ),
        Feature("robot0_eef_pos", (3,), "float64", kind="position", unit="m"),
        Feature("contact", (), "bool"),
    ),
    (Feature("action", (2,)),),
)
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", unit="N, N m", rate_hz=100.0)


def values_of(spec: Spec, length: int, seed: int) -> dict[str, np.ndarray]:
    """Random values, and smooth images that codecs can do something with."""
    generator = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for feature in spec.features:
        shape = (length, *feature.shape)
        if feature.is_image:
            ramp = (
                np.linspace(0, 60, feature.shape[1])[None, None, :, None]
                + 20 * np.arange(length)[:, None, None, None]
            )
            values[feature.key] = (np.zeros(shape) + ramp + 10 * seed).astype(np.uint8)
        elif feature.dtype == "bool":
            values[feature.key] = generator.random(shape) > 0.5
        else:
            values[feature.key] = generator.normal(size=shape).astype(feature.dtype)
    return values


# --- our own store --------------------------------------------------------------------------------------


def native(folder: Path) -> Reader:
    """Our store with every codec, a stream and events: equal to the bit, or an error.

    JSON has no checksums: the Spec may lack a key, and there may be fewer episodes or events, as before a
    commit; rows that lie behind the last episode are told. Nor do the checksums say where a file belongs: one
    that lies whole in the place of another of the same form is not noticed.
    """
    path = folder / "ours.zarr"
    if not path.exists():
        codecs = {f"{codec}_rgb": codec for codec in ("raw", "lz4", "zstd", "jpeg")}
        store = DemoStore.create(
            path, SPEC, rate_hz=10, codecs=codecs, streams=[WRENCH], metadata={"lab": "A"}
        )
        for number, length in enumerate(LENGTHS):
            samples = Stream(np.ones((5, 6), np.float32) * number, np.arange(5) * 10_000_000)
            info = EpisodeInfo(f"task {number}", number > 0, "ada", "arm", 123)
            event = Event("takeover", 1, 2, "slipped", data={"a": [1, 2]})
            store.append_episode(
                values_of(SPEC, length, number), info, streams={"robot0_wrench": samples}, events=[event]
            )
    expected = _content(DemoStore.open(path))
    sound = {file.read_bytes() for file in path.rglob("*") if file.is_file()}

    def read(changed: Changed) -> None:
        store = DemoStore.open(path)
        found = _content(store)
        episodes = len(found)
        assert episodes == len(expected) or store.unfinished_steps > 0, "episodes are gone"
        if any(content in sound for content in changed.values()):
            return
        for mine, theirs in zip(found, expected[:episodes], strict=True):
            wanted = dict(theirs)
            if f"{path.name}/zarr.json" in changed:
                wanted = {key: values for key, values in theirs.items() if key in mine}
            if f"{path.name}/meta/events/zarr.json" in changed:
                wanted["events"] = wanted["events"][: len(mine["events"])]
            _assert_same(mine, wanted)

    return Reader(path, read)


def _content(store: DemoStore) -> list[dict[str, Any]]:
    """Returns all that a store says of each episode."""
    rows, keys = np.arange(store.num_steps)[::-1], store.keys()
    taken = {key: store.take(key, rows)[::-1] for key in keys}
    whole = []
    for episode in store:
        start = int(store.episode_ends[episode.index]) - episode.length
        content: dict[str, Any] = {**episode.data, "time_ns": episode.time_ns}
        for key, values in taken.items():
            np.testing.assert_array_equal(values[start : start + episode.length], episode.data[key])
        for key, stream in episode.streams.items():
            content |= {f"{key}/value": stream.value, f"{key}/time_ns": stream.time_ns}
        content |= {"info": episode.info, "events": episode.events}
        whole.append(content)
    return whole


def _assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert set(found) == set(expected), set(found) ^ set(expected)
    for key, values in expected.items():
        if isinstance(values, np.ndarray):
            assert found[key].dtype == values.dtype, key
            np.testing.assert_array_equal(found[key], values, err_msg=key)
        else:
            assert found[key] == values, (key, found[key], values)


# --- diffusion_policy's folders and zips --------------------------------------------------------------------


def zarr_v2(folder: Path) -> Reader:
    """A folder of zarr v2: no checksums, so values may differ, but neither shapes, types nor counts."""
    return _zarr_folder(_write_zarr(folder / "theirs.zarr", 2))


def zarr_v3(folder: Path) -> Reader:
    """A folder of zarr v3, one array in shards: likewise."""
    return _zarr_folder(_write_zarr(folder / "theirs.zarr", 3))


def _zarr_folder(path: Path) -> Reader:
    def read(changed: Changed) -> None:
        store = DemoStore.open(path)
        assert (np.diff(store.episode_ends, prepend=0) > 0).all()
        for feature in store.spec.features:
            values = store.array(feature.key)
            assert values.shape == (store.num_steps, *feature.shape), feature.key
            assert values.dtype == np.dtype(feature.dtype), feature.key

    return Reader(path, read)


def zarr_zip(folder: Path) -> Reader:
    """A zip of zarr v2, some entries deflated: each has a CRC, so equal to the bit, or an error."""
    return _zip_reader(folder, _write_zarr(folder / "theirs.zarr", 2))


def umi_zip(folder: Path) -> Reader:
    """UMI's zip with JPEG XL images: likewise."""
    source = _write_zarr(folder / "theirs.zarr", 2)
    array = source / "data" / "img"
    metadata = json.loads((array / ".zarray").read_text())
    metadata |= {"chunks": [1, SIDE, SIDE, 3], "compressor": {"id": "imagecodecs_jpegxl"}}
    (array / ".zarray").write_text(json.dumps(metadata))
    (array / "0.0.0.0").unlink(missing_ok=True)
    for number, image in enumerate(_foreign_arrays()["img"]):
        (array / f"{number}.0.0.0").write_bytes(imagecodecs.jpegxl_encode(image, lossless=True))
    return _zip_reader(folder, source)


def _zip_reader(folder: Path, source: Path) -> Reader:
    path = folder / "theirs.zarr.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(str(file.relative_to(source)))  # of a fixed date
                entry.compress_type = zipfile.ZIP_STORED if "img" in entry.filename else zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    expected = _foreign_arrays()

    def read(changed: Changed) -> None:
        store = DemoStore.open(path)
        _assert_same({key: store.array(key) for key in expected}, expected)
        assert store.episode_ends.tolist() == list(np.cumsum(LENGTHS))

    return Reader(path, read)


def _foreign_arrays() -> dict[str, np.ndarray]:
    spec = Spec((Feature("img", (SIDE, SIDE, 3), "uint8", kind="rgb"),), (SPEC["action"],))
    return values_of(spec, sum(LENGTHS), 0)


def _write_zarr(path: Path, zarr_format: int) -> Path:
    """Writes a store with another codec for each array."""
    codecs = {
        2: (numcodecs.Blosc("lz4", shuffle=2), numcodecs.Zstd()),
        3: (zarr.codecs.BloscCodec(typesize=1), zarr.codecs.GzipCodec()),
    }[zarr_format]
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for (key, values), codec in zip(_foreign_arrays().items(), codecs, strict=True):
        shards = {"shards": (8, *values.shape[1:])} if zarr_format == 3 and key == "img" else {}
        chunks = (4, *values.shape[1:])
        group.create_array(f"data/{key}", data=values, chunks=chunks, compressors=[codec], **shards)
    group.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))
    return path


class Collected:
    """Stands in for the new store of an import: checks each episode as a store does, and keeps it."""

    def __init__(self, spec: Spec, rate_hz: float) -> None:
        if not 0 < rate_hz < float("inf"):
            raise StoreError(f"The rate is {rate_hz}.")
        for feature in spec.features:
            checked_key(feature.key)
            ArrayLayout.of_feature(feature)
        self.spec, self.rate_hz = spec, rate_hz
        self.episodes: list[CheckedEpisode] = []

    def append_episodes(self, episodes: Sequence[NewEpisode]) -> None:
        self.episodes += [check_episode(episode, self.spec, self.rate_hz, ()) for episode in episodes]


def _importing(
    module: ModuleType,
    source: Path,
    config: Any,
    check: Callable[[Collected, Changed], None] | None = None,
    **others: Any,
) -> Reader:
    """Returns the reader of an import that does all but write the new store.

    ``others`` stand in for more names of the module.
    """
    target = source.with_name("new.zarr")
    made: list[Collected] = []

    @contextmanager
    def collecting(
        source: Path, target: Path, spec: Spec, *, rate_hz: float, metadata: Any, codecs: Any = None
    ) -> Iterator[Collected]:
        json.dumps(metadata)
        try:
            made[:] = [Collected(spec, rate_hz)]
            yield made[0]
        except StoreError as error:
            raise StoreError(f"{source} cannot be imported. {error}") from error

    def open_(path: Path) -> Any:
        return made[0] if path == target else DemoStore.open(path)

    others |= {"new_store": collecting, "DemoStore": SimpleNamespace(open=open_)}
    import_ = getattr(module, "import_dataset", None) or module.import_store

    def read(changed: Changed) -> None:
        with mock.patch.multiple(module, **others):
            found = import_(config, source, target)
        assert found.episodes
        if check is not None:
            check(found, changed)

    return Reader(source, read)


# --- HDF5 ---------------------------------------------------------------------------------------------------


class InProcessReader(Hdf5Reader):
    """Calls the functions of the process that reads HDF5, in this one, whose end is watched."""

    def __init__(self, *, answer_seconds: int = 60) -> None:
        self.path = Path()
        self._file = hdf5_child._File()

    def __exit__(self, *error: object) -> None:
        if self._file._file is not None:
            self._file._file.close()

    def _ask(self, request: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = getattr(self._file, request)(**json.loads(json.dumps(arguments)))
        except hdf5_child._ERRORS as error:
            raise self._unusable(str(error) or type(error).__name__) from error
        output = io.BytesIO()
        hdf5_child._send(output, answer)
        output.seek(0)
        self._answers = io.BufferedReader(output)
        return json.loads(self._answers.readline())


def _hdf5(module: ModuleType, path: Path, config: Any) -> Reader:
    """The HDF5 library may hang or crash; that is why it is used in a process with a timer and a limit."""
    reader = _importing(module, path, config, Hdf5Reader=InProcessReader)
    return replace(reader, memory_bytes=4 << 30, seconds=2)


def robomimic_hdf5(folder: Path) -> Reader:
    """A robomimic file, with the functions of the process that reads it."""
    path = folder / "lift.hdf5"
    with h5py.File(path, "w") as file:
        environment = {"env_name": "Lift", "env_kwargs": {"control_freq": 20, "reward_shaping": False}}
        file.create_group("data").attrs["env_args"] = json.dumps(environment)
        for number, length in enumerate(LENGTHS):
            group = file["data"].create_group(f"demo_{number}")
            group.attrs["num_samples"] = length
            for key, values in values_of(SPEC, length, number).items():
                name = {"action": "actions", "raw_rgb": "obs/view", "robot0_eef_pos": "obs/pos"}.get(key)
                if name:
                    packed = {"compression": "gzip", "chunks": (2, SIDE, SIDE, 3)} if "view" in name else {}
                    group.create_dataset(name, data=values, **packed)
        file["mask/train"] = np.array([b"demo_1", b"demo_0"])
    return _hdf5(robomimic, path, RobomimicFormatConfig(mask="train"))


def aloha_hdf5(folder: Path) -> Reader:
    """An ALOHA recording with JPEG images, likewise."""
    path = folder / "episode_0.hdf5"
    values = values_of(SPEC, 4, 0)
    images = [encode_jpeg(image, 95) for image in values["raw_rgb"]]
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = False
        file["observations/qpos"], file["action"] = values["robot0_eef_pos"], values["action"]
        file["compress_len"] = np.array([[len(image) for image in images]], float)
        padded = np.array([list(image.ljust(max(map(len, images)), b"\0")) for image in images], np.uint8)
        file.create_dataset("observations/images/top", data=padded, chunks=(1, padded.shape[1]))
    return _hdf5(aloha, path, AlohaFormatConfig())


# --- LeRobot ------------------------------------------------------------------------------------------------

_LEROBOT_SPEC = Spec(
    (
        Feature("top", (16, 16, 3), "uint8", kind="rgb"),
        Feature("state", (3,), "float64"),
        Feature("contact", (), "bool"),
    ),
    (Feature("action", (2,)),),
)


def lerobot_v2(folder: Path) -> Reader:
    """A LeRobot v2.1 data set with H.264 videos; nothing in it has a checksum."""
    return _importing(lerobot, _write_lerobot_v2(folder / "set"), LeRobotFormatConfig())


def lerobot_v3(folder: Path) -> Reader:
    """A LeRobot v3.0 data set with H.264 video, as others write it; but our parquet pages have checksums."""
    path = _export(folder, "libx264")
    (path / RECORD_FILE).unlink()
    expected = _lerobot_content(DemoStore.open(folder / "store.zarr"))

    def check(found: Collected, changed: Changed) -> None:
        assert len(found.episodes) == len(LENGTHS)
        if all(name.startswith("set/data") for name in changed):
            _assert_same({"action": np.concatenate([e.data["action"] for e in found.episodes])}, expected)

    return _importing(lerobot, path, LeRobotFormatConfig(), check)


def lerobot_export(folder: Path) -> Reader:
    """An export of ours, with PNG images and the SHA-256 of every file: equal to the bit, or an error."""
    path = _export(folder, "png")
    expected = [(dict(episode.data), episode.info) for episode in DemoStore.open(folder / "store.zarr")]

    def check(found: Collected, changed: Changed) -> None:
        if changed.get(f"set/{RECORD_FILE}", b"") is None:  # taken away, it is any other data set
            return
        for episode, (data, info) in zip(found.episodes, expected, strict=True):
            _assert_same(episode.data, data)
            assert episode.info == info

    return _importing(lerobot, path, LeRobotFormatConfig(), check)


def _lerobot_content(store: DemoStore) -> dict[str, np.ndarray]:
    return {"action": store.array("action")}


def _export(folder: Path, codec: str) -> Path:
    store, path = folder / "store.zarr", folder / "set"
    if not store.exists():
        made = DemoStore.create(store, _LEROBOT_SPEC, rate_hz=10)
        for number, length in enumerate(LENGTHS):
            made.append_episode(
                values_of(_LEROBOT_SPEC, length, number), EpisodeInfo(f"task {number}", success=True)
            )
    shutil.rmtree(path, ignore_errors=True)
    export_store(LeRobotFormatConfig(codec=codec), store, path)
    return path


def _write_lerobot_v2(root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    for part in ("meta", "data/chunk-000", "videos/chunk-000/top"):
        (root / part).mkdir(parents=True)
    shapes = {
        "state": ("float64", 3),
        "action": ("float32", 2),
        "contact": ("bool", 1),
        "timestamp": ("float32", 1),
    }
    shapes |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), ("int64", 1))
    features = {
        key: {"dtype": dtype, "shape": [size], "names": None} for key, (dtype, size) in shapes.items()
    }
    names = ["height", "width", "channels"]
    features["observation.images.top"] = {"dtype": "video", "shape": [16, 16, 3], "names": names}
    info = {
        **{"codebase_version": "v2.1", "robot_type": "arm", "total_episodes": len(LENGTHS), "fps": 10},
        **{"chunks_size": 1000, "data_path": "data/chunk-{episode_chunk:03d}/{episode_index:06d}.parquet"},
        "video_path": "videos/chunk-{episode_chunk:03d}/top/{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(
        '{"task_index": 0, "task": "pick"}\n{"task_index": 1, "task": "place"}\n'
    )
    entries = [{"episode_index": index, "length": length} for index, length in enumerate(LENGTHS)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, entries)))
    for number, length in enumerate(LENGTHS):
        values, steps = values_of(_LEROBOT_SPEC, length, number), np.arange(length)
        columns = {
            **{key: pyarrow.array(list(values[key])) for key in ("state", "action", "contact")},
            "timestamp": pyarrow.array((steps * 0.1).astype(np.float32)),
            **{key: pyarrow.array(steps) for key in ("frame_index", "index")},
            **{key: pyarrow.array(np.full(length, number)) for key in ("episode_index", "task_index")},
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), root / f"data/chunk-000/{number:06d}.parquet")
        video = root / f"videos/chunk-000/top/{number:06d}.mp4"
        with VideoWriter(video, 16, 16, 10, "libx264", None) as writer:
            for image in values["top"]:
                writer.append(image)
    return root


def video_h264(folder: Path) -> Reader:
    """The frames of one H.264 file."""
    return _video(folder, "libx264")


def video_av1(folder: Path) -> Reader:
    """The frames of one AV1 file."""
    return _video(folder, "libsvtav1")


def _video(folder: Path, codec: str) -> Reader:
    path, images = folder / "file.mp4", values_of(_LEROBOT_SPEC, 4, 0)["top"].repeat(4, 1).repeat(4, 2)
    with VideoWriter(path, 64, 64, 10, codec, None) as writer:
        for image in images:
            writer.append(image)
    time_ns = np.arange(len(images)) * 100_000_000

    def read(changed: Changed) -> None:
        assert read_frames(path, time_ns, 1_000_000, 64, 64).shape == images.shape

    return Reader(path, read)


# --- parts --------------------------------------------------------------------------------------------------


def image_jpeg(folder: Path) -> Reader:
    """One JPEG image."""
    return _image(folder, encode_jpeg(values_of(SPEC, 1, 0)["raw_rgb"][0], 95), decode_image)


def image_png(folder: Path) -> Reader:
    """One PNG image."""
    return _image(folder, encode_png(values_of(SPEC, 1, 0)["raw_rgb"][0]), decode_image)


def image_jpeg_xl(folder: Path) -> Reader:
    """One JPEG XL image."""
    codec = JpegXl((SIDE, SIDE, 3), "uint8")
    data = imagecodecs.jpegxl_encode(values_of(SPEC, 1, 0)["raw_rgb"][0], lossless=True)
    return _image(folder, data, lambda content, height, width: codec.decode(content))


def _image(folder: Path, data: bytes, decode: Callable[[bytes, int, int], np.ndarray]) -> Reader:
    path = folder / "image"
    path.write_bytes(data)

    def read(changed: Changed) -> None:
        content = path.read_bytes() if path.exists() else b""
        image = decode(content, SIDE, SIDE)
        assert (image.shape, image.dtype) == ((SIDE, SIDE, 3), np.uint8)

    return Reader(path, read, errors=(ValueError, RuntimeError), names_root=False)


def chunk_lz4(folder: Path) -> Reader:
    """One chunk of our lz4 codec, its checksum always right: what a hostile hand would write."""
    codec, values = Lz4Codec(), values_of(SPEC, 1, 0)["lz4_rgb"]

    def decode(content: bytes, height: int, width: int) -> np.ndarray:
        image = np.empty((height, width, 3), np.uint8)
        codec.decode(content + struct.pack("<I", google_crc32c.value(content)), image)
        return image

    return _image(folder, codec.encode(values)[:-4], decode)


def store_texts(folder: Path) -> Reader:
    """The texts of an episode and of an event, with the right checksum: the types are those declared."""
    root = folder / "texts"
    root.mkdir(exist_ok=True)
    (root / "info").write_text(EpisodeInfo("push", True, "ada", "arm", 123).to_text())
    (root / "event").write_text(Event("gap", 1, 2, "none", "ada", {"a": 1}, 0).to_text())

    def read(changed: Changed) -> None:
        for name, kind in (("info", EpisodeInfo), ("event", Event)):
            path = root / name
            if path.exists():
                (text,) = decode_texts(encode_texts([path.read_bytes().decode()], 1))
                found = kind.from_text(text)
                sound = kind("a", 0, 0) if kind is Event else kind(success=found.success)
                assert [type(value) for value in asdict(found).values()] == [
                    type(value) for value in asdict(sound).values()
                ]

    return Reader(root, read, errors=(ValueError, TypeError), names_root=False)


# --- pieces of real recordings ------------------------------------------------------------------------------


def real_zarr(folder: Path) -> Reader:
    """The first chunk of actions and states of Columbia's Push-T."""
    source = Path(os.environ["ROBOPOLICY_SHARED_DATA"]) / "pusht_columbia/pusht_cchi_v7_replay.zarr"
    path = folder / "pusht.zarr"
    for name in ("data/action", "data/state"):
        (path / name).mkdir(parents=True, exist_ok=True)
        metadata = json.loads((source / name / ".zarray").read_text())
        metadata["shape"][0] = rows = metadata["chunks"][0]
        (path / name / ".zarray").write_text(json.dumps(metadata))
        (path / name / "0.0").write_bytes((source / name / "0.0").read_bytes())
    group = zarr.open_group(path, mode="a", zarr_format=2)
    group.create_array("meta/episode_ends", data=np.array([60, 100, rows]), overwrite=True)
    return _importing(diffusion_policy, path, DiffusionPolicyFormatConfig())


def real_lerobot(folder: Path) -> Reader:
    """The first episode of a Unitree G1, without its video."""
    source, path = Path(os.environ["ROBOPOLICY_SHARED_DATA"]) / "unitree_g1_inspire_lerobot", folder / "g1"
    (path / "meta").mkdir(parents=True, exist_ok=True)
    (path / "data/chunk-000").mkdir(parents=True, exist_ok=True)
    info = json.loads((source / "meta/info.json").read_text()) | {"total_episodes": 1}
    (path / "meta/info.json").write_text(json.dumps(info))
    (path / "meta/episodes.jsonl").write_text((source / "meta/episodes.jsonl").read_text().splitlines()[0])
    for name in ("meta/tasks.jsonl", "data/chunk-000/episode_000000.parquet"):
        (path / name).write_bytes((source / name).read_bytes())
    config = LeRobotFormatConfig(layout={"observation.state": "state", "action": "action"})
    return _importing(lerobot, path, config)
