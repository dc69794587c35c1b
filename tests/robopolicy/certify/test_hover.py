"""The quadrotor, its expert and its adversary; and what a cell of the hover experiment says of a net."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robopolicy.certify import hover, quadrotor
from robopolicy.certify.hover import NETS, HoverConfig
from robopolicy_datasets.errors import ConfigError

NOTHING = np.zeros((1, 4))


def cell(net, **settings):
    common = {"demonstrations": 2, "budget": "global", "share": 1.0, "seed": 0, "steps": 20}
    return HoverConfig(net, **{**common, "weight_decay": 0.0, "observation_noise": 0.0, **settings})


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(hover, "ROLLOUT_STEPS", 4)
    monkeypatch.setattr(hover, "ROLLOUTS", 3)
    hover.expert_costs.cache_clear()
    yield
    hover.expert_costs.cache_clear()


def test_hover_is_at_rest_and_without_thrust_it_falls():
    rest = np.zeros((1, 12))
    assert np.array_equal(quadrotor.next_state(rest, NOTHING), rest)
    falling = NOTHING - [quadrotor.MASS_KG * quadrotor.GRAVITY, 0, 0, 0]
    assert quadrotor.next_state(rest, falling)[0, 5] == pytest.approx(-9.81 * quadrotor.PERIOD_S)


def test_thrust_is_along_the_bodys_axis():
    """Turned by rotation matrices: yaw after pitch after roll."""
    rng = np.random.default_rng(0)
    for roll, pitch, yaw in rng.uniform(-1, 1, (20, 3)):
        cos, sin = np.cos, np.sin
        about_x = np.array([[1, 0, 0], [0, cos(roll), -sin(roll)], [0, sin(roll), cos(roll)]])
        about_y = np.array([[cos(pitch), 0, sin(pitch)], [0, 1, 0], [-sin(pitch), 0, cos(pitch)]])
        about_z = np.array([[cos(yaw), -sin(yaw), 0], [sin(yaw), cos(yaw), 0], [0, 0, 1]])
        state = np.zeros((1, 12))
        state[0, 6:9] = roll, pitch, yaw
        gained = quadrotor.next_state(state, NOTHING)[0, 3:6] / quadrotor.PERIOD_S
        axis = about_z @ about_y @ about_x @ [0, 0, 1]
        np.testing.assert_allclose(gained, 9.81 * axis - [0, 0, 9.81], atol=1e-12)


def test_the_next_state_is_affine_in_the_command():
    rng = np.random.default_rng(0)
    state, command = rng.uniform(-1, 1, (30, 12)), rng.uniform(-2, 2, (30, 4))
    predicted = quadrotor.next_state(state, np.zeros((30, 4)))
    predicted += np.einsum("bij,bj->bi", quadrotor.command_jacobian(state), command)
    np.testing.assert_allclose(quadrotor.next_state(state, command), predicted, atol=1e-12)


def test_the_expert_brings_every_first_state_to_hover():
    expert = quadrotor.expert()
    state = quadrotor.first_states(50, np.random.default_rng(0))
    far = np.linalg.norm(state, axis=1)
    for _ in range(1500):
        state = quadrotor.next_state(state, expert.command(state))
    assert (np.linalg.norm(state, axis=1) < 0.02 * far).all()


def test_the_adversary_does_more_than_chance_and_stays_within_its_size():
    data = hover.demonstrate(2, seed=0)
    gain = torch.from_numpy(data.gain).float()
    value, size = quadrotor.expert().value, 0.3
    state = quadrotor.first_states(100, np.random.default_rng(1))
    observation = torch.from_numpy(state / data.spread).float()

    def command(observed):
        return -observed @ gain.T

    def worth(shift):
        applied = command(observation + shift).clamp(-1, 1).double().numpy() * quadrotor.LIMITS
        following = quadrotor.next_state(state, applied)
        return np.einsum("bi,ij,bj->b", following, value, following)

    rng = np.random.default_rng(2)
    shift = hover.attack(command, state, observation, size, value, rng)
    assert float(shift.norm(dim=1).max()) <= size * (1 + 1e-6)
    for _ in range(20):
        chance = torch.from_numpy(rng.normal(size=state.shape)).float()
        chance *= size / chance.norm(dim=1, keepdim=True)
        assert (worth(shift) >= worth(chance) - 1e-6).mean() > 0.95


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("net", NETS)
def test_a_cell_bounds_its_net_from_both_sides(net):
    result = hover.run_cell(cell(net, budget="per_action"), (0.0, 0.3))
    assert 7000 < result["parameters"] < 10500
    assert 0 < result["lower"] <= result["certified"] * (1 + 1e-4)
    assert net.startswith("mlp") or result["certified"] <= 1.0
    assert np.shape(result["ratios"]) == (2, 3)
    assert np.isfinite(result["ratios"]).all()


@pytest.mark.usefixtures("_short")
def test_the_expert_itself_costs_what_the_expert_costs(monkeypatch):
    monkeypatch.setattr(hover, "ROLLOUT_STEPS", 50)

    class Expert(torch.nn.Sequential):
        def __init__(self, bounds):
            super().__init__(torch.nn.Linear(12, 4))

    def learn(net, data, config):
        net[0].weight = torch.nn.Parameter(-torch.from_numpy(data.gain).float())
        torch.nn.init.zeros_(net[0].bias)

    monkeypatch.setattr(hover, "NETS", {"expert": Expert})
    monkeypatch.setattr(hover, "fit", learn)
    result = hover.run_cell(cell("expert"), (0.0, 0.3))
    np.testing.assert_allclose(result["ratios"], 1.0, atol=1e-3)
    assert result["certified"] == pytest.approx(1.0, abs=1e-5)


def test_budgets_are_of_the_whole_gain_or_of_its_rows():
    gain = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert hover.output_bounds(gain, "per_action") == [5.0, 1.0]
    both = hover.output_bounds(gain, "global")
    assert both == [both[0]] * 2
    assert both[0] == pytest.approx(math.sqrt(np.linalg.eigvalsh(gain @ gain.T)[-1]))


@pytest.mark.parametrize(
    ("config", "words"),
    [(cell("slk"), "Did you mean 'sll'"), (cell("sll", budget="globe"), "Did you mean 'global'")],
)
def test_unknown_names_are_refused(config, words):
    with pytest.raises(ConfigError, match=words):
        hover.run_cell(config, (0.0,))
