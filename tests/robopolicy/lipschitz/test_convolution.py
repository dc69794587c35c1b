"""Lipschitz convolutions and modulation: bounds against whole matrices and adversarial pairs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robopolicy.nets.lipschitz.activations import MaxMin
from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.convolution import (
    AolConv2d,
    SpectralConv2d,
    aol_backbone,
    scaled_average_pool,
)
from robopolicy.nets.lipschitz.dense import AolLinear, SpectralLinear
from robopolicy.nets.lipschitz.film import BoundedFilm
from robopolicy.nets.lipschitz.kernels import kernel_bound
from robopolicy.nets.lipschitz.mlp import LipschitzMlp
from robopolicy.nets.lipschitz.rounding import rounding_error
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy_datasets.errors import ConfigError

from .conftest import EXACT, doubled, few, randomize, seeds, steepest

LAYERS = {"spectral": SpectralConv2d, "aol": AolConv2d}
sizes = st.fixed_dictionaries(
    {
        "inputs": st.integers(1, 3),
        "outputs": st.integers(1, 5),
        "kernel_size": st.integers(1, 5),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 2),
    }
)


def exact_norm(kernel, stride, padding, side=7):
    """Returns the norm of a convolution of ``side`` x ``side`` images, from its whole matrix."""
    size = kernel.shape[1] * side * side
    pixels = torch.eye(size, dtype=torch.float64).view(size, -1, side, side)
    columns = F.conv2d(pixels, kernel.detach().double(), stride=stride, padding=padding).flatten(1)
    return float(torch.linalg.matrix_norm(columns, 2))


def small_net(layer="aol", seed=0):
    torch.manual_seed(seed)
    conv = LAYERS[layer]
    return LipschitzSequential(
        conv(3, 6, 4, stride=2, padding=1),
        MaxMin(dim=1),
        conv(6, 6, 3, padding=1),
        nn.ReLU(),
        scaled_average_pool(2),
        nn.Flatten(),
        AolLinear(24, 4),
    )


@few
@given(seed=seeds, sizes=sizes)
def test_the_bound_of_any_kernel_is_above_its_norm(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(
        sizes["outputs"], sizes["inputs"], sizes["kernel_size"], sizes["kernel_size"], generator=generator
    )
    assert (
        exact_norm(kernel, sizes["stride"], sizes["padding"]) <= kernel_bound(kernel, sizes["stride"]) * EXACT
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_bound_is_exact_where_patches_do_not_overlap(size):
    torch.manual_seed(0)
    kernel = torch.randn(4, 2, size, size)
    assert kernel_bound(kernel, size) == pytest.approx(exact_norm(kernel, size, 0, side=6))


@pytest.mark.parametrize("layer", LAYERS)
@few
@given(seed=seeds, sizes=sizes, scale=st.floats(-4, 4))
def test_a_convolution_of_any_weights_is_one_lipschitz(layer, seed, sizes, scale):
    conv = randomize(LAYERS[layer](**sizes), seed, 10.0**scale)
    bound = conv.lipschitz_bound()
    assert exact_norm(conv.used_weight(), conv.stride, conv.padding) <= bound * EXACT
    assert 0 < bound <= 1
    assert product_bound(conv.fold()) == bound


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1), (3, 2), (2, 2), (1, 2)])
def test_an_aol_convolution_starts_with_most_of_its_norm(kernel, stride):
    conv = AolConv2d(4, 16, kernel, stride, padding=1)
    assert exact_norm(conv.used_weight(), stride, 1) > 0.5


@pytest.mark.parametrize("layer", LAYERS)
@few
@given(seed=seeds)
def test_pairs_of_images_keep_the_bound(layer, seed):
    net = randomize(small_net(layer), seed, 1.0)
    x = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert steepest(doubled(net), x, steps=10) <= net.lipschitz_bound() * EXACT


@pytest.mark.parametrize("layer", LAYERS)
def test_steps_leave_nothing_stale(layer):
    net = small_net(layer)
    optimizer = torch.optim.SGD(net.parameters(), lr=100.0)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()
    bound = net.lipschitz_bound()
    assert 0 < bound <= 1
    expected = net.eval()(x)
    loaded = small_net(layer, seed=1).eval()
    loaded(x)
    loaded.load_state_dict(net.state_dict())
    folded = loaded.fold()
    assert product_bound(folded) == loaded.lipschitz_bound() == bound
    assert not any(hasattr(part, "used_weight") for part in folded)
    torch.testing.assert_close(folded(x), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
@few
@given(seed=seeds)
def test_float32_stays_within_the_stated_rounding(layer, seed):
    net = randomize(small_net(layer), seed, 1.0)
    x = 5 * torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    radius = float(x.flatten(1).norm(dim=1).max())
    error = rounding_error(net.fold(), radius, (3, 8, 8))
    with torch.no_grad():
        apart = net.fold()(x).double() - doubled(net)(x.double())
    assert apart.norm(dim=1).max() <= error <= 1e-4 * radius


def test_the_rounding_of_an_unknown_layer_is_refused():
    with pytest.raises(ConfigError, match="rounding of Tanh is not known"):
        rounding_error(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), 1.0, (2,))


@pytest.mark.parametrize("layer", LAYERS)
def test_autocast_does_not_reach_a_certified_net(layer):
    net, x = randomize(small_net(layer), 0, 1.0).eval(), torch.randn(3, 3, 8, 8)
    expected, bound = net(x), net.lipschitz_bound()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), expected)
        assert net.lipschitz_bound() == bound


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("outputs", "stride"), [(2, 2), (7, 1)])
def test_gradients_equal_finite_differences(layer, outputs, stride):
    conv = randomize(LAYERS[layer](2, outputs, 3, stride, padding=1).double().eval(), 0, 1.0)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)

    def evaluate(weight, bias):
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(evaluate, (conv.weight, conv.bias))


def test_the_image_backbone():
    torch.manual_seed(0)
    net = LipschitzSequential(aol_backbone([8, 12]), nn.Flatten(), AolLinear(12 * 5 * 4, 10)).eval()
    images = 2 * torch.rand(6, 3, 20, 16) - 1
    assert net(images).shape == (6, 10)
    assert 0.4 < net.lipschitz_bound() <= 1
    folded = net.fold()
    torch.testing.assert_close(folded(images), net(images), atol=1e-6, rtol=1e-6)
    assert [type(part) for part in folded] == [*[nn.Conv2d, MaxMin] * 2, nn.Flatten, nn.Linear]


def test_channels_that_cannot_be_paired_are_refused():
    with pytest.raises(ConfigError, match="Make all even"):
        aol_backbone([8, 3])


# --- modulation ---------------------------------------------------------------------------------------------


def film(seed=0):
    torch.manual_seed(seed)
    gain = LipschitzMlp(3, 5, 8, 1, output_bounds=2.0)
    return BoundedFilm(gain, SpectralLinear(3, 5), largest_gain=1.5, largest_feature=0.7)


class Joint(nn.Module):
    """A modulation as a function of one vector."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x[:, :5], x[:, 5:])


@few
@given(seed=seeds)
def test_modulation_keeps_its_bounds(seed):
    net = randomize(film(), seed, 1.0)
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    exact = doubled(net)
    assert steepest(Joint(exact), x) <= net.lipschitz_bound() * EXACT
    features, condition = x[:, :5], x[:, 5:]
    by_feature = steepest(lambda h: exact(h, condition), features)
    by_condition = steepest(lambda c: exact(features, c), condition)
    assert by_feature <= net.feature_bound() == 1.5
    assert by_condition <= net.condition_bound() * EXACT
    assert net.condition_bound() <= 1.5 * 0.7 * 2 + 1
    assert net.lipschitz_bound() == pytest.approx(math.hypot(1.5, net.condition_bound()))


def test_modulation_folds():
    net = film().eval()
    features, condition = torch.randn(4, 5), torch.randn(4, 3)
    folded = net.fold()
    torch.testing.assert_close(folded(features, condition), net(features, condition), atol=1e-6, rtol=1e-6)
    assert folded.lipschitz_bound() == net.lipschitz_bound()
    assert not any(hasattr(part, "used_weight") for part in folded.modules())


@pytest.mark.parametrize("limits", [{"largest_gain": 0.0}, {"largest_feature": -1.0}])
def test_modulation_without_limits_is_refused(limits):
    with pytest.raises(ConfigError, match="above 0"):
        BoundedFilm(AolLinear(3, 5), AolLinear(3, 5), **limits)


def test_modulation_by_an_unbounded_net_is_refused():
    with pytest.raises(ConfigError, match="LayerNorm has no Lipschitz bound"):
        BoundedFilm(nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5)), AolLinear(3, 5))
