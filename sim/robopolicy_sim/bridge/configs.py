"""Configs of foreign environments and of their experts; this module imports neither mujoco nor gymnasium."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING


@dataclass
class BridgeConfig:
    """Any Gymnasium environment, in a process with an interpreter of its own.

    Attributes:
        python: path of the interpreter; numpy and gymnasium must be installed there.
        id: Gymnasium's id; ``module:id`` imports the module first.
        kwargs: of the environment, e.g. task.kwargs.size=5.
        folders: where that module is looked for, beside the interpreter's own places.
        images: observations that are camera images; they become camera0_rgb, camera1_rgb, ... in this order.
            ``render`` is the picture that the environment's render() draws.
        success: entry of info that tells success; empty: is_success or success.
        rate_hz: control steps per second; 0: the environment's render_fps.
        max_steps: control steps until the episode is truncated; 0: the environment's own number.
        timeout_s: longest wait for an answer, the start included [s].
    """

    target: ClassVar[str] = "robopolicy_sim.bridge.environment:BridgedEnv"

    python: str = MISSING
    id: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    success: str = ""
    rate_hz: float = 0.0
    max_steps: int = 0
    timeout_s: float = 60.0


@dataclass
class MetaWorldConfig:
    """One of Meta-World's 50 tasks, in the environment that ``make metaworld`` sets up.

    Attributes:
        name: of the task, e.g. reach-v3.
        image_size: height and width of the camera image [px]; 0: no image.
        camera: Meta-World's name of the camera.
        max_steps: control steps (80 Hz) until the episode is truncated; Meta-World allows 500.
        python: path of the interpreter.
    """

    target: ClassVar[str] = "robopolicy_sim.bridge.metaworld:make_env"

    name: str = "reach-v3"
    image_size: int = 0
    camera: str = "corner2"
    max_steps: int = 500
    python: str = ".venv-metaworld/bin/python"


@dataclass
class ForeignExpertConfig:
    """Demonstrations by a foreign environment's own expert: its method expert_action()."""

    target: ClassVar[str] = "robopolicy_sim.bridge.expert:demonstrate"
    tasks: ClassVar[tuple[str, ...]] = ("bridge", "metaworld")
