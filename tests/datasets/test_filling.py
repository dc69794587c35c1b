"""Many episodes into a store in commits of bounded size."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.layout import Column, empty_rows
from robopolicy_datasets.exchange.rows import ChunkKeeper, read_columns
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, Stream, filling
from robopolicy_datasets.store.episode import NewEpisode
from robopolicy_datasets.store.filling import append_all

IMAGE, ACTION = Feature("camera0_rgb", (8, 8, 3), "uint8", kind="rgb"), Feature("action", (2,))
SPEC = Spec((IMAGE,), (ACTION,))
ROW_BYTES = 8 * 8 * 3 + 2 * 4


def episode(length, fill=0):
    return NewEpisode(
        {
            "camera0_rgb": np.full((length, 8, 8, 3), fill, np.uint8),
            "action": np.zeros((length, 2), np.float32),
        }
    )


@pytest.mark.parametrize(
    ("lengths", "commits"),
    [([], []), ([3], [1]), ([4, 6, 9, 1, 30, 2], [2, 4, 5, 6]), ([10, 10], [1, 2])],
)
def test_commits_are_as_large_as_the_limit(lengths, commits, tmp_path, monkeypatch):
    monkeypatch.setattr(filling, "_BATCH_BYTES", 10 * ROW_BYTES)
    store, calls = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10), []
    append_all(store, map(episode, lengths), len(lengths), lambda *call: calls.append(call))
    assert calls == [(done, len(lengths)) for done in commits]
    assert store.episode_ends.tolist() == np.cumsum(lengths).tolist()


def test_encoded_images_count_as_decoded_ones_and_streams_count(tmp_path, monkeypatch):
    source = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10, codecs={"camera0_rgb": "jpeg"})
    source.append_episode(episode(10).data)
    encoded = source.encoded("camera0_rgb", np.arange(10))
    assert encoded.nbytes == encoded.decoded().nbytes
    monkeypatch.setattr(filling, "_BATCH_BYTES", 10 * ROW_BYTES)
    wrench = Feature("robot0_wrench", (6,), kind="wrench", rate_hz=1000.0)
    store, calls = DemoStore.create(tmp_path / "b.zarr", SPEC, rate_hz=10, streams=[wrench]), []
    rows = {"camera0_rgb": encoded, "action": np.zeros((10, 2), np.float32)}
    few, many = (Stream(np.zeros((n, 6)), np.arange(n) * 1_000_000) for n in (1, 1000))
    episodes = [
        NewEpisode(rows, streams={"robot0_wrench": few}),
        NewEpisode(episode(1).data, streams={"robot0_wrench": many}),
        NewEpisode(episode(1).data, streams={"robot0_wrench": few}),
    ]
    append_all(store, episodes, 3, lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_what_is_committed_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(filling, "_BATCH_BYTES", 2 * ROW_BYTES)
    alive = []

    def episodes():
        for number in range(8):
            held = [reference for reference in alive if reference() is not None]
            assert len(held) == number % 2  # of the batch that is being filled
            made = episode(1, number)
            alive.append(weakref.ref(made.data["camera0_rgb"]))
            yield made
            del made

    append_all(DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10), episodes(), 8)
    assert len(alive) == 8


def test_what_was_committed_before_an_error_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(filling, "_BATCH_BYTES", ROW_BYTES)

    def episodes():
        yield episode(3)
        raise StoreError("it is damaged")

    store = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    with pytest.raises(StoreError, match="it is damaged"):
        append_all(store, episodes(), 2)
    assert len(DemoStore.open(store.path)) == 1


class Numbers:
    """A source of rows that counts what is read of it."""

    row_shape, dtype = (), "float32"

    def __init__(self, rows, chunk_rows):
        self.rows, self.chunk_rows, self.reads = rows, chunk_rows, []

    def read(self, start, stop):
        self.reads.append(start)
        return np.arange(start, stop, dtype=np.float32)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 50))
def test_episodes_of_one_array_decode_each_chunk_once(lengths, chunk_rows):
    source = Numbers(sum(lengths), chunk_rows)
    keeper, start = ChunkKeeper(source), 0
    column = Column("a", Feature("b", (), "float32"), None)
    for length in lengths:
        out = empty_rows([column], length)
        read_columns(keeper, [column], start, start + length, out)
        np.testing.assert_array_equal(out["b"], np.arange(start, start + length))
        start += length
    assert source.reads == list(range(0, source.rows, chunk_rows))
