"""Meta-World through the bridge."""

from __future__ import annotations

from pathlib import Path

from robopolicy_datasets.errors import ConfigError
from robopolicy_sim.bridge.configs import BridgeConfig, MetaWorldConfig
from robopolicy_sim.bridge.environment import BridgedEnv
from robopolicy_sim.bridge.foreign.foreign_server import RENDERED

VIDEO_SIZE = 480
"""Side of the frames of ``render`` where no image is observed, px."""


def make_env(config: MetaWorldConfig) -> BridgedEnv:
    """Returns the task; its expert is ``call("expert_action")``.

    Raises:
        ConfigError: Meta-World is not set up, or the image size is negative.
        SimulationError: the task cannot be made, e.g. because there is none of this name.
    """
    if not Path(config.python).expanduser().exists():
        raise ConfigError(
            f"Meta-World is not set up: there is no '{config.python}'. Run 'make metaworld' in the checkout, "
            "or give task.python=/path/to/its/venv/bin/python."
        )
    if config.image_size < 0:
        raise ConfigError(f"task.image_size is {config.image_size}; give a side's pixels, or 0 for none.")
    return BridgedEnv(
        BridgeConfig(
            python=config.python,
            id="robopolicy_metaworld:robopolicy/MetaWorld-v0",
            kwargs={
                "name": config.name,
                "size": config.image_size or VIDEO_SIZE,
                "camera": config.camera,
            },
            images=[RENDERED] if config.image_size else [],
            max_steps=config.max_steps,
        )
    )
