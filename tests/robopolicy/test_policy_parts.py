"""Normalizer, representation, observation encoder and the settings of policies."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from robopolicy import geometry
from robopolicy.checkpoint import load_policy, save_policy
from robopolicy.conformance import example_windows
from robopolicy.policies.configs import DiffusionConfig, FlowConfig, ImageEncoderConfig, MlpConfig, UnetConfig
from robopolicy.policies.generative import DiffusionPolicy, FlowPolicy
from robopolicy.policies.normalizer import SMALLEST_SCALE, Normalizer
from robopolicy.policies.representation import (
    ActionRepresentation,
    is_rotational,
    observation_size,
    represent_observation,
)
from robopolicy_datasets.errors import CheckpointError, ConfigError, RobopolicyError, SpecError
from robopolicy_datasets.registry import policies
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.interfaces import Prefix

from .conftest import ARM_SPEC, IMAGE_SPEC, PLANE_SPEC, POSE, POSE_ACTION, tiny

# --- normalizer ---------------------------------------------------------------------------------------------

VALUES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=20),
    elements=st.floats(-1e3, 1e3, width=32),
)


@pytest.mark.parametrize("mode", ["limits", "standard"])
@given(values=VALUES)
def test_normalized_values_come_back(mode, values):
    real = torch.from_numpy(values)
    normalizer = Normalizer({"x": real.shape[1]})
    normalizer.fit("x", real, mode)
    normalized = normalizer.normalize("x", real)
    assert torch.isfinite(normalized).all()
    torch.testing.assert_close(normalizer.unnormalize("x", normalized), real, atol=2e-3, rtol=1e-5)
    if mode == "limits":
        half = (real.amax(0) - real.amin(0)) / 2
        rounding = torch.finfo(torch.float32).eps * real.abs().amax(0) / half.clamp_min(SMALLEST_SCALE)
        assert (normalized.abs().amax(0) <= 1 + 1e-4 + 2 * rounding).all()
        moving = half >= SMALLEST_SCALE * 2
        assert ((normalized.amax(0) - 1).abs() <= 1e-2 + 2 * rounding)[moving].all()


def test_standard_has_zero_mean_and_unit_variance():
    real = (
        torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 5.0]) + 7
    )
    normalizer = Normalizer({"x": 3})
    normalizer.fit("x", real, "standard")
    normalized = normalizer.normalize("x", real)
    torch.testing.assert_close(normalized.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalized.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["limits", "standard"])
def test_constants_are_centred_and_not_magnified(mode):
    real = torch.stack([torch.full((50,), 0.3), torch.linspace(-1, 1, 50)], dim=1)
    real[7, 0] += SMALLEST_SCALE / 100
    normalizer = Normalizer({"x": 2})
    normalizer.fit("x", real, mode)
    assert normalizer.normalize("x", real)[:, 0].abs().max() < 1e-4


def test_kept_numbers_are_untouched():
    real = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    normalizer = Normalizer({"x": 4})
    normalizer.fit("x", real, "limits", torch.tensor([False, True, True, False]))
    normalized = normalizer.normalize("x", real)
    assert torch.equal(normalized[:, 1:3], real[:, 1:3])
    assert not torch.allclose(normalized[:, 0], real[:, 0])


def test_rotational_numbers_are_never_scaled():
    policy = FlowPolicy(tiny(FlowConfig, net="mlp"), ARM_SPEC, 0.1)
    rng = np.random.default_rng(0)
    low = {feature.key: rng.uniform(0.1, 0.4, (20, 2, *feature.shape)).astype("f4") for feature in POSE}
    windows = {"observation": low, "action": rng.uniform(0, 0.4, (20, 8, 7)).astype("f4")}
    policy.fit_normalizer({key: value.reshape(40, -1) for key, value in low.items()}, windows)
    buffers = dict(policy.normalizer.named_buffers())
    assert buffers["robot0_eef_rot_axis_angle_scale"].tolist() == [1.0] * 6
    assert buffers["robot0_eef_rot_axis_angle_center"].tolist() == [0.0] * 6
    assert buffers["action_scale"][3:9].tolist() == [1.0] * 6
    assert buffers["action_center"][3:9].tolist() == [0.0] * 6
    assert (buffers["action_scale"][[0, 1, 2, 9]] != 1).all()


def test_a_damaged_normalizer_is_told():
    normalizer = Normalizer({"x": 2})
    normalizer.x_scale[0] = math.nan
    with pytest.raises(CheckpointError, match="x_scale"):
        normalizer.check_finite()
    with pytest.raises(ConfigError, match="limits, standard"):
        normalizer.fit("x", torch.zeros(2, 2), "minmax")


# --- representation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "size"),
    [
        (Feature("a", (3,), kind="axis_angle"), 6),
        (Feature("a", (2, 3), kind="axis_angle"), 12),
        (Feature("a", (2,), kind="angle"), 4),
        (Feature("a", (), kind="angle"), 2),
        (Feature("a", (2, 2), kind="touch"), 4),
        (Feature("a", (), kind="generic"), 1),
    ],
)
def test_observations_are_represented_by_their_kind(feature, size):
    value = torch.randn(5, 2, *feature.shape, generator=torch.Generator().manual_seed(0))
    represented = represent_observation(feature, value)
    assert observation_size(feature) == size
    assert represented.shape == (5, 2, size)
    assert is_rotational(feature) == (feature.kind in ("axis_angle", "angle"))


def test_angles_are_periodic():
    feature = Feature("a", (1,), kind="angle")
    angle = torch.tensor([[0.3]])
    torch.testing.assert_close(
        represent_observation(feature, angle),
        represent_observation(feature, angle + 2 * math.pi),
        atol=1e-6,
        rtol=0,
    )


def two_arms():
    keys = [f"robot{arm}_{name}" for arm in range(2) for name in ("eef_pos", "eef_rot_axis_angle")]
    kinds = ["position", "axis_angle"] * 2
    observation = tuple(Feature(key, (3,), kind=kind) for key, kind in zip(keys, kinds, strict=True))
    return Spec(observation, (Feature("action", (14,), kind="pose_width"),))


def random_poses(*shape, seed=0):
    """Returns float64 positions with axis-angles below pi ``[*shape, 6]``."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    angle = torch.rand(*shape, 1, generator=generator, dtype=torch.float64) * 3.1
    axis_angle = torch.nn.functional.normalize(vector, dim=-1) * angle
    return torch.cat([torch.randn(*shape, 3, generator=generator, dtype=torch.float64), axis_angle], dim=-1)


def pose_of(vector):
    return geometry.pose_matrix(vector[..., :3], geometry.axis_angle_to_matrix(vector[..., 3:6]))


@pytest.mark.parametrize("spec", [ARM_SPEC, two_arms()], ids=["one arm", "two arms"])
@pytest.mark.parametrize("representation", ["relative", "absolute"])
def test_pose_actions_come_back(representation, spec):
    action = ActionRepresentation(spec, representation)
    width = torch.rand(6, 8, action.arms, 1, dtype=torch.float64)
    actions = torch.cat([random_poses(6, 8, action.arms), width], dim=-1).flatten(-2)
    base = pose_of(random_poses(6, action.arms, seed=1)) if representation == "relative" else None
    represented = action.encode(actions, base)
    assert represented.shape == (6, 8, action.size)
    assert represented[..., action.rotational()].abs().max() <= 1 + 1e-9
    torch.testing.assert_close(action.decode(represented, base), actions, atol=1e-8, rtol=0)


def test_relative_actions_move_with_the_world():
    """Moving base and actions by one rigid motion changes no represented number; moving only the base, the
    decoded actions."""
    action = ActionRepresentation(ARM_SPEC, "relative")
    base = pose_of(random_poses(6, 1, seed=1))
    actions = torch.cat([random_poses(6, 8), torch.rand(6, 8, 1, dtype=torch.float64)], dim=-1)
    motion = pose_of(random_poses(1, 1, seed=2))
    moved = geometry.compose_poses(motion, pose_of(actions))
    axis_angle = geometry.matrix_to_axis_angle(moved[..., :3, :3])
    moved_actions = torch.cat([moved[..., :3, 3], axis_angle, actions[..., 6:]], dim=-1)
    represented = action.encode(actions, base)
    moved_base = geometry.compose_poses(motion, base)
    torch.testing.assert_close(action.encode(moved_actions, moved_base), represented, atol=1e-8, rtol=0)
    decoded = action.decode(represented, moved_base)
    torch.testing.assert_close(pose_of(decoded), moved, atol=1e-8, rtol=0)
    torch.testing.assert_close(decoded[..., 6], actions[..., 6])


def test_the_base_is_the_newest_observed_pose():
    action = ActionRepresentation(ARM_SPEC, "relative")
    history = random_poses(4, 2)
    observation = {"robot0_eef_pos": history[..., :3], "robot0_eef_rot_axis_angle": history[..., 3:]}
    base = action.base(observation)
    torch.testing.assert_close(base[:, 0], pose_of(history[:, -1]).float())
    assert base.dtype == torch.float32  # whatever the data is stored in
    assert ActionRepresentation(ARM_SPEC, "absolute").base(observation) is None
    assert ActionRepresentation(PLANE_SPEC, "relative").base({}) is None


@pytest.mark.parametrize(
    ("spec", "representation", "error", "words"),
    [
        (ARM_SPEC, "polar", ConfigError, "'relative', 'absolute'"),
        (Spec(POSE, ()), "relative", SpecError, "exactly one action"),
        (Spec(POSE, (Feature("action", (2, 7)),)), "relative", SpecError, "a vector"),
        (
            Spec(POSE, (Feature("action", (8,), kind="pose_width"),)),
            "relative",
            SpecError,
            "7 numbers per arm",
        ),
        (Spec(POSE[:1], (POSE_ACTION,)), "relative", SpecError, "robot0_eef_rot_axis_angle"),
    ],
)
def test_impossible_actions_are_refused(spec, representation, error, words):
    with pytest.raises(error, match=words):
        ActionRepresentation(spec, representation)


def test_data_in_float64_and_dotted_keys_are_fine():
    spec = Spec(
        (
            *(dataclasses.replace(feature, dtype="float64") for feature in POSE),
            Feature("observation.force", (), "float64"),
            Feature("observation.image", (12, 12, 3), "uint8", "rgb"),
        ),
        (dataclasses.replace(POSE_ACTION, dtype="float64"),),
    )
    policy = FlowPolicy(tiny(FlowConfig, net="mlp"), spec, 0.1)
    observation = {
        feature.key: np.ones((3, 2, *feature.shape), dtype=feature.dtype) for feature in spec.observation
    }
    assert policy.infer(observation).dtype == np.float32
    batch = {
        "observation": {key: torch.from_numpy(value) for key, value in observation.items()},
        "action": torch.zeros(3, 8, 7, dtype=torch.float64),
    }
    policy.loss(batch).backward()


# --- observations given to a policy -------------------------------------------------------------------------


def observation_of(spec, rows=2):
    return {f.key: np.zeros((rows, 2, *f.shape), dtype=f.dtype) for f in spec.observation}


def test_observations_that_do_not_fit_are_told():
    policy = FlowPolicy(tiny(FlowConfig, net="mlp"), IMAGE_SPEC, 0.1)
    good = observation_of(IMAGE_SPEC)
    for change, error, words in (
        ({"camera0_rgb": good["camera0_rgb"].astype("f4")}, SpecError, "float32; needed is uint8"),
        ({"camera0_rgb": good["camera0_rgb"][:, :, :8]}, SpecError, r"\[N, 2, 16, 16, 3\]"),
        ({"agent_pos": good["agent_pos"][:1]}, SpecError, "camera0_rgb 2, agent_pos 1"),
        ({key: value[:0] for key, value in good.items()}, SpecError, "at least one; given: camera0_rgb 0"),
    ):
        with pytest.raises(error, match=words):
            policy.infer({**good, **change})
    with pytest.raises(SpecError, match="lacks 'agent_pos'"):
        policy.infer({"camera0_rgb": good["camera0_rgb"]})
    with pytest.raises(ConfigError, match="3 seeds for 2"):
        policy.infer(good, seeds=[1, 2, 3])


def test_observation_noise_is_there_in_training_only_and_follows_the_generator():
    policy = FlowPolicy(tiny(FlowConfig, net="mlp", observation_noise=0.1), PLANE_SPEC, 0.1)
    observation = {key: torch.from_numpy(value) for key, value in observation_of(PLANE_SPEC).items()}

    def encoded(seed):
        return policy.encoder(observation, torch.Generator().manual_seed(seed))

    policy.train()
    assert torch.equal(encoded(0), encoded(0))
    assert not torch.equal(encoded(0), encoded(1))
    policy.eval()
    assert torch.equal(encoded(0), encoded(1))


def test_autocast_keeps_targets_exact_and_losses_close():
    """bf16 computes the net only: the represented actions stay what they are."""
    for net in ("mlp", "unet"):
        torch.manual_seed(0)
        policy = FlowPolicy(tiny(FlowConfig, net=net), ARM_SPEC, 0.1)
        rng = np.random.default_rng(0)
        poses = random_poses(64, 10).float()
        observation = {
            "robot0_eef_pos": poses[:, :2, :3],
            "robot0_eef_rot_axis_angle": poses[:, :2, 3:],
            "robot0_gripper_width": torch.rand(64, 2, 1),
        }
        batch = {
            "observation": observation,
            "action": torch.cat([poses[:, :8], torch.rand(64, 8, 1)], dim=-1),
        }
        seed = int(rng.integers(1000))
        full = policy.loss(batch, torch.Generator().manual_seed(seed))
        with torch.autocast("cpu", torch.bfloat16):
            encoded = policy.action.encode(batch["action"], policy.action.base(observation))
            half = policy.loss(batch, torch.Generator().manual_seed(seed))
        assert torch.equal(encoded, policy.action.encode(batch["action"], policy.action.base(observation)))
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(full.item(), rel=0.02)


# --- pretrained image encoders ------------------------------------------------------------------------------


def image_policy(pretrained="", **encoder):
    settings = {"channels": [8], "features": 16, **encoder}
    config = tiny(FlowConfig, net="mlp", encoder=ImageEncoderConfig(**settings, pretrained=str(pretrained)))
    return FlowPolicy(config, IMAGE_SPEC, 0.1)


def backbone(policy):
    return policy.encoder.cameras["camera0_rgb"].backbone.state_dict()


@pytest.mark.parametrize("net", ["unet", "mlp"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_sampling_in_bfloat16_is_close_and_gives_float32(name, net):
    torch.manual_seed(0)
    config = tiny({"flow": FlowConfig, "diffusion": DiffusionConfig}[name], net=net)
    policy = policies.build(name, config, ARM_SPEC, 0.1)
    windows = example_windows(policy, ARM_SPEC, seed=0)
    observation = windows["observation"]
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in observation.items()}
    policy.fit_normalizer(flat, windows)
    seeds = list(range(len(observation["robot0_eef_pos"])))
    exact = policy.infer(observation, seeds=seeds)
    policy.bf16 = True
    rounded = policy.infer(observation, seeds=seeds)
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)  # it did compute in bfloat16
    places = slice(3)  # an untrained net turns by so much that angles wrap around
    difference = np.abs(rounded - exact)[..., places]
    assert np.median(difference) < 0.02 * exact[..., places].std()


def untrained(name, net):
    """Returns a policy, observations for it, and a seed for each."""
    torch.manual_seed(0)
    policy = policies.build(name, tiny(policies.config_class(name), net=net), PLANE_SPEC, 0.1)
    observation = example_windows(policy, PLANE_SPEC, seed=0)["observation"]
    return policy, observation, list(range(len(observation["agent_pos"])))


@pytest.mark.parametrize("net", ["unet", "mlp", "transformer"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_a_rounded_net_samples_nearly_the_same(name, net):
    policy, observation, seeds = untrained(name, net)
    exact = policy.infer(observation, seeds=seeds)
    policy.round_net()
    rounded = policy.infer(observation, seeds=seeds)
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    assert np.median(np.abs(rounded - exact)) < 0.05 * exact.std()


@pytest.mark.parametrize("net", ["unet", "mlp", "transformer"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_a_rounded_net_continues_a_prefix_too(name, net):
    """For which it needs a gradient."""
    policy, observation, seeds = untrained(name, net)
    prefix = Prefix(policy.infer(observation, seeds=seeds)[0, :5] + 0.1, 3)
    exact = policy.infer(observation, seeds=seeds, prefix=prefix)
    policy.round_net()
    for policy.bf16 in (False, True):
        rounded = policy.infer(observation, seeds=seeds, prefix=prefix)
        assert rounded.dtype == np.float32
        assert np.median(np.abs(rounded - exact)) < 0.05 * exact.std()


class CountsRounded(TorchDispatchMode):
    """Counts the numbers that are rounded to bfloat16."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten._to_copy.default and result.dtype == torch.bfloat16:
            self.count += result.numel()
        return result


@pytest.mark.parametrize("net", ["unet", "mlp", "transformer"])
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_sampling_in_bfloat16_rounds_no_weights_on_the_way(name, net):
    """Autocast does so with views of weights, which our convolutions take, at every evaluation."""
    policy = policies.build(name, tiny(policies.config_class(name), net=net), PLANE_SPEC, 0.1)
    observation = {feature.key: torch.zeros(1, 2, *feature.shape) for feature in PLANE_SPEC.observation}
    policy.sample_in_bfloat16()
    with torch.no_grad(), CountsRounded() as rounded:
        assert policy.sample(observation, torch.zeros(1, 8, 2)).dtype == torch.float32
    assert 0 < rounded.count < 0.1 * sum(weights.numel() for weights in policy.net.parameters())


def test_a_pretrained_encoder_is_loaded_from_its_own_file_or_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    source = image_policy()
    save_file(
        {f"backbone.{name}": value for name, value in backbone(source).items()},
        tmp_path / "encoder.safetensors",
    )
    checkpoint = save_policy(source, tmp_path / "checkpoint", name="flow")
    for file in (tmp_path / "encoder.safetensors", checkpoint / "model.safetensors"):
        policy = image_policy(file)
        for name, value in backbone(policy).items():
            assert torch.equal(value, backbone(source)[name]), name
        saved = save_policy(policy, tmp_path / "fine-tuned", name="flow")
        file.rename(tmp_path / "gone")
        load_policy(saved)  # a checkpoint does not need the file again
        (tmp_path / "gone").rename(file)


def test_a_pretrained_encoder_that_does_not_fit_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*no file"):
        image_policy(tmp_path / "nowhere")
    (tmp_path / "text").write_text("not tensors")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        image_policy(tmp_path / "text")
    stored = {f"backbone.{name}": value for name, value in backbone(image_policy()).items()}
    save_file(stored, tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match="does not fit the image encoder of 'camera0_rgb'"):
        image_policy(tmp_path / "small.safetensors", channels=[16])


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"net": "unett"}, "Did you mean 'unet'"),
        ({"normalization": "limit"}, "Did you mean 'limits'"),
        ({"horizon": 7, "net": "unet"}, "divisible by 2"),
        ({"horizon": 0}, "policy.horizon is 0"),
        ({"action_steps": 8}, "only 7 of the 8"),
        ({"observation_steps": 0}, "policy.observation_steps is 0"),
        ({"sampler": "rk4"}, "sampler is 'rk4'"),
        ({"sampling_steps": 0}, "sampling_steps is 0"),
        ({"unet": UnetConfig(channels=[12])}, "policy.unet.channels"),
        ({"unet": UnetConfig(kernel_size=4)}, "must be odd"),
        ({"unet": UnetConfig(embedding=2)}, "even and at least 4"),
        ({"mlp": MlpConfig(width=0)}, "policy.mlp.width is 0"),
        ({"encoder": ImageEncoderConfig(channels=[])}, "policy.encoder.channels"),
        ({"observation_noise": -0.1}, "policy.observation_noise is -0.1"),
    ],
)
@pytest.mark.parametrize("name", ["diffusion", "flow"])
def test_impossible_settings_are_told(name, settings, words):
    config = tiny(policies.config_class(name), **{"net": "mlp", **settings})
    with pytest.raises(ConfigError, match=words):
        policies.build(name, config, IMAGE_SPEC, 0.1)


@pytest.mark.parametrize(("normalization", "farthest"), [("limits", 1.0), ("standard", 6.0)])
@pytest.mark.parametrize("prediction", ["noise", "clean", "velocity"])
def test_diffusion_clips_to_where_normalized_actions_lie(normalization, farthest, prediction):
    config = tiny(DiffusionConfig, net="mlp", normalization=normalization, prediction=prediction)
    policy = DiffusionPolicy(config, PLANE_SPEC, 0.1)
    with torch.no_grad():
        policy.net.output.bias.fill_(-1e3 if prediction == "noise" else 1e3)
        chunk = policy.respond(torch.zeros(3, policy.encoder.size), seeds=[0, 1, 2])
    assert chunk.abs().max() == farthest


@pytest.mark.parametrize(
    "feature", [Feature("depth", (8, 8), "uint16", "depth"), Feature("turns", (4,), kind="axis_angle")]
)
def test_features_that_cannot_be_encoded_are_told(feature):
    with pytest.raises(SpecError, match=feature.key):
        policies.build("flow", tiny(FlowConfig), Spec((feature,), PLANE_SPEC.action), 0.1)


def test_a_policy_must_observe_something():
    with pytest.raises(RobopolicyError, match="observes nothing"):
        policies.build("flow", tiny(FlowConfig), Spec((), PLANE_SPEC.action), 0.1)


def test_images_too_small_for_the_encoder_are_told():
    spec = Spec((Feature("camera0_rgb", (8, 8, 3), "uint8", "rgb"),), PLANE_SPEC.action)
    with pytest.raises(ConfigError, match="8 x 8 pixels"):
        policies.build("flow", tiny(FlowConfig), spec, 0.1)
