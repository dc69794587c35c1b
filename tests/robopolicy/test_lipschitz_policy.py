"""The Lipschitz policy: its bound holds for what it infers, survives saving, and can be searched for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy.checkpoint import load_policy, save_policy
from robopolicy.conformance import example_windows
from robopolicy.nets.lipschitz.mlp import LAYERS
from robopolicy.policies.configs import ImageEncoderConfig, LipschitzConfig
from robopolicy.policies.lipschitz import LipschitzPolicy
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Feature, Spec

from .conftest import IMAGE_SPEC, PLANE_SPEC

EXACT = 1 + 1e-4  # the policy computes in float32


def small(**given_settings):
    encoder = ImageEncoderConfig(channels=[8], features=16)
    return LipschitzConfig(
        **{"horizon": 8, "action_steps": 4, "width": 32, "depth": 2, "encoder": encoder, **given_settings}
    )


def build(spec=PLANE_SPEC, seed=0, **given_settings):
    torch.manual_seed(seed)
    policy = LipschitzPolicy(small(**given_settings), spec, 0.1)
    with torch.no_grad():
        for parameter in policy.net.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    windows = example_windows(policy, spec, seed=seed)
    low = {key: value for key, value in windows["observation"].items() if not spec[key].is_image}
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in low.items()}
    policy.fit_normalizer(flat, {"observation": low, "action": windows["action"]})
    return policy.eval(), windows


def normalized_chunks(policy, observation):
    with torch.no_grad():
        tensors = {key: torch.from_numpy(value) for key, value in observation.items()}
        condition = policy.encoder(tensors)
        return condition.double(), policy._predict(condition, None, None).double()


@settings(max_examples=25, deadline=None)
@given(
    layer=st.sampled_from(LAYERS),
    seed=st.integers(0, 2**31),
    bounds=st.lists(st.floats(0.01, 100), min_size=2, max_size=2),
    size=st.floats(1e-2, 10),
)
def test_no_observation_moves_an_action_beyond_its_bound(layer, seed, bounds, size):
    policy, windows = build(seed=seed, layer=layer, action_bounds=bounds)
    proven = policy.sensitivity()
    rng = np.random.default_rng(seed)
    moved = {
        key: (value + size * rng.normal(size=value.shape)).astype(value.dtype)
        for key, value in windows["observation"].items()
    }
    one, other = (normalized_chunks(policy, observation) for observation in (windows["observation"], moved))
    way = (one[0] - other[0]).norm(dim=1)
    change = one[1] - other[1]
    assert (change.flatten(1).norm(dim=1) <= proven.chunk * EXACT * way).all()
    for number, bound in enumerate(proven.per_action):
        assert (change[..., number].norm(dim=1) <= bound * EXACT * way).all()
        assert bound <= bounds[number]
    assert proven.chunk <= max(bounds)
    assert proven.kind == "certified"


@pytest.mark.parametrize("layer", LAYERS)
def test_the_bound_and_the_actions_survive_saving_and_folding(layer, tmp_path):
    policy, windows = build(layer=layer)
    before = policy.sensitivity(), policy.infer(windows["observation"])
    loaded = load_policy(save_policy(policy, tmp_path / "policy", name="lipschitz"))
    assert loaded.sensitivity() == before[0]
    np.testing.assert_array_equal(loaded.infer(windows["observation"]), before[1])
    tensors = {key: torch.from_numpy(value) for key, value in windows["observation"].items()}
    unfolded = loaded.predict(tensors).detach().numpy()[:, policy.observation_steps - 1 :]
    np.testing.assert_allclose(before[1], unfolded, atol=1e-4)


def optimizer_step(net, **options):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, **options)
    net(torch.randn(4, len(net.input_bounds))).sum().backward()
    optimizer.step()


WRITES = {
    "in place": lambda net: [p.detach().add_(0.5) for p in net.parameters()],
    "through .data": lambda net: [p.data.copy_(torch.randn_like(p)) for p in net.parameters()],
    "a budget": lambda net: net.output_bounds.mul_(0.5),
    "replaced": lambda net: net.load_state_dict(
        {key: value + 0.5 for key, value in net.state_dict().items()}, assign=True
    ),
    "plain optimizer": optimizer_step,
    "fused optimizer": lambda net: optimizer_step(net, fused=True),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_step_of_training_is_seen_at_once(write):
    """A fold that is kept for speed must not outlive its weights."""
    policy, windows = build()
    before = policy.infer(windows["observation"])
    write(policy.net)
    after = policy.infer(windows["observation"])
    assert not np.allclose(after, before)
    policy.net = policy.net.fold()  # what is certified
    policy._plain_net = lambda: policy.net
    np.testing.assert_array_equal(after, policy.infer(windows["observation"]))


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_rounding_shows_where_float32_no_longer_does(margin):
    """Small weights make this layer's outer ones, and with them the rounding, a thousand times larger."""
    roundings = []
    for shrunk in (1.0, 1e-3):
        policy, _ = build(layer="sll_tanh", margin=margin)
        with torch.no_grad():
            for block in policy.net.hidden:
                block.weight.mul_(shrunk)
        roundings.append(policy.rounding(torch.randn(200, policy.encoder.size)))
    assert 0 < roundings[0] < 1e-3
    assert roundings[1] > 10 * roundings[0]


def test_what_encoders_see_is_named_as_outside_of_the_bound():
    policy, _ = build(IMAGE_SPEC)
    assert "features that encoders make of camera0_rgb" in policy.sensitivity().method
    assert policy.pixel_bounds() == {}
    assert "encoders" not in build()[0].sensitivity().method


def test_the_bound_from_pixels_holds():
    encoder = ImageEncoderConfig(backbone="aol", channels=[4, 8], groups=1, features=16)
    policy, windows = build(IMAGE_SPEC, encoder=encoder)
    rng = np.random.default_rng(0)
    one = {key: np.repeat(value[:1], 50, axis=0) for key, value in windows["observation"].items()}
    noise = rng.integers(-20, 21, one["camera0_rgb"].shape)
    moved = np.clip(one["camera0_rgb"] + noise, 0, 255).astype(np.uint8)
    other = {**one, "camera0_rgb": moved}
    change = normalized_chunks(policy, one)[1] - normalized_chunks(policy, other)[1]
    pixels = (moved.astype(float) - one["camera0_rgb"]).reshape(50, -1) / 127.5
    steepest = (change.flatten(1).norm(dim=1).numpy() / np.linalg.norm(pixels, axis=1)).max()
    bound = policy.pixel_bounds()["camera0_rgb"]
    assert 0 < steepest <= bound * EXACT <= policy.config.bound * EXACT


def test_the_smallest_bound_for_a_margin_is_found():
    """Of ``y = 2 x`` in each number, the map that errs by the margin has the slope ``2 - sqrt(margin)``."""
    torch.manual_seed(0)
    one = {"horizon": 1, "action_steps": 1, "observation_steps": 1}
    policy = LipschitzPolicy(small(margin=0.25, bound=4.0, depth=1, **one), PLANE_SPEC, 0.1)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    policy.train()
    for _ in range(500):
        condition = torch.randn(128, policy.encoder.size, generator=generator)
        optimizer.zero_grad()
        policy._chunk_loss(2 * condition[:, None, :2], condition, None).backward()
        optimizer.step()
    policy.eval()
    condition = torch.randn(1000, policy.encoder.size, generator=generator)
    error = policy._chunk_loss(2 * condition[:, None, :2], condition, None).item()
    assert error == pytest.approx(0.25, rel=0.25)
    assert policy.sensitivity().chunk == pytest.approx(1.5, rel=0.1)


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"bound": 0.0}, "policy.bound has the value 0.0; a Lipschitz bound must be finite and above 0"),
        ({"bound": -1.0}, "above 0"),
        ({"bound": float("inf")}, "must be finite"),
        ({"action_bounds": [1.0, 0.0]}, "policy.action_bounds has the value 0.0"),
        ({"action_bounds": [1.0]}, "has 1 numbers; the represented action has 2"),
        ({"margin": -0.1}, "policy.margin is -0.1"),
        ({"layer": "sil"}, "Did you mean 'sll'"),
        ({"layer": "relu"}, "relu"),
    ],
)
def test_impossible_bounds_are_refused(given_settings, words):
    with pytest.raises(ConfigError, match=words):
        build(**given_settings)


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "not finite"), (0.5, "changes by less"), ([1.0, 2.0], "changes by less")]
)
def test_a_feature_that_cannot_be_normalized_is_refused(value, words):
    policy, windows = build()
    windows["observation"]["agent_pos"][:] = value
    with pytest.raises(SpecError, match=f"'agent_pos' cannot be normalized: .*{words}"):
        policy.fit_normalizer(windows["observation"], windows)


def test_what_is_not_divided_by_its_spread_may_be_constant():
    """One sentence for all episodes, a hand that never turns: their numbers are used as they are."""
    spec = Spec(
        (
            Feature("agent_pos", (2,)),
            Feature("door", (1,), kind="angle", unit="rad"),
            Feature("instruction", (4,), kind="language"),
        ),
        (Feature("action", (2,)),),
    )
    policy, windows = build(spec)
    windows["observation"]["door"][:] = 0.3
    windows["observation"]["instruction"][:] = 0.5
    policy.fit_normalizer(windows["observation"], windows)
    assert policy.normalizer.scale("door").tolist() == [1.0, 1.0]
    windows["observation"]["door"][0] = np.nan
    with pytest.raises(SpecError, match="'door' cannot be normalized: it holds values that are not finite"):
        policy.fit_normalizer(windows["observation"], windows)
