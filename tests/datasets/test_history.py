"""Histories of streams: against a naive reference, and from a store the same as from samples as they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.history import Past, history_of, offering, points_of, sample_of, with_histories
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, NewEpisode, Stream
from robopolicy_datasets.windows import HistoryWindow, KeyWindow, WindowSampler

MS = 1_000_000
SPEC = Spec((Feature("step", ()), Feature("robot0_wrench", (6,), kind="wrench")), (Feature("action", (1,)),))
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", rate_hz=1000.0)
MARKERS = Feature("robot0_tactile0_markers", (4, 2), "float64", kind="touch", unit="m", rate_hz=60.0)


@dataclass
class Shown:
    samples: int = 8
    seconds: float = 0.07


@st.composite
def recordings(draw):
    """Times of steps and of samples of one episode, and the values: nothing is regular."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    begin = draw(st.sampled_from([0, 10**15, -(10**12)]))
    steps = begin + np.cumsum(random.integers(20 * MS, 120 * MS, draw(st.integers(1, 12))))
    low, high = draw(st.tuples(st.integers(-300, 100), st.integers(200, 900)))
    times = np.unique(begin + random.integers(low * MS, high * MS, draw(st.integers(1, 120))))
    return steps, times, random.normal(size=(len(times), *MARKERS.shape))


def naive(history, present, times, values):
    """Returns the history point by point."""
    known = [number for number, at in enumerate(times) if at <= present]
    rows = []
    for point in present + points_of(history):
        before = [number for number in known if times[number] <= point]
        after = [number for number in known if times[number] > point]
        if not known:
            rows.append(np.zeros(history.shape[1:]))
        elif before and after:
            left, right = before[-1], after[0]
            share = (point - times[left]) / (times[right] - times[left])
            rows.append(values[left] + share * (values[right] - values[left]))
        else:
            rows.append(values[after[0]] if after else values[before[-1]])
    return np.array(rows)


@given(recordings(), st.integers(1, 20), st.integers(1, 400), st.integers(1, 3))
def test_a_store_and_samples_in_time_give_the_same_bits(tmp_path_factory, recorded, samples, span_ms, seen):
    steps, times, values = recorded
    history = history_of(MARKERS, Shown(samples, span_ms / 1000))
    store = DemoStore.create(
        tmp_path_factory.mktemp("histories") / "a.zarr", SPEC, rate_hz=10, streams=[MARKERS]
    )
    data = {
        "step": np.arange(len(steps), dtype=np.float32),
        "robot0_wrench": np.zeros((len(steps), 6), np.float32),
        "action": np.zeros((len(steps), 1), np.float32),
    }
    store.append_episodes([NewEpisode(data, time_ns=steps, streams={MARKERS.key: Stream(values, times)})])
    window = HistoryWindow(1 - seen, seen, history=history)
    sampler = WindowSampler(store, observation={MARKERS.key: window}, action=KeyWindow.future(1))
    trained = sampler.gather(np.arange(len(steps)))["observation"][MARKERS.key]
    past, rows = Past(history), []
    for number, present in enumerate(steps):
        since = steps[number - 1] if number else -(2**62)
        new = (times > since) & (times <= present)
        for part in np.array_split(np.flatnonzero(new), 3):  # they come in pieces
            past.add(values[part], times[part])
        rows.append(past.at(int(present)))
        np.testing.assert_allclose(rows[-1], naive(history, int(present), times, values), atol=1e-5)
    for number, window_of_steps in enumerate(trained):
        shown = [rows[max(step, 0)] for step in range(number + 1 - seen, number + 1)]
        np.testing.assert_array_equal(window_of_steps, np.stack(shown))
    assert trained.dtype == np.float32


@given(recordings(), st.integers(1, 20), st.integers(1, 400))
def test_nothing_later_than_the_present_is_seen(recorded, samples, span_ms):
    steps, times, values = recorded
    history = history_of(MARKERS, Shown(samples, span_ms / 1000))
    present = int(steps[len(steps) // 2])
    views = []
    for late in (values, values + 1e6 * (times > present)[:, None, None]):
        past = Past(history)
        past.add(late, times)
        views.append(past.at(present))
    np.testing.assert_array_equal(*views)


def test_a_past_keeps_what_its_history_needs_and_no_more():
    past = Past(history_of(WRENCH, Shown(11, 0.1)))
    assert past.newest_ns is None
    for second in range(5):
        times = second * 1000 * MS + np.arange(1000) * MS
        past.add(np.ones((1000, 6), np.float32), times)
        past.add(np.zeros((1000, 6), np.float32), times)  # told again: not taken again
        assert past.newest_ns == times[-1]
        np.testing.assert_array_equal(past.at(int(times[-1])), 1)
        assert len(past._times) == 101


def test_one_point_is_the_newest_value():
    past = Past(history_of(WRENCH, Shown(1, 0.1)))
    past.add(np.arange(12.0).reshape(2, 6), np.array([5, 9]))
    np.testing.assert_array_equal(past.at(8), [np.arange(6.0)])
    np.testing.assert_array_equal(past.at(100), [np.arange(6.0, 12.0)])


def test_a_history_is_a_feature_of_a_spec():
    spec = with_histories(SPEC, [WRENCH, MARKERS], {"robot0_wrench": Shown(32, 0.1)}, "store 'a'")
    history = spec["robot0_wrench"]
    assert (history.shape, history.rate_hz, history.kind, history.history) == ((32, 6), 310.0, "wrench", True)
    assert points_of(history)[[0, -1]].tolist() == [-100 * MS, 0]
    assert sample_of(history).shape == (6,)
    assert [feature.key for feature in spec.observation] == ["step", "robot0_wrench"]
    assert Spec.from_json(spec.to_json()) == spec
    assert "310 Hz" in history.describe()
    spec.require(offering(SPEC, [WRENCH], spec), needs="policy", provides="robot")
    with pytest.raises(SpecError, match=r"shape \(6,\) but \(32, 6\)"):
        spec.require(offering(SPEC, [], spec), needs="policy", provides="robot")
    with pytest.raises(SpecError, match=r"shape \(32, 3\) but \(32, 6\)"):
        spec.require(
            offering(SPEC, [Feature("robot0_wrench", (3,), kind="wrench")], spec), needs="a", provides="b"
        )
    with pytest.raises(SpecError, match="not a Spec"):
        Spec.from_json({"observation": [{**vars(history), "history": "yes"}], "action": []})


@pytest.mark.parametrize(
    ("stream", "shown", "error", "words"),
    [
        (WRENCH, Shown(0), ConfigError, "at least 1 sample"),
        (WRENCH, Shown(8, 0.0), ConfigError, "above 0 s"),
        (WRENCH, Shown(8, 60.0), ConfigError, "at most 10 s"),
        (WRENCH, Shown(8, float("nan")), ConfigError, "nan s"),
        (Feature("count", (), "int64"), Shown(), SpecError, "cannot be interpolated"),
        (Feature("turn", (3,), kind="axis_angle"), Shown(), SpecError, "cannot be interpolated"),
        (Feature("image", (4, 4, 3), "uint8", kind="rgb"), Shown(), SpecError, "cannot be interpolated"),
    ],
)
def test_what_cannot_be_seen_is_refused(stream, shown, error, words):
    with pytest.raises(error, match=words):
        history_of(stream, shown)


def test_a_stream_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(SpecError, match=r"store 'a' has no stream 'robot0_wrnch'.* robot0_wrench"):
        with_histories(SPEC, [WRENCH], {"robot0_wrnch": Shown()}, "store 'a'")
