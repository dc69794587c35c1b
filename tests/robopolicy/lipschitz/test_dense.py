"""Lipschitz nets: the bound holds for any weights, is never stale, and survives save, load and fold."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from robopolicy.nets.lipschitz.activations import GroupSort, MaxMin
from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.dense import AolLinear, SpectralLinear
from robopolicy.nets.lipschitz.mlp import LAYERS, LipschitzMlp
from robopolicy.nets.lipschitz.residual import SllLinear
from robopolicy.nets.lipschitz.rounding import rounding_error
from robopolicy.nets.lipschitz.sandwich import SandwichLinear
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy.nets.lipschitz.smooth import TanhSllLinear
from robopolicy_datasets.errors import ConfigError, RobopolicyError

from .conftest import EXACT, doubled, few, randomize, seeds, steepest

SINGLE = {
    "spectral": lambda inputs, outputs: SpectralLinear(inputs, outputs),
    "aol": lambda inputs, outputs: AolLinear(inputs, outputs),
    "sll": lambda inputs, outputs: SllLinear(inputs, outputs),
    "sandwich": lambda inputs, outputs: SandwichLinear(inputs, outputs),
}
MLPS = [("spectral", "relu"), ("spectral", "maxmin"), ("aol", "relu"), ("aol", "maxmin")]
MLPS += [("sll", "relu"), ("sll_tanh", "relu"), ("sandwich", "relu")]


def mlp(layer="sll", activation="relu", seed=0, scale=None, depth=2, **budgets):
    torch.manual_seed(seed)
    net = LipschitzMlp(5, 3, 12, depth, layer, activation=activation, **budgets)
    return net if scale is None else randomize(net, seed, scale)


def take_steps(net, steps, rate, batch=32):
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(batch, 3, generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(steps):
        x = torch.randn(batch, 5, generator=generator)
        optimizer.zero_grad()
        (net(x) * target).sum().backward()
        optimizer.step()


# --- the bound holds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SINGLE)
@few
@given(seed=seeds, scale=st.floats(-4, 4), sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_layer_of_any_weights_is_one_lipschitz(kind, seed, scale, sizes):
    layer = randomize(SINGLE[kind](*sizes), seed, 10.0**scale)
    bound = layer.lipschitz_bound()
    assert bound <= 1.0
    x = torch.randn(50, sizes[0], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert steepest(doubled(layer), 3 * x) <= bound * EXACT


@pytest.mark.parametrize(("layer", "activation"), MLPS)
@few
@given(seed=seeds, scale=st.floats(-2, 2))
def test_the_bound_of_a_net_holds_for_random_and_adversarial_pairs(layer, activation, seed, scale):
    net = mlp(layer, activation, seed, 10.0**scale, input_bounds=[0.1, 0.5, 1, 2, 3], output_bounds=[1, 2, 5])
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert steepest(doubled(net), x) <= net.lipschitz_bound() * EXACT


@pytest.mark.soak
@pytest.mark.parametrize(("layer", "activation"), MLPS)
@pytest.mark.parametrize("trained", [False, True])
def test_no_violation_in_many_pairs(layer, activation, trained):
    """20 nets of each kind, 200 pairs each: 56,000 pairs, each climbing for 40 steps."""
    for seed in range(20):
        net = mlp(layer, activation, seed, 1.0, depth=1 + seed % 3, output_bounds=[1, 2, 5])
        if trained:
            take_steps(net, 100, 0.1)
        bound = net.lipschitz_bound()
        x = 2 * torch.randn(200, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert steepest(doubled(net), x, steps=40, distance=0.02) <= bound * EXACT


@few
@given(layer=st.sampled_from(LAYERS), seed=seeds)
def test_each_output_keeps_its_budget_for_each_input(layer, seed):
    gains, budgets = [0.1, 0.5, 1, 2, 3], [1.0, 0.2, 5]
    net = mlp(layer, seed=seed, scale=1.0, input_bounds=gains, output_bounds=budgets)
    x = 3 * torch.randn(60, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = doubled(net)(x.requires_grad_()).sum(0)
    jacobians = torch.stack([torch.autograd.grad(value, x, retain_graph=True)[0] for value in values], 1)
    largest = jacobians.abs().amax(0)  # a slope of one output along one input
    for output, budget in enumerate(budgets):
        for index, gain in enumerate(gains):
            bound = net.lipschitz_bound(inputs=[index], outputs=[output])
            assert largest[output, index] <= bound * EXACT
            assert bound <= budget * gain
        scaled = jacobians[:, output] / torch.tensor(gains)  # of the output against diag(gains) x
        assert scaled.norm(dim=1).max() <= budget
    assert net.lipschitz_bound(outputs=[1]) <= net.lipschitz_bound() <= max(budgets) * max(gains)


@pytest.mark.parametrize(("layer", "activation"), MLPS)
def test_layers_stay_one_lipschitz_after_huge_steps(layer, activation):
    net = mlp(layer, activation)
    for rate in (1.0, 1e3, 1e6):
        take_steps(net, 3, rate)
        assert 0 < net.lipschitz_bound() <= 1.0


@pytest.mark.parametrize("layer", LAYERS)
def test_zero_weights_have_a_bound(layer):
    net = randomize(mlp(layer), 0, 0.0)
    assert net.lipschitz_bound() <= 1.0
    assert net(torch.randn(4, 5)).isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_net_can_use_its_budget(layer):
    """A bound that no net comes near would be true and useless."""
    net = mlp(layer, depth=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        x = torch.randn(128, 5, generator=generator)
        optimizer.zero_grad()
        (net(x) - 2 * x[:, :3]).square().mean().backward()
        optimizer.step()
    net.eval()
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    assert steepest(doubled(net), x) > 0.9


# --- it is of the weights that are used ---------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "activation"), MLPS)
def test_nothing_is_stale_after_the_last_step(layer, activation, tmp_path):
    net = mlp(layer, activation, output_bounds=[1, 2, 3])
    take_steps(net, 5, 0.5)  # no evaluation follows the last step
    bound = net.lipschitz_bound()
    net.eval()
    x = torch.randn(20, 5)
    expected = net(x)
    assert net.lipschitz_bound() == bound
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    loaded = mlp(layer, activation, seed=1, output_bounds=[1, 2, 3]).eval()
    loaded(x)  # a cache would now hold other weights
    loaded.load_state_dict(load_file(tmp_path / "net.safetensors"))
    folded = loaded.fold()
    assert loaded.lipschitz_bound() == bound
    assert folded.lipschitz_bound() == product_bound(folded) == bound
    assert torch.equal(loaded(x), expected)
    torch.testing.assert_close(folded(x), expected, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        net.lift.weight[0] *= 3.0
    assert not torch.equal(net(x), expected)


@pytest.mark.parametrize(("layer", "activation"), MLPS)
@few
@given(seed=seeds, scale=st.floats(-3, 3))
def test_the_fold_is_plain_and_equal(layer, activation, seed, scale):
    net = mlp(layer, activation, seed, 10.0**scale, input_bounds=0.5, output_bounds=[0.1, 1, 2]).eval()
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(seed))
    folded = net.fold()
    assert not any(isinstance(part, SpectralLinear | AolLinear | SllLinear) for part in folded.modules())
    expected = net(x)
    torch.testing.assert_close(
        folded(x), expected, atol=1e-6 * max(1, float(expected.detach().abs().max())), rtol=0
    )
    assert folded[0](x[0]).shape == (12,)
    torch.testing.assert_close(folded(x[0]), folded(x)[0])  # rows alone, too


def test_folding_leaves_the_net_as_it_was():
    net = mlp("spectral")
    before = copy.deepcopy(net.state_dict())
    folded = net.fold()
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "spectral"])
def test_training_uses_the_weights_of_evaluation(layer):
    net, x = mlp(layer), torch.randn(7, 5)
    assert torch.equal(net.train()(x), net.eval()(x))


def test_power_iterations_come_to_the_exact_norm():
    layer, x = SpectralLinear(6, 9), torch.randn(7, 6)
    randomize(layer, 3, 1.0)
    for _ in range(300):
        layer(x)
    torch.testing.assert_close(layer.train()(x), layer.eval()(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
@few
@given(seed=seeds)
def test_float32_stays_within_the_stated_rounding(layer, seed):
    net = mlp(layer, seed=seed, scale=1.0)
    folded = net.fold()
    x = 10 * torch.randn(100, 5, generator=torch.Generator().manual_seed(seed))
    y = x + 1e-6 * torch.randn(100, 5, generator=torch.Generator().manual_seed(seed + 1))
    radius = float(x.norm(dim=1).max()) + 1e-4
    error = rounding_error(folded, radius, (5,))
    with torch.no_grad():
        single, moved = folded(x).double(), folded(y).double()
        exact = doubled(net)(x.double())
    assert (single - exact).norm(dim=1).max() <= error <= 1e-4 * radius
    distance = (x.double() - y.double()).norm(dim=1)
    assert ((single - moved).norm(dim=1) <= net.lipschitz_bound() * distance + 2 * error).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_autocast_does_not_reach_a_certified_net(layer):
    net, x = mlp(layer, scale=1.0).eval(), torch.randn(9, 5)
    expected, bound = net(x), net.lipschitz_bound()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), expected)
        assert net.lipschitz_bound() == bound
        folded = net.fold()
        assert net(x.bfloat16()).dtype == torch.float32
        torch.testing.assert_close(folded(x), expected, atol=1e-6, rtol=1e-6)


# --- gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SINGLE)
def test_gradients_equal_finite_differences(kind):
    torch.manual_seed(0)
    layer = randomize(SINGLE[kind](4, 3).double().eval(), 0, 1.0)
    parameters = dict(layer.named_parameters())

    def evaluate(x, *values):
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(evaluate, (x, *parameters.values()))


# --- activations and composition ----------------------------------------------------------------------------


@few
@given(seed=seeds, groups=st.integers(1, 5), size=st.integers(1, 4))
def test_sorting_permutes_each_group(seed, groups, size):
    x = torch.randn(6, groups * size, generator=torch.Generator().manual_seed(seed))
    result = GroupSort(size)(x).view(6, groups, size)
    assert torch.equal(result, x.view(6, groups, size).sort(-1).values)


@pytest.mark.parametrize(("shape", "dim"), [((5, 8), -1), ((5, 8, 3, 3), 1), ((4, 2, 6), 2)])
def test_maxmin_sorts_pairs(shape, dim):
    x = torch.randn(shape)
    first, second = x.chunk(2, dim)
    greater, lesser = MaxMin(dim)(x).chunk(2, dim)
    assert torch.equal(greater, torch.maximum(first, second))
    assert torch.equal(lesser, torch.minimum(first, second))
    assert torch.equal(GroupSort(1, dim)(x), x)


def test_a_sequence_multiplies_bounds_and_folds_flat():
    torch.manual_seed(0)
    net = LipschitzSequential(
        nn.Flatten(),
        AolLinear(6, 8),
        MaxMin(),
        LipschitzSequential(SllLinear(8), nn.Sigmoid()),
        nn.Linear(8, 2),
    ).eval()
    parts = [
        net[1].lipschitz_bound(),
        0.25,
        float(torch.linalg.matrix_norm(net[4].weight.detach(), 2)),
    ]
    assert net.lipschitz_bound() == pytest.approx(parts[0] * parts[1] * parts[2], rel=1e-6)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(net.fold()(x), net(x))
    assert len(net.fold()) == 6
    assert net[1:3].lipschitz_bound() == net[1].lipschitz_bound()


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"output_bounds": 0.0}, "finite number above 0"),
        ({"output_bounds": [1, -1, 1]}, "finite number above 0"),
        ({"input_bounds": float("inf")}, "finite number above 0"),
        ({"input_bounds": 1e39}, "holds 1e.39; .* in float32"),
        ({"output_bounds": 1e-46}, "holds 1e-46; .* in float32"),
        ({"input_bounds": [1, 2]}, "has 2 numbers; the net has 5"),
        ({"layer": "sil"}, "Did you mean 'sll'"),
        ({"layer": "aol", "activation": "maxmim"}, "Did you mean 'maxmin'"),
        ({"layer": "sll", "activation": "maxmin"}, "has its activation inside"),
        ({"layer": "aol", "activation": "maxmin", "width": 7}, "Make it even"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings_, words):
    with pytest.raises(ConfigError, match=words):
        LipschitzMlp(**{"inputs": 5, "outputs": 3, "width": 8, "depth": 1, **settings_})


@pytest.mark.parametrize("layer", LAYERS)
def test_weights_that_are_no_numbers_have_no_bound(layer):
    net = mlp(layer)
    with torch.no_grad():
        net.lift.weight[0, 0] = float("nan")
    with pytest.raises(RobopolicyError, match="not a number"):
        net.lipschitz_bound()


# --- the smooth residual layer ------------------------------------------------------------------------------


def test_a_smooth_layer_with_small_weights_is_linear_and_yet_no_identity():
    layer = TanhSllLinear(6)
    x = torch.randn(50, 6)
    with torch.no_grad():
        for scale, tolerance in ((1e-3, 1e-3), (1.0, None)):
            layer.weight.copy_(scale * torch.linalg.qr(torch.randn(6, 6))[0])
            bend = (layer(x) + layer(-x)).norm() + (layer(2 * x) - 2 * layer(x)).norm()
            assert bend < tolerance if tolerance else bend > 1.0
            assert (layer(x) - x).norm() > 1.0
