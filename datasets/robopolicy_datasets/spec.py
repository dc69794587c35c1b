"""Feature and Spec: the words in which stores, robots, environments and policies describe their data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from robopolicy_datasets.errors import SpecError, nearest_names

KINDS = (
    "rgb",  # uint8 image, HWC
    "depth",  # image of distances, m
    "position",  # a point, m (or the feature's unit)
    "axis_angle",  # a rotation as axis times angle, rad
    "angle",  # angles that wrap around at 2 pi, rad
    "joint",  # joint positions, rad
    "width",  # gripper opening, m
    "wrench",  # force and torque, N and N m; shape [n, 6]: the newest n samples of a faster sensor
    "touch",  # tactile readings
    "language",  # a sentence, as a vector of unit length (see language.embed_sentence)
    "pose",  # [x, y, z, axis-angle 3]: a Cartesian command of an arm without a gripper, or of a vehicle
    "pose_width",  # [x, y, z, axis-angle 3, gripper width]: a Cartesian arm command
    "generic",  # anything else
)


@dataclass(frozen=True)
class Feature:
    """One named, timed quantity.

    Attributes:
        key: the name, UMI's where there is one, e.g. ``"robot0_eef_pos"``.
        shape: of one sample, without time or batch; images are HWC.
        dtype: a numpy dtype name.
        kind: what the numbers mean (one of ``KINDS``); policies choose their representation by it.
        unit: SI unit of the values, e.g. ``"m"``; ``""`` where there is none.
        rate_hz: samples per second; ``0`` where no rate is declared.
        frame: the frame that the values are expressed in, e.g. ``"world"``.
        history: whether one value is points in time ``[n, ...]`` of a faster sensor, ``rate_hz`` apart, the
            newest last; see ``history``.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: str = "generic"
    unit: str = ""
    rate_hz: float = 0.0
    frame: str = ""
    history: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if self.kind not in KINDS:
            options = ", ".join(nearest_names(self.kind, KINDS))
            raise SpecError(f"Feature '{self.key}' has the unknown kind '{self.kind}'. Allowed: {options}.")
        if self.history and not self.shape:
            raise SpecError(f"Feature '{self.key}' is a history without points; its shape begins with them.")
        if any(size < 1 for size in self.shape):
            raise SpecError(f"Feature '{self.key}' has the shape {self.shape}; every size is at least 1.")
        if self.kind == "rgb" and (self.dtype != "uint8" or len(self.shape) != 3 or self.shape[2] != 3):
            raise SpecError(
                f"Feature '{self.key}' is {self.dtype}{list(self.shape)}; an rgb image is "
                "uint8[height, width, 3]. Convert it, or give it another kind."
            )
        try:
            np.dtype(self.dtype)
        except TypeError as error:
            raise SpecError(
                f"Feature '{self.key}' has the dtype '{self.dtype}', which numpy does not know."
            ) from error

    @property
    def is_image(self) -> bool:
        """Whether a sample is an image."""
        return self.kind in ("rgb", "depth")

    @property
    def size(self) -> int:
        """Numbers in one sample."""
        return int(np.prod(self.shape))

    def describe(self) -> str:
        """Returns one line for messages and tables."""
        unit = f" [{self.unit}]" if self.unit else ""
        frame = f" in {self.frame}" if self.frame else ""
        history = f", points at {self.rate_hz:g} Hz" if self.history else ""
        return f"{self.key}: {self.dtype}{list(self.shape)} {self.kind}{unit}{frame}{history}"


@dataclass(frozen=True)
class Spec:
    """What a store, robot, environment or policy observes and does.

    Attributes:
        observation: the observation features.
        action: the action features (one named ``"action"``, as a rule).
    """

    observation: tuple[Feature, ...]
    action: tuple[Feature, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", tuple(self.observation))
        object.__setattr__(self, "action", tuple(self.action))
        keys = [feature.key for feature in self.features]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise SpecError(f"A Spec names each key once; given more than once: {', '.join(repeated)}.")

    @property
    def features(self) -> tuple[Feature, ...]:
        """Observation and action features."""
        return self.observation + self.action

    def keys(self) -> list[str]:
        """Returns the keys of all features."""
        return [feature.key for feature in self.features]

    def __getitem__(self, key: str) -> Feature:
        for feature in self.features:
            if feature.key == key:
                return feature
        options = ", ".join(nearest_names(key, self.keys()))
        raise SpecError(f"The Spec has no feature '{key}'. It has: {options}.")

    def select(self, observation_keys: Iterable[str]) -> Spec:
        """Returns the Spec with only the named observation features, in the given order."""
        chosen = tuple(self[key] for key in observation_keys)
        return Spec(chosen, self.action)

    def require(self, provider: Spec, *, needs: str, provides: str) -> None:
        """Checks that ``provider`` offers every feature of this Spec with the same shape, kind and unit.

        Args:
            provider: the other side.
            needs: what this Spec belongs to, for the message, e.g. ``"checkpoint 'runs/a'"``.
            provides: what ``provider`` belongs to, e.g. ``"task 'pick_place'"``.

        Raises:
            SpecError: names both sides and every feature that does not fit.
        """
        problems = []
        offered = {feature.key: feature for feature in provider.features}
        for wanted in self.features:
            found = offered.get(wanted.key)
            if found is None:
                options = ", ".join(nearest_names(wanted.key, offered)[:6]) or "nothing"
                problems.append(f"'{wanted.key}' is missing (nearest offered: {options})")
                continue
            for name in ("shape", "dtype", "kind", "unit", "frame"):
                mine, theirs = getattr(wanted, name), getattr(found, name)
                if mine != theirs:
                    problems.append(f"'{wanted.key}' has {name} {theirs!r} but {mine!r} is needed")
        if problems:
            raise SpecError(f"The {provides} does not fit the {needs}: " + "; ".join(problems) + ".")

    def to_json(self) -> dict[str, Any]:
        """Returns plain data for a JSON file."""
        return {
            "observation": [asdict(feature) for feature in self.observation],
            "action": [asdict(feature) for feature in self.action],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Spec:
        """Reads what ``to_json`` wrote (plain data or its JSON text).

        Raises:
            SpecError: the data is not a Spec.
        """
        try:
            content = json.loads(data) if isinstance(data, str) else data
            sides = [features_from_json(content[side]) for side in ("observation", "action")]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SpecError(
                f"This is not a Spec: {error!r}. A Spec has 'observation' and 'action' lists."
            ) from error
        return cls(*sides)


def features_from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Feature, ...]:
    """Reads features that were written as plain data; unknown entries are ignored.

    Raises:
        KeyError, TypeError, AttributeError: an entry is no feature.
        SpecError: a feature is not possible.
    """
    return tuple(_feature_from_json(row) for row in rows)


def _feature_from_json(row: Mapping[str, Any]) -> Feature:
    known = {field.name for field in fields(Feature)}
    given = {name: value for name, value in row.items() if name in known}
    for name, value in given.items():
        if name not in ("shape", "rate_hz", "history") and not isinstance(value, str):
            raise TypeError(f"a feature's {name} is {value!r:.40}, not a text")
    if not all(type(size) is int for size in given["shape"]):
        raise TypeError(f"a feature's shape is {given['shape']!r:.40}, not whole numbers")
    if not isinstance(given.get("history", False), bool):
        raise TypeError(f"a feature's history is {given['history']!r:.40}, not true or false")
    if not 0 <= given.get("rate_hz", 0.0) < math.inf:
        raise TypeError(f"a feature's rate is {given['rate_hz']!r:.40}, not a number of Hz")
    return Feature(**given)
