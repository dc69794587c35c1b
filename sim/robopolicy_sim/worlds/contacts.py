"""Contact forces between groups of bodies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from robopolicy_datasets.errors import unknown_name
from robopolicy_datasets.geometry import Array
from robopolicy_sim.rendering import import_mujoco


class ContactForce:
    """The total force between two groups of bodies, each body with all that hangs on it.

    Args:
        model: the ``mujoco.MjModel``.
        data: its ``mujoco.MjData``.
        pushing: names of the bodies that push.
        pushed: names of the bodies that are pushed.

    Raises:
        UnknownNameError: there is no such body.
    """

    def __init__(self, model: Any, data: Any, pushing: Iterable[str], pushed: Iterable[str]) -> None:
        self._mujoco = import_mujoco()
        self._model, self._data = model, data
        self._pushing, self._pushed = (_geoms_of(model, names) for names in (pushing, pushed))

    def __call__(self) -> Array:
        """Returns the force ``[3]`` [N] in the world on the pushed, as of the last step of the physics."""
        first, second = self._data.contact.geom.reshape(-1, 2).T
        forward = self._pushing[first] & self._pushed[second]
        backward = self._pushing[second] & self._pushed[first]
        total, wrench = np.zeros(3), np.empty(6)
        for index in np.flatnonzero(forward | backward):
            self._mujoco.mj_contactForce(self._model, self._data, index, wrench)
            # MuJoCo gives what the second geom feels, along axes that are the rows of the contact's frame.
            force = wrench[:3] @ self._data.contact.frame[index].reshape(3, 3)
            total += force if forward[index] else -force
        return total


def _geoms_of(model: Any, names: Iterable[str]) -> Any:
    """Returns which geoms ``[G]`` belong to bodies of these names or to what hangs on them."""
    chosen = np.zeros(model.nbody, bool)
    known = [model.body(index).name for index in range(model.nbody)]
    for name in names:
        if name not in known:
            raise unknown_name("body", name, known)
        chosen[known.index(name)] = True
    for body in range(1, model.nbody):  # parents come before their children; the world chooses itself alone
        parent = model.body_parentid[body]
        chosen[body] |= parent > 0 and chosen[parent]
    return chosen[model.geom_bodyid]
