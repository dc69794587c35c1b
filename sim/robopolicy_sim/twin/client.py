"""Simulations of PyBullet inside this process."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import pybullet


class Client:
    """A simulation of its own: PyBullet's functions and constants, without the argument ``physicsClientId``.

    It ends with the object. (``pybullet_utils.bullet_client`` does the same and prints a line each time.)
    """

    def __init__(self) -> None:
        self._number = pybullet.connect(pybullet.DIRECT)
        weakref.finalize(self, pybullet.disconnect, self._number)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(pybullet, name)
        if callable(attribute):
            attribute = functools.partial(attribute, physicsClientId=self._number)
            setattr(self, name, attribute)  # found at once the next time
        return attribute
