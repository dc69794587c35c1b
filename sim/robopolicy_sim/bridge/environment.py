"""``BridgedEnv``: a foreign Gymnasium environment as a task of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SimulationError, SpecError, unknown_name
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_sim.bridge.configs import BridgeConfig
from robopolicy_sim.bridge.foreign.foreign_server import RENDERED
from robopolicy_sim.bridge.process import ForeignProcess
from robopolicy_sim.tasks.common import feature_space

Observation = dict[str, NDArray[Any]]

SUCCESS_ENTRIES = ("is_success", "success")
"""Entries of info in which environments tell success, where the config names none."""


class BridgedEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """A foreign environment, stepped in its own process.

    Camera images become ``camera0_rgb``, ``camera1_rgb``, ... (uint8 [height, width, 3]); other observations
    keep their keys as float32; one that is a single array is called ``state``. The action is one array of
    float32. An episode ends where the foreign one does, at success, and after ``max_steps``. ``info`` has the
    foreign one's single values, ``success`` and ``score`` (1 from the first success on, else 0).

    Attributes:
        data_spec: what is observed and commanded.
        dt: control step [s].
        max_steps: control steps until truncation.

    Args:
        config: which environment.

    Raises:
        ConfigError: the interpreter cannot be started, or a setting is missing or does not fit.
        SpecError: the environment observes or takes what a Spec cannot say.
        SimulationError: the environment cannot be made.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as in gymnasium.Env)
    render_mode = "rgb_array"

    def __init__(self, config: BridgeConfig) -> None:
        self.config = config
        self._process = ForeignProcess(config.python, config.id, timeout_s=config.timeout_s)
        try:
            facts = self._process.request(
                "make",
                id=config.id,
                kwargs=dict(config.kwargs),
                folders=[str(Path(folder).expanduser().absolute()) for folder in config.folders],
                rendered=RENDERED in config.images,
            )
            self._describe(facts)
        except BaseException:
            self._process.close()
            raise
        self._steps = 0
        self._succeeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: of the foreign environment; None goes on with its random numbers.
            options: unused.

        Raises:
            SimulationError: the environment or its process failed.
        """
        super().reset(seed=seed)
        observation, info = self._process.request("reset", seed=seed)
        self._steps, self._succeeded = 0, False
        return self._observe(observation), self._inform(info)

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advances by one control step.

        Args:
            action: of the foreign environment's shape.

        Raises:
            SpecError: the action has a wrong shape or is not finite.
            SimulationError: the environment or its process failed.
        """
        observation, reward, terminated, truncated, info = self._process.request(
            "step", action=self._checked(action)
        )
        self._steps += 1
        told = self._inform(info)
        truncated = truncated or self._steps >= self.max_steps
        ended = terminated or told["success"]
        return self._observe(observation), reward, ended, truncated and not ended, told

    def render(self) -> NDArray[np.uint8]:
        """Returns a frame [height, width, 3].

        Raises:
            SimulationError: the environment draws none.
        """
        frame = self._process.request("render")
        if not _is_picture(frame):
            raise SimulationError(
                f"The foreign environment '{self.config.id}' draws no picture of uint8 [height, width, 3]; "
                "it needs render_mode='rgb_array', which it is made with unless kwargs say otherwise."
            )
        return frame

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a method of the foreign environment.

        Args:
            name: of the method.
            arguments: plain data or arrays of numbers.

        Returns:
            What it returns, which must be plain data or arrays of numbers.

        Raises:
            SimulationError: there is no such method, or it failed.
        """
        return self._process.request("call", name=name, arguments=list(arguments))

    def close(self) -> None:
        """Ends the process."""
        self._process.close()

    def _describe(self, facts: Mapping[str, Any]) -> None:
        config, spaces, action = self.config, dict(facts["observation"]), facts["action"]
        rate_hz = config.rate_hz or facts["rate_hz"]
        self.max_steps = config.max_steps or facts["max_steps"]
        for value, setting in ((rate_hz, "rate_hz"), (self.max_steps, "max_steps")):
            if value <= 0:
                raise ConfigError(
                    f"The foreign environment '{config.id}' does not say its {setting}; give {setting}=..., "
                    "a number above 0."
                )
        self.dt = 1.0 / rate_hz
        self._features = _observed_features(spaces, config.images, rate_hz)
        command = Feature("action", _shape("action", action), rate_hz=rate_hz)
        self.data_spec = Spec(tuple(self._features.values()), (command,))
        self.observation_space: gymnasium.spaces.Space[Any] = gymnasium.spaces.Dict(
            {feature.key: feature_space(feature) for feature in self.data_spec.observation}
        )
        low, high = (action[side].reshape(command.shape).astype(np.float32) for side in ("low", "high"))
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self._foreign_shape = tuple(action["shape"])

    def _observe(self, given: Mapping[str, Any]) -> Observation:
        observation = {}
        for key, feature in self._features.items():
            value = np.asarray(given.get(key, np.nan))
            right_type = value.dtype == np.uint8 or not feature.is_image
            if value.size != feature.size or not right_type or not np.isfinite(value).all():
                raise SimulationError(
                    f"The foreign environment '{self.config.id}' observed '{key}' as {value.dtype}"
                    f"{list(value.shape)} at step {self._steps}, {np.array2string(value, threshold=8)}; it "
                    f"is to be {feature.describe()}, and finite."
                )
            observation[feature.key] = value.reshape(feature.shape).astype(feature.dtype, copy=False)
        return observation

    def _inform(self, info: Mapping[str, Any]) -> dict[str, Any]:
        entries = (self.config.success,) if self.config.success else SUCCESS_ENTRIES
        success = any(bool(info.get(entry, False)) for entry in entries)
        self._succeeded = self._succeeded or success
        return {**info, "success": success, "score": float(self._succeeded)}

    def _checked(self, action: NDArray[Any]) -> NDArray[np.float64]:
        given, expected = np.asarray(action, dtype=np.float64), self.data_spec.action[0].shape
        if given.shape != expected or not np.isfinite(given).all():
            raise SpecError(
                f"The action {np.array2string(given, threshold=8)} of shape {given.shape} was given to "
                f"'{self.config.id}', which takes finite numbers of shape {expected}. Check the "
                "policy's output."
            )
        return given.reshape(self._foreign_shape)


def _observed_features(
    spaces: Mapping[str, Mapping[str, Any]], images: Sequence[str], rate_hz: float
) -> dict[str, Feature]:
    """Maps the foreign keys to our features, images first."""
    features = {}
    for index, key in enumerate(images):
        if key not in spaces:
            raise unknown_name("image", key, {*spaces, RENDERED})
        shape, dtype = _shape(key, spaces[key]), np.dtype(spaces[key]["dtype"]).name
        features[key] = Feature(f"camera{index}_rgb", shape, dtype, kind="rgb", rate_hz=rate_hz)
    for key, space in spaces.items():
        if key not in images:
            features[key] = Feature(key, _shape(key, space), rate_hz=rate_hz)
    return features


def _shape(key: str, space: Mapping[str, Any]) -> tuple[int, ...]:
    if space["kind"] != "Box":
        raise SpecError(
            f"The foreign environment's '{key}' is a {space['kind']}; robopolicy observes arrays of numbers "
            "(Box), alone or in one Dict, and commands one. Wrap the environment in one that does."
        )
    return tuple(space["shape"]) or (1,)


def _is_picture(frame: Any) -> bool:
    is_array = isinstance(frame, np.ndarray)
    return is_array and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
