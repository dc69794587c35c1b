"""The theorems hold where everything is known: a double integrator, a linear expert, small ReLU nets."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import imitate, product_bound, spectral_net

from robopolicy.certify.covering import box_covering_radius, expert_lipschitz, sampled_covering_radius
from robopolicy.certify.finding import Finding, weakest
from robopolicy.certify.linear_loop import estimate_loop, loop_of_model
from robopolicy.certify.theorems import (
    Cost,
    contraction_rate,
    degradation,
    expert_deviation,
    imitation_error,
    observation_radius,
    regret,
)
from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_launch.benchmarks._double_integrator import DoubleIntegrator

SYSTEM = DoubleIntegrator.make()
BOX = 2.0  # half its side; the trajectories start in the middle half and stay inside
STEPS = 120
COST = Cost(state=1.0, action=1.0, discount=0.95)


def known(value: float, kind: str = "certified") -> Finding:
    return Finding(value, kind, "Given.")


def discounted(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """A cost whose Lipschitz constants are those of COST."""
    cost = np.linalg.norm(states, axis=-1) + np.linalg.norm(actions, axis=-1)
    return (COST.discount ** np.arange(STEPS)[:, None] * cost).sum(0)


@functools.cache
def imitator(budget: float, samples: int):
    """A net that imitates the expert within its budget, and the states that it saw."""
    demonstrated = np.random.default_rng(samples).uniform(-BOX, BOX, (samples, 2))
    allowed = budget * SYSTEM.lipschitz.value
    net = spectral_net(allowed, seed=samples)
    imitate(net, demonstrated, SYSTEM.expert(demonstrated), lipschitz=allowed)
    return net, demonstrated


@pytest.mark.parametrize("disturbance", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("budget", "samples"), [(0.5, 500), (1.0, 500), (1.0, 3000), (2.0, 500)])
def test_no_bound_is_violated(budget, samples, disturbance):
    net, demonstrated = imitator(budget, samples)
    rng = np.random.default_rng(7)
    with torch.no_grad():
        imitated = net(torch.tensor(demonstrated).float()).double().numpy()
    alpha = product_bound(net)
    error = imitation_error(
        known(float(np.abs(imitated - SYSTEM.expert(demonstrated)).max())),
        box_covering_radius(demonstrated, np.full(2, -BOX), np.full(2, BOX), nodes=200),
        alpha,
        SYSTEM.lipschitz,
        trivial=math.inf,
    )
    everywhere = rng.uniform(-BOX, BOX, (5000, 2))
    with torch.no_grad():
        wrong = net(torch.tensor(everywhere).float()).double().numpy() - SYSTEM.expert(everywhere)
    assert np.abs(wrong).max() <= error.value
    assert error.kind == "certified"

    starts = rng.uniform(-BOX / 2, BOX / 2, (20, 2))
    states, actions = SYSTEM.run(SYSTEM.attacked(net, disturbance), starts, STEPS)
    best, expert_actions = SYSTEM.run(SYSTEM.expert, starts, STEPS)
    assert np.abs(states).max() < BOX  # the region in which the error is bounded
    options = {"disturbance": disturbance, "trivial": math.inf}
    deviation = expert_deviation(error, alpha, SYSTEM.loop, **options)
    assert np.linalg.norm(states - best, axis=-1).max() <= deviation.value
    more = discounted(states, actions) - discounted(best, expert_actions)
    assert np.abs(more).max() <= regret(error, alpha, SYSTEM.lipschitz, SYSTEM.loop, COST, **options).value

    rate = contraction_rate(alpha, SYSTEM.lipschitz, SYSTEM.loop)
    quiet_states, quiet_actions = SYSTEM.run(SYSTEM.attacked(net, 0.0), starts, STEPS)
    suffered = np.abs(discounted(states, actions) - discounted(quiet_states, quiet_actions))
    assert suffered.max() <= degradation(alpha, rate, SYSTEM.loop, COST, **options).value


def test_a_positive_margin_is_a_contraction():
    """Where the metric is l2 itself, every step brings two states together by at least the rate."""
    calm = DoubleIntegrator(0.6 * np.eye(2), np.array([[0.1], [0.0]]), np.zeros((1, 2)))
    net = spectral_net(2.0, seed=3)
    rate = contraction_rate(product_bound(net), calm.lipschitz, calm.loop)
    assert 0.6 < rate.value < 1
    assert not rate.vacuous
    pairs = np.random.default_rng(0).normal(size=(2, 5000, 2))
    with torch.no_grad():
        one, other = (calm.step(x, net(torch.tensor(x).float()).double().numpy()) for x in pairs)
    closer = np.linalg.norm(one - other, axis=1) / np.linalg.norm(pairs[0] - pairs[1], axis=1)
    assert closer.max() <= rate.value


POSITIVE = st.floats(0.01, 10.0)


@settings(max_examples=60, deadline=None)
@given(e=POSITIVE, h=POSITIVE, alpha=POSITIVE, expert=POSITIVE, zeta=POSITIVE, more=st.floats(1.01, 3.0))
def test_bounds_grow_with_what_they_are_made_of(e, h, alpha, expert, zeta, more):
    loop = SYSTEM.loop

    def chain(e, h, alpha, expert, zeta):
        a, b = known(alpha), known(expert)
        error = imitation_error(known(e), known(h), a, b, trivial=math.inf)
        options = {"disturbance": zeta, "trivial": math.inf}
        return (
            error.value,
            expert_deviation(error, a, loop, **options).value,
            contraction_rate(a, b, loop).value,
            regret(error, a, b, loop, COST, **options).value,
            degradation(a, contraction_rate(a, b, loop), loop, COST, **options).value,
            1 / observation_radius(a, 1.0).value,
        )

    values = chain(e, h, alpha, expert, zeta)
    for index in range(5):
        arguments = [e, h, alpha, expert, zeta]
        arguments[index] *= more
        grown = chain(*arguments)
        assert all(new >= old for new, old in zip(grown, values, strict=True))
        if index == 2:
            assert all(new > old or math.isinf(old) for new, old in zip(grown, values, strict=True))


def test_the_weakest_part_decides_the_kind():
    sure, guess = known(1.0), known(0.5, "estimated")
    assert weakest(sure, guess, known(2.0, "empirical")) == "empirical"
    assert imitation_error(sure, sure, sure, guess, trivial=1.0).kind == "estimated"
    assert imitation_error(sure, sure, sure, guess, trivial=1.0).vacuous
    assert not imitation_error(sure, sure, sure, guess, trivial=9.0).vacuous


def test_a_loop_that_does_not_contract_has_no_bound():
    wild = dataclasses.replace(SYSTEM, gain=0 * SYSTEM.gain).loop
    deviation = expert_deviation(known(0.1), known(1.0), wild, disturbance=0.0, trivial=math.inf)
    assert deviation.vacuous
    assert deviation.to_json()["value"] is None


def test_the_loop_is_found_again_from_transitions():
    rng = np.random.default_rng(1)
    states = rng.normal(size=(2000, 2))
    actions = SYSTEM.expert(states) + rng.normal(0, 0.3, (2000, 1))
    found = estimate_loop(states, actions, SYSTEM.step(states, actions))
    assert found.kind == "estimated"
    assert found.contraction.value == pytest.approx(SYSTEM.loop.contraction.value, rel=0.05)
    assert found.input_gain.value == pytest.approx(SYSTEM.loop.input_gain.value, rel=0.2)
    slope = expert_lipschitz(states, SYSTEM.expert(states))
    assert 0.8 * SYSTEM.lipschitz.value < slope.value <= SYSTEM.lipschitz.value * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60))
def test_a_grid_covers_at_least_what_samples_show(seed, count):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (count, 2))
    bound = box_covering_radius(points, np.full(2, -1.0), np.full(2, 1.0), nodes=40)
    assert bound.value >= sampled_covering_radius(points, rng.uniform(-1, 1, (2000, 2))).value


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="must be positive"):
        observation_radius(known(1.0), 0.0)
    with pytest.raises(ConfigError, match=r"discount is 1.0"):
        Cost(1.0, 1.0, 1.0)
    with pytest.raises(ConfigError, match="not negative"):
        known(-1.0)
    with pytest.raises(UnknownNameError, match="Did you mean 'certified'"):
        known(1.0, "certifed")
    with pytest.raises(ConfigError, match="at most"):
        box_covering_radius(np.zeros((1, 12)), np.zeros(12), np.ones(12), nodes=100)
    with pytest.raises(ConfigError, match="must not be negative"):
        expert_deviation(known(1.0), known(1.0), SYSTEM.loop, disturbance=-0.1, trivial=1.0)


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.zeros((4, 3))])
def test_a_slope_needs_two_states(points):
    with pytest.raises(ConfigError, match=r"slope cannot be estimated\. Give certificate\.expert"):
        expert_lipschitz(points, np.zeros((len(points), 2)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 8), coupling=st.floats(-3.0, 12.0))
def test_no_wrong_actions_lead_a_linear_loop_further_than_its_gain(seed, size, coupling):
    """Whatever its shape: states that barely decay, and ones that drive others a million times as large."""
    rng = np.random.default_rng(seed)
    closed = np.triu(rng.normal(size=(size, size)), 1) * 10.0**coupling
    closed += np.diag(rng.uniform(-0.999, 0.999, size))
    inputs = rng.normal(size=(size, 2))
    loop = loop_of_model(closed, inputs, np.zeros((2, size)), kind="estimated", assumption="Given.")
    if not math.isfinite(loop.gain):
        assert loop.contraction.vacuous
        return
    reach, direction = [inputs], rng.normal(size=size)
    for _ in range(100):
        reach.append(closed @ reach[-1])
    for _ in range(5):  # the inputs of length 1 that push furthest along a direction, which then follows
        pushed = [matrix.T @ direction for matrix in reach]
        pairs = zip(reach, pushed, strict=True)
        direction = sum(matrix @ push / max(float(np.linalg.norm(push)), 1e-300) for matrix, push in pairs)
        assert np.linalg.norm(direction) <= loop.gain * (1 + 1e-9)


def test_of_too_few_transitions_nothing_follows():
    loop = estimate_loop(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros((3, 2)))
    assert "too few" in loop.assumption
    assert contraction_rate(known(1.0), known(1.0), loop).vacuous
