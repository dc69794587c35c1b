"""The order in which windows are drawn, from one store or mixed from several, and prefetching."""

from __future__ import annotations

import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, SpecError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, NewEpisode
from robopolicy_datasets.windows import KeyWindow, WindowMixture, WindowSampler, prefetch

SPEC = Spec(
    (Feature("step", (2,)), Feature("camera0_rgb", (2, 2, 3), "uint8", kind="rgb")),
    (Feature("action", (1,)),),
)
SHOWN = {"observation": {"step": KeyWindow.past(2)}, "action": KeyWindow.future(3)}


def make_store(path, lengths, *, number=0, spec=SPEC, rate_hz=10.0):
    """Every step tells its store and its place in it."""
    store = DemoStore.create(path, spec, rate_hz=rate_hz)
    bounds = np.cumsum([0, *lengths])
    for first, last in itertools.pairwise(bounds):
        steps = np.arange(first, last, dtype=np.float32)
        data = {
            feature.key: np.zeros((len(steps), *feature.shape), feature.dtype) for feature in spec.features
        }
        data["step"] = np.stack([np.full_like(steps, number), steps], axis=1)
        store.append_episodes([NewEpisode(data)])
    return store


@pytest.fixture(scope="module")
def samplers(tmp_path_factory):
    """Of 61, 7 and 20 windows."""
    folder = tmp_path_factory.mktemp("order")
    stores = [
        make_store(folder / f"{number}.zarr", lengths, number=number)
        for number, lengths in enumerate(([9, 1, 30, 4, 17], [7], [12, 8]))
    ]
    return [WindowSampler(store, **SHOWN) for store in stores]


@pytest.fixture(scope="module", params=["sampler", "mixture"])
def windows(request, samplers):
    return samplers[0] if request.param == "sampler" else WindowMixture(samplers, [0.5, 0.3, 0.2])


def content(batch):
    return batch["observation"]["step"][:, -1].tolist()


@given(
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1000),
    world_size=st.integers(1, 5),
    batch_size=st.integers(1, 9),
)
def test_ranks_share_an_epoch(windows, seed, epoch, world_size, batch_size):
    shared = {"seed": seed, "epoch": epoch, "world_size": world_size}
    orders = [windows.order(rank=rank, **shared) for rank in range(world_size)]
    whole = windows.order(seed=seed, epoch=epoch)
    assert len(whole) == len(windows)
    for rank, order in enumerate(orders):  # disjoint and complete: draws one after the other go round
        np.testing.assert_array_equal(order, whole[rank::world_size])
    for rank, order in enumerate(orders):
        everything = list(windows.batches(batch_size, rank=rank, drop_last=False, **shared))
        assert [one for batch in everything for one in content(batch)] == content(windows.gather(order))
        full = list(windows.batches(batch_size, rank=rank, **shared))
        assert {len(batch["action"]) for batch in full} == {batch_size}
        assert len(full) == windows.batches_per_epoch(batch_size, world_size=world_size)
        assert len(full) == len(windows) // world_size // batch_size


@given(seed=st.integers(0, 2**31), world_size=st.integers(1, 4))
def test_ranks_of_one_store_see_every_window_once(samplers, seed, world_size):
    orders = [
        samplers[0].order(seed=seed, epoch=3, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    assert sorted(np.concatenate(orders)) == list(range(len(samplers[0])))


@given(seed=st.integers(0, 100), start=st.integers(0, 6), rank=st.integers(0, 1), drop_last=st.booleans())
def test_an_epoch_can_begin_at_any_batch(windows, seed, start, rank, drop_last):
    arguments = {"seed": seed, "epoch": 2, "rank": rank, "world_size": 2, "drop_last": drop_last}
    whole = [content(batch) for batch in windows.batches(4, **arguments)]
    assert [content(batch) for batch in windows.batches(4, start=start, **arguments)] == whole[start:]


def test_batches_before_the_start_are_not_gathered(samplers, monkeypatch):
    gathered = []
    monkeypatch.setattr(samplers[0], "gather", gathered.append)
    assert len(list(samplers[0].batches(4, seed=0, epoch=0, start=14))) == 1
    assert len(gathered) == 1


def test_batches_are_the_same_for_the_same_arguments_only(windows):
    def first(**changes):
        arguments = {"seed": 1, "epoch": 2, "rank": 0, "world_size": 2, **changes}
        return content(next(windows.batches(16, **arguments)))

    assert first() == first()
    for changes in ({"seed": 2}, {"epoch": 3}, {"rank": 1}):
        assert first(**changes) != first()


def test_impossible_batches_are_named(windows):
    for batch_size in (0, 1000):
        with pytest.raises(ConfigError, match=f"batch of {batch_size}"):
            windows.batches(batch_size, seed=0, epoch=0)
    with pytest.raises(ConfigError, match="rank is 2"):
        windows.batches(4, seed=0, epoch=0, rank=2, world_size=2)
    for start in (-1, 1000):
        with pytest.raises(ConfigError, match=f"begin at batch {start}"):
            windows.batches(4, seed=0, epoch=0, start=start)


# --- mixtures -----------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    weights=st.lists(st.integers(1, 50) | st.floats(0.01, 10), min_size=3, max_size=3),
    seed=st.integers(0, 100),
    epochs=st.integers(1, 6),
)
@example(weights=[41, 0.25, 42], seed=0, epochs=3)  # a share far below one draw an epoch
def test_a_mixture_keeps_to_its_weights(samplers, weights, seed, epochs):
    mixture = WindowMixture(samplers, weights)
    order = np.concatenate([mixture.order(seed=seed, epoch=epoch) for epoch in range(epochs)])
    assert len(order) == epochs * sum(map(len, samplers))
    batch = mixture.gather(order)
    assert batch["source"].tolist() == batch["observation"]["step"][:, -1, 0].tolist()
    for number, sampler in enumerate(samplers):
        share = Fraction(weights[number]) / sum(map(Fraction, weights)) * len(order)
        places = batch["observation"]["step"][batch["source"] == number, -1, 1]
        assert abs(len(places) - share) < 1
        # none of its windows comes a second time more often than another
        times = np.bincount(places.astype(int), minlength=len(sampler))
        assert times.max() - times.min() <= 2
        assert abs(times - len(places) / len(sampler)).max() < 2


def test_no_window_comes_again_before_its_sampler_has_given_all(samplers):
    mixture = WindowMixture(samplers, [1, 10, 1])
    index = np.concatenate([np.sort(mixture.order(seed=0, epoch=epoch)) for epoch in range(24)])
    draws = np.bincount(index, minlength=len(mixture))
    assert sum(draws) == 24 * 88
    for low, high in ((0, 61), (61, 68), (68, 88)):
        assert draws[low:high].max() - draws[low:high].min() <= 1


@given(st.integers(0, 100), st.integers(0, 1000))
def test_without_weights_every_window_comes_once_an_epoch(samplers, seed, epoch):
    order = WindowMixture(samplers).order(seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(order)))


@given(st.lists(st.integers(0, 87), min_size=1, max_size=30))
def test_a_mixture_gathers_what_its_samplers_do(samplers, indices):
    mixture = WindowMixture(samplers, [1, 1, 1])
    expected = []
    for index in indices:
        number = int(np.searchsorted([61, 68], index, side="right"))
        expected += content(samplers[number].gather([index - [0, 61, 68][number]]))
    assert content(mixture.gather(indices)) == expected


def test_what_cannot_be_mixed_is_named(samplers, tmp_path):
    for weights in ([1, 1], [1, 0, 1], [1, -1, 1], [1, float("nan"), 1], [1, float("inf"), 1]):
        with pytest.raises(ConfigError, match="do not fit 3 stores"):
            WindowMixture(samplers, weights)
    with pytest.raises(ConfigError, match="do not fit 0 stores"):
        WindowMixture([])
    other = Spec((Feature("step", (2,), unit="m"),), SPEC.action)
    refused = (
        ({"spec": other}, {}, SpecError, "'step' has unit 'm' but '' is needed"),
        ({"rate_hz": 20.0}, {}, StoreError, "10 steps a second, .* 20"),
        ({}, {"edges": "mask"}, ConfigError, "edges=repeat, .* edges=mask"),
        ({}, {"action": KeyWindow.future(4)}, ConfigError, "steps=3.*steps=4"),
    )
    for number, (store, changes, error, message) in enumerate(refused):
        theirs = make_store(tmp_path / f"other{number}.zarr", [20], **store)
        with pytest.raises(error, match=message) as caught:
            WindowMixture([samplers[0], WindowSampler(theirs, **{**SHOWN, **changes})])
        for path in (samplers[0].store.path, theirs.path):
            assert str(path) in str(caught.value)


def test_a_mixture_mixes_images_masks_and_disk(tmp_path):
    shown = {
        "observation": dict.fromkeys(["step", "camera0_rgb"], KeyWindow.past(2)),
        "action": KeyWindow.future(3),
    }
    samplers = [
        WindowSampler(
            make_store(tmp_path / f"{number}.zarr", [5], number=number),
            edges="mask",
            image_memory=memory,
            **shown,
        )
        for number, memory in enumerate((0, 1 << 20))
    ]
    mixture = WindowMixture(samplers)
    assert mixture.on_disk == ["camera0_rgb"]
    batch = mixture.gather([9, 0])
    assert batch["observation"]["camera0_rgb"].shape == (2, 2, 2, 2, 3)
    assert batch["mask"]["action"].tolist() == [[True, False, False], [True, True, True]]
    assert batch["mask"]["observation"]["step"].tolist() == [[True, True], [False, True]]
    assert batch["source"].tolist() == [1, 0]


# --- prefetch -----------------------------------------------------------------------------------------------


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("robopolicy-prefetch")]


@given(count=st.integers(0, 20), depth=st.integers(1, 5))
def test_prefetching_changes_nothing(count, depth):
    assert list(prefetch(iter(range(count)), depth=depth)) == list(range(count))
    assert not prefetch_threads()


def test_prefetching_works_ahead_and_no_further():
    taken, third = [], threading.Event()

    def numbers():
        for number in range(100):
            taken.append(number)
            if number == 3:
                third.set()
            yield number

    batches = prefetch(numbers(), depth=3)
    assert next(batches) == 0
    assert third.wait(10)  # while nobody asks for them
    batches.close()
    assert taken == [0, 1, 2, 3]
    assert not prefetch_threads()


def test_errors_come_in_their_place():
    def numbers():
        yield 1
        yield 2
        raise StoreError("damaged")

    batches = prefetch(numbers(), depth=3)
    assert [next(batches), next(batches)] == [1, 2]
    with pytest.raises(StoreError, match="damaged"):
        next(batches)
    assert not prefetch_threads()
    assert list(batches) == []
