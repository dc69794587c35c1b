"""The error hierarchy. Each message says what was given, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobopolicyError(Exception):
    """Base of every error that robopolicy raises on purpose; its text is fit for a user."""


class SpecError(RobopolicyError):
    """Two sides (store, robot, environment, policy) disagree on a feature."""


class StoreError(RobopolicyError):
    """A demo store is missing, damaged, or given data that does not fit it."""


class ConfigError(RobopolicyError):
    """A setting is missing, of the wrong type, or out of range."""


class UnknownNameError(ConfigError):
    """A name is not registered; the message lists the nearest names first."""


class MissingExtraError(RobopolicyError):
    """A feature needs an optional extra that is not installed."""


class CheckpointError(RobopolicyError):
    """A checkpoint is missing, incomplete, or made by something we cannot read."""


class DeviceError(RobopolicyError):
    """A device or its process failed, refused, or does not answer."""


class RemoteError(RobopolicyError):
    """A policy server or its client does not answer, refuses, or sends what cannot be used."""


class SimulationError(RobopolicyError):
    """A simulated world is not usable: bad model, unstable physics, no renderer."""


def nearest_names(name: str, allowed: Iterable[str]) -> list[str]:
    """Returns every allowed name, the ones most similar to ``name`` first."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=len(options) or 1, cutoff=0.5)
    return close + [option for option in options if option not in close]


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> UnknownNameError:
    """Builds the error for a name that is not registered.

    Args:
        kind: what the name should be, e.g. ``"policy"``.
        name: what was given.
        allowed: the valid names.
    """
    options = nearest_names(name, allowed)
    if not options:
        return UnknownNameError(f"Unknown {kind} '{name}': no {kind} is registered.")
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return UnknownNameError(f"Unknown {kind} '{name}'.{hint} Allowed: {', '.join(options)}.")


def missing_extra(feature: str, extra: str) -> MissingExtraError:
    """Builds the one-line error for an optional dependency that is not installed."""
    return MissingExtraError(
        f"{feature} needs the extra '{extra}'. Install it with: pip install 'robopolicy[{extra}]'"
    )
