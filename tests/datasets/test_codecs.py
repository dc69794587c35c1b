"""How chunks become bytes, and that zarr itself reads them too."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import cv2
import google_crc32c
import numpy as np
import pytest
import zarr
from fastcrc.crc32 import iscsi
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numcodecs.zstd import Zstd

from robopolicy_datasets.doctor.compression import savings
from robopolicy_datasets.doctor.edit import relabel_store
from robopolicy_datasets.doctor.merge import merge_stores
from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, blocks, layout, threads
from robopolicy_datasets.store.codecs import CODECS, choose_codec, codec_of_chain, parse_codec
from robopolicy_datasets.store.shards import Shard, pack_shard
from robopolicy_datasets.store.texts import decode_texts, encode_texts
from robopolicy_datasets.windows import KeyWindow, WindowSampler

LOSSLESS = ["raw", "lz4", "zstd", "zstd:1", "zstd:19"]
ALL = [*LOSSLESS, "jpeg", "jpeg:80"]
NUMBERS = arrays.arrays(
    st.sampled_from(["uint8", "int16", "uint16", "int64", "float32", "float64", "bool"]),
    arrays.array_shapes(min_dims=1, max_dims=4, max_side=9),
)
SPEC = Spec(
    (Feature("camera0_rgb", (40, 48, 3), "uint8", kind="rgb"),),
    (Feature("action", (2,)),),
)


def filmed(count, seed=0):
    """Smooth images with the noise of a sensor."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (count, 5, 6, 3))
    smooth = np.stack([cv2.resize(image, (48, 40), interpolation=cv2.INTER_CUBIC) for image in coarse])
    return np.clip(smooth + random.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)


def drawn(count):
    images = np.full((count, 40, 48, 3), 200, np.uint8)
    for number, image in enumerate(images):
        cv2.circle(image, (10 + number % 20, 20), 8, (40, 80, 160), -1)
    return images


def make_store(path, images, codec, episode=25):
    store = DemoStore.create(path, SPEC, rate_hz=10, codecs={"camera0_rgb": codec})
    for first in range(0, len(images), episode):
        part = images[first : first + episode]
        store.append_episode({"camera0_rgb": part, "action": np.zeros((len(part), 2), np.float32)})
    return DemoStore.open(path)


@pytest.mark.parametrize("text", LOSSLESS)
@given(values=NUMBERS)
def test_lossless_codecs_keep_every_bit(text, values):
    codec, found = parse_codec(text), np.empty_like(values)
    codec.decode(codec.encode(values), found)
    assert found.tobytes() == values.tobytes()


def test_jpeg_comes_close():
    codec, images = parse_codec("jpeg"), filmed(8)
    found = np.empty_like(images)
    for image, out in zip(images, found, strict=True):
        codec.decode(codec.encode(image), out)
    assert np.abs(found.astype(float) - images).mean() < 3


@pytest.mark.parametrize("text", ALL)
def test_damaged_chunks_are_noticed(text):
    codec, image = parse_codec(text), filmed(1)[0]
    data, random = codec.encode(image), np.random.default_rng(0)
    expected, found = np.empty_like(image), np.empty_like(image)
    codec.decode(data, expected)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= 1 << random.integers(8)
        try:
            codec.decode(bytes(damaged), found)
        except ValueError:
            continue
        np.testing.assert_array_equal(found, expected)
    for length in random.integers(0, len(data), 50):
        with pytest.raises(ValueError, match=r".+"):
            codec.decode(data[:length], found)
    with pytest.raises(ValueError, match=r".+"):
        codec.decode(data, np.empty((40, 49, 3), np.uint8))


@given(st.binary(max_size=5000), st.integers(0, 20))
def test_the_checksum_is_the_one_of_zarr(content, skip):
    padded = bytes(skip) + content  # at any alignment
    assert iscsi(memoryview(padded)[skip:]) == google_crc32c.value(content)


def test_texts_that_would_fill_the_memory_are_refused():
    data = encode_texts(["some", "texts"], 4)
    assert decode_texts(data) == ["some", "texts", "", ""]
    frame = bytearray(Zstd(3).encode(bytes(70_000)))
    frame[4] |= 0xC0  # the declared size takes eight bytes, and is absurd
    with pytest.raises(ValueError, match="at most"):
        decode_texts(bytes(frame[:5]) + b"\xff" * 8 + bytes(frame[9:]))


@pytest.mark.parametrize("text", ALL)
def test_a_codec_is_found_by_what_it_writes_into_the_metadata(text):
    codec = parse_codec(text)
    assert codec_of_chain(json.loads(json.dumps(codec.chain(1))), 1) == codec
    assert parse_codec(codec.text) == codec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg", "Allowed: jpeg"),
        ("zstd:0", "Allowed for zstd: 1 to 19"),
        ("jpeg:best", "Allowed for jpeg: 1 to 100"),
        ("raw:1", "Allowed for raw: none"),
    ],
)
def test_unknown_codecs_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_codec(text)


@pytest.mark.parametrize("name", CODECS)
def test_zarr_reads_what_we_write(name, tmp_path):
    """In a process of its own, which finds the jpeg codec by its entry point and imports nothing of ours."""
    store = make_store(tmp_path / "a.zarr", filmed(40), name)
    script = (
        "import sys, zarr, numpy\n"
        f"values = zarr.open({str(store.path)!r}, mode='r')['data/camera0_rgb'][:]\n"
        "numpy.save(sys.argv[1], values)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "found.npy"], check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), store.array("camera0_rgb"))


def test_zarr_writes_jpeg_that_we_can_decode(tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(40), "jpeg")
    images = filmed(40, seed=1)
    zarr.open(store.path, mode="r+")["data/camera0_rgb"][:] = images
    found = DemoStore.open(store.path).array("camera0_rgb")
    assert np.abs(found.astype(float) - images).mean() < 3


def test_the_first_episodes_decide(tmp_path):
    assert choose_codec(drawn(4)).text == "zstd:3"
    assert choose_codec(filmed(4)).text == "jpeg:95"
    for name, images, codec in [("drawn", drawn(60), "zstd"), ("filmed", filmed(60), "robopolicy.jpeg")]:
        store = make_store(tmp_path / f"{name}.zarr", images, "auto")
        assert codec in (store.path / "data" / "camera0_rgb" / "zarr.json").read_text()
        assert np.abs(store.array("camera0_rgb").astype(float) - images).mean() < 3


def test_a_second_writer_takes_over_the_codec(tmp_path):
    action = np.zeros((5, 2), np.float32)
    first = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10, codecs={"camera0_rgb": "auto"})
    second = DemoStore.open(first.path, "a")
    first.append_episode({"camera0_rgb": filmed(5), "action": action})
    second.append_episode({"camera0_rgb": drawn(5), "action": action})
    assert np.abs(DemoStore.open(first.path).array("camera0_rgb")[5:].astype(float) - drawn(5)).mean() < 3


def test_a_codec_for_a_kind_is_for_all_of_it_but_keys_with_their_own(tmp_path):
    cameras = [Feature(f"camera{number}_rgb", (40, 48, 3), "uint8", kind="rgb") for number in range(3)]
    spec = Spec((*cameras, Feature("robot0_joint_pos", (6,), kind="joint")), SPEC.action)
    codecs = {"rgb": "jpeg:90", "camera1_rgb": "lz4", "joint": "zstd:9"}
    assert DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=10, codecs=codecs).codecs == {
        "camera0_rgb": "jpeg:90",
        "camera1_rgb": "lz4",
        "camera2_rgb": "jpeg:90",
        "robot0_joint_pos": "zstd:9",
        "action": "zstd:3",
    }


def test_what_jpeg_would_save_of_filmed_images_is_told(tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(40), "zstd")
    (saving,) = savings(store)
    jpeg = make_store(tmp_path / "b.zarr", filmed(40), saving.codec)
    sizes = [sum(map(len, one.encoded("camera0_rgb", np.arange(40)).chunks)) for one in (jpeg, store)]
    error = np.abs(jpeg.array("camera0_rgb") - filmed(40).astype(float)).mean()
    assert (saving.key, saving.codec) == ("camera0_rgb", "jpeg:95")
    assert saving.share == pytest.approx(sizes[0] / sizes[1], rel=0.1)
    assert saving.mean_error == pytest.approx(error, rel=0.1)
    assert savings(jpeg) == []  # is JPEG already
    assert savings(make_store(tmp_path / "c.zarr", drawn(40), "zstd")) == []
    assert savings(DemoStore.create(tmp_path / "d.zarr", SPEC, rate_hz=10)) == []


def test_codecs_that_do_not_fit_are_refused(tmp_path):
    for codecs, error, message in [
        ({"action": "jpeg"}, StoreError, "jpeg is for rgb images"),
        ({"camera_rgb": "jpeg"}, ConfigError, "neither a key nor a kind of the store: camera0_rgb"),
        ({"rbg": "jpeg"}, ConfigError, "'rbg', which is neither .*: rgb"),
        ({"camera0_rgb": "png"}, ConfigError, "There is no codec 'png'"),
    ]:
        with pytest.raises(error, match=message):
            DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10, codecs=codecs)
    assert not list(tmp_path.iterdir())


def test_stores_of_the_first_schema_are_read_and_extended(tmp_path):
    store = make_store(tmp_path / "a.zarr", drawn(10), "zstd")
    metadata = store.path / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"]["robopolicy_schema"] = 1
    del content["attributes"]["codec_by_content"]
    metadata.write_text(json.dumps(content))
    old = DemoStore.open(store.path, "a")
    old.append_episode({"camera0_rgb": filmed(7), "action": np.zeros((7, 2), np.float32)})
    found = DemoStore.open(store.path).array("camera0_rgb")
    np.testing.assert_array_equal(found, np.concatenate([drawn(10), filmed(7)]))


def test_single_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_MOST_OPEN_SHARDS", 2)
    images = filmed(1000)  # several shards
    store = make_store(tmp_path / "a.zarr", images, "lz4", episode=250)
    rows = np.random.default_rng(0).integers(0, 1000, 300)
    for some in (rows, rows[:1], rows[:0]):
        np.testing.assert_array_equal(store.take("camera0_rgb", some), images[some])
    np.testing.assert_array_equal(store.take("action", rows), np.zeros((300, 2), np.float32))
    for wrong in ([1000], [-1]):
        with pytest.raises(StoreError, match="has 1000, from 0 on"):
            store.take("camera0_rgb", np.array(wrong))


@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(1, 20)), max_size=6),
    st.integers(1, 3),
    st.sampled_from([1, 12_000, 1 << 20]),
)
def test_rows_are_those_asked_for_however_they_are_read(runs_store, runs, count, most):
    store, images = runs_store
    rows = np.array([row for first, count in runs for row in range(first, min(first + count, 40))], int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_FROM_BYTES", 0)
        patch.setattr(threads, "_MOST", 3)
        patch.setattr(blocks, "_MOST_RUN_BYTES", most)
        with threads.at_most(count):
            found = DemoStore.open(store.path).take("camera0_rgb", rows)
    np.testing.assert_array_equal(found, images[rows])


@pytest.fixture(scope="module", params=["raw", "lz4", "zstd"])
def runs_store(request, tmp_path_factory):
    """Images over several shards of 8."""
    images = filmed(40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_SHARD_BYTES", 1)
        return make_store(tmp_path_factory.mktemp("runs") / "a.zarr", images, request.param), images


@pytest.mark.parametrize("codec", ["raw", "lz4", "zstd"])
def test_shards_with_chunks_in_another_order_are_read(codec, tmp_path):
    images = filmed(10)
    store = make_store(tmp_path / "a.zarr", images, codec)
    (path,) = (store.path / "data" / "camera0_rgb").glob("c.*")
    slots = store._source("camera0_rgb").layout.block_rows
    chunks = [bytes(chunk) for chunk in Shard(path, slots).read(0, 10)]
    data = bytearray(pack_shard(chunks[::-1], slots))  # the last chunk first, as other programs may do
    index = np.frombuffer(data, "<u8", 2 * 10, len(data) - 16 * slots - 4).reshape(10, 2)
    index[...] = index[::-1].copy()
    data[-4:] = iscsi(data[-16 * slots - 4 : -4]).to_bytes(4, "little")
    path.write_bytes(data)
    store = DemoStore.open(store.path)
    np.testing.assert_array_equal(store.take("camera0_rgb", np.arange(10)), images)
    np.testing.assert_array_equal(store.take("camera0_rgb", np.array([3, 4, 9])), images[[3, 4, 9]])


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_frame_is_noticed_anywhere_in_a_window(codec, tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(10), codec)
    (path,) = (store.path / "data" / "camera0_rgb").glob("c.*")
    sizes = [len(chunk) for chunk in chunks_of(store)]
    data = bytearray(path.read_bytes())
    data[sum(sizes[:4]) + sizes[4] // 2] ^= 1  # in frame 4
    path.write_bytes(data)
    store = DemoStore.open(store.path)
    for rows in ([3, 4], [4, 5], [4], [3, 4, 5]):
        with pytest.raises(StoreError, match=r"data/camera0_rgb/c\S* is damaged"):
            store.take("camera0_rgb", np.array(rows))
    store.take("camera0_rgb", np.array([2, 3]))
    store.take("camera0_rgb", np.array([5, 6]))


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_shard_that_is_cut_off_is_noticed(codec, tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(10), codec)
    (path,) = (store.path / "data" / "camera0_rgb").glob("c.*")
    store.take("camera0_rgb", np.array([0]))  # open, with its index in memory
    os.truncate(path, sum(len(chunk) for chunk in chunks_of(store)) - 100)
    store.take("camera0_rgb", np.array([7, 8]))
    with pytest.raises(StoreError, match="cut off"):
        store.take("camera0_rgb", np.array([8, 9]))


def test_all_arrays_together_keep_few_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_MOST_OPEN_SHARDS", 4)
    stores = [make_store(tmp_path / f"{number}.zarr", drawn(700), "zstd") for number in range(3)]
    before = len(os.listdir("/proc/self/fd"))
    for store in stores:
        np.testing.assert_array_equal(store.array("camera0_rgb"), drawn(700))
    assert len(os.listdir("/proc/self/fd")) <= before + 4
    numbers = {store._source("camera0_rgb")._number for store in stores}
    assert numbers & {array for array, _ in blocks._open_shards._shards}
    stores.clear()
    del store
    gc.collect()
    assert not numbers & {array for array, _ in blocks._open_shards._shards}


def test_a_reader_goes_on_while_its_last_shard_is_replaced(tmp_path):
    images = filmed(30)
    reader = make_store(tmp_path / "a.zarr", images, "lz4")
    rows = np.arange(30)
    np.testing.assert_array_equal(reader.take("camera0_rgb", rows), images)
    writer = DemoStore.open(reader.path, "a")
    writer.append_episode({"camera0_rgb": filmed(9, seed=1), "action": np.zeros((9, 2), np.float32)})
    np.testing.assert_array_equal(reader.take("camera0_rgb", rows), images)
    np.testing.assert_array_equal(writer.take("camera0_rgb", np.arange(30, 39)), filmed(9, seed=1))


def test_windows_from_disk_are_those_from_memory(tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(100), "jpeg")
    settings = {"observation": {"camera0_rgb": KeyWindow.past(2)}, "action": KeyWindow(-1, 8)}
    memory, disk = WindowSampler(store, **settings), WindowSampler(store, **settings, image_memory=0)
    assert (memory.on_disk, disk.on_disk) == ([], ["camera0_rgb"])
    for first, second in zip(
        memory.batches(16, seed=0, epoch=0), disk.batches(16, seed=0, epoch=0), strict=True
    ):
        np.testing.assert_array_equal(
            first["observation"]["camera0_rgb"], second["observation"]["camera0_rgb"]
        )
        np.testing.assert_array_equal(first["action"], second["action"])


def chunks_of(store):
    return store.encoded("camera0_rgb", np.arange(store.num_steps)).chunks


def test_copies_keep_jpeg_images_to_the_bit(tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(60), "jpeg:80")
    copied = relabel_store(store, tmp_path / "b.zarr", range(len(store)), task="another")
    merged = merge_stores([store, copied], tmp_path / "c.zarr")
    assert (copied.codecs["camera0_rgb"], merged.codecs["camera0_rgb"]) == ("jpeg:80", "jpeg:80")
    assert chunks_of(copied) == chunks_of(store)
    assert chunks_of(merged) == [*chunks_of(store), *chunks_of(store)]


def test_stores_of_other_codecs_are_merged_without_loss(tmp_path):
    stores = [
        make_store(tmp_path / f"{codec}.zarr", filmed(30, seed), codec)
        for seed, codec in enumerate(("jpeg", "lz4"))
    ]
    merged = merge_stores(stores, tmp_path / "merged.zarr")
    assert merged.codecs["camera0_rgb"] == "zstd:3"
    expected = np.concatenate([store.array("camera0_rgb") for store in stores])
    np.testing.assert_array_equal(merged.array("camera0_rgb"), expected)


def test_a_damaged_image_is_not_copied(tmp_path):
    store = make_store(tmp_path / "a.zarr", filmed(30), "jpeg")
    path = next((store.path / "data" / "camera0_rgb").glob("c.0*"))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        relabel_store(DemoStore.open(store.path), tmp_path / "b.zarr", [0], task="another")
    assert not (tmp_path / "b.zarr").exists()


def test_encoded_images_of_another_shape_are_refused(tmp_path):
    encoded = make_store(tmp_path / "a.zarr", filmed(30), "jpeg").encoded("camera0_rgb", np.arange(30))
    other = Spec((Feature("camera0_rgb", (40, 40, 3), "uint8", kind="rgb"),), SPEC.action)
    store = DemoStore.create(tmp_path / "b.zarr", other, rate_hz=10)
    with pytest.raises(StoreError, match=r"encoded uint8\[40, 48, 3\] images"):
        store.append_episode({"camera0_rgb": encoded, "action": np.zeros((30, 2), np.float32)})


def test_encoded_images_decide_the_codec_too(tmp_path):
    source = make_store(tmp_path / "a.zarr", drawn(30), "jpeg:70")
    store = DemoStore.create(tmp_path / "b.zarr", SPEC, rate_hz=10, codecs={"camera0_rgb": "auto"})
    encoded = source.encoded("camera0_rgb", np.arange(30))
    action = np.zeros((30, 2), np.float32)
    store.append_episode({"camera0_rgb": encoded, "action": action})
    store.append_episode({"camera0_rgb": drawn(30), "action": action})
    assert store.codecs["camera0_rgb"] == "jpeg:70"
    assert chunks_of(store)[:30] == list(encoded.chunks)
    with pytest.raises(StoreError, match="not stored image by image"):
        store.encoded("action", np.arange(3))
