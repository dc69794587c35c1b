"""Which settings of a chunk policy are possible."""

from __future__ import annotations

from collections.abc import Iterable

from robopolicy.policies.configs import ChunkNetConfig, ChunkPolicyConfig, GenerativeConfig
from robopolicy.policies.normalizer import MODES
from robopolicy.sampling.denoiser import PREDICTIONS
from robopolicy.sampling.feedback import SIGNALS
from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_datasets.history import check_span


def check_config(config: ChunkPolicyConfig) -> None:
    """Refuses settings with which no chunk policy can be built.

    Args:
        config: of the policy.

    Raises:
        ConfigError: says which setting and what is allowed.
    """
    at_least("observation_steps", config.observation_steps, 1)
    at_least("action_steps", config.action_steps, 1)
    at_least("horizon", config.horizon, 1)
    if config.normalization not in MODES:
        raise unknown_name("policy.normalization", config.normalization, MODES)
    available = config.horizon - config.observation_steps + 1
    if config.action_steps > available:
        raise ConfigError(
            f"policy.action_steps is {config.action_steps}, but only {available} of the {config.horizon} "
            f"predicted actions lie at or after the newest of {config.observation_steps} observations."
        )
    _divisible("encoder", "channels", config.encoder.channels, "groups", config.encoder.groups)
    at_least("encoder.blocks", config.encoder.blocks, 1)
    at_least("encoder.features", config.encoder.features, 1)
    for key, span in config.streams.items():
        check_span(key, span)
    at_least("history_features", config.history_features, 1)
    at_least("observation_noise", config.observation_noise, 0)


def check_nets(config: ChunkNetConfig, nets: Iterable[str]) -> None:
    """Refuses settings with which no net over action chunks can be built.

    Args:
        config: of the policy.
        nets: names of the nets that there are.

    Raises:
        ConfigError: says which setting and what is allowed.
    """
    if config.net not in (names := list(nets)):
        raise unknown_name("policy.net", config.net, names)
    _divisible("unet", "channels", config.unet.channels, "groups", config.unet.groups)
    if config.unet.kernel_size < 1 or config.unet.kernel_size % 2 == 0:
        raise ConfigError(f"policy.unet.kernel_size is {config.unet.kernel_size}; it must be odd.")
    for name, part in (("unet", config.unet), ("mlp", config.mlp), ("transformer", config.transformer)):
        if part.embedding < 4 or part.embedding % 2:
            raise ConfigError(f"policy.{name}.embedding is {part.embedding}; it must be even and at least 4.")
    at_least("mlp.width", config.mlp.width, 1)
    at_least("mlp.blocks", config.mlp.blocks, 1)
    at_least("mlp.expansion", config.mlp.expansion, 1)
    at_least("transformer.layers", config.transformer.layers, 1)
    _divisible("transformer", "width", [config.transformer.width], "heads", config.transformer.heads)


def check_hooks(config: GenerativeConfig) -> None:
    """Refuses settings with which no policy that samples can be trained.

    Args:
        config: of the policy.

    Raises:
        ConfigError: says which setting and what is allowed.
    """
    at_least("noise_samples", config.noise_samples, 1)
    if config.prediction not in PREDICTIONS:
        raise unknown_name("policy.prediction", config.prediction, PREDICTIONS)
    if config.feedback.order not in (orders := ["none", *SIGNALS]):
        raise unknown_name("policy.feedback.order", config.feedback.order, orders)
    unguided, cached = config.feedback.unguided, config.feedback.cached
    if not (unguided >= 0 and cached >= 0 and unguided + cached <= 1):
        raise ConfigError(
            f"policy.feedback.unguided is {unguided} and policy.feedback.cached is {cached}; they are shares "
            "from 0, together at most 1."
        )
    most = config.horizon - config.observation_steps
    if not 0 <= config.longest_prefix <= most:
        raise ConfigError(
            f"policy.longest_prefix is {config.longest_prefix}; it must lie between 0 and {most}, so that at "
            f"least one of the {config.horizon} predicted actions is left to predict."
        )


def at_least(name: str, value: float, smallest: float) -> None:
    """Refuses the setting ``policy.<name>`` below ``smallest``.

    Raises:
        ConfigError: it is.
    """
    if value < smallest:
        raise ConfigError(f"policy.{name} is {value}; it must be at least {smallest}.")


def _divisible(part: str, sizes_name: str, sizes: list[int], divisor_name: str, divisor: int) -> None:
    if not sizes or divisor < 1 or any(size < 1 or size % divisor for size in sizes):
        given = sizes[0] if len(sizes) == 1 else sizes
        raise ConfigError(
            f"policy.{part}.{sizes_name} is {given}; it must be a multiple of "
            f"policy.{part}.{divisor_name} = {divisor}."
        )
