"""The nets over action chunks that a policy can choose, each called as ``net(chunk, level, condition)``."""

from __future__ import annotations

from torch import nn

from robopolicy.nets.mlp import ConditionalMlp
from robopolicy.nets.transformer import ConditionalTransformer
from robopolicy.nets.unet import ConditionalUnet
from robopolicy.policies.config_checks import check_nets
from robopolicy.policies.configs import ChunkNetConfig
from robopolicy_datasets.errors import ConfigError


def make_net(
    config: ChunkNetConfig, action_size: int, condition_size: int, step_scale: float = 1.0, side_size: int = 0
) -> nn.Module:
    """Builds the net that a config names.

    Args:
        config: names the net and gives its sizes.
        action_size: numbers in one represented action.
        condition_size: numbers in the condition vector.
        step_scale: multiplies the noise level before its embedding.
        side_size: further numbers that the net sees of each step, after those of the noisy action.

    Raises:
        ConfigError: there is no such net, or its sizes are impossible.
    """
    check_nets(config, NETS)
    return NETS[config.net](config, action_size, condition_size, step_scale, side_size)


def _unet(
    config: ChunkNetConfig, action_size: int, condition_size: int, step_scale: float, side_size: int
) -> nn.Module:
    unet = config.unet
    factor = 2 ** (len(unet.channels) - 1)
    if config.horizon % factor:
        raise ConfigError(
            f"policy.horizon is {config.horizon}; this U-Net halves it, so it must be divisible by {factor}."
        )
    return ConditionalUnet(
        action_size,
        condition_size,
        unet.channels,
        unet.kernel_size,
        unet.groups,
        unet.embedding,
        step_scale,
        side_size,
    )


def _mlp(
    config: ChunkNetConfig, action_size: int, condition_size: int, step_scale: float, side_size: int
) -> nn.Module:
    mlp = config.mlp
    return ConditionalMlp(
        action_size,
        config.horizon,
        condition_size,
        mlp.width,
        mlp.blocks,
        mlp.expansion,
        mlp.embedding,
        step_scale,
        side_size,
    )


def _transformer(
    config: ChunkNetConfig, action_size: int, condition_size: int, step_scale: float, side_size: int
) -> nn.Module:
    transformer = config.transformer
    return ConditionalTransformer(
        action_size,
        config.horizon,
        condition_size,
        transformer.width,
        transformer.layers,
        transformer.heads,
        transformer.causal,
        transformer.embedding,
        step_scale,
        side_size,
    )


NETS = {"unet": _unet, "mlp": _mlp, "transformer": _transformer}
"""How the net that a config names is built."""
