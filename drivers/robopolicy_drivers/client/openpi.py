"""A policy served by an unmodified openpi server.

Such a server does not say what it takes; the caller states it. It knows one observation at a time, no seeds,
and no requests' numbers: each answer belongs to the request before it, so a connection whose answer did not
come in time is closed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, RemoteError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.client.connection import Connection
from robopolicy_drivers.client.messages import check_actions
from robopolicy_drivers.client.server import ServedPolicy, Server
from robopolicy_drivers.client.wire import pack

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Observation


class OpenpiPolicy(ServedPolicy):
    """A ``ChunkPolicy`` behind openpi's WebSocket protocol.

    Values are sent as they are: units, image sizes and the meaning of an action are the server's; its
    ``actions`` are taken as the Spec's.

    Args:
        address: ``ws://host:port``, or ``wss://host:port`` for TLS.
        spec: the features that are sent, and the action.
        names: the server's key of each observation feature, e.g. ``{"camera0_rgb": "observation/image"}``.
        constants: further entries of each observation, e.g. ``{"prompt": "pick up the cube"}``.
        dt: time between the rows of a chunk [s].
        action_steps: rows of a chunk to execute before the next request.
        api_key: sent as openpi's client does; empty for none.
        certificate: file with the server's certificate, where no authority has signed it.
        timeout_s: longest wait for a chunk, connecting again included [s].
        connect_timeout_s: longest wait for the server now [s].

    Attributes:
        metadata: the server's first message.
        timing: of the newest chunk: ``round_trip_ms`` and what the server told [ms].

    Raises:
        ConfigError: the names do not fit the Spec, or an argument is out of range.
        RemoteError: the server does not answer or refuses.
    """

    observation_steps = 1

    def __init__(
        self,
        address: str,
        spec: Spec,
        names: Mapping[str, str],
        *,
        dt: float,
        action_steps: int,
        constants: Mapping[str, Any] | None = None,
        api_key: str = "",
        certificate: str = "",
        timeout_s: float = 2.0,
        connect_timeout_s: float = 10.0,
    ) -> None:
        observed = [feature.key for feature in spec.observation]
        if sorted(names) != sorted(observed):
            raise ConfigError(
                f"names has {sorted(names)}; give the server's key of each of {sorted(observed)}."
            )
        if not dt > 0 or action_steps < 1:
            raise ConfigError(f"dt is {dt} and action_steps {action_steps}; both must be above 0.")
        super().__init__(
            Server(address, authorization=f"Api-Key {api_key}" if api_key else "", certificate=certificate)
        )
        self.spec, self.dt, self.action_steps = spec, dt, action_steps
        self._names, self._constants, self._timeout_s = dict(names), dict(constants or {}), timeout_s
        self._action_size = sum(feature.size for feature in spec.action)
        self.metadata = self._server.ask(lambda connection, _: connection.metadata, connect_timeout_s)

    def infer(self, observation: Observation, *, seeds: Sequence[int] | None = None) -> NDArray[np.floating]:
        """Asks the server for chunks, one row after the other.

        Args:
            observation: per key ``[N, 1, *shape]``; further keys are not sent.
            seeds: not used; the server draws its own noise.

        Returns:
            ``[N, T, A]``, as the server gave them.

        Raises:
            RemoteError: no answer in time; or the server says what is wrong.
        """
        rows = len(observation[next(iter(self._names))])
        return np.stack([self._infer_one(observation, row) for row in range(rows)])

    def _infer_one(self, observation: Observation, row: int) -> NDArray[np.floating]:
        begins = time.monotonic()
        values = {theirs: np.asarray(observation[ours][row, -1]) for ours, theirs in self._names.items()}
        data = pack({**self._constants, **values})

        def exchange(connection: Connection, until_s: float) -> dict[str, Any]:
            connection.send(data, until_s)
            return connection.receive(until_s)

        reply = self._server.ask(exchange, self._timeout_s)
        if "actions" not in reply:
            raise RemoteError(f"The server's reply has no 'actions'; it has: {', '.join(sorted(reply))}.")
        self._note_timing(begins, reply)
        return check_actions(reply["actions"], self._action_size)
