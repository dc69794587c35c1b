"""The command with several worker processes."""

from __future__ import annotations

import numpy as np
import pytest

from robopolicy_datasets.store.demo_store import DemoStore

FEW = ("episodes=2", "task.image_size=16", "seed=40")


@pytest.fixture
def collect(robopolicy, tmp_path):
    """Collects a few demonstrations with the scripted expert and returns the store."""

    def run(*words: str) -> DemoStore:
        store = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        result = robopolicy("collect", *FEW, *words, f"output={store}", f"runs={tmp_path / 'runs'}")
        assert result.returncode == 0, result.stderr
        return DemoStore.open(store)

    return run


def test_a_collection_by_two_workers_is_the_same(collect):
    alone, together = collect(), collect("workers=2")
    assert alone.spec == together.spec
    assert len(alone) == len(together) == 2
    for index in range(2):
        here, there = alone.episode(index), together.episode(index)
        assert here.info == there.info
        assert here.data.keys() == there.data.keys()
        assert all(np.array_equal(here.data[key], there.data[key]) for key in here.data)


def test_a_number_of_workers_that_cannot_be_is_refused(refused, checkpoint, tmp_path):
    for words, told in ((("collect",), "workers is 0"), (("eval", str(checkpoint)), "workers=0")):
        assert told in refused(*words, "workers=0", f"runs={tmp_path}")
