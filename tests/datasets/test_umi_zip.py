"""UMI's dataset.zarr.zip, read in place: every value, and nothing that a zip must not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import imagecodecs
import numcodecs
import numpy as np
import pytest
import zarr

from robopolicy_datasets.errors import MissingExtraError, StoreError
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.diffusion_policy import import_store
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store import DemoStore, summarise
from robopolicy_datasets.store.jpegxl import JpegXl

ENDS = np.array([2, 7])
SIDE = 16


def arrays(rows=7):
    random_ = np.random.default_rng(0)
    return {
        "camera0_rgb": random_.integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8),
        "robot0_eef_pos": random_.normal(size=(rows, 3)).astype(np.float32),
        "robot0_eef_rot_axis_angle": random_.normal(size=(rows, 3)).astype(np.float32),
        "robot0_gripper_width": random_.normal(size=(rows, 1)).astype(np.float32),
        "robot0_demo_start_pose": random_.normal(size=(rows, 6)),
    }


def metadata(values, chunks, compressor=None):
    return {
        "zarr_format": 2,
        "shape": values.shape,
        "chunks": chunks,
        "dtype": values.dtype.str,
        "order": "C",
        "compressor": compressor,
        "filters": None,
        "fill_value": 0,
    }


def jpeg_xl(image):
    return imagecodecs.jpegxl_encode(image, lossless=True)


def contents(codec="imagecodecs_jpegxl"):
    """The files of a store as UMI lays it out, by name."""
    files = {".zgroup": b'{"zarr_format": 2}', "data/.zgroup": b'{"zarr_format": 2}'}
    for key, values in arrays().items():
        is_image = values.ndim == 4
        chunks = (1, *values.shape[1:]) if is_image else values.shape
        compressor = {"id": codec, "level": 99, "index": None} if is_image and codec else None
        files[f"data/{key}/.zarray"] = json.dumps(metadata(values, chunks, compressor)).encode()
        for row, image in enumerate(values) if is_image else ():
            files[f"data/{key}/{row}.0.0.0"] = jpeg_xl(image) if codec else image.tobytes()
        if not is_image:
            files[f"data/{key}/0.0"] = values.tobytes()
    files["meta/episode_ends/.zarray"] = json.dumps(metadata(ENDS, ENDS.shape)).encode()
    files["meta/episode_ends/0"] = ENDS.tobytes()
    return files


def pack(path, files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def umi(tmp_path):
    return pack(tmp_path / "dataset.zarr.zip", contents())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("codec", ["imagecodecs_jpegxl", None])
def test_a_zip_opens_in_place(tmp_path, codec, method):
    source = pack(tmp_path / "dataset.zarr.zip", contents(codec), method)
    store = DemoStore.open(source)
    assert (len(store), store.num_steps, store.spec.action) == (2, 7, ())
    assert store.spec["camera0_rgb"] == Feature("camera0_rgb", (SIDE, SIDE, 3), "uint8", kind="rgb")
    for key, values in arrays().items():
        np.testing.assert_array_equal(store.episode(1).data[key], values[2:])
        np.testing.assert_array_equal(store.array(key), values)
    assert summarise(store).disk_bytes == source.stat().st_size
    with pytest.raises(StoreError, match="robopolicy data import"):
        DemoStore.open(source, "a")
    assert [entry.name for entry in tmp_path.iterdir()] == ["dataset.zarr.zip"]


def test_what_zarr_and_imagecodecs_write_is_read(tmp_path):
    """Also the compressors that diffusion_policy uses, and metadata that was written twice."""
    from imagecodecs.numcodecs import Jpegxl

    numcodecs.register_codec(Jpegxl)
    compressors = {"camera0_rgb": Jpegxl(lossless=True), "robot0_eef_pos": numcodecs.Blosc("lz4", 5, 0)}
    with zarr.storage.ZipStore(tmp_path / "dataset.zarr.zip", mode="w") as files:
        group = zarr.open_group(files, mode="w", zarr_format=2)
        for key, values in arrays().items():
            chunks = (1, *values.shape[1:])
            made = group.create_array(
                f"data/{key}",
                shape=values.shape,
                dtype=values.dtype,
                chunks=chunks,
                compressors=compressors.get(key),
            )
            made[:] = values
        group.create_array("meta/episode_ends", data=ENDS)
    store = DemoStore.open(tmp_path / "dataset.zarr.zip")
    for key, values in arrays().items():
        np.testing.assert_array_equal(store.array(key), values)
    assert numcodecs.get_codec({"id": "imagecodecs_jpegxl"}).__class__ is Jpegxl


def test_a_zip_is_imported(umi, tmp_path):
    config = DiffusionPolicyFormatConfig(
        rate_hz=59.94,
        layout={"camera0_rgb": "camera0_rgb", "robot0_eef_pos": {"robot0_eef_pos": [0, 3], "action": [0, 3]}},
    )
    store = import_store(config, umi, tmp_path / "new.zarr")
    np.testing.assert_array_equal(store.array("camera0_rgb"), arrays()["camera0_rgb"])
    np.testing.assert_array_equal(store.array("action"), arrays()["robot0_eef_pos"])
    np.testing.assert_array_equal(store.episode_ends, ENDS)
    assert (store.rate_hz, store.attributes["source"]) == (59.94, "dataset.zarr.zip")


def test_without_imagecodecs_the_extra_is_named(umi, monkeypatch):
    monkeypatch.setattr("robopolicy_datasets.store.jpegxl.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="formats"):
        DemoStore.open(umi)


def test_importing_the_package_registers_no_codec():
    code = "import robopolicy_datasets.store, numcodecs.registry as r; print(*r.codec_registry)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert JpegXl.codec_id not in names


def change_array(files, key, **changes):
    content = json.loads(files[f"data/{key}/.zarray"])
    files[f"data/{key}/.zarray"] = json.dumps({**content, **changes}).encode()


def noise(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


IMAGE = "data/camera0_rgb/3.0.0.0"
HOSTILE = {
    "an absolute name": (lambda files: files.update({"/etc/passwd": b""}), "name leads out of it"),
    "a name that climbs": (lambda files: files.update({"data/../../x": b""}), "name leads out of it"),
    "a name of another system": (lambda files: files.update({"data\\..\\x": b""}), "name leads out of it"),
    "pickle": (
        lambda files: change_array(files, "robot0_eef_pos", filters=[{"id": "pickle"}]),
        "robot0_eef_pos uses the codec pickle",
    ),
    "JPEG XL as a filter": (
        lambda files: change_array(files, "robot0_eef_pos", filters=[{"id": "imagecodecs_jpegxl"}]),
        "uses the codec imagecodecs_jpegxl, which is not read",
    ),
    "objects": (lambda files: change_array(files, "robot0_eef_pos", dtype="|O"), "not a number's"),
    "an absurd length": (
        lambda files: change_array(files, "camera0_rgb", shape=[10**12, SIDE, SIDE, 3]),
        "metadata is damaged",
    ),
    "an absurd chunk": (
        lambda files: change_array(files, "camera0_rgb", chunks=[1, 10**6, 10**6, 3]),
        "at most 1073741824 are read",
    ),
    "a codec that is a word": (
        lambda files: change_array(files, "camera0_rgb", compressor="imagecodecs_jpegxl"),
        "cannot be understood",
    ),
    "an image of another size": (
        lambda files: files.update({IMAGE: jpeg_xl(noise(SIDE + 1, SIDE, 3))}),
        "camera0_rgb cannot be decoded: invalid out.shape",
    ),
    "an image that would fill the memory": (
        lambda files: files.update(
            {IMAGE: imagecodecs.jpegxl_encode(np.zeros((4000, 4000, 3), "u1"), effort=1)}
        ),
        "camera0_rgb cannot be decoded: invalid out.shape",
    ),
    "grey images of as many bytes": (
        lambda files: files.update({IMAGE: jpeg_xl(noise(3, SIDE, SIDE))}),
        "camera0_rgb cannot be decoded",
    ),
    "an image of 16 bits": (
        lambda files: files.update({IMAGE: jpeg_xl(noise(SIDE, SIDE, 3).astype("u2"))}),
        "camera0_rgb cannot be decoded",
    ),
    "no image": (lambda files: files.update({IMAGE: b"no image"}), "camera0_rgb cannot be decoded"),
    "half an image": (
        lambda files: files.update({IMAGE: files[IMAGE][: len(files[IMAGE]) // 2]}),
        "camera0_rgb cannot be decoded",
    ),
    "no ends": (lambda files: files.pop("meta/episode_ends/.zarray"), "not a diffusion_policy store"),
    "ends beyond the data": (
        lambda files: files.update({"meta/episode_ends/0": np.array([2, 9]).tobytes()}),
        "has 7 steps but meta/episode_ends says 9",
    ),
    "a store of ours": (
        lambda files: files.update({"zarr.json": b'{"attributes": {"robopolicy_schema": 1}}'}),
        "zip of a robopolicy store, which is not read in place. Unpack it",
    ),
    "metadata that is not JSON": (
        lambda files: files.update({"data/camera0_rgb/.zarray": b"{"}),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_zip_is_refused(tmp_path, case):
    change, message = HOSTILE[case]
    files = contents()
    change(files)
    source = pack(tmp_path / "dataset.zarr.zip", files)
    with pytest.raises(StoreError, match=message) as caught:
        import_store(
            DiffusionPolicyFormatConfig(
                layout={"camera0_rgb": "camera0_rgb", "robot0_eef_pos": {"action": [0, 3]}}
            ),
            source,
            tmp_path / "new.zarr",
        )
    assert "dataset.zarr.zip" in str(caught.value)
    assert not (tmp_path / "new.zarr").exists()


COMPRESSORS = [(2, codec) for codec in ("zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "blosc")]
COMPRESSORS += [(3, codec) for codec in ("gzip", "zstd", "blosc")]


@pytest.mark.parametrize(("zarr_format", "codec"), COMPRESSORS)
def test_a_chunk_that_decodes_to_too_much_is_refused(tmp_path, zarr_format, codec):
    """A chunk of the declared size is read; one of a hundred times its size is not decoded."""
    values = arrays()["robot0_eef_pos"]
    files = contents(None)
    encoder = numcodecs.get_codec({"id": codec})
    entry = "data/robot0_eef_pos"
    if zarr_format == 2:
        name = f"{entry}/0.0"
        change_array(files, "robot0_eef_pos", compressor=encoder.get_config())
    else:
        name = f"{entry}/c/0/0"
        group = zarr.open_group(tmp_path / "v3", mode="w", zarr_format=3)
        made = {
            "zstd": zarr.codecs.ZstdCodec(),
            "gzip": zarr.codecs.GzipCodec(),
            "blosc": zarr.codecs.BloscCodec(typesize=4),
        }
        group.create_array("x", shape=values.shape, dtype="f4", chunks=values.shape, compressors=made[codec])
        del files[f"{entry}/.zarray"], files[f"{entry}/0.0"]
        files[f"{entry}/zarr.json"] = (tmp_path / "v3" / "x" / "zarr.json").read_bytes()
    files[name] = bytes(encoder.encode(values))
    store = DemoStore.open(pack(tmp_path / "good.zip", files))
    np.testing.assert_array_equal(store.array("robot0_eef_pos"), values)
    files[name] = bytes(encoder.encode(np.zeros((100 * len(values), 30), np.float32)))
    store = DemoStore.open(pack(tmp_path / "bomb.zip", files))
    with pytest.raises(StoreError, match=r"robot0_eef_pos cannot be decoded: a chunk of .* decodes to more"):
        store.array("robot0_eef_pos")


def patched_directory(data, name, offset, value):
    """``data`` with bytes of the entry ``name`` in the zip's directory replaced."""
    start = data.rindex(name.encode()) - 46 + offset
    return data[:start] + value + data[start + len(value) :]


def test_a_zip_bomb_is_refused(umi):
    """Declared sizes that the compressed bytes cannot reach, and that they go beyond."""
    data = umi.read_bytes()
    name = "data/camera0_rgb/.zarray"
    umi.write_bytes(patched_directory(data, name, 24, (1 << 31).to_bytes(4, "little")))
    with pytest.raises(StoreError, match=r"cannot be 2147483648 bytes"):
        DemoStore.open(umi)
    umi.write_bytes(patched_directory(data, name, 20, len(data).to_bytes(4, "little")))
    with pytest.raises(StoreError, match="entries overlap, or are larger"):
        DemoStore.open(umi)
    pack(umi, contents(), zipfile.ZIP_DEFLATED)
    umi.write_bytes(patched_directory(umi.read_bytes(), name, 24, (10).to_bytes(4, "little")))
    with pytest.raises(StoreError, match="size or checksum is wrong"):
        DemoStore.open(umi)


def test_encrypted_entries_and_other_methods_are_refused(umi, tmp_path):
    umi.write_bytes(patched_directory(umi.read_bytes(), "data/camera0_rgb/.zarray", 8, b"\1"))
    with pytest.raises(StoreError, match="is encrypted"):
        DemoStore.open(umi)
    with pytest.raises(StoreError, match="zip method 14; read are stored and deflated"):
        DemoStore.open(pack(tmp_path / "lzma.zip", contents(), zipfile.ZIP_LZMA))


def test_a_chunk_that_is_not_there_is_told(tmp_path, caplog):
    files = contents()
    del files[IMAGE]
    store = DemoStore.open(pack(tmp_path / "dataset.zarr.zip", files))
    assert "1 of 7 rows of 'camera0_rgb' have no file" in caplog.text
    assert not store.array("camera0_rgb")[3].any()


@pytest.mark.parametrize("top", [".", ".."], ids=["its files", "its folder"])
def test_a_zip_of_a_store_of_ours_is_to_be_unpacked(arm_store, tmp_path, top):
    """However it was made: zip -r a.zip . inside of it, or zip -r a.zip arm.zarr beside it."""
    folder = arm_store.path / top
    files = {str(path.relative_to(folder.resolve())): path.read_bytes() for path in _files(arm_store.path)}
    source = pack(tmp_path / "arm.zarr.zip", files)
    with pytest.raises(StoreError, match="zip of a robopolicy store, which is not read in place"):
        DemoStore.open(source)
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path / "unpacked")
    (root,) = (path.parent for path in (tmp_path / "unpacked").rglob("meta"))
    np.testing.assert_array_equal(DemoStore.open(root).array("action"), arm_store.array("action"))


def _files(folder):
    return [path for path in folder.resolve().rglob("*") if path.is_file()]


def test_a_name_that_is_damaged_is_no_missing_chunk(umi):
    umi.write_bytes(patched_directory(umi.read_bytes(), IMAGE, 46 + len("data/camera0_rgb/"), b"9"))
    with pytest.raises(StoreError, match="does not lie where the zip's directory says"):
        DemoStore.open(umi)


def test_a_pipe_in_a_folder_is_not_waited_for(umi, tmp_path, caplog):
    folder = tmp_path / "dataset.zarr"
    with zipfile.ZipFile(umi) as archive:
        archive.extractall(folder)
    (folder / IMAGE).unlink()
    os.mkfifo(folder / IMAGE)
    assert not DemoStore.open(folder).array("camera0_rgb")[3].any()
    assert "1 of 7 rows of 'camera0_rgb' have no file" in caplog.text
