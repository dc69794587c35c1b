"""``robopolicy sweep``: one training for each value, each done once, and the choice by held-out error."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch.settings import compose
from robopolicy_launch.verbs import sweep

SPEC = Spec((Feature("state", (3,)),), (Feature("action", (2,)),))


@given(found=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6), tolerance=st.floats(0, 2))
def test_the_first_value_that_is_good_enough_is_chosen(found, tolerance):
    errors = {str(index): error for index, error in enumerate(found)}
    chosen = sweep.choose(errors, tolerance)
    limit = (1 + tolerance) * min(errors.values())
    good = [value for value, error in errors.items() if error <= limit]
    assert chosen == good[0]


@pytest.fixture
def store(tmp_path):
    store = DemoStore.create(tmp_path / "demos.zarr", SPEC, rate_hz=10.0)
    rng = np.random.default_rng(0)
    for _ in range(4):
        state = rng.normal(size=(40, 3)).astype(np.float32)
        store.append_episode({"state": state, "action": 3 * state[:, :2]})
    return store.path


def run(store, folder, values, *more):
    one = ("policy.horizon=1", "policy.action_steps=1", "policy.observation_steps=1", "policy.width=16")
    words = ["key=policy.bound", f"values={values}", "policy=lipschitz", f"data={store}", f"runs={folder}"]
    words += ["recipe=none", "trainer.steps=60", "trainer.batch_size=16", "trainer.ema_decay=0.5", *one]
    words += [
        "trainer.validation_fraction=0.25",
        "trainer.learning_rate=0.02",
        "trainer.warmup_steps=5",
        *more,
    ]
    composed = compose("sweep", sweep, words)
    assert sweep.run(composed.settings, composed.config) == 0
    newest = max((folder / "sweep").iterdir())
    return json.loads((newest / "summary.json").read_text())


def test_the_smallest_bound_that_fits_is_found_and_nothing_is_trained_twice(store, tmp_path):
    """The expert's normalized slope is 1: a quarter of it is too little, and four times needless."""
    first = run(store, tmp_path / "runs", "[0.25,1.2]")
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("sweep-cells/*/train/*")}
    assert len(trained) == 2
    summary = run(store, tmp_path / "runs", "[0.25,1.2,4]", "tolerance=0.5")
    assert summary["action_error_0.25"] == first["action_error_0.25"] > 2 * summary["action_error_4"]
    assert summary["chosen"] == "1.2"
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("sweep-cells/*/train/*")}
    assert len(again) == 3
    assert {path: again[path] for path in trained} == trained


@pytest.mark.parametrize("words", [["values=[]"], ["values=[1]", "tolerance=-1"], ["values=[1]", "resume=x"]])
def test_impossible_sweeps_are_refused(store, tmp_path, words):
    given_words = ["key=policy.bound", "policy=lipschitz", "recipe=none", f"data={store}", *words]
    with pytest.raises(ConfigError):
        compose("sweep", sweep, given_words)
