"""Feedback: what the net is told, how often it is asked, and that it is bounded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.sampling.feedback import SIGNALS, Feedback, bend, first_order, zero_order
from robopolicy.sampling.flow import FlowSampler
from robopolicy_datasets.errors import ConfigError

from .test_samplers import draws


def halve(chunk):
    return 0.5 * chunk


def test_zero_order_feedback_is_the_bounded_residual_of_any_program():
    def program(chunk):  # no torch
        return torch.from_numpy(0.5 * chunk.numpy())

    estimate = draws(1)()
    torch.testing.assert_close(zero_order(program)(estimate), torch.tanh(-0.5 * estimate))


def test_first_order_feedback_is_the_gradient_by_finite_differences():
    def operator(chunk):
        return torch.sin(chunk) + 0.3 * chunk.roll(1, dims=1)

    def half_square(chunk):
        return float((operator(chunk) - chunk).square().sum() / 2)

    estimate = draws(2, (1, 3, 2))()
    signal = first_order(operator)(estimate)
    assert not signal.requires_grad
    for row in range(3):
        for number in range(2):
            shift = torch.zeros_like(estimate)
            shift[0, row, number] = 1e-6
            slope = (half_square(estimate + shift) - half_square(estimate - shift)) / 2e-6
            assert float(signal[0, row, number]) == pytest.approx(
                float(torch.tanh(torch.tensor(slope))), abs=1e-6
            )


@given(size=st.floats(1e-3, 1e6), order=st.sampled_from(sorted(SIGNALS)))
def test_feedback_is_bounded_whatever_the_estimate(size, order):
    signal = SIGNALS[order](halve)(size * draws(3)())
    assert signal.abs().max() <= 1
    assert torch.isfinite(signal).all()


@pytest.mark.parametrize(
    ("shortcut", "asked"), [(0.0, 8), (0.25, 7), (0.5, 6), (1.0, 5)], ids=["none", "quarter", "half", "all"]
)
def test_the_shortcut_saves_look_aheads_but_never_the_first(shortcut, asked):
    calls = []

    def denoiser(x, level, known=None, feedback=None):
        calls.append(feedback)
        return halve(x) if feedback is None else halve(x) + 0.1 * feedback

    sampler = FlowSampler("euler", 4)
    feedback = Feedback(halve, shortcut)
    sampler.sample(bend(denoiser, zero_order(halve), feedback.probes(sampler.evaluations)), draws(4)())
    assert len(calls) == asked
    assert calls[0] is None
    assert sum(call is not None for call in calls) == 4


def test_a_step_without_a_look_ahead_feeds_the_refined_estimate_back():
    seen = []

    def denoiser(x, level, known=None, feedback=None):
        if feedback is not None:
            seen.append(feedback)
            return x + feedback
        return x

    bent = bend(denoiser, zero_order(halve), probes=1)
    x, y = draws(5)(), draws(6)()
    first = bent(x, torch.zeros(4))
    torch.testing.assert_close(first, x + torch.tanh(-0.5 * x))
    torch.testing.assert_close(bent(y, torch.zeros(4)), y + torch.tanh(-0.5 * first))
    assert len(seen) == 2


def test_impossible_shortcuts_are_refused():
    for shortcut in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="shortcut"):
            Feedback(halve, shortcut)
