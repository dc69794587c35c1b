"""docs/drivers.md says of every driver what the driver says of itself."""

import importlib.util
from pathlib import Path

from robopolicy_datasets import registry
from robopolicy_drivers.hosting.facts import DeviceFacts

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = {"sim", "composite", "mirrored", "scripted", "foreign_expert"}


def test_the_table_in_the_docs_is_that_of_the_registered_drivers():
    spec = importlib.util.spec_from_file_location("driver_table", ROOT / "tools" / "driver_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.driver_table() in (ROOT / "docs" / "drivers.md").read_text(), (
        "put the output of 'python tools/driver_table.py' into docs/drivers.md"
    )


def test_every_driver_of_ours_says_what_it_was_tested_against():
    for kind in (registry.robots, registry.cameras, registry.sensors, registry.teleops):
        for name in set(kind.names()) - SIMULATED:
            assert isinstance(kind.config_class(name).device, DeviceFacts), name
