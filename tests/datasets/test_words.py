"""Spec, errors, registry and clock."""

from __future__ import annotations

import json
import time

import pytest

from robopolicy_datasets import clock, errors
from robopolicy_datasets.errors import ConfigError, MissingExtraError, SpecError, UnknownNameError
from robopolicy_datasets.registry import Registry, formats, load_target
from robopolicy_datasets.spec import Feature, Spec


class NoTargetConfig:
    pass


def spec(*observation: Feature) -> Spec:
    return Spec(observation, (Feature("action", (2,)),))


def test_a_spec_survives_json():
    original = spec(Feature("camera0_rgb", (64, 64, 3), "uint8", kind="rgb", rate_hz=10, frame="front"))
    assert Spec.from_json(json.loads(json.dumps(original.to_json()))) == original
    assert Spec.from_json(json.dumps(original.to_json())) == original


def test_unknown_entries_of_newer_versions_are_ignored():
    data = spec(Feature("a", (1,))).to_json()
    data["observation"][0]["calibration"] = "new"
    assert Spec.from_json(data).keys() == ["a", "action"]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"observation": 3, "action": []}', '{"observation": [{}]}']
)
def test_what_is_no_spec_is_refused(content):
    with pytest.raises(SpecError, match="not a Spec"):
        Spec.from_json(content)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "rbg"}, "rgb"),
        ({"kind": "rgb", "shape": (8, 8), "dtype": "uint8"}, r"uint8\[height, width, 3\]"),
        ({"kind": "rgb", "shape": (8, 8, 1), "dtype": "uint8"}, r"uint8\[height, width, 3\]"),
        ({"kind": "rgb", "shape": (8, 8, 3), "dtype": "float32"}, r"uint8\[height, width, 3\]"),
        ({"shape": (0,)}, "at least 1"),
        ({"dtype": "float33"}, "float33"),
    ],
)
def test_a_feature_says_what_is_wrong(arguments, message):
    with pytest.raises(SpecError, match=message):
        Feature(**{"key": "pos", "shape": (3,), **arguments})


def test_keys_are_named_once_and_looked_up_by_name():
    with pytest.raises(SpecError, match="more than once: action"):
        spec(Feature("action", (2,)))
    both = spec(Feature("robot0_eef_pos", (3,)), Feature("camera0_rgb", (8, 8, 3), "uint8", kind="rgb"))
    assert both["camera0_rgb"].is_image
    assert both.select(["camera0_rgb"]).keys() == ["camera0_rgb", "action"]
    with pytest.raises(SpecError, match="It has: robot0_eef_pos"):
        both["robot0_eef_position"]


@pytest.mark.parametrize(
    ("field", "theirs"),
    [("shape", (4,)), ("dtype", "float64"), ("kind", "joint"), ("unit", "rad"), ("frame", "base")],
)
def test_a_mismatch_names_both_sides(field, theirs):
    mine = Feature("pos", (3,), "float32", kind="position", unit="m", frame="world")
    other = Feature(**{**vars(mine), field: theirs})
    with pytest.raises(SpecError) as caught:
        spec(mine).require(spec(other), needs="checkpoint 'a'", provides="task 'b'")
    for part in ("checkpoint 'a'", "task 'b'", "'pos'", field, repr(theirs), repr(getattr(mine, field))):
        assert part in str(caught.value)


def test_more_than_needed_is_fine_and_less_is_not():
    one, two = spec(Feature("a", (1,))), spec(Feature("a", (1,)), Feature("b", (1,)))
    one.require(two, needs="x", provides="y")
    with pytest.raises(SpecError, match="'b' is missing"):
        two.require(one, needs="x", provides="y")


def test_the_nearest_names_come_first():
    assert errors.nearest_names("difusion", ["flow", "act", "diffusion"]) == ["diffusion", "act", "flow"]
    message = str(errors.unknown_name("policy", "difusion", ["flow", "diffusion"]))
    assert "Did you mean 'diffusion'?" in message
    assert "no policy is registered" in str(errors.unknown_name("policy", "x", []))


def test_every_error_is_ours():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, errors.RobopolicyError) for kind in kinds)


def test_a_registry_finds_what_entry_points_name():
    assert "diffusion_policy" in formats.names()
    config = formats.config_class("diffusion_policy")()
    assert callable(formats.load("diffusion_policy"))
    assert config.rate_hz > 0
    with pytest.raises(UnknownNameError, match="Did you mean 'diffusion_policy'"):
        formats.load("difusion_policy")


def test_a_registry_explains_a_config_without_target(monkeypatch):
    registry = Registry("gripper", "robopolicy.no_such_group")
    assert registry.names() == []
    monkeypatch.setattr(Registry, "config_class", lambda self, name: NoTargetConfig)
    registry.__dict__["_entry_points"] = {"x": type("Point", (), {"value": "module:X"})}
    with pytest.raises(ConfigError, match="target"):
        registry.load("x")


def test_a_missing_extra_is_named():
    assert isinstance(errors.missing_extra("a", "sim"), MissingExtraError)
    assert "robopolicy[sim]" in str(errors.missing_extra("a", "sim"))
    assert load_target("robopolicy_datasets.clock:NANOSECONDS") == 1_000_000_000


def test_time_is_integer_nanoseconds():
    assert clock.seconds_to_ns(0.1) == 100_000_000
    assert clock.ns_to_seconds(1_500_000_000) == 1.5
    first, second = clock.now_ns(), clock.now_ns()
    assert isinstance(first, int)
    assert second >= first
    before = time.time_ns()
    wall = clock.now_ns() + clock.wall_anchor_ns()
    assert before - 10**9 < wall < time.time_ns() + 10**9
