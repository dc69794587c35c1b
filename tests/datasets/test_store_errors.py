"""Bad input and bad disks: one clear error, and the store stays as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore


def tree(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def without(data, key):
    return {name: values for name, values in data.items() if name != key}


BAD_EPISODES = {
    "a missing key": (lambda data: without(data, "action"), "lacks action. The store needs: camera0_rgb"),
    "an unknown key": (lambda data: data | {"actoin": data["action"]}, "'actoin'.*Allowed: action"),
    "a wrong shape": (
        lambda data: data | {"action": np.zeros((5, 6), np.float32)},
        r"'action' has the shape \[5, 6\] but \[T, 7\]",
    ),
    "a scalar": (lambda data: data | {"contact": np.array(True)}, "'contact' has the shape"),
    "a wrong dtype": (
        lambda data: data | {"camera0_rgb": data["camera0_rgb"].astype(float)},
        "'camera0_rgb' is float64 but uint8",
    ),
    "integers for floats": (lambda data: data | {"action": np.zeros((5, 7), int)}, "'action' is int64"),
    "unequal lengths": (lambda data: data | {"contact": data["contact"][:4]}, "contact 4"),
    "no steps": (lambda data: {key: values[:0] for key, values in data.items()}, "no steps"),
    "NaN": (
        lambda data: data | {"action": np.where(np.arange(5)[:, None] < 3, data["action"], np.nan)},
        "'action' is not finite.* at step 3",
    ),
    "too large for float32": (
        lambda data: data | {"action": np.full((5, 7), 1e300)},
        "'action' is not finite.* at step 0",
    ),
}


@pytest.mark.parametrize("case", BAD_EPISODES)
def test_a_bad_episode_is_refused_and_changes_nothing(arm_store, make_episode, case):
    change, message = BAD_EPISODES[case]
    before = tree(arm_store.path)
    with pytest.raises(StoreError, match=message):
        arm_store.append_episode(change(make_episode(5)))
    assert tree(arm_store.path) == before
    assert arm_store.append_episode(make_episode(5)) == 3


@pytest.mark.parametrize(
    ("time_ns", "message"),
    [
        (np.array([0, 1, 1]), "does not at step 2"),
        (np.array([0.0, 1.0, 2.0]), "float64"),
        (np.arange(4), r"int64\[3\] is expected"),
    ],
)
def test_bad_times_are_refused(arm_store, make_episode, time_ns, message):
    with pytest.raises(StoreError, match=message):
        arm_store.append_episode(make_episode(3), time_ns=time_ns)


def test_modes_and_indices_are_checked(arm_store, make_episode):
    reader = DemoStore.open(arm_store.path)
    with pytest.raises(StoreError, match="mode='a'"):
        reader.append_episode(make_episode(3))
    with pytest.raises(StoreError, match="not 'w'"):
        DemoStore.open(arm_store.path, "w")
    for index in (3, -1):
        with pytest.raises(StoreError, match=f"no episode {index} .* has 3"):
            reader.episode(index)
    with pytest.raises(StoreError, match=r"no key 'acton'.*It has: action"):
        reader.array("acton")
    with pytest.raises(StoreError, match="No episodes"):
        arm_store.append_episodes([])


def test_a_store_is_never_overwritten(arm_store, arm_spec, tmp_path):
    before = tree(arm_store.path)
    with pytest.raises(StoreError, match="exists already"):
        DemoStore.create(arm_store.path, arm_spec, rate_hz=10)
    assert tree(arm_store.path) == before


def test_what_cannot_be_stored_is_refused(tmp_path, arm_spec):
    path = tmp_path / "a.zarr"
    action = (Feature("action", (2,)),)
    for spec, message in (
        (Spec((Feature("../escape", (1,)),), action), "'../escape' cannot be a key"),
        (Spec((Feature("time_ns", (1,)),), action), "'time_ns' cannot be a key"),
        (Spec((Feature("x", (1,), "complex64"),), action), "complex64"),
        (Spec((), ()), "at least one feature"),
    ):
        with pytest.raises(StoreError, match=message):
            DemoStore.create(path, spec, rate_hz=10)
    for rate in (0, -1, float("nan")):
        with pytest.raises(StoreError, match="positive"):
            DemoStore.create(path, arm_spec, rate_hz=rate)
    with pytest.raises(StoreError, match="JSON"):
        DemoStore.create(path, arm_spec, rate_hz=10, metadata={"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_paths_that_are_no_store_are_named(tmp_path):
    with pytest.raises(StoreError, match=r"no demo store at .*nowhere.*robopolicy collect"):
        DemoStore.open(tmp_path / "nowhere.zarr")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(StoreError, match="is not a demo store"):
            DemoStore.open(path)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_ends(path, ends):
    """Writes other episode ends into a store, as a foreign tool would."""
    import zarr

    array = zarr.open_array(path / "meta" / "episode_ends", mode="r+")
    array[:] = np.array(ends)


DAMAGE = {
    "a lost key": (lambda path: shutil.rmtree(path / "data" / "action"), "lacks data/action"),
    "lost metadata": (
        lambda path: (path / "meta/episode_ends/zarr.json").unlink(),
        "episode_ends.* is missing",
    ),
    "broken metadata": (
        lambda path: (path / "data/action/zarr.json").write_text("{"),
        "action.*cannot be read",
    ),
    "metadata of something else": (
        lambda path: (path / "data/action/zarr.json").write_text("[]"),
        "does not describe an array",
    ),
    "a lost block": (
        lambda path: (path / "data/action/c.0.0").unlink(),
        r"lacks 1 of its files \(first: c.0.0",
    ),
    "another shape": (
        lambda path: edit_json(
            path / "zarr.json", lambda c: c["attributes"]["spec"]["action"][0].update(shape=[6])
        ),
        r"data/action .* is float32\[7\] a step; its Spec says float32\[6\]",
    ),
    "another dtype": (
        lambda path: edit_json(
            path / "zarr.json", lambda c: c["attributes"]["spec"]["action"][0].update(dtype="float64")
        ),
        r"its Spec says float64\[7\]",
    ),
    "fewer rows than the ends say": (
        lambda path: edit_json(path / "data/action/zarr.json", lambda c: c.update(shape=[14, 7])),
        "data/action .* has 14 steps but meta/episode_ends says 15",
    ),
    "ends that go back": (lambda path: set_ends(path, [5, 4, 15]), "it is 4 at episode 1, after 5"),
    "an empty episode": (lambda path: set_ends(path, [5, 5, 15]), "it is 5 at episode 1, after 5"),
    "a negative end": (lambda path: set_ends(path, [-1, 6, 15]), "it is -1 at episode 0"),
    "another codec": (
        lambda path: edit_json(path / "data/action/zarr.json", lambda c: c["codecs"].pop()),
        "another tool changed it",
    ),
    "a newer schema": (
        lambda path: edit_json(path / "zarr.json", lambda c: c["attributes"].update(robopolicy_schema=99)),
        "schema 99; .*Update robopolicy",
    ),
    "a lost Spec": (
        lambda path: edit_json(path / "zarr.json", lambda c: c["attributes"].pop("spec")),
        "attributes .* damaged",
    ),
    "a key that leaves the folder": (
        lambda path: edit_json(
            path / "zarr.json", lambda c: c["attributes"]["spec"]["action"][0].update(key="../../x")
        ),
        "cannot be a key",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found_on_opening(arm_store, case):
    damage, message = DAMAGE[case]
    damage(arm_store.path)
    before = tree(arm_store.path)
    for mode in ("r", "a"):
        with pytest.raises(StoreError, match=message):
            DemoStore.open(arm_store.path, mode)
    assert tree(arm_store.path) == before


@pytest.mark.parametrize("name", ["data/action/c.0.0", "data/camera0_rgb/c.0.0.0.0", "meta/episodes/c.0"])
@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_damaged_bytes_are_named(arm_store, name, how):
    file = arm_store.path / name
    data = bytearray(file.read_bytes())
    if how == "flipped":
        data[len(data) // 3] ^= 0x55
    file.write_bytes({"flipped": data, "cut": data[: len(data) // 2], "empty": b""}[how])

    def read_all():
        store = DemoStore.open(arm_store.path)
        return [store.array(key) for key in ("action", "camera0_rgb")]

    with pytest.raises(StoreError, match="damaged") as caught:
        read_all()
    assert name.rpartition("/")[0] in str(caught.value)


def test_an_unfinished_episode_is_ignored_and_replaced(arm_store, make_episode, assert_same, caplog):
    """A writer that dies before its last rename leaves everything but the new episode_ends."""
    path = arm_store.path
    saved = path.with_name("saved")
    shutil.copytree(path / "meta" / "episode_ends", saved)
    arm_store.append_episode(make_episode(12, 7))
    (path / "meta/episode_ends/zarr.json").write_bytes((saved / "zarr.json").read_bytes())
    store = DemoStore.open(path, "a")
    assert "unfinished" in caplog.text
    assert (len(store), store.num_steps) == (3, 15)
    assert store.array("camera0_rgb").shape[0] == 15
    assert_same(store.episode(2).data, make_episode(9, 2))
    assert store.append_episode(make_episode(3, 8)) == 3
    reopened = DemoStore.open(path)
    for index, (length, seed) in enumerate(((5, 0), (1, 1), (9, 2), (3, 8))):
        assert_same(reopened.episode(index).data, make_episode(length, seed))


def run_limited(tmp_path, prepare, path, length):
    """Appends in a process of its own after ``prepare`` took something from it."""
    script = textwrap.dedent(
        f"""
        import os, resource, sys
        import numpy as np
        from robopolicy_datasets.errors import StoreError
        from robopolicy_datasets.spec import Feature, Spec
        from robopolicy_datasets.store import DemoStore, EpisodeInfo
        random = np.random.default_rng(0)
        {prepare}
        data = {{"x": random.normal(size=({length}, 50)), "action": np.zeros(({length}, 2))}}
        try:
            if os.path.exists({path!r}):
                DemoStore.open({path!r}, "a").append_episode(data)
            else:
                DemoStore.create({path!r}, Spec((), (Feature("action", (2,)),)), rate_hz=1)
        except StoreError as error:
            print(error)
            sys.exit(7)
        """
    )
    return subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )


@pytest.fixture
def wide_store(tmp_path):
    tmp_path.chmod(0o755)
    store = DemoStore.create(
        tmp_path / "wide.zarr", Spec((Feature("x", (50,)),), (Feature("action", (2,)),)), rate_hz=10
    )
    store.append_episode({"x": np.ones((3, 50)), "action": np.ones((3, 2))})
    return store


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, wide_store):
    """No file may grow past 4 KiB, which fails like a full disk does: in the middle of a write."""
    before = tree(wide_store.path)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    result = run_limited(tmp_path, limit, "wide.zarr", 2000)
    assert result.returncode == 7, result.stderr
    assert "cannot be written: File too large" in result.stdout
    assert "Free disk space" in result.stdout
    after = tree(wide_store.path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"meta/episode_ends/.lock"}
    assert len(DemoStore.open(wide_store.path)) == 1


@pytest.mark.parametrize("path", ["wide.zarr", "other.zarr"])
def test_a_read_only_folder_is_named(tmp_path, wide_store, path):
    """Appending to, or creating beside, a store that another user owns."""
    before = tree(tmp_path)
    for folder in [tmp_path, *(file for file in tmp_path.rglob("*") if file.is_dir())]:
        folder.chmod(0o555)
    drop = "os.setgid(65534); os.setuid(65534)" if os.getuid() == 0 else "pass"
    result = run_limited(tmp_path, drop, path, 3)
    for folder in [tmp_path, *(file for file in tmp_path.rglob("*") if file.is_dir())]:
        folder.chmod(0o755)
    assert result.returncode == 7, result.stderr
    assert f"The store {path} cannot be written: Permission denied" in result.stdout
    assert tree(tmp_path) == before
