"""What server and client say to each other, in openpi's order.

1. Server: a map that describes the policy. What is ours stands under the key ``robopolicy``.
2. Client: an observation, ``{key: [To, *shape]}`` (``[*shape]`` where To is 1). Ours adds ``robopolicy``:
   ``number`` (of the request, repeated in the reply), ``seed`` (of the policy's noise) and, where the server
   says that its policy takes one, ``prefix`` (what the chunk should continue: ``actions`` ``[n, A]``, of
   which ``frozen`` rows will have been played before).
3. Server: ``actions`` ``[T, A]``, ``server_timing`` [ms] and ``robopolicy``: ``number``, ``weights_version``.
   A *text* in place of it says what went wrong; the connection is then closed.

2 and 3 repeat. Messages from and to openpi's own client and server lack the key ``robopolicy``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import RemoteError, SpecError, nearest_names
from robopolicy_datasets.spec import Feature, Spec

OURS = "robopolicy"
PROTOCOL = 1
MOST_REPLY_BYTES = 1 << 24  # of what a server may send
_OVERHEAD_BYTES = 1 << 16  # of a message beside the observation's arrays
_PREFIX = ("actions", "frozen")


@dataclass(frozen=True)
class PolicyDescription:
    """What a client must know of a served policy.

    Attributes:
        spec: the features that it reads and writes.
        dt: time of one control step [s].
        observation_steps: length To of the observation history.
        action_steps: rows of a chunk to execute before the next request.
        takes_prefix: whether its chunks can continue a prefix (real-time chunking).
    """

    spec: Spec
    dt: float
    observation_steps: int
    action_steps: int
    takes_prefix: bool = False

    @classmethod
    def of(cls, policy: Any) -> PolicyDescription:
        """Describes a ``ChunkPolicy``."""
        return cls(
            policy.spec,
            float(policy.dt),
            int(policy.observation_steps),
            int(policy.action_steps),
            bool(getattr(policy, "takes_prefix", False)),
        )

    @property
    def most_request_bytes(self) -> int:
        """Bytes of the largest observation, with numbers of up to 8 bytes, and something for the names."""
        sample = sum(
            feature.size * (np.dtype(feature.dtype).itemsize if feature.is_image else 8)
            for feature in self.spec.observation
        )
        return self.observation_steps * sample + _OVERHEAD_BYTES

    @property
    def action_size(self) -> int:
        """Numbers A in one action."""
        return sum(feature.size for feature in self.spec.action)

    def to_message(self) -> dict[str, Any]:
        """Returns the server's first message."""
        return {
            OURS: {
                "protocol": PROTOCOL,
                "spec": self.spec.to_json(),
                "dt": self.dt,
                "observation_steps": self.observation_steps,
                "action_steps": self.action_steps,
                "takes_prefix": self.takes_prefix,
            }
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> PolicyDescription:
        """Reads the server's first message.

        Raises:
            RemoteError: the server is not one of ours, or speaks another version.
        """
        content = message.get(OURS)
        if not isinstance(content, Mapping):
            raise RemoteError(
                f"The server does not say what policy it serves (its first message has no '{OURS}'). Start "
                "it with 'robopolicy serve'; for a server of openpi use OpenpiPolicy, which takes a mapping."
            )
        if content.get("protocol") != PROTOCOL:
            raise RemoteError(
                f"The server speaks version {content.get('protocol')!r} of the protocol, this client version "
                f"{PROTOCOL}. Install the same version of robopolicy on both machines."
            )
        try:
            description = cls(
                Spec.from_json(content["spec"]),
                float(content["dt"]),
                int(content["observation_steps"]),
                int(content["action_steps"]),
                content.get("takes_prefix") is True,  # older servers do not say
            )
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise RemoteError(f"The server's description of its policy cannot be used: {error}") from error
        if not description.dt > 0 or min(description.observation_steps, description.action_steps) < 1:
            raise RemoteError(
                f"The server says dt={description.dt}, observation_steps={description.observation_steps}, "
                f"action_steps={description.action_steps}; all must be above 0."
            )
        return description


def read_request(message: dict[str, Any], description: PolicyDescription) -> tuple[dict[str, NDArray], dict]:
    """Checks a client's message.

    Returns:
        the observation ``{key: [To, *shape]}`` in the Spec's dtypes, and what stood under ``robopolicy``.

    Raises:
        RemoteError: a key is missing or unknown, or a value does not fit its feature.
    """
    request = message.pop(OURS, {})
    if not isinstance(request, dict):
        raise RemoteError(f"'{OURS}' is a {type(request).__name__}; it is a map with 'number' and 'seed'.")
    for name in ("number", "seed"):
        if request.get(name) is not None and type(request[name]) is not int:
            raise RemoteError(f"'{OURS}' has {name}={request[name]!r}; give a whole number, or none.")
    if not 0 <= (request.get("seed") or 0) < 1 << 63:
        raise RemoteError(f"The seed is {request['seed']}; give a whole number from 0 to 2**63 - 1.")
    if request.get("prefix") is not None:
        _check_prefix(request["prefix"], description)
    features = {feature.key: feature for feature in description.spec.observation}
    unknown = [key for key in message if key not in features]
    missing = [key for key in features if key not in message]
    if unknown or missing:
        raise RemoteError(_wrong_keys(unknown, missing, features))
    steps = description.observation_steps
    return {key: _fitting(message[key], feature, steps) for key, feature in features.items()}, request


def check_actions(actions: Any, action_size: int) -> NDArray[np.floating]:
    """Returns a reply's actions ``[T, A]``.

    Raises:
        RemoteError: they have another shape, or are not finite numbers.
    """
    if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f" or not np.isfinite(actions).all():
        raise RemoteError(
            "The server's actions are not an array of finite numbers; the robot must not follow them."
        )
    if actions.ndim != 2 or len(actions) < 1 or actions.shape[1] != action_size:
        raise RemoteError(f"The server's actions have the shape {actions.shape}; needed: [T, {action_size}].")
    return actions


def _check_prefix(prefix: Any, description: PolicyDescription) -> None:
    if not description.takes_prefix:
        raise RemoteError("A prefix was sent, which the policy does not take; send none.")
    actions, frozen = (prefix.get(name) for name in _PREFIX) if isinstance(prefix, dict) else (None, None)
    size = description.action_size
    if (
        not isinstance(actions, np.ndarray)
        or actions.dtype.kind != "f"
        or actions.ndim != 2
        or actions.shape[1] != size
        or not np.isfinite(actions).all()
        or type(frozen) is not int
        or frozen < 0
    ):
        raise RemoteError(
            f"The prefix cannot be used; send 'actions', finite numbers [n, {size}], and 'frozen', how "
            "many of its rows will be played."
        )


def _wrong_keys(unknown: list[str], missing: list[str], features: Mapping[str, Feature]) -> str:
    parts = []
    for key in missing:
        close = difflib.get_close_matches(key, unknown, n=1, cutoff=0.5)
        parts.append(f"lacks '{key}'" + (f" (is it '{close[0]}'?)" if close else ""))
    for key in unknown:
        parts.append(f"has '{key:.80}', which the policy does not take")
    options = ", ".join(nearest_names(unknown[0] if unknown else missing[0], features))
    return f"The observation {', '.join(parts[:6])}. The policy takes: {options}."


def _fitting(value: Any, feature: Feature, steps: int) -> NDArray:
    """Returns a feature's value ``[To, *shape]`` in its dtype."""
    wanted = np.dtype(feature.dtype)
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic | int | float) else None
    if isinstance(value, list) and all(isinstance(number, int | float) for number in value):
        array = np.asarray(value, np.float64)
    if array is None:
        raise RemoteError(
            f"'{feature.key}' is a {type(value).__name__}; send an array {wanted}{[steps, *feature.shape]}."
        )
    if steps == 1 and array.shape == feature.shape:
        array = array[None]
    if array.shape != (steps, *feature.shape):
        raise RemoteError(
            f"'{feature.key}' has the shape {list(array.shape)}; needed: {[steps, *feature.shape]}."
        )
    if array.dtype != wanted and (feature.is_image or wanted.kind in "iub"):
        raise RemoteError(f"'{feature.key}' is {array.dtype}; needed: {wanted}.")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused below
        array = array.astype(wanted, copy=False)
    if wanted.kind == "f" and not np.isfinite(array).all():
        raise RemoteError(f"'{feature.key}' is NaN or infinite; a sensor or its driver failed.")
    return array
