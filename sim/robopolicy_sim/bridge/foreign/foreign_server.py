"""The foreign side of the bridge: serves one Gymnasium environment over a socket.

Run by its path with the interpreter of the foreign environment (``python foreign_server.py SOCKET LIFELINE``,
two inherited file descriptors). It needs Python 3.8, numpy and gymnasium there, and nothing of robopolicy;
robopolicy's side imports the messages from here.

A message is a JSON value with numpy arrays in it: ``MAGIC``, the sizes of the two parts that follow (uint32
and uint64, big endian), the JSON text, and the bytes of the arrays one after the other. In the text an array
is ``{"__array__": [dtype, shape]}``. A request is ``{"do": operation, ...}``, and its answer
``{"value": ...}`` or ``{"error": text}``.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import sys
import threading
import traceback
from typing import Any

import numpy as np

MAGIC = b"RPB1"
MOST_TEXT = 1 << 20  # bytes
MOST_DATA = 1 << 30  # bytes
RENDERED = "render"
"""Key of the picture that ``render`` draws, among the observations."""

ONLY = "state"
"""Key of an observation that is a single array."""

_HEAD = struct.Struct(">4sIQ")
_ARRAY = "__array__"
_NUMBERS = "biuf"  # numpy's kinds of dtypes


class WireError(Exception):
    """What came is not a message, or what should be sent cannot be one."""


def send(connection: socket.socket, message: Any) -> None:
    """Sends a message.

    Raises:
        WireError: it holds something that is neither JSON nor an array of numbers, or is too large.
        OSError: the other side is gone, or did not take it in time.
    """
    arrays: list[np.ndarray] = []

    def replace(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in _NUMBERS:
            raise WireError(f"{type(value).__name__} is neither plain data nor an array of numbers")
        arrays.append(np.ascontiguousarray(value))
        return {_ARRAY: [value.dtype.str, list(value.shape)]}

    try:
        text = json.dumps(message, default=replace).encode()
    except (TypeError, ValueError) as error:
        raise WireError(str(error)) from error
    size = sum(array.nbytes for array in arrays)
    if len(text) > MOST_TEXT or size > MOST_DATA:
        raise WireError(f"a message of {len(text)} + {size} bytes is too large")
    connection.sendall(b"".join([_HEAD.pack(MAGIC, len(text), size), text, *(a.tobytes() for a in arrays)]))


def receive(connection: socket.socket) -> Any:
    """Receives a message; its arrays are writable and own their memory.

    Raises:
        WireError: what came is not a message.
        EOFError: the other side closed the connection.
        OSError: the other side is gone, or nothing came in time.
    """
    magic, text_size, data_size = _HEAD.unpack(_read(connection, _HEAD.size))
    if magic != MAGIC or text_size > MOST_TEXT or data_size > MOST_DATA:
        raise WireError(f"a message cannot begin with {_HEAD.pack(magic, text_size, data_size)!r}")
    text, data = _read(connection, text_size), _read(connection, data_size)
    taken = 0

    def restore(entry: dict[str, Any]) -> Any:
        nonlocal taken
        if _ARRAY not in entry:
            return entry
        dtype, shape = entry[_ARRAY]
        numbers = np.dtype(dtype)
        count = math.prod(shape)
        if numbers.kind not in _NUMBERS or any(type(size) is not int or size < 0 for size in shape):
            raise WireError(f"an array cannot be {dtype}{shape}")
        array = np.frombuffer(data, numbers, count, taken).reshape(shape).copy()
        taken += array.nbytes
        return array

    try:
        return json.loads(text, object_hook=restore)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(f"a message cannot be read: {error}") from error


def _read(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return buffer


class Server:
    """Answers requests for one environment until the connection closes.

    Args:
        connection: to robopolicy.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._env: Any = None
        self._rendered = False

    def run(self) -> None:
        """Answers requests, then closes the environment."""
        try:
            while True:
                self._answer(receive(self._connection))
        except (EOFError, ConnectionError):
            if self._env is not None:
                self._env.close()

    def _answer(self, request: dict[str, Any]) -> None:
        """Sends what was asked for; an error of the environment is an answer too."""
        try:
            send(self._connection, {"value": getattr(self, "do_" + request.pop("do"))(**request)})
        except ConnectionError:
            raise
        except Exception as error:
            traceback.print_exc()
            send(self._connection, {"error": f"{type(error).__name__}: {error}"[: MOST_TEXT // 8]})

    def do_make(self, id: str, kwargs: dict[str, Any], folders: list[str], rendered: bool) -> Any:
        """Makes the environment and returns what it says of itself.

        Args:
            id: Gymnasium's; ``module:id`` imports the module first.
            kwargs: of the environment.
            folders: that modules may lie in.
            rendered: whether the observations hold the picture of ``render`` too.
        """
        sys.path[:0] = folders
        import gymnasium

        kwargs = {"render_mode": "rgb_array", **kwargs}
        self._env, self._rendered = gymnasium.make(id, disable_env_checker=True, **kwargs), rendered
        spaces = dict(getattr(self._env.observation_space, "spaces", {ONLY: self._env.observation_space}))
        if rendered:
            self._env.reset(seed=0)  # nothing can be drawn before
            frame = self.do_render()
            spaces[RENDERED] = gymnasium.spaces.Box(0, 255, frame.shape, frame.dtype)
        return {
            "observation": {str(key): _described(space) for key, space in spaces.items()},
            "action": _described(self._env.action_space),
            "rate_hz": float(self._env.metadata.get("render_fps") or 0.0),
            "max_steps": int(getattr(self._env.spec, "max_episode_steps", None) or 0),
        }

    def do_reset(self, seed: int | None) -> Any:
        """Starts an episode; returns observation and info."""
        observation, info = self._env.reset(seed=seed)
        return self._observed(observation), _scalars(info)

    def do_step(self, action: np.ndarray) -> Any:
        """Steps; returns Gymnasium's five things."""
        fitting = action.astype(self._env.action_space.dtype)
        observation, reward, terminated, truncated, info = self._env.step(fitting)
        return self._observed(observation), float(reward), bool(terminated), bool(truncated), _scalars(info)

    def do_render(self) -> Any:
        """Returns a frame [height, width, 3]."""
        return np.asarray(self._env.render())

    def do_call(self, name: str, arguments: list[Any]) -> Any:
        """Returns what a method of the environment returns."""
        return getattr(self._env.unwrapped, name)(*arguments)

    def _observed(self, observation: Any) -> dict[str, np.ndarray]:
        entries = observation if isinstance(observation, dict) else {ONLY: observation}
        observed = {str(key): np.asarray(value) for key, value in entries.items()}
        if self._rendered:
            observed[RENDERED] = self.do_render()
        return observed


def _described(space: Any) -> dict[str, Any]:
    """Returns what robopolicy needs to know of a space; only boxes have a shape there."""
    if type(space).__name__ != "Box":
        return {"kind": type(space).__name__}
    described = {"kind": "Box", "shape": list(space.shape), "dtype": space.dtype.str}
    return {**described, "low": space.low, "high": space.high}


def _scalars(info: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries of info that are single values."""
    return {str(k): v for k, v in info.items() if isinstance(v, (bool, int, float, str, np.generic))}


def _end_with_parent(lifeline: int) -> None:
    """Waits until the parent closes the pipe or dies, also while the environment hangs."""
    os.read(lifeline, 1)
    os._exit(1)


def main(descriptor: str, lifeline: str) -> None:
    """Serves on an inherited socket."""
    threading.Thread(target=_end_with_parent, args=(int(lifeline),), daemon=True).start()
    Server(socket.socket(fileno=int(descriptor))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
