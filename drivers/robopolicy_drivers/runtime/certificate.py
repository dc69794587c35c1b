"""The certificate beside a checkpoint: whether it is of the files that are there now.

``certificate.json`` says what is proved of a policy, and under ``sha256`` of which files: the sum of each in
hexadecimal, by its name. All else in it is the certifier's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from robopolicy_datasets.errors import CheckpointError

CERTIFICATE = "certificate.json"
POLICY_FILES = ("config.json", "model.safetensors", "normalizer.safetensors")  # what makes a policy


def policy_sums(checkpoint: Path) -> dict[str, str]:
    """Returns the SHA-256 sums of the files that make the policy, by name.

    Args:
        checkpoint: its folder.

    Raises:
        CheckpointError: a file cannot be read.
    """
    sums = {}
    for name in POLICY_FILES:
        try:
            with (checkpoint / name).open("rb") as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"'{checkpoint}' is incomplete: {error}. Restore it.") from error
    return sums


def check_certificate(checkpoint: Path) -> str:
    """Returns what there is to say about a checkpoint's certificate.

    Args:
        checkpoint: its folder.

    Raises:
        CheckpointError: the certificate is of other files than these, or cannot be read.
    """
    path = checkpoint / CERTIFICATE
    if not path.is_file():
        return "no certificate"
    try:
        certified = dict(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' is not a certificate ({type(error).__name__}: {error}). Certify the checkpoint again, "
            "or remove the file to go without."
        ) from error
    changed = [name for name, value in policy_sums(checkpoint).items() if certified.get(name) != value]
    if changed:
        raise CheckpointError(
            f"'{path}' is not of the {', '.join(changed)} beside it: the checkpoint was changed since. "
            "Certify it again, restore its files, or remove the certificate to go without."
        )
    return "is of these weights"
