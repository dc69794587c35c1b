"""The verbs of ``data`` that check, measure, edit and show a store, through the command line."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import zarr

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event, Stream
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.layout import to_json_bytes
from robopolicy_launch import command

SPEC = Spec(
    (
        Feature("camera0_rgb", (24, 32, 3), "uint8", kind="rgb"),
        Feature("robot0_eef_pos", (3,), kind="position", unit="m"),
    ),
    (Feature("action", (3,), kind="position", unit="m"),),
)


def record(path, lengths=(30, 34, 38)):
    store = DemoStore.create(path, SPEC, rate_hz=10)
    random = np.random.default_rng(0)
    for length in lengths:
        position = (0.3 * np.sin(np.linspace(0, 4, length))[:, None] * [1, 0.5, 0.2]).astype(np.float32)
        images = random.integers(0, 200, (length, 24, 32, 3), dtype=np.uint8)
        data = {"camera0_rgb": images, "robot0_eef_pos": position, "action": position}
        store.append_episode(data, EpisodeInfo(task="<b>wipe</b> & dry", operator="ada"))
    return store


@pytest.fixture
def store(tmp_path):
    return record(tmp_path / "demos.zarr")


@pytest.fixture
def spoiled(store):
    """The same with a NaN in episode 1."""
    rows = store.array("action").copy()
    rows[35, 1] = np.nan
    for path, data in BlockArray.open(store.path / "data/action").extended(0, rows).items():
        path.write_bytes(data)
    return DemoStore.open(store.path)


def run(*words):
    return command.main([str(word) for word in words])


def test_check_of_a_sound_store(store, capsys):
    assert run("data", "check", store.path) == 0
    assert capsys.readouterr().out == "3 episodes, 102 steps: nothing found.\n"


def test_check_of_a_spoiled_store_exits_with_1(spoiled, capsys, tmp_path):
    assert run("data", "check", spoiled.path, f"json={tmp_path / 'found.json'}") == 1
    printed = capsys.readouterr().out
    for text in ("error     not_finite  1        5      action", "102 steps: 1 error."):
        assert text in printed
    (finding,) = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert (finding["code"], finding["episode"], finding["steps"]) == ("not_finite", 1, [5, 5])


def test_warnings_do_not_fail_and_limits_are_keys(tmp_path, capsys):
    path = record(tmp_path / "a.zarr", (30, 30, 30, 30, 5)).path
    assert run("data", "check", path) == 0
    assert "1 warning." in capsys.readouterr().out
    assert run("data", "check", path, "limits.length_factor=10") == 0
    assert "nothing found" in capsys.readouterr().out
    assert run("data", "check", path, "limits.length_factor=-1") == command.NOT_UNDERSTOOD
    assert "length_factor is -1.0; give a positive number" in capsys.readouterr().err


def test_a_long_list_is_cut_and_says_so(tmp_path, capsys):
    store = DemoStore.create(tmp_path / "a.zarr", Spec((), (Feature("action", (1,)),)), rate_hz=10)
    time_ns = np.array([0, 100, 900, 1000, 1100]) * 1_000_000
    for _ in range(60):
        store.append_episode({"action": np.zeros((5, 1), np.float32)}, time_ns=time_ns)
    assert run("data", "check", store.path) == 0
    printed = capsys.readouterr().out
    assert "... and 10 more; json=FILE writes all of them" in printed
    assert "60 warnings." in printed


def test_stats(store, spoiled, capsys, tmp_path):
    assert run("data", "stats", store.path, f"json={tmp_path / 'stats.json'}") == 0
    printed = capsys.readouterr().out
    assert "action[1]: 1 values are not finite" in printed
    components = json.loads((tmp_path / "stats.json").read_text())["components"]
    assert [one["key"] for one in components].count("camera0_rgb") == 3
    position = next(one for one in components if one["key"] == "robot0_eef_pos")
    assert position["maximum"] == pytest.approx(store.array("robot0_eef_pos")[:, 0].max())


def test_merge_takes_any_number_of_stores(store, tmp_path, capsys):
    awkward = record(tmp_path / "b, 'c' [1].zarr", (20,)).path
    target = tmp_path / "all.zarr"
    assert run("data", "merge", store.path, awkward, store.path, f"target={target}", "drop=true") == 0
    assert "episodes        7" in capsys.readouterr().out
    assert np.diff(DemoStore.open(target).episode_ends, prepend=0).tolist() == [30, 34, 38, 20, 30, 34, 38]
    assert run("data", "merge", store.path, f"target={tmp_path / 'x.zarr'}") == 1
    assert "at least two stores; 1 given" in capsys.readouterr().err
    assert run("data", "merge", f"target={tmp_path / 'x.zarr'}") == command.NOT_UNDERSTOOD
    assert "needs sources=<list[str]>" in capsys.readouterr().err


def test_split(store, tmp_path, capsys):
    targets = [tmp_path / "train.zarr", tmp_path / "test.zarr"]
    assert run("data", "split", store.path, *targets, "episodes=1") == 0
    assert [len(DemoStore.open(path)) for path in targets] == [2, 1]
    others = [tmp_path / "c.zarr", tmp_path / "d.zarr"]
    assert run("data", "split", store.path, *others, "fraction=0.6") == 0
    assert [len(DemoStore.open(path)) for path in others] == [1, 2]
    assert run("data", "split", store.path, *targets) == command.NOT_UNDERSTOOD
    assert run("data", "split", store.path, *targets, "episodes=0", "fraction=2") == command.NOT_UNDERSTOOD
    assert "either episodes=0-9,12 or fraction=0.1" in capsys.readouterr().err
    assert run("data", "split", store.path, *targets, "episodes=7") == 1
    assert "has episodes 0 to 2" in capsys.readouterr().err


def test_trim(store, tmp_path, capsys):
    target = tmp_path / "short.zarr"
    assert run("data", "trim", store.path, target, "keep=0:5-14,2:0-9") == 0
    assert "48 steps of 102 dropped, 0 idle episodes left out." in capsys.readouterr().out
    assert np.diff(DemoStore.open(target).episode_ends, prepend=0).tolist() == [10, 34, 10]
    assert run("data", "trim", store.path, tmp_path / "idle.zarr") == 0


def test_relabel(store, tmp_path):
    target = tmp_path / "named.zarr"
    words = ["episodes=0,2", "success=false", "task=wipe, then dry: {all} ${of} it"]
    assert run("data", "relabel", store.path, target, *words) == 0
    new = DemoStore.open(target)
    assert new.episode_info(0) == EpisodeInfo("wipe, then dry: {all} ${of} it", False, "ada")
    assert new.episode_info(1) == store.episode_info(1)


def test_repair_writes_a_store_that_passes_the_check(spoiled, tmp_path, capsys):
    target = tmp_path / "sound.zarr"
    assert run("data", "repair", spoiled.path, target) == 0
    assert "episode 1: left out (not_finite action)" in capsys.readouterr().out
    assert run("data", "check", target) == 0
    assert run("data", "check", spoiled.path) == 1
    assert run("data", "repair", target, tmp_path / "again.zarr") == 0
    assert "has no errors" in capsys.readouterr().out
    assert not (tmp_path / "again.zarr").exists()


def test_what_a_killed_writer_left_is_no_error_and_repair_leaves_it_out(store, tmp_path, capsys):
    array = BlockArray.open(store.path / "data" / "action")
    (array.folder / "zarr.json").write_bytes(to_json_bytes(array.layout.metadata(array.rows + 11)))
    assert run("data", "check", store.path) == 0
    assert "1 warning." in capsys.readouterr().out
    target = tmp_path / "whole.zarr"
    assert run("data", "repair", store.path, target) == 0
    assert "11 steps of an unfinished episode left out" in capsys.readouterr().out
    assert run("data", "check", target) == 0
    assert capsys.readouterr().out == "3 episodes, 102 steps: nothing found.\n"


@pytest.mark.parametrize("verb", ["trim", "relabel", "repair"])
def test_an_edit_never_overwrites(spoiled, verb, capsys):
    words = {"trim": ["keep=1:6-9"], "relabel": ["task=x"], "repair": []}[verb]
    before = sorted((path, path.stat().st_mtime_ns) for path in spoiled.path.rglob("*"))
    assert run("data", verb, spoiled.path, spoiled.path, *words) == 1
    assert "exists already" in capsys.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in spoiled.path.rglob("*")) == before


# --- view ---------------------------------------------------------------------------------------------------

VOID = {"meta", "img", "br", "hr", "input", "link"}
REMOTE = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")


class Page(HTMLParser):
    """Counts tags, and fails on what is not closed or points outside."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]
        assert all(value.startswith("data:") for name, value in attributes if name in REMOTE)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_view_is_one_closed_page_that_needs_no_network(store, tmp_path, capsys):
    target = tmp_path / "view.html"
    assert run("data", "view", store.path, target, "episodes=0,2", "frames=5") == 0
    assert f"2 of 3 episodes: {target}" in capsys.readouterr().out
    html = target.read_text()
    page = Page(html)
    assert not re.search(r"(https?:)?//[a-z]|@import|url\(", html.replace("data:image/jpeg;base64,", ""))
    assert page.tags.count("img") == 2 * 5
    assert page.tags.count("svg") == 2 * 2  # a position and an action
    assert page.tags.count("b") == page.tags.count("script") == 0
    for text in ("Episode 2", "<b>wipe</b> & dry", "ada", "time [s]", "3.70 s", "2 of 3 episodes are shown"):
        assert text in page.text
    image = re.search(r"base64,([^\"]+)", html)[1]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), 1).shape == (24, 32, 3)


def test_view_of_every_kind_of_feature_escapes_what_the_store_says(tmp_path):
    hostile = '"><script>alert(1)</script>'
    spec = Spec(
        (
            Feature("camera0_depth", (300, 400), kind="depth", unit=hostile, frame=hostile),
            Feature("robot0_joint_pos", (6,), kind="joint", unit=hostile, frame=hostile),
            Feature("robot0_tactile0_markers", (10, 9, 2), kind="touch"),
            Feature("contact", (), "bool"),
        ),
        (Feature("action", (7,), kind="pose_width"),),
    )
    store = DemoStore.create(tmp_path / "<i>a.zarr", spec, rate_hz=5)
    random = np.random.default_rng(0)
    data = {
        feature.key: random.integers(0, 2, (6, *feature.shape)).astype(feature.dtype)
        for feature in spec.features
    }
    info = EpisodeInfo(hostile, None, hostile, hostile, wall_time_ns=1_700_000_000_000_000_000)
    store.append_episode(data, info)
    assert run("data", "view", store.path, tmp_path / "view.html") == 0
    page = Page((tmp_path / "view.html").read_text())
    assert page.tags.count("script") == page.tags.count("i") == 0
    assert page.text.count(hostile) > 4
    for text in ("2023-11-14 22:13 UTC", "All episodes are shown", "(180 components)", "action [3-5]"):
        assert text in page.text
    assert page.tags.count("svg") == 2 + 1 + 1 + 3
    assert page.tags.count("img") == 6


def test_view_shows_streams_and_events_over_the_same_time(tmp_path):
    force = Feature("force", (2,), unit="N", rate_hz=1000.0)
    spec = Spec((Feature("pos", (1,)),), (Feature("action", (1,)),))
    store = DemoStore.create(tmp_path / "a.zarr", spec, rate_hz=10, streams=[force])
    values = np.zeros((3001, 2))
    values[1234] = 77.0  # a single peak
    times = 5_000_000_000 + np.arange(3001) * 1_000_000
    event = Event("takeover", 6_000_000_000, 6_500_000_000, "<i>slipped", author="ann")
    store.append_episode(
        {"pos": np.zeros((31, 1)), "action": np.zeros((31, 1))},
        time_ns=5_000_000_000 + np.arange(31) * 100_000_000,
        streams={"force": Stream(values, times)},
        events=[event],
    )
    assert run("data", "view", store.path, tmp_path / "view.html") == 0
    html = (tmp_path / "view.html").read_text()
    page = Page(html)
    for text in ("takeover", "<i>slipped", "ann", "1.5", "force"):
        assert text in page.text
    bands = re.findall(r'<rect class="band" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', html)
    assert len(bands) == page.tags.count("svg") == 3  # pos, action, force
    assert len(set(bands)) == 1  # at the same place in each
    ends = {
        line.split()[-1].partition(",")[0] for line in re.findall(r'<polyline[^>]*points="([^"]+)"', html)
    }
    assert len(ends) == 1
    assert ">80<" in html or ">75<" in html or ">60<" in html  # the axis of the force reaches to the peak


def test_view_shows_why_an_episode_cannot_be_read(store, tmp_path):
    block = sorted((store.path / "data/camera0_rgb").glob("c.*"))[0]
    block.write_bytes(block.read_bytes()[:10] + b"x" * 20 + block.read_bytes()[30:])
    assert run("data", "view", store.path, tmp_path / "view.html") == 0
    page = Page((tmp_path / "view.html").read_text())
    assert page.text.count("This episode cannot be read") == 1
    assert page.tags.count("img") == 2 * 12


def test_view_refuses_a_target_that_is_no_page(store, capsys):
    assert run("data", "view", store.path, "view.zarr") == command.NOT_UNDERSTOOD
    assert "give the name of an .html or .htm or .rrd file" in capsys.readouterr().err


# --- codecs -------------------------------------------------------------------------------------------------


def foreign(path):
    """A diffusion_policy store with filmed images."""
    random = np.random.default_rng(0)
    coarse = random.integers(40, 220, (20, 6, 8, 3)).astype(np.float32)
    smooth = np.stack([cv2.resize(image, (48, 40), interpolation=cv2.INTER_CUBIC) for image in coarse])
    images = np.clip(smooth + random.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("data/camera0_rgb", data=images)
    group.create_array("data/action", data=random.normal(size=(20, 2)).astype(np.float32))
    group.create_array("meta/episode_ends", data=np.array([12, 20]))
    return path


def test_an_import_loses_nothing_unless_a_codec_says_so(tmp_path, capsys):
    source = foreign(tmp_path / "foreign.zarr")
    images = DemoStore.open(source).array("camera0_rgb")
    assert run("data", "import", source, tmp_path / "a.zarr") == 0
    told = capsys.readouterr().out
    assert re.search(r"camera0_rgb .*; codecs.rgb=jpeg:95 would take \d+% .* \d.\d of 255", told)
    np.testing.assert_array_equal(DemoStore.open(tmp_path / "a.zarr").array("camera0_rgb"), images)
    assert run("data", "import", source, tmp_path / "b.zarr", "codecs.rgb=jpeg:90", "codecs.action=lz4") == 0
    assert "without loss" not in capsys.readouterr().out
    assert DemoStore.open(tmp_path / "b.zarr").codecs == {"camera0_rgb": "jpeg:90", "action": "lz4"}


@pytest.mark.parametrize(
    ("word", "message"),
    [("codecs.camera_rgb=jpeg", "'camera_rgb'.*: camera0_rgb"), ("codecs.rgb=jepg:90", "'jepg:90'.*: jpeg")],
)
def test_a_misspelt_codec_leaves_nothing(tmp_path, capsys, word, message):
    source = foreign(tmp_path / "foreign.zarr")
    assert run("data", "import", source, tmp_path / "a.zarr", word) == command.FAILED
    assert re.search(message, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.zarr"]


def test_collect_takes_codecs(tmp_path):
    words = ["episodes=1", "task.image_size=16", "codecs.rgb=jpeg:80", "codecs.camera1_rgb=raw"]
    assert run("collect", *words, f"output={tmp_path / 'a.zarr'}", f"runs={tmp_path}") == 0
    codecs = DemoStore.open(tmp_path / "a.zarr").codecs
    assert (codecs["camera0_rgb"], codecs["camera1_rgb"]) == ("jpeg:80", "raw")


# --- export -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"), [("diffusion_policy", "a.zarr.zip"), ("robomimic", "a.hdf5"), ("lerobot", "a")]
)
def test_export_and_back(store, tmp_path, capsys, name, target):
    path = tmp_path / target
    words = ["format.codec=png"] if name == "lerobot" else []
    assert run("data", "export", store.path, path, f"format={name}", *words) == 0
    told = capsys.readouterr().out
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    assert re.search(rf"files +{len(files)}\n", told)
    assert run("data", "import", path, tmp_path / "new.zarr", f"format={name}") == 0
    new = DemoStore.open(tmp_path / "new.zarr")
    assert new.spec == SPEC
    for key in ("camera0_rgb", "robot0_eef_pos", "action"):
        np.testing.assert_array_equal(new.array(key), store.array(key))
