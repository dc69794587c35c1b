"""The empirical lower bound finds the steepest direction and never exceeds the truth."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import product_bound, spectral_net

from robopolicy.certify.lower_bound import jacobian_norms, lower_bound
from robopolicy.policies.configs import FlowConfig, UnetConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy_datasets.spec import Feature, Spec


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), inputs=st.integers(1, 8), outputs=st.integers(1, 8))
def test_a_linear_map_is_found_exactly(seed, inputs, outputs):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    points = torch.randn(40, inputs, generator=generator, dtype=torch.float64)
    found = lower_bound(lambda x: x @ weight.T, points, seed=seed)
    truth = float(torch.linalg.matrix_norm(weight, 2))
    assert 0.98 * truth <= found.value <= truth * (1 + 1e-9)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), lipschitz=st.floats(0.01, 100.0))
def test_it_stays_below_every_upper_bound(seed, lipschitz):
    net = spectral_net(lipschitz, seed=seed)
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(seed))
    found = lower_bound(net, points, seed=seed)
    assert 0 < found.value <= product_bound(net).value * (1 + 1e-4)


def test_jacobian_norms_are_the_largest_singular_values():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.SiLU(), torch.nn.Linear(32, 12))
    points = torch.randn(50, 6)
    norms, directions = jacobian_norms(lambda x: net(x).view(-1, 4, 3), points)
    jacobians = torch.func.vmap(torch.func.jacrev(net))(points)
    truth = torch.linalg.svdvals(jacobians)[:, 0]
    assert (norms <= truth * (1 + 1e-5)).all()
    assert (norms >= 0.9 * truth).all()
    pushed = torch.einsum("nij,nj->ni", jacobians, directions).norm(dim=1)
    assert (pushed >= norms * (1 - 1e-5)).all()


def test_a_sampled_chunk_of_a_unet_has_jacobians_too():
    """Its group normalization can be differentiated once only."""
    config = FlowConfig(horizon=8, action_steps=4, unet=UnetConfig([16, 32], 3, groups=4, embedding=16))
    spec = Spec((Feature("agent_pos", (2,)),), (Feature("action", (2,)),))
    torch.manual_seed(0)
    policy = FlowPolicy(config, spec, 0.1).eval()
    points = torch.randn(6, policy.encoder.size)

    def respond(x: torch.Tensor) -> torch.Tensor:
        return policy.respond(x, [3] * len(x))

    norms, _ = jacobian_norms(respond, points)
    for point, norm in zip(points, norms, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: respond(x[None])[0].flatten(), point)
        largest = torch.linalg.matrix_norm(jacobian, 2)
        assert 0.9 * largest <= norm <= largest * (1 + 1e-4)


def test_pairs_find_a_step_that_no_point_shows():
    """The map rises between the points only, where their Jacobians say nothing."""

    def step(x: torch.Tensor) -> torch.Tensor:
        return 0.1 * x + torch.relu(x - 0.3) - torch.relu(x - 0.5)

    points = torch.tensor([[0.1], [0.2], [0.7]])
    found = lower_bound(step, points)
    assert float(found.jacobian.max()) < 0.11
    assert found.secant > 0.5
