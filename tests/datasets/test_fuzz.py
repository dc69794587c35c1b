"""Every reader over damaged files: a clear error or right data; no crash, no hang, no memory beyond a limit.

``fuzzing.py`` says how a single case is seen again.
"""

from __future__ import annotations

import functools
import random

import fuzzing
import pytest
from fuzz_damage import damage

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange import aloha, robomimic
from robopolicy_datasets.exchange.configs import AlohaFormatConfig, RobomimicFormatConfig
from robopolicy_datasets.exchange.hdf5_reader import Hdf5Reader

FULL = 1_000_000
READERS = (
    *("native", "store_texts", "chunk_lz4", "zarr_v2", "zarr_v3", "zarr_zip", "umi_zip"),
    *("lerobot_v2", "lerobot_v3", "lerobot_export", "video_h264", "video_av1"),
    *("image_jpeg", "image_png", "image_jpeg_xl"),
)
HDF5 = {
    "robomimic_hdf5": (robomimic, RobomimicFormatConfig(mask="train")),
    "aloha_hdf5": (aloha, AlohaFormatConfig()),
}


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_read_right(name, tmp_path, count):
    assert_sound(name, tmp_path, count(2000, FULL))


@pytest.mark.parametrize("name", ["real_zarr", "real_lerobot"])
def test_damaged_pieces_of_real_recordings(name, tmp_path, count, shared_data, monkeypatch):
    monkeypatch.setenv("ROBOPOLICY_SHARED_DATA", str(shared_data))
    assert_sound(name, tmp_path, count(2000, FULL))


def assert_sound(name, tmp_path, cases):
    result = fuzzing.run(f"fuzz_readers:{name}", 0, cases, tmp_path)
    assert not result.problems, told(result.problems)
    assert not result.crashes, told(result.crashes)
    assert min(result.outcomes["refused"], result.outcomes["read"]) > 0  # both sides were tried


@pytest.mark.parametrize("name", HDF5)
def test_damaged_hdf5_files_are_refused_or_read(name, tmp_path, count, monkeypatch):
    """The HDF5 library may hang or crash: then the process that reads ends, and the import says so."""
    cases = count(2000, FULL)
    result = fuzzing.run(f"fuzz_readers:{name}", 0, cases, tmp_path, most_crashes=cases)
    assert not result.problems, told(result.problems)
    assert min(result.outcomes["refused"], result.outcomes["read"]) > 0
    module, config = HDF5[name]
    monkeypatch.setattr(module, "Hdf5Reader", functools.partial(Hdf5Reader, answer_seconds=2))
    for seed in sorted(result.crashes)[: count(2, 20)]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        reader = fuzzing.reader_of(f"fuzz_readers:{name}", folder)
        reader.place(damage(random.Random(seed), reader.originals()))
        with pytest.raises(StoreError, match=reader.root.name):
            module.import_store(config, reader.root, folder / "new.zarr")


PLANTED = {
    "crash": ("crashes", "Segmentation fault"),
    "hang": ("crashes", "took too long"),
    "hog": ("problems", "used "),
    "unknown_error": ("problems", "ZeroDivisionError"),
    "unclear_error": ("problems", "does not name file"),
    "wrong_data": ("problems", "AssertionError: wrong"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_is_not_allowed_is_found_with_its_case(fault, tmp_path):
    kind, message = PLANTED[fault]
    result = fuzzing.run(f"fuzz_faults:{fault}", 5, 60, tmp_path)
    found, other = (
        getattr(result, kind),
        getattr(result, {"crashes": "problems", "problems": "crashes"}[kind]),
    )
    assert sorted(found)
    assert not other
    for seed, text in found.items():
        assert message in text
        changed = damage(random.Random(seed), {"file": b"sound"})
        assert changed["file"] is None  # the case that sets it off


def told(problems: dict[int, str]) -> str:
    return "\n".join(f"case {seed}: {text}" for seed, text in sorted(problems.items())[:3])
