"""Convolutions over time: bounds against whole matrices and adversarial pairs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.nets.lipschitz.temporal import (
    BRANCH,
    KERNEL,
    CappedConv1d,
    LipschitzTemporal,
    TemporalBlock,
    sequence_bound,
)
from robopolicy_datasets.errors import ConfigError, RobopolicyError

from .conftest import EXACT, few, randomize, seeds, steepest


def small(bound=20.0, depth=2):
    return LipschitzTemporal(
        5, 6, 2, channels=4, depth=depth, bound=bound, input_bounds=[1.0] * 3 + [0.1] * 2
    )


@few
@given(seeds, st.integers(1, 20), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3, 5]))
def test_the_bound_is_just_above_the_whole_matrix(seed, steps, inputs, outputs, taps):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(outputs, inputs, taps, generator=generator, dtype=torch.float64)
    columns = torch.eye(inputs * steps, dtype=torch.float64).view(-1, inputs, steps)
    matrix = F.conv1d(columns, kernel, padding=taps // 2).flatten(1)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert norm <= sequence_bound(kernel, steps) * EXACT
    if steps == 20:
        assert sequence_bound(kernel, steps) < 1.2 * norm
    if taps == 1:
        assert sequence_bound(kernel, steps) == pytest.approx(norm)


@few
@given(seeds, st.floats(-3, 3))
def test_no_pair_moves_the_sequence_further_than_the_bound(seed, log_scale):
    torch.manual_seed(seed)
    net = randomize(small(), seed, 10**log_scale).eval()
    bound = net.lipschitz_bound()
    assert bound <= 20.0
    exact = copy.deepcopy(net.fold()).double()
    assert steepest(exact, torch.randn(20, 5, dtype=torch.float64)) <= bound * EXACT
    # inputs of a tenth of the budget move a tenth as much
    weak = net.lipschitz_bound([3, 4])
    assert weak <= 2.0
    start = torch.randn(3, dtype=torch.float64)

    def of_weak(x):
        return exact(torch.cat([start.expand(len(x), 3), x], -1))

    assert steepest(of_weak, torch.randn(20, 2, dtype=torch.float64)) <= weak * EXACT
    first = net.lipschitz_bound(outputs=[0, 2, 4])
    assert first <= bound
    assert steepest(lambda x: exact(x)[:, ::2], torch.randn(20, 5, dtype=torch.float64)) <= first * EXACT


@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_the_fold_is_the_same_function(scale):
    net = randomize(small(), 0, scale).eval()
    plain, x = net.fold(), torch.randn(7, 5)
    assert torch.equal(plain.fold()(x), plain(x))
    torch.testing.assert_close(plain(x), net(x), atol=1e-5, rtol=1e-5)
    assert plain.lipschitz_bound() == pytest.approx(net.lipschitz_bound(), rel=1e-6)


def test_small_weights_are_left_alone_and_large_ones_reach_the_cap():
    layer = CappedConv1d(3, 8, most=2.0).eval()
    assert sequence_bound(layer.weight, 8) < 2.0
    assert torch.equal(layer.used_weight(), layer.weight)
    randomize(layer, 0, 50.0)
    assert layer.lipschitz_bound() == pytest.approx(2.0, rel=1e-4)
    assert layer.lipschitz_bound() <= 2.0


def test_no_gradient_lengthens_a_weight_that_is_scaled_down():
    layer = randomize(CappedConv1d(3, 8, most=2.0), 0, 5.0)
    layer(torch.randn(2, 3, 8)).square().sum().backward()
    gradient, weight = layer.weight.grad.flatten(), layer.weight.detach().flatten()
    assert gradient.norm() > 0
    assert abs(float(gradient @ weight)) < 1e-5 * float(gradient.norm() * weight.norm())


def test_a_block_bends_and_keeps_its_bound():
    block = randomize(TemporalBlock(4, 6), 1, 10.0).eval()
    assert block.lipschitz_bound() == pytest.approx(1 + BRANCH, rel=1e-3)
    assert block(torch.zeros(1, 4, KERNEL)).shape == (1, 4, KERNEL)


def test_impossible_nets_are_refused():
    with pytest.raises(ConfigError, match="depth 0 cannot be built"):
        small(depth=0)
    with pytest.raises(ConfigError, match="has 1 numbers; the net has 5"):
        LipschitzTemporal(5, 6, 2, 4, 1, 1.0, [1.0])
    layer = CappedConv1d(2, 4, 1.0)
    layer.weight.data[0, 0, 0] = torch.nan
    with pytest.raises(RobopolicyError, match="not a number"):
        layer.eval()(torch.zeros(1, 2, 4))
