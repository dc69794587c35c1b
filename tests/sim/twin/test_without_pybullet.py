"""What is said where PyBullet is not installed."""

import sys

import pytest

from robopolicy_datasets.errors import MissingExtraError
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv


def test_the_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("robopolicy_sim.twin")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pybullet", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'robopolicy\[pybullet\]'"):
        PickPlaceEnv(PickPlaceConfig(image_size=8, simulator="pybullet"))
