"""What the numbers of a robot's action are: tools' poses, joints, grippers' widths, and whose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import Array, pose_from_vector
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.interfaces import Robot
from robopolicy_drivers.runtime.spaces import FeatureSpace

POSE, JOINT, WIDTH = "pose", "joint", "width"
_KEYS = {POSE: ("eef_pos", "eef_rot_axis_angle"), JOINT: ("joint_pos",), WIDTH: ("gripper_width",)}


@dataclass(frozen=True)
class ActionPart:
    """Numbers of an action that belong together.

    Attributes:
        kind: ``pose`` (position and axis-angle of a tool or vehicle), ``joint`` or ``width``.
        number: of the robot.
        span: where they are.
        openings: the smallest and largest width [m], where the robot tells them.
    """

    kind: str
    number: int
    span: slice
    openings: tuple[float, float] | None = None

    def measured(self, state: Mapping[str, NDArray]) -> Array:
        """Returns what the robot measures of it.

        Args:
            state: of the whole robot, by key.

        Raises:
            SpecError: the robot does not measure it.
        """
        keys = [f"robot{self.number}_{name}" for name in _KEYS[self.kind]]
        missing = [key for key in keys if key not in state]
        if missing:
            raise SpecError(
                f"The robot takes a {self.kind} and does not measure {', '.join(missing)}; it cannot be "
                f"steered from where it is. It measures: {', '.join(state)}."
            )
        return np.concatenate([np.ravel(state[key]) for key in keys]).astype(np.float64)


def action_parts(robot: Robot) -> tuple[ActionPart, ...]:
    """Returns the parts of a robot's action, in order.

    Raises:
        SpecError: a part is neither poses, joint positions nor widths.
    """
    if isinstance(robot, CompositeRobot):
        return tuple(
            part
            for name, span in robot.layout.items()
            for part in _parts(robot.parts[name], _number(name), span.start)
        )
    return tuple(_parts(robot, 0, 0))


def action_space(parts: tuple[ActionPart, ...]) -> FeatureSpace:
    """Returns what calculates with targets, also where a composite robot's action is of several kinds."""
    return FeatureSpace(
        [Feature(part.kind, (part.span.stop - part.span.start,), kind=part.kind) for part in parts]
    )


def measured_target(parts: tuple[ActionPart, ...], state: Mapping[str, NDArray]) -> Array:
    """Returns the target ``[A]`` that holds the present state."""
    return np.concatenate([part.measured(state) for part in parts])


def measured_pose(part: ActionPart, state: Mapping[str, NDArray]) -> Array:
    """Returns the measured pose ``[4, 4]`` of a part that is one."""
    return pose_from_vector(part.measured(state))


def _parts(robot: Robot, number: int, start: int) -> Iterator[ActionPart]:
    """Yields the parts of a robot whose first number is ``number`` and whose action begins at ``start``."""
    if isinstance(robot, CompositeRobot):
        for part in action_parts(robot):
            span = slice(part.span.start + start, part.span.stop + start)
            yield replace(part, number=part.number + number, span=span)
        return
    action = robot.spec.action[0]
    patterns: dict[str, tuple[tuple[str, int], ...]] = {
        "pose_width": ((POSE, 6), (WIDTH, 1)),
        "pose": ((POSE, 6),),
        "joint": ((JOINT, action.size),),
        "width": ((WIDTH, 1),),
    }
    openings = getattr(robot, "openings", None)
    if action.kind == "generic" and openings is not None:  # an arm of joints and a gripper in one device
        patterns["generic"] = ((JOINT, action.size - 1), (WIDTH, 1))
    if action.kind not in patterns:
        raise SpecError(
            f"A person cannot steer {action.describe()}; kinds that can be: {', '.join(patterns)}."
        )
    pattern = patterns[action.kind]
    for index in range(action.size // sum(size for _, size in pattern)):
        for kind, size in pattern:
            told = openings if kind == WIDTH else None
            yield ActionPart(kind, number + index, slice(start, start + size), told)
            start += size


def _number(name: str) -> int:
    found = re.match(r"robot(\d+)", name)
    return int(found[1]) if found else 0
