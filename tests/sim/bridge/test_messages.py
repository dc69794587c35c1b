"""The messages of the bridge, over a real socket."""

from __future__ import annotations

import ast
import contextlib
import math
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from robopolicy_sim.bridge.foreign import foreign_server
from robopolicy_sim.bridge.foreign.foreign_server import MAGIC, WireError, receive, send

ARRAYS = npst.arrays(
    st.sampled_from(["<f4", ">f8", "<i8", "|u1", "|b1", "<f2"]), npst.array_shapes(min_dims=0, min_side=0)
)
SINGLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ARRAYS
MESSAGES = st.recursive(
    SINGLE, lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4)
)


def over_a_socket(write) -> object:
    """Returns what ``receive`` makes of what ``write(socket)`` writes."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.settimeout(10)
        writer = threading.Thread(target=lambda: (write(theirs), theirs.shutdown(socket.SHUT_WR)))
        writer.start()
        try:
            return receive(mine)
        finally:
            mine.close()
            writer.join()


def same(left, right) -> bool:
    if isinstance(left, np.ndarray):
        same_kind = isinstance(right, np.ndarray) and (left.dtype, left.shape) == (right.dtype, right.shape)
        return same_kind and left.tobytes() == right.tobytes()
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right or (math.isnan(left) and math.isnan(right))


@given(MESSAGES)
def test_a_message_arrives_as_it_was(message):
    assert same(message, over_a_socket(lambda theirs: send(theirs, message)))


def test_numpys_single_values_and_views_arrive_too():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    message = [np.float32(0.5), np.bool_(True), image[::-1, ::2]]
    number, truth, view = over_a_socket(lambda theirs: send(theirs, message))
    assert (number, truth) == (0.5, True)
    assert np.array_equal(view, image[::-1, ::2])
    view[0] = 0  # it owns its memory


@pytest.mark.parametrize("wrong", [object(), {1, 2}, np.array([None]), np.array("text"), {(1, 2): 3}])
def test_what_is_no_plain_data_is_not_sent(wrong):
    mine, theirs = socket.socketpair()
    with mine, theirs, pytest.raises(WireError):
        send(mine, {"value": wrong})


def head(text: bytes, data: int = 0, magic: bytes = MAGIC) -> bytes:
    return foreign_server._HEAD.pack(magic, len(text), data) + text


@pytest.mark.parametrize(
    "text",
    [
        b"no json",
        b"\xff",
        b'{"__array__": ["O", [1]]}',
        b'{"__array__": ["<f4", [4]]}',
        b'{"__array__": ["<f4", [-1]]}',
        b'{"__array__": ["<f4", [1e9]]}',
        b'{"__array__": ["no dtype", [1]]}',
        b'{"__array__": 3}',
        b"[" * 100_000,
    ],
)
def test_damaged_messages_are_refused(text):
    with pytest.raises(WireError):
        over_a_socket(lambda theirs: theirs.sendall(head(text, 8) + bytes(8)))


def test_what_is_no_message_is_refused_before_it_is_read():
    for start in (head(b"1", magic=b"HTTP"), head(b"1", 1 << 40)):
        with pytest.raises(WireError):
            over_a_socket(lambda theirs, start=start: theirs.sendall(start))
    with pytest.raises(EOFError):
        over_a_socket(lambda theirs: theirs.sendall(head(b"12345")[:-2]))


@given(st.binary(max_size=60), st.integers(0, 20))
def test_arbitrary_bytes_never_do_anything_else(noise, size):
    with contextlib.suppress(WireError, EOFError):
        over_a_socket(lambda theirs: theirs.sendall(head(noise, size) + noise[:size]))


def test_the_foreign_file_needs_an_old_python_numpy_and_gymnasium_only():
    tree = ast.parse(Path(foreign_server.__file__).read_text(), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    standard = {"json", "math", "os", "socket", "struct", "sys", "threading", "traceback", "typing"}
    assert imported == {*standard, "__future__", "numpy", "gymnasium"}
