"""Observer: the newest images with the robot's state at their time, and the history that a policy needs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, nearest_names
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.interfaces import Camera, Observation, RecallsStates, Robot
from robopolicy_drivers.runtime.members import members_of, newest_of
from robopolicy_drivers.runtime.streams import Histories

MAX_OBSERVATION_AGE_S = 0.5


class Observer:
    """See the module text.

    Args:
        robot: connected.
        cameras: connected.
        spec: the policy's, whose observation features the history holds; those that are histories themselves
            are made of the samples that the robot's devices keep.
        steps: length To of the history.
        latencies_s: by feature key, how much later than the world its time stamps are [s]; it is subtracted
            from them. The images of one camera have one time, the one of its slowest feature.

    Raises:
        ConfigError: a latency names no feature, or is negative or infinite.
        SpecError: no device keeps samples of what the policy sees the history of.
    """

    def __init__(
        self,
        robot: Robot,
        cameras: Sequence[Camera],
        spec: Spec,
        steps: int,
        latencies_s: Mapping[str, float] | None = None,
    ) -> None:
        self._robot = robot
        self._features = [feature for feature in spec.observation if not feature.history]
        self._steps = steps
        self._history: deque[dict[str, NDArray]] = deque(maxlen=steps)
        latencies_s = latencies_s or {}
        offered = [*robot.spec.observation, *(f for camera in cameras for f in camera.spec.observation)]
        _check(latencies_s, [feature.key for feature in offered])

        def latest_ns(features: Iterable[Feature]) -> int:
            return seconds_to_ns(
                max((latencies_s.get(feature.key, 0.0) for feature in features), default=0.0)
            )

        self._cameras = [(camera, latest_ns(camera.spec.observation)) for camera in cameras]
        self._members = [
            (member, latest_ns(robot.spec[member.rename(f.key)] for f in member.device.spec.observation))
            for member in members_of(robot)
        ]
        self._histories = Histories(
            robot,
            [feature for feature in spec.observation if feature.history],
            lambda key: seconds_to_ns(latencies_s.get(key, 0.0)),
        )
        self._robot_latency_ns = self._members[0][1]  # whose time is that of the state
        self._state_latencies: dict[int, list[str]] = {}
        for feature in robot.spec.observation:
            self._state_latencies.setdefault(latest_ns((feature,)), []).append(feature.key)

    def observe(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest images and the robot's state at their time; the time is the oldest image's.

        Where the policy sees the history of a stream, that is at this time too, and the time is none after
        the stream's newest sample.

        Raises:
            DeviceError: a camera or a device of the robot has died, or has measured nothing for too long.
        """
        observation: dict[str, NDArray] = {}
        times: dict[str, int] = {}
        for camera, latency_ns in self._cameras:
            image_ns, images = camera.read()
            times[camera.spec.keys()[0]] = image_ns - latency_ns
            observation |= images
        known = self._histories.read()
        time_ns, state = self._state(min([*times.values(), *known.values()], default=None))
        _require_new(
            times | {member.name: newest_of(member.device)[0] - late_ns for member, late_ns in self._members}
        )
        observation |= state
        seen = {feature.key: observation[feature.key] for feature in self._features}
        self._history.append(seen | self._histories.at(time_ns))
        return time_ns, observation

    def history(self) -> Observation:
        """Returns ``[1, To, ...]`` by key; the oldest observation stands in for those before the start."""
        rows = [self._history[0]] * (self._steps - len(self._history)) + list(self._history)
        return {key: np.stack([row[key] for row in rows])[None] for key in rows[0]}

    def forget(self) -> None:
        """Empties the history, for the next episode."""
        self._history.clear()

    def _state(self, seen_ns: int | None) -> tuple[int, dict[str, NDArray]]:
        """Returns the state at the time of what else is seen, or the newest; and the observation's time."""
        if seen_ns is None or not isinstance(self._robot, RecallsStates):
            state_ns, state = self._robot.state()
            state_ns -= self._robot_latency_ns
            return state_ns if seen_ns is None else min(state_ns, seen_ns), state
        state = {}
        for latency_ns, keys in self._state_latencies.items():
            _, recalled = self._robot.state_at(seen_ns + latency_ns)
            state |= {key: recalled[key] for key in keys}
        return seen_ns, state


def _require_new(times: Mapping[str, int]) -> None:
    """Checks that what each device has measured last [ns, monotonic], by its name, can still be acted on."""
    ages_s = {name: ns_to_seconds(now_ns() - time_ns) for name, time_ns in times.items()}
    old = [f"{name} {age_s:.2f} s" for name, age_s in ages_s.items() if age_s > MAX_OBSERVATION_AGE_S]
    if old:
        raise DeviceError(
            f"The newest observation is too old: {', '.join(old)} (allowed: {MAX_OBSERVATION_AGE_S} s); the "
            "robot was stopped. Check that each of these still delivers data."
        )


def _check(latencies_s: Mapping[str, float], keys: Sequence[str]) -> None:
    for key, latency_s in latencies_s.items():
        if key not in keys:
            raise ConfigError(
                f"A latency is given for '{key}', which neither the robot nor a camera delivers. "
                f"Allowed: {', '.join(nearest_names(key, keys))}."
            )
        if not 0 <= latency_s < math.inf:
            raise ConfigError(f"The latency of '{key}' is {latency_s} s; give 0 s or more.")
