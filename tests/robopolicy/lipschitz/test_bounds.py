"""Bounds of plain nets: the product of the layers' and ECLipsE-Fast, and what they refuse."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robopolicy.nets.lipschitz.activations import MaxMin
from robopolicy.nets.lipschitz.bounds import eclipse_fast_bound, product_bound
from robopolicy.nets.lipschitz.convolution import scaled_average_pool
from robopolicy.nets.lipschitz.dense import AolLinear
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy_datasets.errors import ConfigError

from .conftest import EXACT, few, randomize, seeds, steepest


def plain(seed, activation, sizes=(4, 16, 16, 3), scale=1.0):
    torch.manual_seed(seed)
    layers = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return randomize(nn.Sequential(*layers[:-1]), seed, scale)


@few
@given(
    seed=seeds,
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Softplus, nn.LeakyReLU, nn.Sigmoid]),
    ends=st.booleans(),
)
def test_eclipse_lies_between_the_slope_found_and_the_product(seed, activation, ends):
    net = plain(seed, activation)
    if ends:
        net.append(activation())
    x = torch.randn(50, 4, dtype=torch.float64)
    bound = eclipse_fast_bound(net)
    assert steepest(copy.deepcopy(net).double(), x) <= bound * EXACT
    assert bound <= product_bound(net) * EXACT


def test_eclipse_of_the_absolute_value_by_hand():
    """|x| = relu(x) + relu(-x). M = (1, -1)^T (1, -1), so X^-1 doubles (1, -1) and leaves (1, 1)."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
    assert product_bound(net) == pytest.approx(2)
    assert eclipse_fast_bound(net) == pytest.approx(math.sqrt(2))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[1.0, -1.0]]))  # the identity
    assert eclipse_fast_bound(net) == pytest.approx(2)


def test_eclipse_of_linear_layers_in_a_row_is_their_products_norm():
    net = plain(0, nn.Identity)
    exact = (net[4].weight.double() @ net[2].weight.double() @ net[0].weight.double()).detach()
    assert eclipse_fast_bound(net) == pytest.approx(float(torch.linalg.matrix_norm(exact, 2)))
    with torch.no_grad():
        net[2].weight.zero_()
    assert eclipse_fast_bound(net) == 0
    assert eclipse_fast_bound(plain(0, nn.ReLU, scale=0.0)) == 0


@pytest.mark.parametrize("module", [nn.LayerNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)])
def test_normalizations_are_refused_with_the_reason(module):
    with pytest.raises(ConfigError, match="deviation of its input"):
        LipschitzSequential(AolLinear(4, 4), module)


def test_attention_and_unknown_layers_are_refused():
    with pytest.raises(ConfigError, match="attention"):
        LipschitzSequential(nn.MultiheadAttention(4, 1))
    with pytest.raises(ConfigError, match="LSTM has no Lipschitz bound"):
        product_bound(nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)))


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU, nn.Mish, MaxMin])
def test_eclipse_refuses_activations_that_it_does_not_hold_for(activation):
    net = plain(0, activation)
    with pytest.raises(ConfigError, match=activation.__name__):
        eclipse_fast_bound(net)
    assert product_bound(net) > 0


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU, nn.Mish, nn.Sigmoid, nn.Softplus, nn.Softsign])
def test_slopes_of_smooth_activations(activation):
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(activation()(x).sum(), x)
    bound = product_bound(activation())
    assert slopes.abs().max() <= bound <= slopes.abs().max() * 1.001


# --- pooling ------------------------------------------------------------------------------------------------


def exact_norm(function, *shape):
    """Returns the norm of a linear map of an image ``[channels, H, W]``, from its whole matrix."""
    size = math.prod(shape)
    columns = function(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1)
    return float(torch.linalg.matrix_norm(columns, 2))


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=1),
        nn.AvgPool2d((2, 3), divisor_override=2),
        nn.AvgPool2d(2, divisor_override=-4),
        scaled_average_pool(2),
        scaled_average_pool(3),
    ],
)
def test_average_pooling(pool):
    exact = exact_norm(pool, 1, 8, 9)
    assert exact <= product_bound(pool) * EXACT
    if pool.kernel_size == pool.stride:
        assert product_bound(pool) == pytest.approx(exact)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3)])
def test_maximum_pooling(size, stride):
    torch.manual_seed(0)
    pool = nn.MaxPool2d(size, stride)
    x = torch.randn(100, 2, 7, 7, dtype=torch.float64)
    x[0] = 0  # beside one pixel that all its windows see, this attains the bound
    y = torch.zeros_like(x)
    y[0, 0, 3, 3] = 1
    ratios = (pool(x) - pool(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert ratios.max() <= product_bound(pool)
    if stride == 1 or size % stride == 0:
        assert ratios[0] == pytest.approx(product_bound(pool))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.AvgPool2d(3, ceil_mode=True), "fewer pixels at the edge"),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), "fewer pixels at the edge"),
        (nn.MaxPool2d(3, dilation=2), "dilated"),
        (nn.Conv2d(4, 4, 3, groups=2), "groups"),
        (nn.Conv2d(4, 4, 3, dilation=2), "groups"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "repeats pixels"),
        (nn.Conv2d(4, 4, 3, stride=(1, 2)), "unequal strides"),
    ],
)
def test_what_the_formulas_do_not_hold_for_is_refused(module, words):
    with pytest.raises(ConfigError, match=words):
        product_bound(module)


class Residual(nn.Sequential):
    """Adds its input, which the product of its layers' norms knows nothing of."""

    def forward(self, x):
        return x + super().forward(x)


class Doubled(nn.Linear):
    """A dense layer, twice."""

    def forward(self, x):
        return 2 * super().forward(x)


def hooked(module):
    module.register_forward_hook(lambda _, inputs, output: 9 * output)
    return module


def own_forward(module):
    module.forward = lambda x: 9 * x
    return module


@pytest.mark.parametrize(
    "module",
    [
        *(Residual(nn.Linear(3, 3)), Doubled(3, 3), hooked(nn.Linear(3, 3)), own_forward(nn.ReLU())),
        *(hooked(nn.Identity()), hooked(nn.Conv2d(3, 3, 1)), nn.Sequential(hooked(nn.Tanh()))),
    ],
)
def test_a_layer_that_computes_something_of_its_own_is_refused(module):
    with pytest.raises(ConfigError, match="forward or hooks of its own"):
        product_bound(module)
    if not isinstance(module, nn.Conv2d):
        with pytest.raises(ConfigError, match="forward or hooks of its own"):
            eclipse_fast_bound(
                module if isinstance(module, nn.Sequential) else nn.Sequential(nn.Linear(3, 3), module)
            )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the hook of the old weight_norm sets the weight late
def test_a_weight_that_a_hook_makes_is_refused():
    with pytest.raises(ConfigError, match="hooks of its own"):
        product_bound(nn.utils.weight_norm(nn.Linear(3, 3)))


def test_parametrized_layers_are_bounded_by_the_weight_that_they_use():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(10)
    exact = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    assert product_bound(layer) == pytest.approx(exact)


def test_an_activation_that_jumps_is_refused():
    jumps = nn.Softplus(threshold=1.0)
    edge = torch.tensor([1.0, 1.001])
    assert float((jumps(edge)[1] - jumps(edge)[0]) / 0.001) < -300
    for bound in (product_bound, eclipse_fast_bound):
        with pytest.raises(ConfigError, match="jumps where it turns linear: its threshold is 1, below 20"):
            bound(nn.Sequential(nn.Linear(3, 3), jumps))
