"""Settings of a verb: typed dataclass nodes and YAML presets, composed by Hydra from the command line.

A *group* (``policy``, ``task``, ...) holds *choices*: the config dataclasses of the registries, and presets
in ``conf/<group>/<choice>.yaml`` that build on them. The group ``recipe`` holds the settings that suit a
task; a verb that takes recipes uses the one named like its task, where there is one. What a recipe says of
the policy is tuned for the verb's default policy: another choice has a recipe of its own, named
``<task>_<policy>``, or takes only what it is to see from there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from robopolicy_datasets import registry
from robopolicy_datasets.errors import ConfigError, nearest_names, unknown_name

logger = logging.getLogger(__name__)

CONF = Path(__file__).parent / "conf"

REGISTRIES: dict[str, registry.Registry] = {
    group.kind: group
    for group in (
        registry.policies,
        registry.tasks,
        registry.robots,
        registry.cameras,
        registry.sensors,
        registry.teleops,
        registry.formats,
    )
}

_DISTURBANCES = "robopolicy.evaluation.configs"

OWN_NODES: dict[str, dict[str, str]] = {
    "trainer": {"default": "robopolicy.training.configs:TrainerConfig"},
    "disturbance": {
        "random": f"{_DISTURBANCES}:RandomMoveConfig",
        "greedy": f"{_DISTURBANCES}:GreedyMoveConfig",
        "image_noise": f"{_DISTURBANCES}:ImageNoiseConfig",
        "delay": f"{_DISTURBANCES}:DelayConfig",
        "push": f"{_DISTURBANCES}:PushConfig",
    },
}
"""Groups that no registry fills: choice -> ``module:dataclass``."""

SEEN = "observation_keys"  # the key of a recipe's policy that suits every policy
SHOWN_NAMES = 8  # names listed in a message about an unknown one


@dataclass(frozen=True)
class Composed:
    """A verb's settings.

    Attributes:
        settings: the verb's ``Settings`` object.
        config: the same as plain nodes, and ``verb`` and ``command``: the arguments, with every choice
            named.
    """

    settings: Any
    config: DictConfig


def choices(group: str) -> list[str]:
    """Returns the choices of a group: registered components and presets."""
    registered = REGISTRIES[group].names() if group in REGISTRIES else []
    presets = [path.stem for path in (CONF / group).glob("*.yaml")]
    return sorted({*registered, *OWN_NODES.get(group, {}), *presets})


def registered_name(group: str, config: Any) -> str:
    """Returns the name under which the class of ``config`` is registered in ``group``."""
    group_registry = REGISTRIES[group]
    for name in group_registry.names():
        if type(config) is group_registry.config_class(name):
            return name
    raise ConfigError(f"{type(config).__name__} is not the config of a registered {group}.")


def compose(verb: str, module: ModuleType, arguments: Sequence[str]) -> Composed:
    """Composes the settings of a verb.

    Args:
        verb: its name.
        module: its module, see ``robopolicy_launch.verbs``.
        arguments: ``group=choice``, ``key=value``, or values of the verb's positional keys.

    Raises:
        ConfigError: an argument is not understood, names something unknown, or has a value of the wrong
            type; or a required key is missing.
    """
    complete = getattr(module, "complete_arguments", list)
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="robopolicy"):
        composer = _Composer(verb, module)
        config, command = composer.compose(complete(arguments))
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        key = missing[0]
        wanted = "|".join(choices(key)) if key in module.GROUPS else f"<{type_text(config, key)}>"
        raise ConfigError(f"'robopolicy {verb}' needs {key}={wanted}. See: robopolicy {verb} --help")
    kept = {"verb": verb, "command": command, **_to_plain(config)}
    return Composed(_to_object(config), OmegaConf.create(_escaped(kept)))


def defaults(verb: str, module: ModuleType, arguments: Sequence[str] = ()) -> DictConfig:
    """Returns the settings of a verb as nodes, in which required keys may be missing; for the help.

    Args:
        verb: its name.
        module: its module.
        arguments: as in ``compose``.
    """
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="robopolicy"):
        return _Composer(verb, module).compose(arguments)[0]


def type_text(config: DictConfig, key: str) -> str:
    """Returns the declared type of a dotted key, as written in its dataclass."""
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key) if parent_key else config
    parent_type = OmegaConf.get_type(parent)
    fields = getattr(parent_type, "__dataclass_fields__", {})
    if name in fields:
        declared = fields[name].type
        return declared if isinstance(declared, str) else getattr(declared, "__name__", str(declared))
    return "value"


def _to_object(config: DictConfig) -> Any:
    try:
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error


def _to_plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def _escaped(value: Any) -> Any:
    """Returns plain data in which texts stand for themselves when they are nodes again."""
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    return _literal(value) if isinstance(value, str) else value


def _literal(text: str) -> str:
    """Returns text in which OmegaConf finds no interpolation; backslashes before one escape each other."""
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", text)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@dataclass(frozen=True)
class _Given:
    """An argument ``key=text``."""

    key: str
    text: str

    def in_grammar(self, declared: str) -> str:
        """Returns the text in Hydra's grammar: as it stands where the key is declared to be text.

        One text is given for a list of texts too.
        """
        if declared == "list[str]" and not self.text.startswith("["):
            return f"[{self.in_grammar('str')}]"
        hydra_quoted = len(self.text) > 1 and self.text[0] == self.text[-1] and self.text[0] in "'\""
        if declared == "str" and not hydra_quoted:
            return _quoted(self.text)
        try:
            override = OverridesParser.create().parse_override(f"{self.key}={self.text}")
        except HydraException:
            logger.debug("'%s' is not in Hydra's grammar; it is taken as text", self.text)
            return _quoted(self.text)
        plain = "${" not in self.text and not override.is_sweep_override()
        return self.text if plain else _quoted(self.text)


def _config_class(group: str, name: str) -> type[Any]:
    if group in REGISTRIES:
        return REGISTRIES[group].config_class(name)
    return registry.load_target(OWN_NODES[group][name])


class _Composer:
    """Registers the nodes that one verb needs and composes its settings with messages fit for people."""

    def __init__(self, verb: str, module: ModuleType) -> None:
        self.verb = verb
        self.groups: dict[str, str | None] = dict(module.GROUPS)
        self.positional: tuple[str, ...] = tuple(module.POSITIONAL)
        self._broken: dict[tuple[str, str | None], Exception] = {}
        self._base = OmegaConf.create()
        self._root = root = verb.replace(" ", "_")
        store = ConfigStore.instance()
        for group in {*REGISTRIES, *OWN_NODES} - set(self.groups):
            store.repo.pop(group, None)  # of another verb in this process; here it may be the name of a key
        store.store(name=f"{root}_settings", node=module.Settings)
        entries: list[Any] = [f"{root}_settings"]
        for group, choice in self.groups.items():
            # A recipe that follows another choice ("${task}") need not exist for every one of them.
            entries.append({f"optional {group}" if "${" in (choice or "") else group: choice})
            self._store_nodes(store, group)
        store.store(name=root, node={"defaults": [*entries, "_self_"]})

    def compose(self, arguments: Sequence[str]) -> tuple[DictConfig, list[str]]:
        """Returns the settings, and the arguments that give them again with every choice named."""
        given = self._parse(arguments)
        chosen: dict[str, str | None] = {
            **self.groups,
            **{one.key: one.text for one in given if one.key in self.groups},
        }
        self._check_choices(chosen)
        named = [f"{group}={name}" for group, name in chosen.items() if name is not None and "${" not in name]
        self._base = self._config(named)
        keys = [one for one in given if one.key not in self.groups]
        for one in keys:
            self._check_key(one.key)
        # Hydra's "++" adds a key where it is missing; after the checks that is in free mappings only.
        words = [f"++{self._assignment(one)}" for one in keys]
        config = self._config([*named, *words]) if words else self._base
        return config, [*named, *(f"{one.key}={one.text}" for one in keys)]

    def _assignment(self, given: _Given) -> str:
        """Returns an argument in Hydra's grammar; an entry of a mapping of configs is given as a whole."""
        mapping, name, rest = _entry(self._base, given.key)
        text = given.in_grammar(type_text(self._base, given.key))
        return f"{mapping}={{{name}: {{{rest}: {text}}}}}" if rest else f"{given.key}={text}"

    def _store_nodes(self, store: ConfigStore, group: str) -> None:
        names = REGISTRIES[group].names() if group in REGISTRIES else list(OWN_NODES.get(group, {}))
        for name in names:
            try:
                store.store(group=group, name=name, node=_config_class(group, name))
            except Exception as error:  # one broken plug-in must not break the others; told when it is chosen
                logger.debug("%s '%s' cannot be loaded", group, name, exc_info=True)
                self._broken[group, name] = error

    def _parse(self, arguments: Sequence[str]) -> list[_Given]:
        """Parses the arguments; the last one for a key wins, and bare values fill the positional keys."""
        free = list(self.positional)
        given: dict[str, _Given] = {}
        words: list[str] = []
        for argument in arguments:
            found = re.fullmatch(r"\+{0,2}([A-Za-z_][\w.]*)=(.*)", argument, re.DOTALL)
            if found:
                key, text = found[1], found[2]
            elif free and free[0].endswith("...") and not argument.startswith("-"):
                words.append(_quoted(argument))
                key, text = free[0].removesuffix("..."), f"[{','.join(words)}]"
            elif free and not argument.startswith("-"):
                key, text = free[0], argument
            else:
                raise ConfigError(
                    f"'{argument}' is not understood; 'robopolicy {self.verb}' takes key=value arguments. "
                    f"See: robopolicy {self.verb} --help"
                )
            if key in free:
                free.remove(key)
            given[key] = _Given(key, text)
        return list(given.values())

    def _check_choices(self, chosen: Mapping[str, str | None]) -> None:
        """Refuses unknown choices, and those whose config cannot be loaded."""
        for group, choice in chosen.items():
            if choice != self.groups[group] and choice not in choices(group):
                raise unknown_name(group, str(choice), choices(group))
            if (group, choice) in self._broken:
                raise self._broken[group, choice]

    def _check_key(self, key: str) -> None:
        node: Any = self._base
        walked: list[str] = []
        for part in key.split("."):
            if isinstance(node, DictConfig):
                allowed = [str(key) for key in node]
                if part not in allowed and OmegaConf.get_type(node) is dict and walked:
                    self._check_entry(key)
                    return  # a free mapping takes any key
                if not walked:
                    allowed += [group for group in self.groups if group not in allowed]
            else:
                allowed = [str(index) for index in range(len(node))] if isinstance(node, ListConfig) else []
            if part not in allowed:
                raise ConfigError(self._unknown_key(key, walked, part, allowed))
            walked.append(part)
            node = OmegaConf.select(self._base, ".".join(walked))

    def _check_entry(self, key: str) -> None:
        """Refuses a key of a new entry of a mapping of configs that these do not have."""
        mapping, name, rest = _entry(self._base, key)
        allowed = list(getattr(_element_type(self._base, mapping), "__dataclass_fields__", {}))
        if allowed and rest not in allowed:
            walked = [*mapping.split("."), name]
            raise ConfigError(self._unknown_key(key, walked, rest, allowed))

    def _unknown_key(self, key: str, walked: list[str], part: str, allowed: list[str]) -> str:
        where = f"'{'.'.join(walked)}'" if walked else f"'robopolicy {self.verb}'"
        if not allowed:
            if len(walked) == 1 and walked[0] in self.groups:
                known = ", ".join(choices(walked[0]))
                return f"'{key}' needs a {walked[0]}: give {walked[0]}=... too, one of: {known}."
            return f"Unknown key '{key}': {where} is a single value and has no keys."
        close = [".".join([*walked, name]) for name in get_close_matches(part, allowed, n=1, cutoff=0.5)]
        elsewhere = [other for other in _leaf_keys(self._base) if other.rpartition(".")[2] == part]
        hint = f" Did you mean '{(elsewhere + close)[0]}'?" if elsewhere or close else ""
        near = nearest_names(part, allowed)
        more = ", ..." if len(near) > SHOWN_NAMES else "."
        return f"Unknown key '{key}'.{hint} {where} takes: {', '.join(near[:SHOWN_NAMES])}{more}"

    def _config(self, overrides: Sequence[str]) -> DictConfig:
        try:
            return self._with_recipe(overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(self._explain(error)) from error

    def _with_recipe(self, overrides: Sequence[str]) -> DictConfig:
        """Composes; a policy other than the default takes its own recipe, or only ``observation_keys``."""
        chosen = {**self.groups, **_choices_in(overrides)}
        if "recipe" not in self.groups or chosen["policy"] == self.groups["policy"]:
            return hydra_compose(self._root, overrides=list(overrides))
        without_recipe = [word for word in overrides if not word.startswith("recipe=")]
        own = f"{chosen['recipe']}_{chosen['policy']}".replace("${task}", str(chosen["task"]))
        if own in choices("recipe"):
            return hydra_compose(self._root, overrides=[*without_recipe, f"recipe={own}"])
        without_policy = [word for word in overrides if not word.startswith(("policy=", "++policy."))]
        config = hydra_compose(self._root, overrides=without_policy)
        policy = hydra_compose(self._root, overrides=[*without_recipe, "recipe=none"]).policy
        if SEEN in policy and not any(word.startswith(f"++policy.{SEEN}") for word in overrides):
            policy[SEEN] = config.policy[SEEN]
        config.policy = policy
        return config

    def _explain(self, error: Exception) -> str:
        text = _first_line(error)
        _, found, given = text.partition("Error merging override ")
        if found:
            given = given.lstrip("+")
            key = given.partition("=")[0]
            return f"{given} is not valid: {key} takes {type_text(self._base, key)}."
        cause = error.__cause__
        return text + (f" ({_first_line(cause)})" if cause is not None else "")


def _element_type(config: DictConfig, key: str) -> type[Any] | None:
    """Returns the config class of the entries of a mapping, by its dotted key; None for any other key."""
    parent_key, _, name = key.rpartition(".")
    parent_type = OmegaConf.get_type(OmegaConf.select(config, parent_key))
    declared = get_type_hints(parent_type).get(name) if is_dataclass(parent_type) else None
    entry: Any = get_args(declared)[-1] if get_origin(declared) is dict else None
    return entry if isinstance(entry, type) and is_dataclass(entry) else None


def _entry(config: DictConfig, key: str) -> tuple[str, str, str]:
    """Splits the dotted key of a value in an entry of a mapping of configs in three; else into nothing."""
    parts = key.split(".")
    for length in range(2, len(parts)):
        mapping = ".".join(parts[:length])
        if _element_type(config, mapping) is not None:
            return mapping, parts[length], ".".join(parts[length + 1 :])
    return "", "", ""


def _choices_in(overrides: Sequence[str]) -> dict[str, str]:
    """Returns what overrides of the form ``group=choice`` choose; overrides of keys begin with ``++``."""
    pairs = (word.partition("=") for word in overrides if not word.startswith("++"))
    return {group: choice for group, _, choice in pairs}


def _quoted(text: str) -> str:
    """Returns text as a quoted value of Hydra's grammar that stands for itself, interpolations included."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return "'" + _literal(escaped) + "'"


def _leaf_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in map(str, node):
        key = f"{prefix}{name}"
        if OmegaConf.is_missing(node, name):
            yield key
            continue
        child = node[name]
        if isinstance(child, DictConfig):
            yield from _leaf_keys(child, f"{key}.")
        else:
            yield key
