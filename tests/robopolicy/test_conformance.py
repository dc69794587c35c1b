"""Every registered policy, with every net, on readings, images, forces and sentences."""

from __future__ import annotations

import numpy as np
import pytest

from robopolicy.conformance import check_policy
from robopolicy.policies.chunk_nets import NETS
from robopolicy.policies.configs import ChunkNetConfig, GenerativeConfig
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_datasets.registry import policies

from .conftest import ARM_SPEC, FELT_SPEC, IMAGE_SPEC, PLANE_SPEC, tiny

SPECS = {"arm": ARM_SPEC, "image": IMAGE_SPEC, "felt": FELT_SPEC}
CONFIGS = {name: policies.config_class(name) for name in policies.names()}
CHOOSE_NETS = [name for name, config in CONFIGS.items() if issubclass(config, ChunkNetConfig)]


STEPS = {"diffusion": 300, "flow": 150}
"""To memorise ten samples; 100 for the others."""


def quick(name, **settings):
    """Returns tiny settings; many noisy copies of ten samples tell a net more than many steps."""
    copies = {"noise_samples": 16} if issubclass(CONFIGS[name], GenerativeConfig) else {}
    return tiny(CONFIGS[name], **copies, **settings)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", CHOOSE_NETS)
def test_policy_conforms_with_every_net(name, net):
    assert len(check_policy(name, quick(name, net=net), PLANE_SPEC, overfit_steps=STEPS.get(name, 100))) > 18


# flow_lipschitz refuses what an encoder without a bound has to make sense of: see test_lipschitz_flow
DATA = [
    (name, spec) for name in policies.names() for spec in SPECS if name != "flow_lipschitz" or spec == "arm"
]


@pytest.mark.parametrize(("name", "spec"), DATA)
def test_policy_conforms_with_every_kind_of_data(name, spec):
    # predicting the noise of whole poses takes tiny nets thousands of steps
    steps = 0 if (name, spec) == ("diffusion", "arm") else STEPS.get(name, 100)
    fastest = {"net": "mlp"} if issubclass(CONFIGS[name], GenerativeConfig) else {}
    assert len(check_policy(name, quick(name, **fastest), SPECS[spec], overfit_steps=steps)) > 18


@pytest.mark.parametrize(("name", "sampler"), [("diffusion", "ddpm"), ("flow", "heun")])
def test_other_samplers_conform(name, sampler):
    config = tiny(policies.config_class(name), net="mlp", sampler=sampler)
    check_policy(name, config, PLANE_SPEC, overfit_steps=0)


def test_a_faulty_policy_is_told(monkeypatch):
    def infer(self, observation, *, seeds=None):
        return np.zeros((10, 7, 2), dtype=np.int64)

    monkeypatch.setattr(policies.load("flow"), "infer", infer)
    with pytest.raises(RobopolicyError, match=r"'flow' does not conform: .* finite numpy floats .*int64"):
        check_policy("flow", tiny(policies.config_class("flow"), net="mlp"), PLANE_SPEC)
