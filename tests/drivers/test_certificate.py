"""A certificate counts only beside the very files that it was made of."""

from __future__ import annotations

import json

import pytest

from robopolicy_datasets.errors import CheckpointError
from robopolicy_drivers.runtime.certificate import CERTIFICATE, POLICY_FILES, check_certificate, policy_sums


@pytest.fixture
def checkpoint(tmp_path):
    for name in POLICY_FILES:
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return tmp_path


def test_a_certificate_of_these_files_passes(checkpoint):
    assert check_certificate(checkpoint) == "no certificate"
    content = {"bound": 3.2, "sha256": policy_sums(checkpoint)}
    (checkpoint / CERTIFICATE).write_text(json.dumps(content))
    assert check_certificate(checkpoint) == "is of these weights"


@pytest.mark.parametrize("name", POLICY_FILES)
def test_one_changed_bit_is_found(checkpoint, name):
    (checkpoint / CERTIFICATE).write_text(json.dumps({"sha256": policy_sums(checkpoint)}))
    content = bytearray((checkpoint / name).read_bytes())
    content[500] ^= 1
    (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"not of the {name} beside it.*Certify it again"):
        check_certificate(checkpoint)


def test_a_certificate_that_names_no_files_certifies_none(checkpoint):
    (checkpoint / CERTIFICATE).write_text('{"sha256": {}}')
    with pytest.raises(CheckpointError, match=", ".join(POLICY_FILES)):
        check_certificate(checkpoint)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 3}', '{"sha256": "abc"}', "\x00"])
def test_what_is_no_certificate_is_refused(checkpoint, text):
    (checkpoint / CERTIFICATE).write_text(text)
    with pytest.raises(CheckpointError, match="not a certificate"):
        check_certificate(checkpoint)


def test_an_incomplete_checkpoint_is_told(checkpoint):
    (checkpoint / CERTIFICATE).write_text(json.dumps({"sha256": policy_sums(checkpoint)}))
    (checkpoint / POLICY_FILES[1]).unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        check_certificate(checkpoint)
