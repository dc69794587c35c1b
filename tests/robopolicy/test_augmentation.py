"""Image augmentation: what it does to the frames of a window, and its bounds."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robopolicy.training.augmentation import Augmentation, jitter_colours, random_shift
from robopolicy.training.configs import AugmentationConfig
from robopolicy_datasets.errors import ConfigError

NOTHING = AugmentationConfig(shift=0)
EVERYTHING = AugmentationConfig(shift=3, brightness=0.4, contrast=0.4, saturation=0.5, hue=0.1)


def images(dtype=torch.uint8, windows=40, frames=2, height=6, width=8, seed=0):
    shape = (windows, frames, height, width, 3)
    drawn = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return drawn if dtype == torch.uint8 else drawn.to(dtype) / 255


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(**observation):
    return {"observation": observation, "action": torch.zeros(40, 8, 2)}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_without_strength_nothing_changes(dtype):
    augment = Augmentation(NOTHING, ["camera0_rgb"])
    batch = batch_of(camera0_rgb=images(dtype))
    assert torch.equal(augment(batch, seeded())["observation"]["camera0_rgb"], images(dtype))


@pytest.mark.parametrize("name", ["shift", "brightness", "contrast", "saturation", "hue"])
def test_each_strength_changes_something(name):
    config = dataclasses.replace(NOTHING, **{name: 2 if name == "shift" else 0.3})
    changed = Augmentation(config, ["camera0_rgb"])(batch_of(camera0_rgb=images()), seeded())
    assert not torch.equal(changed["observation"]["camera0_rgb"], images())


def test_images_are_moved_with_their_border_repeated():
    before, pixels = images(), 2
    after = random_shift(before, pixels, seeded())
    rows, columns = torch.arange(6), torch.arange(8)
    offsets = set()
    for window, moved in zip(before, after, strict=True):
        fitting = [
            (dy, dx)
            for dy in range(-pixels, pixels + 1)
            for dx in range(-pixels, pixels + 1)
            if torch.equal(moved, window[:, (rows + dy).clamp(0, 5)][:, :, (columns + dx).clamp(0, 7)])
        ]
        assert fitting  # by one of the offsets, both frames
        offsets.add(fitting[0])
    assert len(offsets) > 10  # of 25


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_all_frames_of_a_window_change_alike_and_windows_do_not(dtype):
    one = images(dtype, windows=1, frames=1).expand(40, 3, -1, -1, -1)
    augment = Augmentation(EVERYTHING, ["camera0_rgb", "camera1_rgb"])
    changed = augment(batch_of(camera0_rgb=one, camera1_rgb=one), seeded())["observation"]
    for after in changed.values():
        assert torch.equal(after[:, :1].expand_as(after), after)
        assert len({window.numpy().tobytes() for window in after}) == 40
    assert not torch.equal(changed["camera0_rgb"], changed["camera1_rgb"])


@given(
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 1),
    saturation=st.floats(0, 1),
    hue=st.floats(0, 0.5),
    seed=st.integers(0, 1000),
)
def test_colours_stay_within_bounds(dtype, brightness, contrast, saturation, hue, seed):
    config = AugmentationConfig(0, brightness, contrast, saturation, hue)
    before = images(dtype, windows=3, seed=seed)
    after = jitter_colours(before, config, seeded(seed))
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert after.min() >= 0
    assert after.max() <= (255 if dtype == torch.uint8 else 1)


def test_brightness_multiplies_and_contrast_turns_about_the_mean():
    before = 0.25 + images(torch.float32) / 4  # far from the bounds: nothing is cut off
    grey = (before.mean(dim=(1, 2, 3)) @ torch.tensor([0.299, 0.587, 0.114])).view(-1, 1, 1, 1, 1)
    for name, fixed in (("brightness", torch.zeros_like(grey)), ("contrast", grey)):
        after = jitter_colours(before, dataclasses.replace(NOTHING, **{name: 0.3}), seeded())
        spans = [part.flatten(1).amax(1) - part.flatten(1).amin(1) for part in (after, before)]
        factor = (spans[0] / spans[1]).view(-1, 1, 1, 1, 1)
        assert 0.7 - 1e-4 < factor.min() < 0.8
        assert 1.2 < factor.max() < 1.3 + 1e-4
        torch.testing.assert_close(after, fixed + factor * (before - fixed), atol=1e-5, rtol=0)


def test_saturation_and_hue_keep_the_luma_and_grey():
    luma = torch.tensor([0.299, 0.587, 0.114])
    before = 0.3 + 0.4 * images(torch.float32)
    for name in ("saturation", "hue"):
        config = dataclasses.replace(NOTHING, **{name: 0.2})
        after = jitter_colours(before, config, seeded())
        kept = ((after > 0) & (after < 1)).all(dim=-1)
        assert kept.float().mean() > 0.9
        torch.testing.assert_close((after @ luma)[kept], (before @ luma)[kept], atol=1e-3, rtol=0)
        grey = before[..., :1].expand_as(before)
        torch.testing.assert_close(jitter_colours(grey, config, seeded()), grey, atol=1e-3, rtol=0)


def test_a_turn_of_the_hue_is_one_of_the_colours_circle():
    """Half a turn, at most, brings pure colours to the other side, as in HSV."""
    red = torch.tensor([0.6, 0.4, 0.4]).expand(200, 1, 1, 1, 3)
    after = jitter_colours(red, dataclasses.replace(NOTHING, hue=0.5), seeded()).view(-1, 3)
    hues = np.sort([colorsys.rgb_to_hsv(*colour)[0] for colour in after.tolist()])
    assert np.diff(hues).max() < 0.1  # all around


def test_changes_follow_their_generator():
    augment = Augmentation(EVERYTHING, ["camera0_rgb"])
    batch = batch_of(camera0_rgb=images(), agent_pos=torch.ones(40, 2, 2))
    first, again, other = (augment(batch, seeded(seed))["observation"] for seed in (1, 1, 2))
    assert torch.equal(first["camera0_rgb"], again["camera0_rgb"])
    assert not torch.equal(first["camera0_rgb"], other["camera0_rgb"])
    assert first["agent_pos"] is batch["observation"]["agent_pos"]
    assert torch.equal(batch["observation"]["camera0_rgb"], images())  # not changed in place


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shift": -1}, "shift is -1"),
        ({"brightness": 1.5}, r"brightness is 1.5; it must lie in \[0, 1\]"),
        ({"contrast": -0.1}, "contrast is -0.1"),
        ({"saturation": float("nan")}, "saturation is nan"),
        ({"hue": 0.6}, r"hue is 0.6; it must lie in \[0, 0.5\]"),
    ],
)
def test_impossible_strengths_are_told(changes, words):
    with pytest.raises(ConfigError, match=f"trainer.augmentation.{words}"):
        Augmentation(dataclasses.replace(NOTHING, **changes), [])
