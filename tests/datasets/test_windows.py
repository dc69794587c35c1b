"""Windows of one store against a naive reference, one step after the other."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, NewEpisode
from robopolicy_datasets.windows import KeyWindow, WindowSampler, split_episodes

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


def naive_windows(episodes, observation, action, edges="repeat", pad_after=None):
    """Looks at every step of every episode; yields (observation, action, mask) by key."""
    for number in episodes:
        data, length = episode(number), LENGTHS[number]
        for present in range(length):
            steps = {
                key: [present + window.first + window.stride * index for index in range(window.steps)]
                for key, window in {**observation, "action": action}.items()
            }
            everything = [step for shown in steps.values() for step in shown]
            if edges == "drop" and not 0 <= min(everything) <= max(everything) < length:
                continue
            if pad_after is not None and max(everything) > length - 1 + pad_after:
                continue
            yield (
                {
                    key: np.stack([data[key][min(max(step, 0), length - 1)] for step in shown])
                    for key, shown in steps.items()
                },
                {key: [0 <= step < length for step in shown] for key, shown in steps.items()},
            )


@st.composite
def key_windows(draw):
    return KeyWindow(draw(st.integers(-12, 8)), draw(st.integers(1, 9)), draw(st.integers(1, 4)))


@st.composite
def settings_of_windows(draw):
    edges = draw(st.sampled_from(["repeat", "drop", "mask"]))
    return {
        "observation": draw(st.dictionaries(st.sampled_from(KEYS), key_windows(), min_size=1)),
        "action": draw(key_windows()),
        "episodes": draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)),
        "edges": edges,
        "pad_after": None if edges == "drop" else draw(st.none() | st.integers(0, 12)),
    }


@given(settings_of_windows(), st.sampled_from([0, 4 << 30]))
def test_every_window_is_the_naive_one(store, arguments, image_memory):
    expected = list(naive_windows(**arguments))
    if not expected:
        with pytest.raises(StoreError, match="long enough"):
            WindowSampler(store, **arguments)
        return
    sampler = WindowSampler(store, image_memory=image_memory, **arguments)
    assert sampler.on_disk == (
        ["camera0_rgb"] if "camera0_rgb" in arguments["observation"] and not image_memory else []
    )
    assert len(sampler) == len(expected)
    batch = sampler.gather(np.arange(len(sampler)))
    assert set(batch["observation"]) == set(arguments["observation"])
    for key, values in {**batch["observation"], "action": batch["action"]}.items():
        assert values.dtype == store.spec[key].dtype
        np.testing.assert_array_equal(values, [window[key] for window, _ in expected])
    assert ("mask" in batch) == (arguments["edges"] == "mask")
    if "mask" in batch:
        for key, mask in {**batch["mask"]["observation"], "action": batch["mask"]["action"]}.items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, [real[key] for _, real in expected])


@given(
    horizon=st.integers(1, 20),
    observation_steps=st.integers(1, 20),
    action_steps=st.integers(1, 20),
    learn_ending=st.booleans(),
)
def test_what_a_training_uses_is_diffusion_policys(
    store, horizon, observation_steps, action_steps, learn_ending
):
    """Row by row as its SequenceSampler: padding by To - 1 before and Ta - 1 after (or to the last step)."""
    observation_steps = min(observation_steps, horizon)
    action_steps = min(action_steps, horizon - observation_steps + 1)
    pad_after = horizon - observation_steps if learn_ending else action_steps - 1
    expected = []
    for number, length in enumerate(LENGTHS):
        data = episode(number)
        for first in range(1 - observation_steps, length - horizon + pad_after + 1):
            steps = np.clip(np.arange(first, first + horizon), 0, length - 1)
            expected.append((data["step"][steps[:observation_steps]], data["action"][steps]))
    arguments = {
        "observation": {"step": KeyWindow.past(observation_steps)},
        "action": KeyWindow(1 - observation_steps, horizon),
        "pad_after": None if learn_ending else pad_after,
    }
    if not expected:
        with pytest.raises(StoreError, match="long enough"):
            WindowSampler(store, **arguments)
        return
    sampler = WindowSampler(store, **arguments)
    batch = sampler.gather(np.arange(len(sampler)))
    np.testing.assert_array_equal(batch["observation"]["step"], [seen for seen, _ in expected])
    np.testing.assert_array_equal(batch["action"], [action for _, action in expected])


def test_the_ways_to_name_a_window():
    assert KeyWindow.past(3).offsets.tolist() == [-2, -1, 0]
    assert KeyWindow.past(3, stride=4, latency=1).offsets.tolist() == [-9, -5, -1]
    assert KeyWindow.future(3).offsets.tolist() == [0, 1, 2]
    assert KeyWindow.future(3, stride=2).offsets.tolist() == [0, 2, 4]
    assert (KeyWindow(-1, 16).first, KeyWindow(-1, 16).last) == (-1, 14)


def test_a_sampler_keeps_to_its_episodes_while_the_store_grows(tmp_path):
    writer = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    writer.append_episodes([NewEpisode(episode(number)) for number in range(3)])
    reader = DemoStore.open(writer.path)
    arguments = {"observation": dict.fromkeys(KEYS, KeyWindow.past(2)), "action": KeyWindow.future(4)}
    samplers = [WindowSampler(reader, image_memory=memory, **arguments) for memory in (0, 4 << 30)]
    before = [sampler.gather(np.arange(len(sampler))) for sampler in samplers]
    writer.append_episodes([NewEpisode(episode(number)) for number in (3, 4)])
    assert list(reader.refresh()) == [3, 4]
    for sampler, first in zip(samplers, before, strict=True):
        again = sampler.gather(np.arange(len(sampler)))
        np.testing.assert_array_equal(again["action"], first["action"])
        for key in KEYS:
            np.testing.assert_array_equal(again["observation"][key], first["observation"][key])
    grown = WindowSampler(reader, **arguments)
    assert len(grown) == sum(LENGTHS)
    found = grown.gather(np.arange(len(grown)))["observation"]["step"][:, -1]
    assert found.tolist() == [[number, step] for number in range(5) for step in range(LENGTHS[number])]


def test_long_stores_take_no_memory_by_the_step(tmp_path):
    """A hundred thousand steps and windows of hundreds: rows for all of them would be 800 MB."""
    spec = Spec((Feature("step", ()),), (Feature("action", (1,)),))
    long = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=10)
    steps = np.arange(100_000, dtype=np.float32)
    long.append_episode({"step": steps, "action": steps[:, None]})
    tracemalloc.start()
    sampler = WindowSampler(
        long, observation={"step": KeyWindow.past(500)}, action=KeyWindow.future(500), edges="drop"
    )
    batch = sampler.gather([0, len(sampler) - 1])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8e6  # the two arrays, read, are 0.8 MB
    np.testing.assert_array_equal(batch["observation"]["step"][:, 0], [0, 100_000 - 999])


def test_impossible_settings_are_named(store):
    good = {"observation": dict.fromkeys(KEYS, KeyWindow.past(2)), "action": KeyWindow.future(8)}
    for changes, error, message in (
        ({"observation": {"steps": KeyWindow.past(2)}}, StoreError, r"lacks steps\. It has: step"),
        ({"edges": "mirror"}, ConfigError, "Unknown edges 'mirror'.*drop, mask, repeat"),
        ({"pad_after": -1}, ConfigError, "pad_after=-1"),
        ({"pad_after": 3, "edges": "drop"}, ConfigError, "edges=drop"),
        ({"episodes": [5]}, ConfigError, "0 to 4"),
        ({"episodes": []}, ConfigError, "at least one"),
        ({"action": KeyWindow.future(31), "edges": "drop"}, StoreError, "more than 31 steps"),
    ):
        with pytest.raises(error, match=message):
            WindowSampler(store, **{**good, **changes})
    for arguments in ((0, 0), (0, 1, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            KeyWindow(*arguments)
    with pytest.raises(ConfigError, match="latency is -1"):
        KeyWindow.past(2, latency=-1)


def test_an_empty_store_cannot_be_sampled(tmp_path):
    empty = DemoStore.create(tmp_path / "a.zarr", SPEC, rate_hz=10)
    with pytest.raises(StoreError, match="no episodes"):
        WindowSampler(empty, observation={"step": KeyWindow.past(2)}, action=KeyWindow.future(8))


def test_nan_actions_are_named_unless_their_episode_is_left_out(tmp_path):
    group = zarr.open_group(tmp_path / "foreign.zarr", mode="w", zarr_format=2)
    action = np.zeros((12, 2), np.float32)
    action[7, 1] = np.nan
    group.create_array("data/action", data=action)
    group.create_array("data/pos", data=np.zeros((12, 3), np.float32))
    group.create_array("meta/episode_ends", data=np.array([5, 10, 12]))
    foreign = DemoStore.open(tmp_path / "foreign.zarr")
    arguments = {"observation": {"pos": KeyWindow.past(1)}, "action": KeyWindow.future(2)}
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
