"""Composing settings: typed, complete, and what is typed arrives as it was typed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from robopolicy.policies.chunk_nets import make_net
from robopolicy.policies.configs import DiffusionConfig, FlowConfig, StreamConfig
from robopolicy.training.configs import TrainerConfig
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import policies, tasks
from robopolicy_launch import settings
from robopolicy_launch.verbs import VERBS


def compose(verb: str, *arguments: str) -> settings.Composed:
    return settings.compose(verb, VERBS[verb].load(), arguments)


def test_settings_are_the_components_own_dataclasses():
    composed = compose(
        "train", "data=x", "policy=diffusion", "trainer.steps=7", "policy.unet.channels=[8,16]"
    )
    assert isinstance(composed.settings.policy, DiffusionConfig)
    assert isinstance(composed.settings.trainer, TrainerConfig)
    assert composed.settings.trainer.steps == 7
    assert composed.settings.policy.unet.channels == [8, 16]
    assert settings.registered_name("policy", composed.settings.policy) == "diffusion"


@pytest.mark.parametrize("task", ["pick_place", "pusht_state", "pusht_image"])
def test_task_decides_what_the_policy_sees(task):
    composed = compose("train", "data=x", f"task={task}")
    environment = compose("train", "data=x", "recipe=none", f"task={task}").settings
    assert environment.policy.observation_keys == FlowConfig().observation_keys
    keys = composed.settings.policy.observation_keys
    assert ("block_pos" in keys) == (task == "pusht_state")
    assert any("camera" in key for key in keys) == (task != "pusht_state")


@pytest.mark.parametrize("task", ["pick_place", "pusht_image", "pusht_state"])
@pytest.mark.parametrize("policy", ["act", "bc", "diffusion", "flow"])
@pytest.mark.parametrize("recipe", ["none", "${task}"])
def test_default_policies_are_small_enough_for_a_cpu(task, policy, recipe):
    chosen = compose("train", "data=x", f"task={task}", f"policy={policy}", f"recipe={recipe}").settings
    environment = tasks.build(task, chosen.task)
    built = policies.build(policy, chosen.policy, environment.data_spec, environment.dt)
    environment.close()
    assert sum(weights.numel() for weights in built.parameters()) <= 5_000_000


def test_a_preset_builds_on_its_component():
    composed = compose("train", "data=x", "policy=diffusion_paper", "policy.action_steps=2")
    assert composed.settings.policy.unet.channels == [256, 512, 1024]
    assert composed.settings.policy.action_steps == 2
    assert settings.registered_name("policy", composed.settings.policy) == "diffusion"


@pytest.mark.parametrize("task", ["pick_place", "pusht_image"])
@pytest.mark.parametrize("policy", ["diffusion_paper", "diffusion_transformer_paper"])
def test_a_policy_without_a_recipe_of_its_own_takes_only_what_it_sees(task, policy):
    chosen = compose("train", "data=x", f"task={task}", f"policy={policy}").settings
    default = compose("train", "data=x", f"task={task}").settings
    own = compose("train", "data=x", f"task={task}", f"policy={policy}", "recipe=none").settings
    assert default.policy.learn_ending == (task == "pick_place")
    assert chosen.policy.net == own.policy.net
    assert chosen.policy == replace(own.policy, observation_keys=default.policy.observation_keys)
    assert chosen.trainer == default.trainer
    words = ["policy.net=mlp", "policy.observation_keys=[agent_pos]"]
    typed = compose("train", "data=x", f"task={task}", f"policy={policy}", *words).settings.policy
    assert (typed.net, typed.observation_keys) == ("mlp", ["agent_pos"])


@pytest.mark.parametrize("task", ["pick_place", "pick_place_state", "pusht_state"])
@pytest.mark.parametrize("policy", ["act", "bc", "diffusion"])
def test_a_policy_with_a_recipe_of_its_own_takes_all_of_it(task, policy):
    chosen = compose("train", "data=x", f"task={task}", f"policy={policy}").settings
    default = compose("train", "data=x", f"task={task}").settings
    preset = OmegaConf.load(settings.CONF / "recipe" / f"{task}_{policy}.yaml")
    assert settings.registered_name("policy", chosen.policy) == policy
    for name, value in preset.policy.items():
        assert name == "mlp" or getattr(chosen.policy, name) == value
    assert chosen.trainer.learning_rate == preset.trainer.learning_rate
    assert chosen.policy.observation_keys == default.policy.observation_keys
    typed = compose("train", "data=x", f"task={task}", f"policy={policy}", "policy.horizon=24").settings
    assert typed.policy.horizon == 24
    without = compose("train", "data=x", f"task={task}", f"policy={policy}", "recipe=none").settings
    assert without.trainer == compose("train", "data=x", "recipe=none").settings.trainer


@pytest.mark.parametrize(
    ("preset", "millions"), [("diffusion_paper", 80), ("diffusion_transformer_paper", 10), ("act_paper", 32)]
)
def test_presets_have_nets_of_the_sizes_of_the_papers(preset, millions):
    policy = compose("train", "data=x", "task=pick_place", f"policy={preset}").settings.policy
    with torch.device("meta"):
        net = make_net(policy, action_size=10, condition_size=1000)
    assert round(sum(weights.numel() for weights in net.parameters()) / 1e6) == millions


def test_the_last_of_two_values_wins():
    composed = compose(
        "train", "data=x", "policy=diffusion", "trainer.seed=1", "policy=flow", "trainer.seed=2"
    )
    assert isinstance(composed.settings.policy, FlowConfig)
    assert composed.settings.trainer.seed == 2


def test_the_kept_command_gives_the_same_settings():
    first = compose(
        "train", "data=it's ${here}", "task=pusht_state", "policy.unet.channels=[8,16]", "name=1e3"
    )
    again = compose("train", *first.config.command)
    assert again.settings == first.settings
    assert again.config == first.config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", ["x"]),
        ("it's ${here}, 'really'", ["it's ${here}, 'really'"]),
        ("[a.zarr,b.zarr]", ["a.zarr", "b.zarr"]),
        ("['a b.zarr', c.zarr]", ["a b.zarr", "c.zarr"]),
    ],
)
def test_one_text_or_several_are_given_for_a_list_of_texts(text, expected):
    composed = compose("train", f"data={text}", "data_weights=[0.7,1]")
    assert composed.settings.data == expected
    assert composed.settings.data_weights == [0.7, 1.0]
    assert compose("train", *composed.config.command).settings == composed.settings


def test_positional_values_fill_their_keys_in_order():
    composed = compose("data import", "from here", "layout=pusht", "there").settings
    assert (composed.source, composed.target) == ("from here", "there")
    assert composed.format.layout["state"]["block_angle"] == [4, 5]


def test_free_mapping_takes_new_keys():
    composed = compose(
        "data import", "a", "b", "layout=pusht", "format.layout.n_contacts=n_contacts"
    ).settings
    assert composed.format.layout["n_contacts"] == "n_contacts"
    assert composed.format.layout["img"] == "camera0_rgb"


@hypothesis.settings(max_examples=25)
@hypothesis.example("\\${a}")
@hypothesis.example("a\\\\${")
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_text_arrives_as_it_was_typed(text):
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return  # quotes are Hydra's own
    assert compose("data info", f"path={text}").settings.path == text


@hypothesis.settings(max_examples=10)
@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_numbers_arrive_as_they_were_typed(steps, rate, flag):
    trainer = compose(
        "train", "data=x", f"trainer.steps={steps}", f"trainer.learning_rate={rate}", f"trainer.bf16={flag}"
    ).settings.trainer
    assert (trainer.steps, trainer.learning_rate, trainer.bf16) == (steps, rate, flag)


@hypothesis.settings(max_examples=25)
@given(st.text(max_size=30))
def test_any_argument_is_understood_or_refused_with_our_error(argument):
    with contextlib.suppress(ConfigError):
        compose("collect", argument)


def test_a_broken_plug_in_is_told_only_when_chosen(monkeypatch):
    broken = SimpleNamespace(name="broken", value="no_such_package.configs:Config")
    points = dict(settings.REGISTRIES["policy"]._entry_points)
    monkeypatch.setitem(settings.REGISTRIES["policy"].__dict__, "_entry_points", points | {"broken": broken})
    assert (
        compose("train", "data=x").settings.policy
        == compose("train", "data=x", "policy=flow").settings.policy
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        compose("train", "data=x", "policy=broken")


STREAMS = {"robot0_wrench": StreamConfig(64, 0.2), "robot0_tactile0_markers": StreamConfig(4)}
BY_KEYS = [
    "policy.streams.robot0_wrench.samples=64",
    "policy.streams.robot0_wrench.seconds=0.2",
    "policy.streams.robot0_tactile0_markers.samples=4",
]


@pytest.mark.parametrize("chosen", ["flow", "bc"])
def test_entries_of_a_mapping_of_configs_are_given_by_their_keys(chosen):
    composed = compose("train", "data=a.zarr", f"policy={chosen}", *BY_KEYS)
    assert composed.settings.policy.streams == STREAMS
    again = compose("train", *composed.config.command)
    assert again.settings.policy.streams == STREAMS


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("policy.streams.robot0_wrench.sampels=8", "Did you mean 'policy.streams.robot0_wrench.samples'"),
        ("policy.streams.robot0_wrench=8", "takes: samples, seconds"),
        ("policy.streams.robot0_wrench.samples=many", "policy.streams takes dict"),
    ],
)
def test_a_wrong_key_of_such_an_entry_is_told(word, told):
    with pytest.raises(ConfigError, match=told):
        compose("train", "data=a.zarr", word)
