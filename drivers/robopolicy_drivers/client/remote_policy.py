"""A policy that runs on another machine, used like one that runs here.

One request is under way at a time. A lost connection is made again and the request repeated, which changes
nothing on the server, until the time for an answer is over; then an error says so, and the executor stops the
robot. A late answer is never taken for the next one: after a time-out the connection is closed, and every
answer carries the number of its request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, RemoteError, unknown_name
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.client.connection import Connection, is_loopback
from robopolicy_drivers.client.messages import OURS, PolicyDescription, check_actions
from robopolicy_drivers.client.server import ServedPolicy, Server
from robopolicy_drivers.client.wire import JpegImages, pack

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Observation, Prefix

IMAGES = ("auto", "raw", "jpeg")


class RemotePolicy(ServedPolicy):
    """A ``ChunkPolicy`` served by ``robopolicy serve``.

    Args:
        address: ``ws://host:port``, or ``wss://host:port`` for TLS.
        token: of the server; empty for none.
        certificate: file with the server's certificate, where no authority has signed it.
        images: how images travel. ``jpeg`` loses a little and saves most of the network's time; ``auto``:
            ``raw`` to a server on this machine, ``jpeg`` to another one.
        jpeg_quality: from 1 to 100.
        timeout_s: longest wait for a chunk, connecting again included [s].
        connect_timeout_s: longest wait for the server now [s].

    Attributes:
        weights_version: of the newest chunk; counts the server's changes of weights, from 1.
        timing: of the newest chunk: ``round_trip_ms`` and what the server told [ms].

    Raises:
        ConfigError: an argument is out of range.
        RemoteError: the server does not answer, refuses, or is not one of ours.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str = "",
        certificate: str = "",
        images: str = "auto",
        jpeg_quality: int = 95,
        timeout_s: float = 2.0,
        connect_timeout_s: float = 10.0,
    ) -> None:
        if images not in IMAGES:
            raise unknown_name("images", images, IMAGES)
        if not 1 <= jpeg_quality <= 100 or not timeout_s > 0 or not connect_timeout_s > 0:
            raise ConfigError(
                f"jpeg_quality is {jpeg_quality}, timeout_s {timeout_s} and connect_timeout_s "
                f"{connect_timeout_s}; give 1 to 100, and more than 0 s."
            )
        super().__init__(
            Server(address, authorization=f"Bearer {token}" if token else "", certificate=certificate)
        )
        local = is_loopback(urlsplit(address).hostname or "")
        self._quality = jpeg_quality if images == "jpeg" or (images == "auto" and not local) else None
        self._timeout_s = timeout_s
        self._number = 0
        self.weights_version = 0
        metadata = self._server.ask(lambda connection, _: connection.metadata, connect_timeout_s)
        self._description = PolicyDescription.from_message(metadata)
        self._described = metadata[OURS]

    @property
    def spec(self) -> Spec:
        """The features that the policy reads and writes."""
        return self._description.spec

    @property
    def observation_steps(self) -> int:
        """Length To of the observation history."""
        return self._description.observation_steps

    @property
    def action_steps(self) -> int:
        """Rows of a chunk to execute before the next inference."""
        return self._description.action_steps

    @property
    def dt(self) -> float:
        """Time of one control step [s]."""
        return self._description.dt

    @property
    def takes_prefix(self) -> bool:
        """Whether its chunks can continue a prefix (real-time chunking)."""
        return self._description.takes_prefix

    def infer(
        self, observation: Observation, *, seeds: Sequence[int] | None = None, prefix: Prefix | None = None
    ) -> NDArray[np.floating]:
        """Asks the server for chunks, one row after the other.

        Args:
            observation: per key ``[N, To, *shape]``, oldest first; further keys are not sent.
            seeds: one for each of the N rows; None draws fresh noise.
            prefix: what the chunks should continue, for a policy that takes it.

        Returns:
            ``[N, T, A]`` in real units; row 0 is the action for the newest observation's own step.

        Raises:
            ConfigError: there is not one seed for each row, or the policy takes no prefix.
            RemoteError: no answer in time; or the server says what is wrong.
        """
        lacking = [feature.key for feature in self.spec.observation if feature.key not in observation]
        if lacking:
            raise RemoteError(
                f"The observation lacks {', '.join(lacking)}. It has: {', '.join(observation)}."
            )
        count = len(observation[self.spec.observation[0].key])
        if seeds is not None and len(seeds) != count:
            raise ConfigError(
                f"infer was given {len(seeds)} seeds for {count} observations; give one for each."
            )
        if prefix is not None and not self.takes_prefix:
            raise ConfigError(f"The policy at {self._server.address} takes no prefix; sample without one.")
        return np.stack(
            [
                self._infer_one(observation, row, None if seeds is None else seeds[row], prefix)
                for row in range(count)
            ]
        )

    def _infer_one(
        self, observation: Observation, row: int, seed: int | None, prefix: Prefix | None
    ) -> NDArray[np.floating]:
        begins = time.monotonic()
        self._number += 1
        request: dict[str, Any] = {"number": self._number, "seed": None if seed is None else int(seed)}
        if prefix is not None:
            sent = np.asarray(prefix.actions, np.float64)
            request["prefix"] = {"actions": sent, "frozen": int(prefix.frozen)}
        message: dict[str, Any] = {OURS: request}
        for feature in self.spec.observation:
            value = np.asarray(observation[feature.key][row])
            jpeg = self._quality is not None and feature.kind == "rgb" and value.dtype == np.uint8
            message[feature.key] = JpegImages(value, self._quality or 0) if jpeg else value
        data = pack(message)
        reply = self._server.ask(
            lambda connection, until: self._exchange(connection, data, until), self._timeout_s
        )
        actions = check_actions(reply.get("actions"), self._description.action_size)
        self.weights_version = int(reply[OURS].get("weights_version", 0))
        self._note_timing(begins, reply)
        return actions

    def _exchange(self, connection: Connection, data: bytes, until_s: float) -> dict[str, Any]:
        if connection.metadata.get(OURS) != self._described:
            raise RemoteError(
                f"The server at {self._server.address} now serves another policy (other features, dt "
                "or steps). Start the deployment again."
            )
        connection.send(data, until_s)
        while True:
            reply = connection.receive(until_s)
            ours = reply.get(OURS)
            if not isinstance(ours, Mapping):
                raise RemoteError("The server's reply does not say which request it answers.")
            if ours.get("number") == self._number:  # else it is an old one that came twice
                return reply
