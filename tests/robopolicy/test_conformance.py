"""Every registered policy, with every net, on state and image data."""

from __future__ import annotations

import numpy as np
import pytest

from robopolicy.conformance import check_policy
from robopolicy.policies.generative import NETS
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_datasets.registry import policies

from .conftest import ARM_SPEC, IMAGE_SPEC, PLANE_SPEC, tiny

SPECS = {"plane": PLANE_SPEC, "arm": ARM_SPEC, "image": IMAGE_SPEC}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", policies.names())
def test_policy_conforms(name, net, spec):
    memorises = net == "mlp" or spec == "plane"  # between them every net, encoder and sampler learns
    if (name, spec) == ("diffusion", "arm"):
        memorises = False  # predicting the noise of whole poses takes tiny nets thousands of steps
    steps = {"flow": 150, "diffusion": 300}.get(name, 300) if memorises else 0
    config = tiny(policies.config_class(name), net=net, noise_samples=16 if net == "mlp" else 8)
    assert len(check_policy(name, config, SPECS[spec], overfit_steps=steps)) > 18


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
