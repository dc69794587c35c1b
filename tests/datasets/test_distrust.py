"""What readers once believed and now check, each found by ``test_fuzz.py`` or on its way."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.diffusion_policy import import_store
from robopolicy_datasets.exchange.lerobot.images import decode_image, encode_png
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, Stream
from robopolicy_datasets.store.codecs import parse_codec

LARGE = 2**63 - 1


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def first_action(content):
    return content["attributes"]["spec"]["action"][0]


# --- our own store ------------------------------------------------------------------------------------------


def test_single_rows_of_a_scalar_feature_are_read(arm_store):
    rows = np.array([9, 0, 4])
    np.testing.assert_array_equal(arm_store.take("contact", rows), arm_store.array("contact")[rows])


METADATA = {
    "JSON of any depth": ("data/action", lambda c: c.update(attributes={"x": "@deep"}), "cannot be read"),
    "rows that are no whole number": ("meta/episode_ends", lambda c: c.update(shape=[3.0]), "does not write"),
    "rows that are a list": ("data/contact", lambda c: c.update(shape=[[15]]), "does not write"),
    "more episodes than memory": (
        "meta/episode_ends",
        lambda c: c.update(shape=[2**62]),
        "of its files",
    ),
    "more events than memory": ("meta/events", lambda c: c.update(shape=[2**62]), "of its files"),
    "chunks larger than memory": (
        "meta/episode_ends",
        lambda c: c["chunk_grid"]["configuration"].update(chunk_shape=[2**62]),
        "does not write",
    ),
    "times that are no int64": (
        "data/time_ns",
        lambda c: c.update(data_type="float64", fill_value=0.0),
        "float64",
    ),
    "a rate that is no number": (".", lambda c: c["attributes"].update(rate_hz=float("nan")), "rate is nan"),
    "a key that is no text": (
        ".",
        lambda c: first_action(c).update(key=7),
        "not a text",
    ),
    "a key that is no file name": (
        ".",
        lambda c: first_action(c).update(key="x" * 70_000),
        "up to 200 letters",
    ),
    "a shape without end": (
        ".",
        lambda c: first_action(c).update(shape=[float("inf")]),
        "not whole numbers",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_of_ours_are_not_believed(arm_store, case):
    folder, change, message = METADATA[case]
    arm_store.add_events([Event("gap", 1, 2, episode=0)])
    file = arm_store.path / folder / "zarr.json"
    change_json(file, change)
    file.write_text(file.read_text().replace('"@deep"', "[" * 50_000 + "]" * 50_000))
    with pytest.raises(StoreError, match=message) as caught:
        DemoStore.open(arm_store.path).events()
    assert "arm.zarr" in str(caught.value)


@pytest.mark.parametrize("attributes", [5, "robopolicy_schema", ["robopolicy_schema"]])
def test_attributes_that_are_no_mapping_are_no_store_of_ours(tmp_path, attributes):
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    with pytest.raises(StoreError, match="not a demo store"):
        DemoStore.open(tmp_path)


def test_times_that_wrap_around_do_not_increase(arm_store, make_episode):
    with pytest.raises(StoreError, match="must increase"):
        arm_store.append_episode(make_episode(2), time_ns=np.array([LARGE, -LARGE]))
    arm_store.append_episode(make_episode(2), time_ns=np.array([-LARGE, LARGE]))  # this is an increase
    assert DemoStore.open(arm_store.path).episode(3).time_ns.tolist() == [-LARGE, LARGE]


def test_times_of_a_stream_that_wrap_around_do_not_increase(tmp_path):
    spec = Spec((), (Feature("action", (1,)),))
    store = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=1, streams=[Feature("x", (1,))])
    samples = Stream(np.zeros((2, 1), np.float32), np.array([LARGE, -LARGE]))
    with pytest.raises(StoreError, match="must increase"):
        store.append_episode({"action": np.zeros((1, 1))}, streams={"x": samples})


@pytest.mark.parametrize("content", [{"task": 5}, {"success": 1}, {"wall_time_ns": "x"}, ["task"]])
def test_entries_of_an_episode_have_their_types(content):
    with pytest.raises(ValueError, match=r"EpisodeInfo is|no JSON object"):
        EpisodeInfo.from_text(json.dumps(content))


def test_an_info_that_could_not_be_read_again_is_not_stored(arm_store, make_episode):
    with pytest.raises(StoreError, match="success of an EpisodeInfo is 1"):
        arm_store.append_episode(make_episode(2), EpisodeInfo(success=1))
    assert len(DemoStore.open(arm_store.path)) == 3


def test_an_event_that_ends_before_it_starts_is_damaged():
    with pytest.raises(ValueError, match="lasts from 2 to 1"):
        Event.from_text('{"kind": "gap", "start_ns": 2, "end_ns": 1}')


def test_blosc_does_not_read_beyond_a_chunk():
    codec, values = parse_codec("lz4"), np.arange(3000, dtype=np.uint8).reshape(30, 100)
    data = bytearray(codec.encode(values)[:-4])
    data[12:16] = struct.pack("<I", 1 << 30)  # the size of the encoded chunk
    with pytest.raises(ValueError, match="cut off"):
        codec.decode(bytes(data) + struct.pack("<I", google_crc32c.value(bytes(data))), np.empty_like(values))


# --- stores of others ---------------------------------------------------------------------------------------


def write(path, ends, **settings):
    group = zarr.open_group(path, mode="w", zarr_format=settings.pop("zarr_format", 2))
    values = np.arange(64, dtype=np.float32).reshape(32, 2)
    group.create_array("data/action", data=values, chunks=(8, 2), **settings)
    group.create_array("meta/episode_ends", data=np.asarray(ends, np.int64))
    return path, values


def test_single_rows_of_a_foreign_scalar_are_read(tmp_path):
    path, _ = write(tmp_path / "a.zarr", [32])
    zarr.open_group(path, mode="a").create_array("data/contact", data=np.arange(32) % 2 > 0)
    assert DemoStore.open(path).take("contact", np.array([3, 2])).tolist() == [True, False]


def test_ends_that_wrap_around_do_not_increase(tmp_path):
    path, _ = write(tmp_path / "a.zarr", [LARGE, -LARGE])
    with pytest.raises(StoreError, match="must increase"):
        DemoStore.open(path)


def test_a_source_without_episodes_is_not_imported(tmp_path):
    path, _ = write(tmp_path / "a.zarr", [])
    with pytest.raises(StoreError, match="has no episodes"):
        import_store(DiffusionPolicyFormatConfig(), path, tmp_path / "new.zarr")


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip"])
def test_a_chunk_within_a_shard_is_checked_too(tmp_path, codec, location):
    made = {
        "blosc": zarr.codecs.BloscCodec(typesize=4, cname="zstd"),
        "zstd": zarr.codecs.ZstdCodec(),
        "gzip": zarr.codecs.GzipCodec(),
    }[codec]
    serializer = zarr.codecs.ShardingCodec(
        chunk_shape=(8, 2), codecs=[zarr.codecs.BytesCodec(), made], index_location=location
    )
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    values = np.arange(64, dtype=np.float32).reshape(32, 2)
    array = group.create_array(
        "data/action", shape=(32, 2), chunks=(32, 2), dtype="f4", serializer=serializer, compressors=None
    )
    array[:] = values
    group.create_array("meta/episode_ends", data=np.array([32]))
    np.testing.assert_array_equal(DemoStore.open(tmp_path / "a.zarr").array("action"), values)
    bomb = bytes(numcodecs.get_codec({"id": codec}).encode(np.zeros(10_000_000, np.float32)))
    offset = 4 * 16 + 4 if location == "start" else 0
    index = struct.pack("<QQ", offset, len(bomb)) + b"\xff" * 48
    index += struct.pack("<I", google_crc32c.value(index))
    (tmp_path / "a.zarr/data/action/c/0/0").write_bytes(index + bomb if location == "start" else bomb + index)
    with pytest.raises(StoreError, match="decodes to more than"):
        DemoStore.open(tmp_path / "a.zarr").array("action")


def test_a_foreign_blosc_chunk_must_be_whole(tmp_path):
    path, _ = write(tmp_path / "a.zarr", [32], compressors=[numcodecs.Blosc()])
    chunk = path / "data/action/1.0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match="says that it has"):
        DemoStore.open(path).array("action")


def test_bytes_that_are_compressed_twice_are_refused(tmp_path):
    path, _ = write(tmp_path / "a.zarr", [32], filters=[numcodecs.Zlib()], compressors=[numcodecs.Zstd()])
    with pytest.raises(StoreError, match="zlib, zstd are not read together"):
        DemoStore.open(path)


def test_an_entry_of_a_zip_without_a_name_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 28 : start + 32] = struct.pack("<HH", 0, 1)  # the name's byte is the extra field's
    path.write_bytes(data)
    with pytest.raises(StoreError, match="an entry has no name"):
        DemoStore.open(path)


# --- images -------------------------------------------------------------------------------------------------


def part(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_png_is_taken_apart_before_it_is_decoded():
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    data = encode_png(image)
    size = data[8:33]
    extra = data[:33] + part(b"tEXt", b"Comment\0x") + data[33:]
    np.testing.assert_array_equal(decode_image(extra, 8, 8), image)
    flipped = bytearray(data)
    flipped[45] ^= 1
    long = data[:33] + struct.pack(">I", 0xFFFF_FF00) + b"tEXt" + data[33:]  # for which OpenCV took 4 GiB
    for wrong, message in (
        (bytes(flipped), "checksum of a part"),
        (long, "cut off"),
        (data[:33] + size + data[33:], "more than once"),
        (data[:8] + data[33:], "does not say its size"),
    ):
        with pytest.raises(ValueError, match=message):
            decode_image(wrong, 8, 8)
