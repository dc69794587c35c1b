"""The wire format: what goes in comes out, and nothing that comes in can do harm."""

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robopolicy_datasets.errors import RemoteError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.client.messages import (
    OURS,
    PolicyDescription,
    check_actions,
    read_request,
)
from robopolicy_drivers.client.wire import JpegImages, pack, unpack

MOST = 1 << 22
DTYPES = st.sampled_from(["?", "<i1", "<i2", ">i4", "<i8", "<u1", ">u2", "<u4", "<u8", "<f2", ">f4", "<f8"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))
VALUES = st.recursive(
    ARRAYS
    | st.text()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
MESSAGES = st.dictionaries(st.text(max_size=8), VALUES, max_size=5)


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    return left == right


@given(MESSAGES)
def test_messages_come_back_as_they_were(message):
    assert same(message, unpack(pack(message), most_bytes=MOST))


@given(ARRAYS)
def test_arrays_that_are_no_block_of_memory_come_back_too(array):
    assert same({"a": array.T}, unpack(pack({"a": array.T}), most_bytes=MOST))


@given(MESSAGES)
def test_openpi_reads_what_we_write_and_we_what_it_writes(message):
    openpi = pytest.importorskip("openpi_client.msgpack_numpy")
    assert same(message, openpi.unpackb(pack(message)))
    assert same(message, unpack(openpi.packb(message), most_bytes=MOST))


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xdd\xff\xff\xff\xff")  # a list of 4 thousand million entries
@example(b"\xc6\xff\xff\xff\xff")  # likewise bytes
@example(b"\x91" * 3000)  # nested deeper than any stack
def test_any_bytes_are_a_message_or_an_error(data):
    with contextlib.suppress(RemoteError):
        assert isinstance(unpack(data, most_bytes=MOST), dict)


@given(st.data())
def test_a_damaged_message_is_a_message_or_an_error(data):
    message = {"image": JpegImages(np.zeros((1, 8, 8, 3), np.uint8), 90), "state": np.arange(4.0), "n": 3}
    damaged = bytearray(pack(message))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteError):
        assert isinstance(unpack(bytes(damaged), most_bytes=MOST), dict)


def array(**changes):
    whole = {"__ndarray__": True, "data": bytes(8), "dtype": "<f8", "shape": [1], **changes}
    return {key.encode(): value for key, value in whole.items()}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (array(dtype="|O"), "dtype"),
        (array(dtype="<U4"), "dtype"),
        (array(dtype="<f8,<f8"), "dtype"),
        (array(dtype="<f16"), "dtype"),
        (array(dtype=["<f8"]), "dtype"),
        (array(dtype=None), "dtype"),
        (array(shape=[2]), "8 bytes"),
        (array(shape=[1 << 30, 1 << 30, 1 << 30]), "8 bytes"),
        (array(shape=[1 << 40]), "shape"),
        (array(shape=[-1]), "shape"),
        (array(shape=[1] * 9), "shape"),
        (array(shape=[True]), "shape"),
        (array(shape="1"), "shape"),
        (array(data="12345678"), "came with str"),
        ({b"__ndarray__": True}, "dtype"),
        ({b"__npgeneric__": True, b"dtype": "<f8", b"data": "x"}, "number"),
        ({b"__npgeneric__": True, b"dtype": "|u1", b"data": 300}, "cannot|read|bounds"),
        ({b"__jpeg__": True, b"data": [b"x"], b"shape": [1, 8, 8, 3]}, "JPEG"),
        ({b"__jpeg__": True, b"data": [], b"shape": [1, 8, 8, 3]}, "0 JPEG images"),
        ({b"__jpeg__": True, b"data": [b""], b"shape": [1, 1 << 20, 1 << 20, 3]}, "size allowed|larger"),
        ({b"__jpeg__": True, b"data": [b""], b"shape": [8, 8]}, "height, width, 3"),
        (msgpack.ExtType(5, b"x"), "extension"),
    ],
)
def test_what_could_do_harm_is_refused_before_it_costs_anything(value, told):
    with pytest.raises(RemoteError, match=told):
        unpack(msgpack.packb({"a": value}), most_bytes=MOST)


def test_what_cannot_be_sent_is_refused():
    for value in (np.array([object()]), np.array(["x"]), {1, 2}, 2**70, np.array([1j])):
        with pytest.raises(RemoteError):
            pack({"a": value})


def test_a_message_is_a_map_of_texts_within_its_size():
    for data in (b"\x93\x01\x02\x03", b"\x81\x01\x02", b"\x81\xc4\x01a\x01"):
        with pytest.raises(RemoteError):
            unpack(data, most_bytes=MOST)
    with pytest.raises(RemoteError, match="allowed are 10"):
        unpack(pack({"a": np.zeros(100)}), most_bytes=10)


def test_jpeg_images_come_back_alike_in_any_stack():
    rows, columns = np.mgrid[:24, :32]
    image = np.stack([rows * 8, columns * 6, rows + columns], axis=-1).astype(np.uint8)
    for images in (image, np.stack([image, image[::-1]]), image[None, None]):
        back = unpack(pack({"a": JpegImages(images, 95)}), most_bytes=MOST)["a"]
        assert back.shape == images.shape
        assert np.abs(back.astype(int) - images).mean() < 3


def test_a_jpeg_of_another_size_than_it_says_is_refused():
    data = msgpack.unpackb(pack({"a": JpegImages(np.zeros((1, 16, 16, 3), np.uint8), 90)}))
    data["a"][b"shape"] = [1, 8, 8, 3]
    with pytest.raises(RemoteError, match="another size"):
        unpack(msgpack.packb(data), most_bytes=MOST)


# --- what the messages hold ---------------------------------------------------------------------------------

SPEC = Spec(
    (Feature("camera0_rgb", (8, 8, 3), "uint8", kind="rgb"), Feature("robot0_eef_pos", (3,))),
    (Feature("action", (3,)),),
)
DESCRIPTION = PolicyDescription(SPEC, 0.1, 2, 8)


def good():
    return {"camera0_rgb": np.zeros((2, 8, 8, 3), np.uint8), "robot0_eef_pos": np.zeros((2, 3))}


def test_the_description_comes_back_and_fits_the_largest_observation():
    assert (
        PolicyDescription.from_message(unpack(pack(DESCRIPTION.to_message()), most_bytes=MOST)) == DESCRIPTION
    )
    assert len(pack(good())) <= DESCRIPTION.most_request_bytes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "OpenpiPolicy"),
        ({OURS: {**DESCRIPTION.to_message()[OURS], "protocol": 99}}, "99"),
        ({OURS: {**DESCRIPTION.to_message()[OURS], "spec": {}}}, "cannot be used"),
        ({OURS: {**DESCRIPTION.to_message()[OURS], "dt": 0}}, "above 0"),
    ],
)
def test_a_server_that_is_not_ours_is_told_apart(change, told):
    with pytest.raises(RemoteError, match=told):
        PolicyDescription.from_message(change)


def test_an_observation_is_read_in_the_specs_types():
    found, request = read_request({**good(), OURS: {"number": 4, "seed": 7}}, DESCRIPTION)
    assert {key: (value.shape, str(value.dtype)) for key, value in found.items()} == {
        "camera0_rgb": ((2, 8, 8, 3), "uint8"),
        "robot0_eef_pos": ((2, 3), "float32"),
    }
    assert request == {"number": 4, "seed": 7}


def test_one_step_may_come_without_its_axis():
    description = PolicyDescription(SPEC, 0.1, 1, 8)
    found, _ = read_request(
        {"camera0_rgb": np.zeros((8, 8, 3), np.uint8), "robot0_eef_pos": [1.0, 2, 3]}, description
    )
    assert found["camera0_rgb"].shape == (1, 8, 8, 3)
    assert found["robot0_eef_pos"].tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"robot0_eef_pos": None, "robot0_ef_pos": np.zeros((2, 3))},
            "lacks 'robot0_eef_pos' .is it 'robot0_ef_pos'",
        ),
        ({"prompt": "pick"}, "has 'prompt', which"),
        ({"robot0_eef_pos": np.zeros((1, 3))}, r"shape \[1, 3\]; needed: \[2, 3\]"),
        ({"robot0_eef_pos": np.array([[0, 0, np.nan]] * 2)}, "NaN"),
        ({"robot0_eef_pos": np.full((2, 3), 1e300)}, "infinite"),
        ({"robot0_eef_pos": "here"}, "str"),
        ({"camera0_rgb": np.zeros((2, 8, 8, 3))}, "float64; needed: uint8"),
        ({OURS: 3}, "map"),
        ({OURS: {"seed": -1}}, "seed"),
        ({OURS: {"seed": "x"}}, "seed"),
        ({OURS: {"number": 1.5}}, "number"),
    ],
)
def test_a_wrong_observation_is_told_exactly(change, told):
    message = {key: value for key, value in {**good(), **change}.items() if value is not None}
    with pytest.raises(RemoteError, match=told):
        read_request(message, DESCRIPTION)


@pytest.mark.parametrize(
    "actions",
    [None, np.zeros((4, 2)), np.zeros((0, 3)), np.zeros(3), np.full((4, 3), np.nan), np.zeros((4, 3), int)],
)
def test_actions_that_a_robot_must_not_follow_are_refused(actions):
    with pytest.raises(RemoteError):
        check_actions(actions, 3)
