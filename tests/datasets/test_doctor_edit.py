"""Copies that edit: merge, split, trim, relabel, repair. The sources stay as they are."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from robopolicy_datasets.doctor.check import check_store
from robopolicy_datasets.doctor.copying import EpisodeCopy, copy_episodes
from robopolicy_datasets.doctor.edit import relabel_store, split_store, trim_store
from robopolicy_datasets.doctor.findings import Severity
from robopolicy_datasets.doctor.merge import merge_stores, reconcile
from robopolicy_datasets.doctor.repair import ordered_steps, repair_store
from robopolicy_datasets.doctor.selection import parse_episodes, parse_steps
from robopolicy_datasets.errors import ConfigError, RobopolicyError, SpecError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.layout import to_json_bytes


def content_of(store: DemoStore) -> str:
    digest = hashlib.sha256()
    for path in sorted(store.path.rglob("*")):
        if path.is_file():
            digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def untouched(recording):
    before = content_of(recording)
    yield recording
    assert content_of(recording) == before


def assert_same_episode(new, old, steps=slice(None)):
    np.testing.assert_array_equal(new.time_ns, old.time_ns[steps])
    assert set(new.data) <= set(old.data)
    for key, values in new.data.items():
        np.testing.assert_array_equal(values, old.data[key][steps], err_msg=key)


# --- choices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [("3", [3]), ("0-2, 9 ,1", [0, 1, 2, 9]), ("all", list(range(10)))]
)
def test_episodes_are_read_as_written(text, expected):
    assert parse_episodes(text, 10) == expected


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "10", "0-10", "1,,2", "1.5"])
def test_a_choice_that_is_not_possible_is_refused(text):
    with pytest.raises(ConfigError, match=r"write|0 to 9"):
        parse_episodes(text, 10)


def test_steps_are_read_as_written():
    assert parse_steps("3:10-80, 5:7") == {3: (10, 80), 5: (7, 7)}
    for text in ("", "3", "3:", "a:1-2", "3:5-1", "3:1-2,3:4-5"):
        with pytest.raises(ConfigError):
            parse_steps(text)


# --- copying ------------------------------------------------------------------------------------------------


def test_copies_in_several_commits_equal_the_source(untouched, tmp_path, monkeypatch):
    monkeypatch.setattr("robopolicy_datasets.store.filling._BATCH_BYTES", 1)
    calls = []
    new = copy_episodes(
        [EpisodeCopy(untouched, number) for number in (6, 2, 2)],
        tmp_path / "new.zarr",
        untouched.spec,
        rate_hz=10,
        metadata={"a": 1},
        done="copied",
        progress=lambda *call: calls.append(call),
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert (dict(new.attributes), new.rate_hz, new.spec) == ({"a": 1}, 10, untouched.spec)
    for episode, old in zip(new, (6, 2, 2), strict=True):
        assert_same_episode(episode, untouched.episode(old))
        assert episode.info == untouched.episode_info(old)


def test_a_copy_that_fails_leaves_nothing_and_says_which_episode(recording, spoil, tmp_path):
    spoiled = spoil(recording, 3, "action", slice(4, 5), np.nan)
    with pytest.raises(
        StoreError, match=r"cannot be relabelled. Episode 3 of recording.zarr: 'action'.*repair"
    ):
        relabel_store(spoiled, tmp_path / "new.zarr", [0], task="x")
    assert [path.name for path in tmp_path.iterdir()] == ["recording.zarr"]
    with pytest.raises(StoreError, match="exists already"):
        relabel_store(recording, recording.path, [0], task="x")
    with pytest.raises(StoreError, match="No episode is left"):
        copy_episodes([], tmp_path / "n", recording.spec, rate_hz=1, metadata={}, done="copied")


# --- merge --------------------------------------------------------------------------------------------------


def other_store(path, spec, record, *, rate_hz=10.0, leave_out=(), change=None):
    """A store of two episodes, without some keys or with changed features."""
    changes = change or {}
    sides = [
        tuple(replace(one, **changes.get(one.key, {})) for one in side if one.key not in leave_out)
        for side in (spec.observation, spec.action)
    ]
    store = DemoStore.create(path, Spec(*sides), rate_hz=rate_hz)
    for seed in (20, 21):
        data = {key: values for key, values in record(30, seed).items() if key not in leave_out}
        store.append_episode(data)
    return store


def test_merged_stores_hold_all_episodes_in_order(untouched, recording_spec, record, tmp_path):
    wide = {"action": {"dtype": "float64", "rate_hz": 5.0}}
    other = other_store(tmp_path / "b.zarr", recording_spec, record, change=wide)
    merged = merge_stores([untouched, other, untouched], tmp_path / "m.zarr")
    assert len(merged) == 16
    assert merged.spec["action"].dtype == "float64"
    assert merged.spec["action"].rate_hz == 0
    for number in range(16):
        source, old = (other, number - 7) if number in (7, 8) else (untouched, number % 9)
        assert_same_episode(merged.episode(number), source.episode(old))
    assert [entry["store"] for entry in merged.attributes["merged"]] == [
        "recording.zarr",
        "b.zarr",
        "recording.zarr",
    ]


def test_keys_that_not_all_have_are_dropped_only_on_demand(untouched, recording_spec, record, tmp_path):
    other = other_store(tmp_path / "b.zarr", recording_spec, record, leave_out=["robot0_joint_pos"])
    with pytest.raises(SpecError, match=r"recording.zarr has robot0_joint_pos. .*drop=true"):
        merge_stores([other, untouched], tmp_path / "m.zarr")
    merged = merge_stores([other, untouched], tmp_path / "m.zarr", drop=True)
    assert merged.keys() == other.keys()
    assert_same_episode(merged.episode(2), untouched.episode(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": 20.0}, "10 Hz.*20 Hz"),
        ({"change": {"robot0_eef_pos": {"unit": "mm"}}}, "'robot0_eef_pos' has unit 'mm' but 'm' is needed"),
        (
            {"change": {"action": {"frame": "base"}}},
            "b.zarr does not fit the store .*recording.zarr: 'action'",
        ),
        ({"leave_out": ["action"]}, "action"),
    ],
)
def test_stores_that_do_not_agree_are_refused(untouched, recording_spec, record, tmp_path, changes, message):
    other = other_store(tmp_path / "b.zarr", recording_spec, record, **changes)
    with pytest.raises(RobopolicyError, match=message):
        merge_stores([untouched, other], tmp_path / "m.zarr", drop=True)
    assert not (tmp_path / "m.zarr").exists()


def test_types_widen_without_loss_or_not_at_all():
    def spec(dtype, action=True):
        feature = Feature("x", (2,), dtype)
        command = (Feature("action", (2,)),)
        return Spec((feature,), command) if action else Spec((), (feature, *command))

    assert reconcile([spec("int16"), spec("uint8")], "ab")["x"].dtype == "int16"
    assert reconcile([spec("float16"), spec("float64")], "ab")["x"].dtype == "float64"
    for first, second in (("float32", "int32"), ("bool", "uint8"), ("int64", "uint64")):
        with pytest.raises(SpecError, match="'x' has dtype"):
            reconcile([spec(first), spec(second)], "ab")
    with pytest.raises(SpecError, match="x is an action in only one"):
        reconcile([spec("int16"), spec("int16", action=False)], "ab")


def test_a_merge_needs_two_stores_of_ours(recording, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        merge_stores([recording], tmp_path / "m.zarr")


# --- split, trim, relabel -----------------------------------------------------------------------------------


def test_a_split_puts_every_episode_into_one_of_two(untouched, tmp_path):
    calls = []
    stores = split_store(
        untouched, tmp_path / "a.zarr", tmp_path / "b.zarr", [5, 1], lambda *call: calls.append(call)
    )
    assert calls[-1] == (7, 7)
    for store, numbers in zip(stores, ([0, 2, 3, 4, 6], [1, 5]), strict=True):
        assert len(store) == len(numbers)
        for episode, number in zip(store, numbers, strict=True):
            assert_same_episode(episode, untouched.episode(number))
            assert episode.info == untouched.episode_info(number)
    for chosen in ([], range(7)):
        with pytest.raises(ConfigError, match="at least one"):
            split_store(untouched, tmp_path / "c.zarr", tmp_path / "d.zarr", chosen)


@pytest.fixture
def idle_store(tmp_path, recording_spec, record):
    """An episode with 9 idle steps before and 14 after 40 others, one all idle, one never idle."""
    store = DemoStore.create(tmp_path / "idle.zarr", recording_spec, rate_hz=10)
    data = record(40)
    padded = {key: np.concatenate([values[:1].repeat(9, 0), values, values[-1:].repeat(14, 0)])
              for key, values in data.items()}  # fmt: skip
    noise = np.random.default_rng(0).normal(0, 1e-4, padded["robot0_eef_pos"].shape)
    padded["robot0_eef_pos"] = (padded["robot0_eef_pos"] + noise).astype(np.float32)
    store.append_episode(padded)
    store.append_episode({key: values[:1].repeat(20, 0) for key, values in data.items()})
    store.append_episode(data)
    return store


def test_idle_steps_at_the_ends_go(idle_store, tmp_path):
    trimmed = trim_store(idle_store, tmp_path / "t.zarr", margin=2)
    assert len(trimmed) == 2
    assert_same_episode(trimmed.episode(0), idle_store.episode(0), slice(8, 50))
    assert_same_episode(trimmed.episode(1), idle_store.episode(2))
    close = trim_store(idle_store, tmp_path / "u.zarr", margin=0)
    assert close.episode(0).length == 38  # the first and the last of the 40 moving steps are where it rests


def test_given_steps_are_kept(untouched, tmp_path):
    trimmed = trim_store(untouched, tmp_path / "t.zarr", keep={1: (3, 20), 4: (0, 0)})
    assert_same_episode(trimmed.episode(1), untouched.episode(1), slice(3, 21))
    assert_same_episode(trimmed.episode(4), untouched.episode(4), slice(0, 1))
    assert_same_episode(trimmed.episode(6), untouched.episode(6))
    for keep in ({7: (0, 1)}, {0: (0, 40)}):
        with pytest.raises(ConfigError, match="not possible"):
            trim_store(untouched, tmp_path / "u.zarr", keep=keep)


def test_only_the_chosen_episodes_are_relabelled(untouched, tmp_path):
    new = relabel_store(untouched, tmp_path / "r.zarr", [2, 3], task="pour", success=True)
    for number, episode in enumerate(new):
        old = untouched.episode_info(number)
        assert episode.info == (replace(old, task="pour", success=True) if number in (2, 3) else old)
        assert_same_episode(episode, untouched.episode(number))
    assert not relabel_store(untouched, tmp_path / "s.zarr", [2], success=False).episode_info(2).success
    with pytest.raises(ConfigError, match="Nothing is to be relabelled"):
        relabel_store(untouched, tmp_path / "t.zarr", [2])


# --- repair -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_ns", "kept"),
    [
        ([1, 2, 3], [0, 1, 2]),
        ([1, 2, 2, 2, 3], [0, 1, 4]),
        ([5, 6, 1, 2, 3], [2, 3, 4]),
        ([5, 6, 7, 7, 1, 2], [0, 1, 2]),
        ([9], [0]),
    ],
)
def test_the_longest_part_in_order_is_kept(time_ns, kept):
    assert ordered_steps(np.array(time_ns)).tolist() == kept


def test_a_repaired_store_has_no_errors_and_all_that_was_sound(recording, spoil, tmp_path):
    original = DemoStore.open(recording.path)
    sound = [original.episode(number) for number in range(7)]
    spoil(recording, 1, "robot0_joint_pos", slice(7, 9), np.nan)
    spoil(DemoStore.open(recording.path), 2, "time_ns", slice(5, None), lambda old: old - 100_000_000)
    spoil(DemoStore.open(recording.path), 4, "time_ns", slice(25, None), lambda old: old - 10_000_000_000)
    block = sorted((recording.path / "data/camera0_rgb").glob("c.*"))[0]
    block.write_bytes(block.read_bytes()[:10] + b"x" * 20 + block.read_bytes()[30:])  # a frame of episode 0
    array = BlockArray.open(recording.path / "data" / "action")
    (array.folder / "zarr.json").write_bytes(to_json_bytes(array.layout.metadata(array.rows + 11)))
    spoiled = DemoStore.open(recording.path)
    before = content_of(spoiled)
    findings = check_store(spoiled)
    actions = repair_store(spoiled, tmp_path / "new.zarr", findings)
    assert content_of(spoiled) == before
    repaired = DemoStore.open(tmp_path / "new.zarr")
    assert not [one for one in check_store(repaired) if one.severity is Severity.ERROR]
    assert len(repaired) == 5
    for new, old in ((1, 3), (3, 5), (4, 6)):
        assert_same_episode(repaired.episode(new), sound[old])
    without_fifth = [step for step in range(sound[2].length) if step != 5]
    for new, old, steps in ((0, 2, without_fifth), (2, 4, slice(0, 25))):
        action = sound[old].data["action"][steps]
        np.testing.assert_array_equal(repaired.episode(new).data["action"], action)
    assert any(line == "episode 1: left out (not_finite robot0_joint_pos)" for line in actions)
    assert any("episode 2: 1 step of 42 cut" in line for line in actions)
    assert any("11 steps of an unfinished episode" in line for line in actions)
