"""Windows against a naive reference, and the order in which they are visited."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, NewEpisode
from robopolicy_datasets.windows import WindowSampler, split_episodes

KEYS = ["camera0_rgb", "step"]
LENGTHS = [9, 1, 30, 4, 17]
SPEC = Spec(
    (Feature("camera0_rgb", (2, 2, 3), "uint8", kind="rgb"), Feature("step", (2,))),
    (Feature("action", (3,)),),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Every value tells its episode and step."""
    store = DemoStore.create(tmp_path_factory.mktemp("windows") / "a.zarr", SPEC, rate_hz=10)
    store.append_episodes([NewEpisode(episode(number)) for number in range(len(LENGTHS))])
    return store


def episode(number):
    steps = np.arange(LENGTHS[number])
    images = np.broadcast_to((steps * 5 + number)[:, None, None, None], (len(steps), 2, 2, 3))
    return {
        "camera0_rgb": images.astype(np.uint8),
        "step": np.stack([np.full(len(steps), number), steps], axis=1).astype(np.float32),
        "action": np.stack([np.full(len(steps), number), steps, -steps], axis=1).astype(np.float32),
    }


def naive_windows(episodes, observation_steps, horizon, pad_before, pad_after):
    """As diffusion_policy's SequenceSampler, one step after the other."""
    for number in episodes:
        data, length = episode(number), LENGTHS[number]
        for first in range(-pad_before, length - horizon + pad_after + 1):
            steps = [min(max(step, 0), length - 1) for step in range(first, first + horizon)]
            seen = steps[:observation_steps]
            observation = {key: np.stack([data[key][step] for step in seen]) for key in KEYS}
            yield observation, np.stack([data["action"][step] for step in steps])


@st.composite
def settings_of_windows(draw):
    horizon = draw(st.integers(1, 20))
    return {
        "horizon": horizon,
        "observation_steps": draw(st.integers(1, horizon)),
        "pad_before": draw(st.integers(0, 5)),
        "pad_after": draw(st.integers(0, 12)),
        "episodes": draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)),
    }


@given(settings_of_windows())
def test_every_window_is_the_naive_one(store, arguments):
    expected = list(naive_windows(**arguments))
    if not expected:
        with pytest.raises(StoreError, match="long enough"):
            WindowSampler(store, observation_keys=KEYS, **arguments)
        return
    sampler = WindowSampler(store, observation_keys=KEYS, **arguments)
    assert len(sampler) == len(expected)
    batch = sampler.gather(np.arange(len(sampler)))
    for key in KEYS:
        assert batch["observation"][key].dtype == store.spec[key].dtype
        np.testing.assert_array_equal(batch["observation"][key], [window[0][key] for window in expected])
    np.testing.assert_array_equal(batch["action"], [window[1] for window in expected])
    # no window crosses an episode's boundary
    assert (batch["action"][..., 0] == batch["action"][:, :1, 0]).all()
    assert (np.diff(batch["action"][..., 1], axis=1) <= 1).all()


def test_the_default_padding_is_diffusion_policys(store):
    sampler = WindowSampler(store, observation_keys=["step"], observation_steps=2, horizon=16)
    expected = list(naive_windows(range(5), 2, 16, 1, 7))
    assert len(sampler) == len(expected)
    fewer = WindowSampler(store, observation_keys=["step"], observation_steps=2, horizon=16, action_steps=4)
    assert len(fewer) < len(sampler)


@given(
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1000),
    world_size=st.integers(1, 5),
    batch_size=st.integers(1, 9),
)
def test_ranks_partition_an_epoch(store, seed, epoch, world_size, batch_size):
    sampler = WindowSampler(store, observation_keys=["step"], observation_steps=1, horizon=8)
    shared = {"seed": seed, "epoch": epoch, "world_size": world_size}
    orders = [sampler.order(rank=rank, **shared) for rank in range(world_size)]
    assert sorted(np.concatenate(orders)) == list(range(len(sampler)))
    numbers = set()
    for rank, order in enumerate(orders):
        everything = list(sampler.batches(batch_size, rank=rank, drop_last=False, **shared))
        np.testing.assert_array_equal(
            np.concatenate([batch["action"] for batch in everything]), sampler.gather(order)["action"]
        )
        full = list(sampler.batches(batch_size, rank=rank, **shared))
        assert {len(batch["action"]) for batch in full} == {batch_size}
        numbers.add(len(full))
    assert numbers == {len(sampler) // world_size // batch_size}


def test_batches_are_the_same_for_the_same_arguments_only(store):
    def first(**changes):
        sampler = WindowSampler(store, observation_keys=KEYS, observation_steps=2, horizon=8)
        return next(sampler.batches(16, **{"seed": 1, "epoch": 2, "rank": 0, "world_size": 2, **changes}))

    same, again = first(), first()
    np.testing.assert_array_equal(same["action"], again["action"])
    np.testing.assert_array_equal(same["observation"]["camera0_rgb"], again["observation"]["camera0_rgb"])
    for changes in ({"seed": 2}, {"epoch": 3}, {"rank": 1}):
        assert (first(**changes)["action"] != same["action"]).any()


def test_impossible_settings_are_named(store):
    good = {"observation_keys": KEYS, "observation_steps": 2, "horizon": 8}
    for changes, error, message in (
        ({"observation_keys": ["steps"]}, StoreError, r"lacks steps\. It has: step"),
        ({"observation_steps": 9}, ConfigError, "observation_steps=9, horizon=8"),
        ({"pad_after": -1}, ConfigError, "pad_after=-1"),
        ({"episodes": [5]}, ConfigError, "0 to 4"),
        ({"episodes": []}, ConfigError, "at least one"),
    ):
        with pytest.raises(error, match=message):
            WindowSampler(store, **{**good, **changes})
    sampler = WindowSampler(store, **good)
    for batch_size in (0, 1000):
        with pytest.raises(ConfigError, match=f"batch of {batch_size}"):
            sampler.batches(batch_size, seed=0, epoch=0)
    with pytest.raises(ConfigError, match="rank is 2"):
        sampler.batches(4, seed=0, epoch=0, rank=2, world_size=2)


def test_an_empty_store_cannot_be_sampled(tmp_path):
    empty = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    with pytest.raises(StoreError, match="no episodes"):
        WindowSampler(empty, observation_keys=KEYS, observation_steps=2, horizon=8)


def test_nan_actions_are_named_unless_their_episode_is_left_out(tmp_path):
    group = zarr.open_group(tmp_path / "foreign.zarr", mode="w", zarr_format=2)
    action = np.zeros((12, 2), np.float32)
    action[7, 1] = np.nan
    group.create_array("data/action", data=action)
    group.create_array("data/pos", data=np.zeros((12, 3), np.float32))
    group.create_array("meta/episode_ends", data=np.array([5, 10, 12]))
    foreign = DemoStore.open(tmp_path / "foreign.zarr")
    arguments = {"observation_keys": ["pos"], "observation_steps": 1, "horizon": 2}
    with pytest.raises(StoreError, match=r"'action' .* not finite .* in episode 1 at step 2"):
        WindowSampler(foreign, **arguments)
    assert len(WindowSampler(foreign, episodes=[0, 2], **arguments)) > 0


@given(st.integers(0, 300), st.floats(0, 0.99), st.integers(0, 2**31))
def test_a_split_is_a_partition(num_episodes, fraction, seed):
    train, validation = split_episodes(num_episodes, validation_fraction=fraction, seed=seed)
    assert sorted([*train, *validation]) == list(range(num_episodes))
    assert (np.diff(train) > 0).all()
    assert abs(len(validation) - fraction * num_episodes) <= 1 or len(train) == 1
    if num_episodes > 1:
        assert len(train) > 0
        assert (len(validation) > 0) == (fraction > 0)
    again = split_episodes(num_episodes, validation_fraction=fraction, seed=seed)
    np.testing.assert_array_equal(train, again[0])


def test_a_split_of_everything_is_refused():
    with pytest.raises(ConfigError, match="below 1"):
        split_episodes(10, validation_fraction=1.0, seed=0)
