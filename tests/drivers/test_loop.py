"""The deadline loop and its statistics."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.statistics import LATE_NS, VERY_LATE_NS, LatenessStatistics, LatenessSummary

pytestmark = pytest.mark.realtime


@given(st.lists(st.tuples(st.integers(-1000, 10**11), st.booleans()), max_size=200))
def test_counts_are_exact_and_percentiles_close(samples):
    statistics = LatenessStatistics()
    for lateness, skipped in samples:
        statistics.add(lateness, skipped=skipped)
    summary = statistics.summary()
    values = np.array([lateness for lateness, _ in samples], np.int64)
    assert summary.ticks == len(samples) == sum(summary.histogram)
    assert summary.late_10ms == (values > LATE_NS).sum()
    assert summary.late_50ms == (values > VERY_LATE_NS).sum()
    assert summary.skipped == sum(skipped for _, skipped in samples)
    assert summary.max_ms == max(values.max(initial=0), 0) / 1e6
    assert len(summary.histogram_edges_ms) == len(summary.histogram) + 1
    if samples:
        for share, given_ms in ((0.5, summary.p50_ms), (0.99, summary.p99_ms)):
            exact_ms = float(np.quantile(values, share, method="inverted_cdf")) / 1e6
            if 0.001 < exact_ms < 9000:
                assert given_ms == pytest.approx(exact_ms, rel=0.08)


@given(st.lists(st.integers(0, 10**9), max_size=50), st.lists(st.integers(0, 10**9), max_size=50))
def test_a_summary_since_an_earlier_one_counts_only_what_came_after(first, second):
    statistics, alone = LatenessStatistics(), LatenessStatistics()
    for lateness in first:
        statistics.add(lateness)
    earlier = statistics.summary()
    for lateness in second:
        statistics.add(lateness)
        alone.add(lateness)
    since, expected = statistics.summary().since(earlier), alone.summary()
    for name in ("ticks", "late_10ms", "late_50ms", "skipped"):
        assert getattr(since, name) == getattr(expected, name)
    if second:
        assert (since.histogram_edges_ms, since.histogram) == (
            expected.histogram_edges_ms,
            expected.histogram,
        )
    for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms"):
        assert getattr(since, name) == pytest.approx(getattr(expected, name), rel=0.08, abs=2e-4)


@given(st.lists(st.lists(st.integers(0, 10**11), max_size=30), max_size=4))
def test_joined_summaries_are_that_of_all_ticks(loops):
    together, summaries = LatenessStatistics(), []
    for latenesses in loops:
        statistics = LatenessStatistics()
        for lateness in latenesses:
            for each in (statistics, together):
                each.add(lateness, skipped=lateness % 2 == 1)
        summaries.append(statistics.summary())
    assert LatenessSummary.joined(summaries) == together.summary()


def test_an_empty_summary_and_reset():
    statistics = LatenessStatistics()
    assert statistics.summary().ticks == 0
    assert statistics.summary().late_share == 0.0
    statistics.add(20_000_000)
    assert statistics.summary().late_share == 1.0
    statistics.reset()
    assert statistics.summary().max_ms == 0.0


def test_deadlines_stay_on_the_grid():
    loop = DeadlineLoop(200.0)
    loop.wait()
    first = loop.deadline_ns
    elapsed = 0
    for index in range(20):
        if index == 10:
            time.sleep(0.023)
        elapsed += loop.wait()
        assert loop.deadline_ns == first + elapsed * loop.period_ns
    summary = loop.statistics.summary()
    assert summary.ticks == 1 + elapsed
    assert summary.skipped >= 3
    assert summary.skipped == elapsed - 20
    assert summary.late_10ms >= 2
    assert summary.max_ms >= 18.0


def test_restart_forgives_a_pause():
    loop = DeadlineLoop(1000.0)
    loop.wait()
    time.sleep(0.02)
    loop.restart()
    assert loop.wait() == 1
    assert loop.statistics.summary().skipped == 0


def test_a_rate_must_be_positive():
    with pytest.raises(ConfigError, match="above 0"):
        DeadlineLoop(0.0)
