"""Recorded episodes, driven once more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_datasets.store import DemoStore
from robopolicy_drivers.interfaces import Observation, Robot
from robopolicy_drivers.teleop.approach import Approach
from robopolicy_drivers.teleop.configs import Button, ReplayConfig
from robopolicy_drivers.teleop.connected import Connected
from robopolicy_drivers.teleop.layout import action_parts, action_space

Array = NDArray[np.float64]


class ReplayTeleop(Connected):
    """Drives a robot as in the episodes of a store, one after the other (a ``Teleop``).

    Before each episode the robot is brought slowly to where it begins. In between the recorded actions it
    goes along the way from one to the next, at the pace at which they were recorded.

    Args:
        config: which episodes.
        robot: that is driven; it need not be connected.

    Attributes:
        spec: the robot's action.
    """

    def __init__(self, config: ReplayConfig, robot: Robot) -> None:
        self.spec = robot.spec
        self._config = config
        self._space = action_space(action_parts(robot))
        self._approach = Approach(self._space, config.approach_speed, config.approach_turn_speed)
        self._opened: DemoStore | None = None
        self._episode = config.episode
        self._rows: Array = np.zeros((0, self._space.size))
        self._began_ns: int | None = None
        self._arrived = False

    def connect(self) -> None:
        """Opens the store.

        Raises:
            ConfigError: no store is given, or it has no such episode.
            StoreError: it cannot be read.
            SpecError: its actions are not this robot's.
        """
        if not self._config.store:
            raise ConfigError("teleop=replay needs teleop.store=FILE.zarr, whose episodes are driven again.")
        store = DemoStore.open(Path(self._config.store).expanduser())
        recorded, wanted = store.spec.action[0], self.spec.action[0]
        if (recorded.shape, recorded.kind, recorded.frame) != (wanted.shape, wanted.kind, wanted.frame):
            raise SpecError(
                f"The actions of {store.path} are {recorded.describe()}, and the robot takes "
                f"{wanted.describe()}; they must have the same shape, kind and frame."
            )
        if self._config.episode >= len(store):
            raise ConfigError(
                f"teleop.episode={self._config.episode} is not in {store.path}, which has {len(store)} "
                "episodes, counted from 0."
            )
        self._opened, self._episode = store, self._config.episode
        self._load()

    def poll(self) -> frozenset[str]:
        """Presses "take over" when an episode begins, success or discard at its end, end after the last."""
        if self._episode >= len(self._store):
            return frozenset({Button.END})
        if self._began_ns is None:
            if not self._arrived:
                return frozenset()
            self._began_ns = now_ns()
            return frozenset({Button.TAKE_OVER})
        if self._position() < len(self._rows):
            return frozenset()
        succeeded = self._store.episode_info(self._episode).success
        self._episode += 1
        self._load()
        return frozenset({Button.DISCARD if succeeded is False else Button.SUCCESS})

    def command(self, state: Observation, last: NDArray) -> Array:
        """Returns where the robot is to be ``[A]``; see ``Teleop``."""
        if self._episode >= len(self._store):
            return np.array(last, np.float64)
        if self._began_ns is None:
            target = self._approach.toward(self._rows[0], last)
            self._arrived = np.allclose(target, self._rows[0])
            return target
        position = min(self._position(), len(self._rows) - 1.0)
        row = int(position)
        following = min(row + 1, len(self._rows) - 1)
        between = self._space.between(self._rows[row], self._rows[following], position - row)
        return self._space.with_others(between, self._rows[row])

    def let_go(self) -> None:
        """Begins the present episode anew."""
        self._began_ns, self._arrived = None, False
        self._approach.restart()

    def close(self) -> None:
        """Forgets the store; calling it again does nothing."""
        self._opened = None

    @property
    def _store(self) -> DemoStore:
        if self._opened is None:
            raise DeviceError("The replay is not connected; call connect() first.")
        return self._opened

    def _load(self) -> None:
        self.let_go()
        if self._episode < len(self._store):
            key = self._store.spec.action[0].key
            self._rows = np.array(self._store.episode(self._episode).data[key], np.float64)

    def _position(self) -> float:
        """Returns how many rows of the episode lie behind."""
        began_ns = now_ns() if self._began_ns is None else self._began_ns
        return ns_to_seconds(now_ns() - began_ns) * self._store.rate_hz
