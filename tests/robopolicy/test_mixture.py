"""The policy that samples in one step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robopolicy.nets.chunk_convolution import ChunkConvolution
from robopolicy.policies.configs import MixtureConfig
from robopolicy.policies.mixture import MixturePolicy
from robopolicy.training.batches import to_tensors
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Feature, Spec

from .conftest import PLANE_SPEC, tiny

LINE = Spec((Feature("agent_pos", (1,)),), (Feature("action", (1,)),))


def ways(generator, count=256):
    """Demonstrated is +1 or -1 where the place is above 0, and 0 elsewhere."""
    place = generator.uniform(-1, 1, (count, 1, 1)).astype(np.float32)
    way = generator.choice([-1.0, 1.0], (count, 1, 1)).astype(np.float32) * (place > 0)
    return {
        "observation": {"agent_pos": np.repeat(place, 2, axis=1)},
        "action": np.repeat(way, 8, axis=1).astype(np.float32),
    }


def test_codes_part_where_there_are_two_ways_and_agree_where_there_is_one():
    torch.manual_seed(0)
    windows = ways(np.random.default_rng(0))
    policy = MixturePolicy(tiny(MixtureConfig, codes=2, channels=16, blocks=1), LINE, 0.1)
    policy.fit_normalizer({"agent_pos": windows["observation"]["agent_pos"][:, 0]}, windows)
    batch = to_tensors(windows, "cpu")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    for step in range(400):
        optimizer.zero_grad()
        policy.loss(batch, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    place = windows["observation"]["agent_pos"][:, 0, 0]
    chunk = policy.infer(windows["observation"], seeds=range(256)).mean((1, 2))
    two, one = chunk[place > 0.3], chunk[place < -0.3]
    assert np.mean(np.abs(np.abs(two) - 1) < 0.25) > 0.9
    assert 0.25 < np.mean(two > 0) < 0.75
    assert np.mean(np.abs(one) < 0.15) > 0.9


def test_a_chunk_depends_on_its_seed_alone():
    torch.manual_seed(0)
    policy = MixturePolicy(tiny(MixtureConfig), PLANE_SPEC, 0.1)
    with torch.no_grad():
        policy.codes *= 20.0
    observation = {
        feature.key: np.random.default_rng(0).normal(size=(1, 2, *feature.shape)).astype(np.float32)
        for feature in PLANE_SPEC.observation
    }
    many = {key: np.repeat(value, 40, axis=0) for key, value in observation.items()}
    chunks = policy.infer(many, seeds=range(40))
    np.testing.assert_allclose(policy.infer(observation, seeds=[17])[0], chunks[17], atol=1e-5)
    found = {tuple(chunk[:, 0].round(4)) for chunk in chunks}
    assert 1 < len(found) <= policy.config.codes


def test_the_net_gives_a_chunk_for_each_row():
    net = ChunkConvolution(5, 16, 2, 8, 2)
    x = torch.randn(7, 5)
    whole = net(x)
    assert whole.shape == (7, 32)
    torch.testing.assert_close(net(x[3:4]), whole[3:4], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codes": 0}, "policy.codes is 0; it must be at least 1"),
        ({"blocks": 0}, "policy.blocks is 0"),
        ({"channels": 12}, "policy.channels is 12; it must be divisible by 8"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        MixturePolicy(tiny(MixtureConfig, **settings), PLANE_SPEC, 0.1)
