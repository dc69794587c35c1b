"""Which settings of a chunk policy are possible."""

from __future__ import annotations

from collections.abc import Iterable

from robopolicy.policies.configs import ChunkPolicyConfig
from robopolicy.policies.normalizer import MODES
from robopolicy_datasets.errors import ConfigError, unknown_name


def check_config(config: ChunkPolicyConfig, nets: Iterable[str]) -> None:
    """Refuses settings with which no chunk policy can be built.

    Args:
        config: of the policy.
        nets: names of the nets that there are.

    Raises:
        ConfigError: says which setting and what is allowed.
    """
    for name in ("observation_steps", "action_steps", "horizon", "noise_samples"):
        if getattr(config, name) < 1:
            raise ConfigError(f"policy.{name} is {getattr(config, name)}; it must be at least 1.")
    if config.net not in (names := list(nets)):
        raise unknown_name("policy.net", config.net, names)
    if config.normalization not in MODES:
        raise unknown_name("policy.normalization", config.normalization, MODES)
    available = config.horizon - config.observation_steps + 1
    if config.action_steps > available:
        raise ConfigError(
            f"policy.action_steps is {config.action_steps}, but only {available} of the {config.horizon} "
            f"predicted actions lie at or after the newest of {config.observation_steps} observations."
        )
    _check_sizes(config)


def _check_sizes(config: ChunkPolicyConfig) -> None:
    for name, part in (("encoder", config.encoder), ("unet", config.unet)):
        groups = part.groups
        if not part.channels or groups < 1 or any(count < 1 or count % groups for count in part.channels):
            raise ConfigError(
                f"policy.{name}.channels is {part.channels}; each must be a multiple of "
                f"policy.{name}.groups = {groups}."
            )
    if config.unet.kernel_size < 1 or config.unet.kernel_size % 2 == 0:
        raise ConfigError(f"policy.unet.kernel_size is {config.unet.kernel_size}; it must be odd.")
    for name, embedding in (("unet", config.unet.embedding), ("mlp", config.mlp.embedding)):
        if embedding < 4 or embedding % 2:
            raise ConfigError(f"policy.{name}.embedding is {embedding}; it must be even and at least 4.")
    for name, size, smallest in (
        ("encoder.blocks", config.encoder.blocks, 1),
        ("encoder.features", config.encoder.features, 1),
        ("observation_noise", config.observation_noise, 0),
        ("mlp.width", config.mlp.width, 1),
        ("mlp.blocks", config.mlp.blocks, 1),
        ("mlp.expansion", config.mlp.expansion, 1),
    ):
        if size < smallest:
            raise ConfigError(f"policy.{name} is {size}; it must be at least {smallest}.")
