"""SDL through pygame, which greets on standard output when it is imported, unless it is told not to."""

from __future__ import annotations

import importlib
import os
from typing import Any

from robopolicy_datasets.errors import missing_extra


def import_pygame(device: str) -> Any:
    """Returns pygame.

    Args:
        device: for which it is.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        return importlib.import_module("pygame")
    except ModuleNotFoundError as error:
        raise missing_extra(f"teleop={device}", "keyboard") from error
