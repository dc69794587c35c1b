"""A policy's certificate holds in real units, and one that it cannot have is refused."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from spectral_policy import BOUND, SpectralPolicy, make_policy
from torch import nn

from robopolicy import geometry
from robopolicy.certify.configs import CertificateConfig
from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.evaluation.certification import certify
from robopolicy.policies.configs import FlowConfig, ImageEncoderConfig, LipschitzConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy.policies.lipschitz import LipschitzPolicy
from robopolicy_datasets.errors import ConfigError, RobopolicyError
from robopolicy_datasets.spec import Feature, Spec

IMAGE_SPEC = Spec((Feature("camera0_rgb", (16, 16, 3), "uint8", "rgb"),), (Feature("action", (2,)),))
ARM_SPEC = Spec(
    (
        Feature("robot0_eef_pos", (3,), kind="position", unit="m", frame="world"),
        Feature("robot0_eef_rot_axis_angle", (3,), kind="axis_angle", unit="rad", frame="world"),
        Feature("robot0_gripper_width", (1,), kind="width", unit="m"),
        Feature("door_angle", (1,), kind="angle", unit="rad"),
    ),
    (Feature("action", (7,), kind="pose_width", unit="m, rad", frame="world"),),
)


def silent(step: str) -> None:
    pass


@pytest.fixture
def arm(make_store):
    return make_policy(make_store(spec=ARM_SPEC, steps=40), pose_representation="absolute")


def test_every_error_inside_the_radii_keeps_every_action_within_its_tolerance(arm):
    """Through the whole policy: representation, normalizer, net, and back to metres and radians."""
    policy, data = arm
    config = CertificateConfig(points=16, tolerances={"m": 0.02, "rad": 0.1})
    certificate = certify(policy, "spectral", config, data, silent)
    radii = {quantity.name: finding.value for quantity, finding in certificate.radii()}
    assert set(radii) == {
        *(f"robot0_eef_pos[{n}]" for n in range(3)),
        *("robot0_eef_rot_axis_angle", "robot0_gripper_width", "door_angle"),
    }
    windows = data.training_windows(policy).gather(np.arange(32))
    observation = {key: torch.tensor(value) for key, value in windows["observation"].items()}
    chunk = policy.predict(observation).detach()
    rng = np.random.default_rng(0)
    largest = 0.0
    for _ in range(60):
        shares = rng.normal(size=6)
        wrong = observed_with(observation, radii, shares / np.linalg.norm(shares), rng)
        moved = policy.predict(wrong).detach()
        position = (moved - chunk)[..., [0, 1, 2, 6]].abs().max()
        matrices = [geometry.axis_angle_to_matrix(part[..., 3:6].double()) for part in (chunk, moved)]
        turned = geometry.matrix_to_axis_angle(matrices[0].mT @ matrices[1]).norm(dim=-1).max()
        assert position <= 0.02 + 1e-6
        assert turned <= 0.1 + 1e-5
        largest = max(largest, float(position) / 0.02, float(turned) / 0.1)
    assert largest > 0.02  # the radii are not so small that nothing moves


def observed_with(observation, radii, shares, rng):
    """Makes each quantity wrong by its share of its radius, of a new sign at each step of the window."""
    steps = (32, 2)
    signs = rng.choice([-1.0, 1.0], size=(6, *steps))
    wrong = dict(observation)
    offset = np.stack([shares[n] * radii[f"robot0_eef_pos[{n}]"] * signs[n] for n in range(3)], axis=-1)
    wrong["robot0_eef_pos"] = observation["robot0_eef_pos"] + torch.tensor(offset).float()
    axis = rng.normal(size=(*steps, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    turn = torch.tensor(axis * shares[3] * radii["robot0_eef_rot_axis_angle"])
    rotation = geometry.axis_angle_to_matrix(observation["robot0_eef_rot_axis_angle"].double())
    turned = rotation @ geometry.axis_angle_to_matrix(turn)
    wrong["robot0_eef_rot_axis_angle"] = geometry.matrix_to_axis_angle(turned).float()
    for number, key in ((4, "robot0_gripper_width"), (5, "door_angle")):
        offset = shares[number] * radii[key] * signs[number][..., None]
        wrong[key] = observation[key] + torch.tensor(offset).float()
    return wrong


def test_what_is_told(arm):
    policy, data = arm
    certificate = certify(policy, "spectral", CertificateConfig(points=16), data, silent)
    assert certificate.chunk.value == pytest.approx(BOUND)
    assert 0.3 < certificate.tightness <= 1
    names = [movement.quantity.name for movement in certificate.movements]
    assert names == ["x", "y", "z", "rotation", "width"]
    kinds = {one.quantity.name: one.radius.kind for one in certificate.movements}
    assert kinds.pop("rotation") == "estimated"
    assert set(kinds.values()) == {"certified"}
    assert {radius.kind for _, radius in certificate.radii()} == {"estimated"}
    assert certificate.tightest.radius.value == min(one.radius.value for one in certificate.movements)
    findings = certificate.findings
    assert findings["disturbed_action"].value == pytest.approx(0.1 * BOUND)
    assert findings["disturbed_action"].kind == "certified"
    assert findings["imitation_error"].kind == "estimated"
    assert findings["imitation_error"].value >= findings["held_out_error"].value
    assert {"expert_deviation", "contraction_rate", "regret", "degradation"} <= set(findings)
    content = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
    assert content["lipschitz"]["chunk"]["kind"] == "certified"


def test_a_given_loop_is_used(arm):
    policy, data = arm
    config = CertificateConfig(points=4, contraction=0.1, input_gain=0.01, expert_lipschitz=1.0)
    findings = certify(policy, "spectral", config, data, silent).findings
    assert findings["contraction_rate"].value == pytest.approx(0.1 + 0.01 * (BOUND + 1.0))
    assert not findings["contraction_rate"].vacuous


def test_relative_poses_and_features_of_images_are_told(make_store):
    policy, _ = make_policy(make_store(spec=ARM_SPEC, episodes=3))
    notes = certify(policy, "spectral", CertificateConfig(points=4), None, silent).notes
    assert "base frame" in notes[0]
    assert "random windows" in notes[1]


def test_a_policy_without_bounds_is_refused_or_measured_only(make_store):
    torch.manual_seed(0)
    config = FlowConfig(horizon=8, action_steps=4, net="mlp")
    config.mlp.width, config.mlp.blocks, config.mlp.embedding = 32, 1, 8
    policy = FlowPolicy(config, ARM_SPEC, 0.1).eval()
    with pytest.raises(ConfigError, match=r"'flow' cannot have a certificate.*empirical=true"):
        certify(policy, "flow", CertificateConfig(), None, silent)
    certificate = certify(policy, "flow", CertificateConfig(empirical=True, points=8), None, silent)
    content = certificate.to_json()
    assert content["lipschitz"]["chunk"]["value"] is None
    assert content["lipschitz"]["tightness"] == 0
    assert certificate.measured.kind == "empirical"
    assert certificate.measured.value > 0
    assert all(radius.value == 0 for _, radius in certificate.radii())
    assert not certificate.findings


def test_the_bound_from_pixels_is_told_where_there_is_one():
    encoder = ImageEncoderConfig(backbone="aol", channels=[4, 8], groups=1, features=8)
    config = LipschitzConfig(horizon=4, action_steps=2, width=8, depth=1, bound=3.0, encoder=encoder)
    torch.manual_seed(0)
    policy = LipschitzPolicy(config, IMAGE_SPEC, 0.1).eval()
    certificate = certify(policy, "lipschitz", CertificateConfig(points=2), None, silent)
    pixels = certificate.findings["pixels_camera0_rgb"]
    assert pixels.kind == "certified"
    assert 0 < pixels.value <= certificate.chunk.value
    assert "encoder's features" in certificate.notes[0]


def test_every_image_within_the_radius_keeps_every_action_within_its_tolerance():
    encoder = ImageEncoderConfig(backbone="aol", channels=[4, 8], groups=1, features=8)
    config = LipschitzConfig(horizon=4, action_steps=2, width=8, depth=1, bound=3.0, encoder=encoder)
    torch.manual_seed(0)
    policy = LipschitzPolicy(config, IMAGE_SPEC, 0.1).eval()
    asked = CertificateConfig(points=2, tolerance=0.5)
    radius = certify(policy, "lipschitz", asked, None, silent).findings["pixel_radius_camera0_rgb"]
    assert radius.kind == "certified"  # there is no rotation
    rng = np.random.default_rng(0)
    images = rng.integers(60, 196, (300, config.observation_steps, 16, 16, 3))
    share = rng.uniform(0.01, 0.2, (300, 1, 1, 1, 1))  # of the numbers that change
    change = rng.normal(size=images.shape) * (rng.random(images.shape) < share)
    change *= (radius.value / np.sqrt((change**2).sum((1, 2, 3, 4))))[:, None, None, None, None]
    moved = images + np.trunc(np.clip(change, -60, 60))  # whole grey levels, towards no change
    assert np.abs(moved - images).max() > 1
    calm, disturbed = (policy.infer({"camera0_rgb": given.astype(np.uint8)}) for given in (images, moved))
    tolerance = 0.5 * policy.normalizer.scale("action").numpy()
    assert (np.abs(disturbed - calm) <= tolerance).all()
    assert np.abs(disturbed - calm).max() > 0


class Plain(SpectralPolicy):
    """Without bounds of its own; its net is a plain one."""

    sensitivity = property()  # there is none

    def __init__(self, config, spec, dt) -> None:
        super().__init__(config, spec, dt)
        self.net = nn.Sequential(self.first, nn.ReLU(), self.second)

    def _predict(self, condition, seeds, prefix):
        return self.net(condition).unflatten(-1, (self.config.horizon, self.action.size))


def test_a_plain_net_has_a_loose_bound(make_store):
    policy, _ = make_policy(make_store(spec=ARM_SPEC, episodes=3), kind=Plain)
    certificate = certify(policy, "plain", CertificateConfig(points=4), None, silent)
    product = np.prod([torch.linalg.matrix_norm(layer.weight, 2).item() for layer in policy.net[::2]])
    assert certificate.measured.value <= certificate.chunk.value <= product * 1.001
    assert certificate.chunk.kind == "certified"
    assert "loose" in certificate.chunk.assumption
    assert "checked at 4 windows" in certificate.chunk.assumption
    policy.net = nn.Sequential(*policy.net, nn.LayerNorm(80))
    with pytest.raises(ConfigError, match=r"cannot have a certificate: LayerNorm has no Lipschitz bound"):
        certify(policy, "plain", CertificateConfig(points=4), None, silent)
    policy.net = nn.Sequential(nn.Linear(24, 80))
    policy._predict = lambda condition, seeds, prefix: policy.net(condition).view(-1, 8, 10) ** 2
    with pytest.raises(ConfigError, match=r"chunks are not what its net gives"):
        certify(policy, "plain", CertificateConfig(points=4), None, silent)


class Liar(SpectralPolicy):
    def sensitivity(self) -> Sensitivity:
        truth = super().sensitivity()
        return dataclasses.replace(truth, chunk=0.1 * truth.chunk)


class Incomplete(SpectralPolicy):
    def sensitivity(self) -> Sensitivity:
        truth = super().sensitivity()
        return dataclasses.replace(truth, per_action=truth.per_action[:3])


def test_a_bound_is_needed_for_each_number_of_an_action(make_store):
    policy, _ = make_policy(make_store(spec=ARM_SPEC, episodes=3), kind=Incomplete)
    with pytest.raises(ConfigError, match="bounds 3 numbers of an action, which has 10"):
        certify(policy, "incomplete", CertificateConfig(points=4), None, silent)


def test_a_bound_that_is_violated_is_no_certificate(make_store):
    policy, data = make_policy(make_store(spec=ARM_SPEC, episodes=3), kind=Liar)
    with pytest.raises(RobopolicyError, match="above its certified bound"):
        certify(policy, "liar", CertificateConfig(points=4), data, silent)


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"points": 0}, "points is 0; it must be a finite number above 0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"tolerance": math.inf}, "tolerance is inf"),
        ({"tolerances": {"m": -1.0}}, "tolerances.m is -1.0"),
        ({"tolerances": {"m": math.nan}}, "tolerances.m is nan"),
        ({"disturbance": -0.1}, "disturbance is -0.1; it must be finite and not negative"),
        ({"disturbance": math.nan}, "disturbance is nan"),
        ({"expert_lipschitz": -1.0}, "expert_lipschitz is -1.0"),
        ({"contraction": -0.5, "input_gain": 1.0}, "contraction is -0.5"),
        ({"contraction": 0.5}, "belong together"),
        ({"cost_action": math.nan}, "cost_action is nan"),
        ({"discount": 1.0}, "discount is 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(given_settings, words):
    with pytest.raises(ConfigError, match=f"certificate.*{words}"):
        CertificateConfig(**given_settings)


def test_a_tolerance_in_a_unit_that_no_action_has_is_refused(arm):
    with pytest.raises(ConfigError, match=r"Unknown unit .* 'mm'. Did you mean 'm'\? Allowed: m, rad"):
        certify(arm[0], "spectral", CertificateConfig(tolerances={"mm": 1.0}, points=4), None, silent)


def test_a_policy_that_ignores_what_it_sees_is_certified_too():
    encoder = ImageEncoderConfig(backbone="aol", channels=[4, 8], groups=1, features=8)
    config = LipschitzConfig(horizon=4, action_steps=2, width=8, depth=1, encoder=encoder)
    spec = Spec((*IMAGE_SPEC.observation, Feature("agent_pos", (2,))), IMAGE_SPEC.action)
    policy = LipschitzPolicy(config, spec, 0.1)
    torch.nn.init.zeros_(policy.net.readout.weight)
    certificate = certify(policy, "lipschitz", CertificateConfig(points=2), None, silent)
    assert certificate.chunk.value == 0
    assert certificate.tightness == 1
    assert certificate.findings["rounding"].kind == "empirical"
    content = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
    assert content["observations"][0]["radius"]["value"] is None  # any error is allowed
    assert content["findings"]["pixel_radius_camera0_rgb"]["value"] is None


def test_a_policy_in_training_mode_is_certified_as_it_is_deployed(make_store):
    policy, data = make_policy(make_store(spec=ARM_SPEC, episodes=3), observation_noise=1.0)
    config = CertificateConfig(points=2)
    deployed, trained = (certify(policy.train(mode), "s", config, data, silent) for mode in (False, True))
    assert trained.findings == deployed.findings


def test_theorems_of_relative_actions_say_that_the_base_must_be_right(make_store):
    policy, data = make_policy(make_store(spec=ARM_SPEC, episodes=3))
    findings = certify(policy, "spectral", CertificateConfig(points=2), data, silent).findings
    for name in ("expert_deviation", "regret", "degradation"):
        assert "No error is one of the newest pose" in findings[name].assumption
    assert "newest pose" not in findings["imitation_error"].assumption


class Moody(SpectralPolicy):
    """Steep, and with rotation rows that are nearly parallel, for one noise only."""

    stochastic = True

    def _predict(self, condition, seeds, prefix):
        steep = torch.tensor([seed == 3 for seed in seeds])[:, None, None]
        chunk = super()._predict(condition, seeds, prefix)
        rows = torch.cat([chunk[..., :6], 0.01 * chunk[..., 6:9] + chunk[..., 3:6], chunk[..., 9:]], dim=-1)
        return torch.where(steep, rows, 0.1 * chunk)


def test_the_search_looks_at_several_noises(make_store):
    store = make_store(spec=ARM_SPEC, episodes=3)
    found = [
        certify(make_policy(store, kind=kind)[0], "s", CertificateConfig(points=16), None, silent).movements
        for kind in (SpectralPolicy, Moody)
    ]
    for calm, moody in zip(*found, strict=True):
        if calm.quantity.name != "rotation":
            assert moody.measured.value > 0.5 * calm.measured.value
        else:
            assert moody.quantity.singular_value < 0.05 * calm.quantity.singular_value
