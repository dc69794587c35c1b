"""What the observation encoder is made of: ResNet-18, histories of a fast sensor, sentences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from robopolicy.checkpoint import load_policy, save_policy
from robopolicy.conformance import check_policy, example_windows
from robopolicy.nets.history import HistoryEncoder
from robopolicy.nets.resnet import FrozenBatchNorm, ResNet18
from robopolicy.policies.configs import BehaviorCloningConfig, ImageEncoderConfig, MlpConfig
from robopolicy.policies.regression import BehaviorCloningPolicy
from robopolicy_datasets.errors import CheckpointError, ConfigError
from robopolicy_datasets.language import embed_sentence, language_feature
from robopolicy_datasets.spec import Feature, Spec

from .conftest import FELT_SPEC, PLANE_SPEC, tiny

CAMERA_SPEC = Spec((Feature("camera0_rgb", (40, 40, 3), "uint8", "rgb"),), PLANE_SPEC.action)


# --- ResNet-18 ----------------------------------------------------------------------------------------------


def published(tmp_path):
    """Writes a file as torchvision's weights are: its names and shapes, counters and classifier included."""
    torch.manual_seed(0)
    weights = {name: torch.rand_like(value) * 0.1 for name, value in ResNet18().state_dict().items()}
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(3)
        for name in weights
        if name.endswith("running_var")
    }
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet18.safetensors"
    save_file({**weights, **counters, **classifier}, path)
    return path, weights


def camera_policy(**encoder):
    config = tiny(BehaviorCloningConfig, encoder=ImageEncoderConfig(backbone="resnet18", **encoder))
    return BehaviorCloningPolicy(config, CAMERA_SPEC, 0.1)


def test_resnet18_has_the_names_and_sizes_of_torchvision():
    shapes = {name: tuple(value.shape) for name, value in ResNet18().state_dict().items()}
    assert len(shapes) == 100  # of torchvision's 122 all but the classifier's 2 and 20 counters
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.1.bn2.running_var"] == (64,)
    assert shapes["layer3.0.downsample.0.weight"] == (256, 128, 1, 1)
    assert "layer1.0.downsample.0.weight" not in shapes
    learnt = [shape for name, shape in shapes.items() if "running" not in name]
    assert sum(int(np.prod(shape)) for shape in learnt) == 11_689_512 - 512 * 1000 - 1000
    assert ResNet18()(torch.zeros(1, 3, 64, 96)).shape == (1, 512, 2, 3)


def test_a_frozen_batch_norm_is_torchs_in_evaluation():
    torch.manual_seed(0)
    theirs = nn.BatchNorm2d(5).eval()
    for value in theirs.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2.0)
    ours = FrozenBatchNorm(5)
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if value.dim()})
    images = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(ours.train()(images), theirs(images))


@pytest.mark.parametrize("frozen", [False, True])
def test_published_weights_load_and_can_be_frozen(tmp_path, frozen):
    path, weights = published(tmp_path)
    policy = camera_policy(pretrained=str(path), frozen=frozen)
    backbone = policy.encoder.cameras["camera0_rgb"].backbone
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())
    assert {weight.requires_grad for weight in backbone.parameters()} == {not frozen}
    saved = save_policy(policy, tmp_path / "checkpoint", name="bc")
    path.unlink()
    observation = example_windows(policy, CAMERA_SPEC, seed=0)["observation"]
    np.testing.assert_array_equal(load_policy(saved).infer(observation), policy.infer(observation))


def test_a_frozen_backbone_conforms():
    config = tiny(BehaviorCloningConfig, encoder=ImageEncoderConfig(backbone="resnet18", frozen=True))
    check_policy("bc", config, CAMERA_SPEC, overfit_steps=0)


def test_weights_of_another_net_and_small_images_are_told(tmp_path):
    path, weights = published(tmp_path)
    del weights["conv1.weight"]
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"does not fit the image encoder .* 100 tensors .* found 99"):
        camera_policy(pretrained=str(path))
    small = Spec((Feature("camera0_rgb", (32, 32, 3), "uint8", "rgb"),), PLANE_SPEC.action)
    config = tiny(BehaviorCloningConfig, encoder=ImageEncoderConfig(backbone="resnet18"))
    with pytest.raises(ConfigError, match="needs more than 32"):
        BehaviorCloningPolicy(config, small, 0.1)
    config.encoder.backbone = "resnet81"
    with pytest.raises(ConfigError, match="Did you mean 'resnet18'"):
        BehaviorCloningPolicy(config, CAMERA_SPEC, 0.1)


# --- histories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 5, 10])
def test_every_sample_of_a_history_counts_and_so_does_its_place(samples):
    torch.manual_seed(0)
    net = HistoryEncoder(samples, 6, 3)
    history = torch.randn(2, samples, 6, requires_grad=True)
    out = net(history)
    assert out.shape == (2, 3)
    out.sum().backward()
    assert (history.grad.abs().amax(dim=(0, 2)) > 0).all()
    if samples > 1:
        assert not torch.allclose(net(history.flip(1)), out)


def test_the_samples_of_a_history_share_one_normalization():
    policy = BehaviorCloningPolicy(tiny(BehaviorCloningConfig), FELT_SPEC, 0.1)
    windows = example_windows(policy, FELT_SPEC, seed=0)
    values = {key: value.reshape(-1, *value.shape[2:]) for key, value in windows["observation"].items()}
    values["robot0_wrench"][..., 2] *= 10.0
    policy.fit_normalizer(values, windows)
    force = torch.from_numpy(values["robot0_wrench"])
    normalized = policy.normalizer.normalize("robot0_wrench", force)
    assert normalized.shape == force.shape
    torch.testing.assert_close(normalized.flatten(0, 1).std(0, correction=0), torch.ones(6))


# --- sentences ----------------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.integers(1, 80))
def test_a_sentence_has_unit_length_or_none(sentence, size):
    vector = embed_sentence(sentence, size)
    assert vector.shape == (size,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) or not vector.any()
    np.testing.assert_array_equal(vector, embed_sentence(f"  {sentence} ", size))


def test_sentences_that_share_words_are_near():
    left, right, other = map(embed_sentence, ("Move left, please!", "move right please", "open the drawer"))
    np.testing.assert_array_equal(left, embed_sentence("move LEFT please"))
    assert left @ right > left @ other + 0.2
    assert embed_sentence("left right") @ embed_sentence("right left") < 0.99  # the order counts
    with pytest.raises(ConfigError, match="at least 1"):
        embed_sentence("left", 0)


def test_a_sentence_has_the_same_vector_everywhere():
    """Checkpoints rely on it; Python's own hash differs from process to process."""
    vector = embed_sentence("open", 8)
    assert vector.nonzero()[0].tolist() == [2]
    assert vector[2] == -1.0


def test_the_newest_sentence_decides_what_a_policy_does():
    spec = Spec((PLANE_SPEC["agent_pos"], language_feature(size=16)), PLANE_SPEC.action)
    torch.manual_seed(0)
    policy = BehaviorCloningPolicy(tiny(BehaviorCloningConfig, mlp=MlpConfig(width=32, blocks=1)), spec, 0.1)
    sentences = np.stack([embed_sentence("to the left", 16), embed_sentence("to the right", 16)])
    observation = {"agent_pos": np.zeros((2, 2, 2), np.float32), "language": np.stack([sentences] * 2, 1)}
    batch = {
        "observation": {key: torch.from_numpy(value) for key, value in observation.items()},
        "action": torch.tensor([-1.0, 1.0])[:, None, None].expand(2, 8, 2),
    }
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        policy.loss(batch).backward()
        optimizer.step()
    np.testing.assert_allclose(policy.infer(observation)[:, :, 0], [[-1.0] * 7, [1.0] * 7], atol=0.2)
    observation["language"][:, 0] = observation["language"][::-1, 1]  # what was said before is over
    np.testing.assert_allclose(policy.infer(observation)[:, :, 0], [[-1.0] * 7, [1.0] * 7], atol=0.2)
