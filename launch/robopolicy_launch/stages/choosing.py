"""Where a policy comes from: a checkpoint, or a server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robopolicy_datasets.errors import ConfigError

if TYPE_CHECKING:
    from robopolicy_drivers.runtime.preflight import Candidate


@dataclass
class PolicyPlace:
    """Where a policy is; at most one of the first two is given.

    Attributes:
        checkpoint: a checkpoint folder, or the run folder of a training; or give a server.
        server: address of a policy server (robopolicy serve), e.g. ws://127.0.0.1:8000.
        token_file: file with the server's token.
        certificate: file with the server's certificate (PEM), where no authority has signed it.
    """

    checkpoint: str = ""
    server: str = ""
    token_file: str = ""
    certificate: str = ""

    def __post_init__(self) -> None:
        if self.checkpoint and self.server:
            raise ConfigError(
                f"Both checkpoint={self.checkpoint} and server={self.server} are given; give one of the two."
            )


def chosen_policy(place: PolicyPlace, resources: contextlib.ExitStack) -> Candidate:
    """Loads a policy, or connects to its server.

    Args:
        place: of the policy; one of checkpoint and server is given.
        resources: closes the connection.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        RemoteError: the server does not answer, or refuses.
    """
    from robopolicy_drivers.runtime.preflight import Candidate

    if place.server:
        from robopolicy_drivers.client import RemotePolicy
        from robopolicy_drivers.client.token import read_token

        token = read_token(place.token_file)
        remote = RemotePolicy(place.server, token=token, certificate=place.certificate)
        return Candidate(resources.enter_context(remote), f"policy at {place.server}")
    from robopolicy.checkpoint import find_checkpoint, load_policy

    checkpoint = find_checkpoint(Path(place.checkpoint).expanduser())
    return Candidate(load_policy(checkpoint, threads=1), f"checkpoint '{checkpoint}'", checkpoint)
