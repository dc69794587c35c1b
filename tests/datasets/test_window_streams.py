"""Windows over streams against a naive reference, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, NewEpisode, Stream
from robopolicy_datasets.windows import KeyWindow, Ragged, Resampled, WindowMixture, WindowSampler

MS = 1_000_000
SPEC = Spec((Feature("step", ()),), (Feature("action", (1,)),))
WRENCH = Feature("robot0_wrench", (2,), "float64")
CONTACT = Feature("contact", (), "int16")
SHOWN = {"observation": {"step": KeyWindow.past(1)}, "action": KeyWindow.future(1)}
LENGTHS = [12, 3, 8, 5, 1]


def recording(number):
    """Times of the steps, and of the samples: irregular, with a gap; two episodes have none.

    The steps of the first episode begin before its samples and end after them; of the third one it is the
    other way round.
    """
    random = np.random.default_rng(number)
    begin = [10**15, 0, -(10**9), 10**15, 5][number]
    steps = begin + np.arange(LENGTHS[number]) * 100 * MS
    low, high = [(250, 900), (0, 0), (-300, 1200), (0, 0), (-20, 20)][number]
    samples = begin + np.unique(random.integers(low * MS, high * MS + 1, (high - low) // 11))
    kept = np.abs(samples - begin - 500 * MS) > 60 * MS
    return steps, samples[kept] if number in (0, 2) else samples


def values_of(number):
    _, time = recording(number)
    random = np.random.default_rng(100 + number)
    return {
        "robot0_wrench": random.normal(size=(len(time), 2)),
        "contact": random.integers(-9, 9, len(time)).astype(np.int16),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = DemoStore.create(
        tmp_path_factory.mktemp("streams") / "a.zarr", SPEC, rate_hz=10, streams=[WRENCH, CONTACT]
    )
    for number, length in enumerate(LENGTHS):
        steps, time = recording(number)
        data = {"step": np.arange(length, dtype=np.float32), "action": np.zeros((length, 1), np.float32)}
        streams = {key: Stream(value, time) for key, value in values_of(number).items()}
        store.append_episodes([NewEpisode(data, time_ns=steps, streams=streams)])
    return store


def presents(episodes):
    for number in episodes:
        steps, time = recording(number)
        for now in steps:
            yield number, int(now), time.tolist(), values_of(number)


def naive_ragged(key, window, episodes):
    for _, now, time, values in presents(episodes):
        shown = [
            index
            for index, at in enumerate(time)
            if now - round(window.before_s * 1e9) < at <= now + round(window.after_s * 1e9)
        ][-window.most :]
        yield [time[index] - now for index in shown], [values[key][index] for index in shown]


def naive_resampled(key, window, episodes):
    """Yields (value, mask) of each point; ``None`` where nothing is seen."""
    for _, now, time, values in presents(episodes):
        value = values[key]
        seen = [index for index, at in enumerate(time) if at <= now + round(window.after_s * 1e9)]
        row = []
        for index in range(window.samples):
            back = (window.before_s + window.after_s) * (window.samples - 1 - index)
            point = now + round(1e9 * (window.after_s - back / max(window.samples - 1, 1)))
            before = [index for index in seen if time[index] <= point]
            after = [index for index in seen if time[index] > point]
            if not seen:
                row.append(None)
            elif not before:
                row.append((value[after[0]], point >= time[0]))
            elif not after or value.dtype.kind != "f":
                row.append((value[before[-1]], time[0] <= point <= time[-1]))
            else:
                left, right = before[-1], after[0]
                share = (point - time[left]) / (time[right] - time[left])
                row.append((value[left] + share * (value[right] - value[left]), True))
        yield row


episode_lists = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)
milliseconds = st.integers(-200, 400).map(lambda number: number / 1000)


@st.composite
def intervals(draw):
    before = draw(milliseconds)
    return before, max(draw(milliseconds), -before)


def gather(store, episodes, key, window):
    sampler = WindowSampler(store, streams={key: window}, episodes=episodes, **SHOWN)
    return sampler.gather(np.arange(len(sampler)))["streams"][key]


@given(episode_lists, st.sampled_from(["robot0_wrench", "contact"]), st.integers(1, 30), intervals())
def test_ragged_windows_are_the_naive_ones(store, episodes, key, most, interval):
    window = Ragged(most, *interval)
    batch = gather(store, episodes, key, window)
    expected = list(naive_ragged(key, window, episodes))
    assert batch["value"].shape[:2] == batch["mask"].shape == batch["time_ns"].shape == (len(expected), most)
    assert batch["value"].dtype == {"robot0_wrench": np.float32, "contact": np.int16}[key]
    assert batch["time_ns"].dtype == np.int64
    for index, (times, values) in enumerate(expected):
        assert batch["mask"][index].tolist() == [True] * len(times) + [False] * (most - len(times))
        assert batch["time_ns"][index].tolist() == times + [0] * (most - len(times))
        np.testing.assert_array_equal(batch["value"][index, len(times) :], 0)
        if values:
            np.testing.assert_array_equal(
                batch["value"][index, : len(times)], np.array(values, batch["value"].dtype)
            )


@given(episode_lists, st.sampled_from(["robot0_wrench", "contact"]), st.integers(1, 12), intervals())
def test_resampled_windows_are_the_naive_ones(store, episodes, key, samples, interval):
    window = Resampled(samples, *interval)
    batch = gather(store, episodes, key, window)
    expected = list(naive_resampled(key, window, episodes))
    assert batch["value"].shape[:2] == batch["mask"].shape == (len(expected), samples)
    assert batch["value"].dtype == {"robot0_wrench": np.float32, "contact": np.int16}[key]
    for row, points in enumerate(expected):
        for index, point in enumerate(points):
            value, there = (0, False) if point is None else point
            np.testing.assert_allclose(batch["value"][row, index], value, atol=1e-6)
            assert batch["mask"][row, index] == there


@given(st.integers(1, 20), st.integers(0, 300), st.sampled_from([0.0, -0.03]), st.integers(0, 10**6))
def test_nothing_later_is_ever_seen(tmp_path_factory, samples, before_ms, after_s, seed):
    """What comes after the window's end may be anything, or not be there at all."""
    random = np.random.default_rng(seed)
    time = np.unique(random.integers(0, 1000 * MS, 60))
    value = random.normal(size=(len(time), 2))
    present = 5 * 100 * MS
    late = time > present + round(after_s * 1e9)
    other = value.copy()
    other[late] = 1e6
    views = []
    for kept, values in ((slice(None), value), (slice(None), other), (~late, value)):
        store = DemoStore.create(
            tmp_path_factory.mktemp("causal") / "a.zarr", SPEC, rate_hz=10, streams=[WRENCH]
        )
        data = {"step": np.arange(10, dtype=np.float32), "action": np.zeros((10, 1), np.float32)}
        store.append_episode(data, streams={"robot0_wrench": Stream(values[kept], time[kept])})
        before_s = max(before_ms / 1000, -after_s)
        views.append([])
        for window in (Resampled(samples, before_s, after_s), Ragged(samples, before_s, after_s)):
            sampler = WindowSampler(store, streams={"robot0_wrench": window}, **SHOWN)
            views[-1].append(sampler.gather([5])["streams"]["robot0_wrench"])
    for view in views[1:]:
        for mine, theirs in zip(view, views[0], strict=True):
            np.testing.assert_array_equal(mine["value"], theirs["value"])
            np.testing.assert_array_equal(mine["time_ns"], theirs["time_ns"])


def test_following_ragged_windows_share_no_sample(store):
    batch = gather(store, [2], "contact", Ragged(100, 0.1))
    times = (batch["time_ns"] + recording(2)[0][:, None])[batch["mask"]]
    steps, samples = recording(2)
    inside = (samples > steps[0] - 100 * MS) & (samples <= steps[-1])
    assert times.tolist() == samples[inside].tolist()


def test_what_streams_cannot_give_is_named(store, tmp_path):
    with pytest.raises(StoreError, match=r"no stream 'robot0_wrensh'\. It has: robot0_wrench"):
        WindowSampler(store, streams={"robot0_wrensh": Ragged(3, 0.1)}, **SHOWN)
    for make in (lambda: Ragged(0, 0.1), lambda: Resampled(0, 0.1), lambda: Resampled(3, 0.1, -0.2)):
        with pytest.raises(ConfigError, match="not possible"):
            make()
    spoilt = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10, streams=[WRENCH])
    data = {"step": np.zeros(2, np.float32), "action": np.zeros((2, 1), np.float32)}
    for bad in (0.0, np.nan):
        value = np.array([[0.0, 0.0], [0.0, bad]])
        spoilt.append_episode(data, streams={"robot0_wrench": Stream(value, np.arange(2))})
    with pytest.raises(StoreError, match=r"'robot0_wrench' .* not finite .* in episode 1 at sample 1"):
        WindowSampler(spoilt, streams={"robot0_wrench": Ragged(3, 0.1)}, **SHOWN)
    assert len(WindowSampler(spoilt, episodes=[0], streams={"robot0_wrench": Ragged(3, 0.1)}, **SHOWN)) == 2


def test_streams_are_mixed_too(store):
    streams = {"contact": Ragged(9, 0.1), "robot0_wrench": Resampled(4, 0.1)}
    samplers = [WindowSampler(store, streams=streams, episodes=[number], **SHOWN) for number in (0, 2)]
    batch = WindowMixture(samplers).gather([13, 2, 5])
    for place, (number, index) in enumerate(((1, 1), (0, 2), (0, 5))):
        alone = samplers[number].gather([index])["streams"]
        for key in streams:
            for part in ("value", "time_ns", "mask"):
                np.testing.assert_array_equal(batch["streams"][key][part][place], alone[key][part][0])
    with pytest.raises(ConfigError, match="streams="):
        WindowMixture([samplers[0], WindowSampler(store, episodes=[2], **SHOWN)])
