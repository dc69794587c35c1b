"""Times of sections, and which of them made a cycle overrun."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.sections import MOST_SECTIONS, SectionStatistics

pytestmark = pytest.mark.realtime

CYCLES = st.lists(
    st.tuples(st.lists(st.integers(0, 10**7), min_size=4, max_size=4), st.booleans()), max_size=50
)


@given(CYCLES)
def test_the_figures_are_those_of_the_cycles(cycles):
    """A cycle is the late start, the sections and the rest: here 4 times, 2 of them of sections."""
    statistics = SectionStatistics()
    sections = [statistics.section(name) for name in ("ik", "send")]
    for (late, rest, *times), overrun in cycles:
        for section, elapsed_ns in zip(sections, times, strict=True):
            section.elapsed_ns = elapsed_ns
        statistics.end_cycle(late, late + rest + sum(times), overrun=overrun)
    summary = SectionStatistics(statistics._storage).summary()  # as another process sees it
    times_ms = np.array([times for times, _ in cycles]).reshape(-1, 4) / 1e6
    late = np.array([overrun for _, overrun in cycles], bool)
    assert (summary.cycles, summary.overruns) == (len(cycles), late.sum())
    assert summary.max_ms == pytest.approx(times_ms.sum(1).max(initial=0))
    assert [section.name for section in summary.sections] == ["late start", "rest", "ik", "send"]
    for index, section in enumerate(summary.sections):
        column = times_ms[:, index]
        assert section.max_ms == pytest.approx(column.max(initial=0))
        assert section.mean_ms == pytest.approx(column.sum() / max(len(cycles), 1))
        assert section.mean_in_overruns_ms == pytest.approx(column[late].sum() / max(late.sum(), 1))
        longest = (column == times_ms.max(1, initial=0)) & late & (column > 0)
        assert section.longest_in == longest.sum()


def test_a_loop_blames_the_section_that_was_long():
    loop = DeadlineLoop(100.0, sections=SectionStatistics())
    quick, slow = map(loop.sections.section, ("quick", "slow"))
    for index in range(20):
        loop.wait()
        with quick:
            pass
        with slow:
            time.sleep(0.025 if index == 10 else 0.0)
        with quick:
            pass
    loop.wait()
    summary = loop.sections.summary()
    assert summary.cycles == 20
    assert summary.overruns >= 1
    blamed = {section.name: section for section in summary.sections}
    assert blamed["slow"].longest_in >= 1
    assert blamed["slow"].max_ms >= 25.0
    assert blamed["quick"].longest_in == 0
    assert f"{summary.overruns} of 20 cycles overran" in summary.report()
    assert f"'slow' was the longest section of {blamed['slow'].longest_in}: " in summary.report()
    assert "quick" not in summary.report()


def test_a_pause_is_no_cycle():
    loop = DeadlineLoop(100.0, sections=SectionStatistics())
    section = loop.sections.section("reset")
    loop.wait()
    with section:
        time.sleep(0.03)
        loop.restart()
    loop.wait()
    loop.wait()
    summary = loop.sections.summary()
    assert (summary.cycles, summary.sections[2].max_ms) == (1, 0.0)


def test_what_is_no_section_is_refused():
    statistics = SectionStatistics()
    with pytest.raises(ConfigError, match="1 to 32 bytes"):
        statistics.section("x" * 33)
    for index in range(MOST_SECTIONS):
        statistics.section(str(index))
    assert statistics.section("3") is statistics.section("3")
    with pytest.raises(ConfigError, match="no room for 'more'"):
        statistics.section("more")
