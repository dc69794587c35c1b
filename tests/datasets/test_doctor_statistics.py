"""Statistics of a store, against numpy on the whole arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robopolicy_datasets.doctor.frames import on_grid
from robopolicy_datasets.doctor.statistics import HEADER, statistics
from robopolicy_datasets.store import DemoStore


def test_figures_are_those_of_numpy(recording):
    found = statistics(recording, image_samples=10_000)
    assert [one.key for one in found[:3]] == ["camera0_rgb"] * 3
    for one in found:
        values = recording.array(one.key)
        column = values.reshape(-1, 3 if one.key == "camera0_rgb" else values.shape[-1])[:, one.component]
        assert (one.count, one.not_finite) == (column.size, 0)
        assert (one.minimum, one.maximum) == (column.min(), column.max())
        assert [one.p1, one.p50, one.p99] == pytest.approx(np.percentile(column.astype(float), [1, 50, 99]))
        assert (one.mean, one.std) == pytest.approx((column.mean(dtype=float), column.std(dtype=float)))
        assert len(one.row()) == len(HEADER)


def test_values_that_are_not_finite_are_counted_and_left_out(recording, spoil):
    spoiled = spoil(recording, 0, "robot0_eef_pos", slice(0, 2), [np.nan, 1.0, 1.0])
    (first, second) = [one for one in statistics(spoiled) if one.key == "robot0_eef_pos"][:2]
    assert (first.not_finite, first.count) == (2, recording.num_steps - 2)
    assert (second.not_finite, second.maximum) == (0, 1.0)
    assert np.isfinite(first.mean)


def test_an_empty_store_has_no_figures(tmp_path, recording_spec):
    found = statistics(DemoStore.create(tmp_path / "a.zarr", recording_spec, rate_hz=10))
    assert {one.count for one in found} == {0}
    assert json.loads(json.dumps([one.to_json() for one in found], allow_nan=False))[0]["mean"] is None


def test_large_images_are_looked_at_on_a_grid():
    assert on_grid(np.zeros((2, 480, 640, 3))).shape == (2, 96, 128, 3)
    assert on_grid(np.zeros((2, 96, 96, 3))).shape == (2, 96, 96, 3)
    assert on_grid(np.zeros((2, 5))).shape == (2, 5)
