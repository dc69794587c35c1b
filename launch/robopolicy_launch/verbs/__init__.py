"""The verbs of the command, listed without importing them.

A verb's module has

- ``Settings``: a dataclass of the verb's own keys, with an ``Attributes:`` section (shown by ``--help``);
- ``GROUPS``: the config groups it takes with their default choices (``{}`` for none);
- ``POSITIONAL``: the names of keys that may be given without ``key=``, in order; a last name that ends in
  ``...`` takes all further words as a list;
- ``run(settings, config) -> int``: does the work and returns the exit code. ``settings`` is a ``Settings``
  whose group keys hold the components' own config dataclasses; ``config`` is the same as plain Hydra nodes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: what the user types; two words for the verbs of ``data`` and ``devices``.
        module: the module that does it.
        summary: one line for the help.
    """

    name: str
    module: str
    summary: str

    def load(self) -> ModuleType:
        """Imports the verb's module (neither torch nor mujoco: those come with ``run``)."""
        return importlib.import_module(self.module)


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "demo",
            "robopolicy_launch.verbs.demo",
            "collect, train, evaluate and deploy in minutes, with a report",
        ),
        Verb("collect", "robopolicy_launch.verbs.collect", "record demonstrations into a store"),
        Verb("data info", "robopolicy_launch.verbs.data.info", "show what a demo store holds"),
        Verb(
            "data import",
            "robopolicy_launch.verbs.data.import_store",
            "bring recordings of another format into a store",
        ),
        Verb("data check", "robopolicy_launch.verbs.data.check", "look for faults in a demo store"),
        Verb(
            "data stats",
            "robopolicy_launch.verbs.data.stats",
            "show range, mean and percentiles of every feature",
        ),
        Verb(
            "data merge",
            "robopolicy_launch.verbs.data.merge",
            "put the episodes of several stores into a new one",
        ),
        Verb("data split", "robopolicy_launch.verbs.data.split", "split a store into two new ones"),
        Verb("data trim", "robopolicy_launch.verbs.data.trim", "drop idle or unwanted steps of episodes"),
        Verb(
            "data relabel",
            "robopolicy_launch.verbs.data.relabel",
            "correct task text, success or operator of episodes",
        ),
        Verb("data repair", "robopolicy_launch.verbs.data.repair", "drop what data check reports as errors"),
        Verb(
            "data view",
            "robopolicy_launch.verbs.data.view",
            "show episodes as an HTML page or in Rerun's viewer",
        ),
        Verb("data export", "robopolicy_launch.verbs.data.export_store", "write a store in another format"),
        Verb("train", "robopolicy_launch.verbs.train", "train a policy on a store"),
        Verb("sweep", "robopolicy_launch.verbs.sweep", "train for each value of a setting and choose"),
        Verb("eval", "robopolicy_launch.verbs.eval", "measure closed-loop success over seeds"),
        Verb("certify", "robopolicy_launch.verbs.certify", "certify how far a policy's actions can move"),
        Verb("compare", "robopolicy_launch.verbs.compare", "compare two policies on a robot in blind trials"),
        Verb("serve", "robopolicy_launch.verbs.serve", "serve a policy to robots over the network"),
        Verb("deploy", "robopolicy_launch.verbs.deploy", "run a policy on a robot through its driver"),
        Verb("devices list", "robopolicy_launch.verbs.devices.list", "show which devices can be used"),
        Verb(
            "devices check",
            "robopolicy_launch.verbs.devices.check",
            "check a robot and its cameras, and measure their rates",
        ),
        Verb(
            "devices calibrate",
            "robopolicy_launch.verbs.devices.calibrate",
            "calibrate a camera and where it sits, with a printed board",
        ),
        Verb(
            "devices estop",
            "robopolicy_launch.verbs.devices.estop",
            "stop every robot that you run on this computer",
        ),
        Verb(
            "devices latency",
            "robopolicy_launch.verbs.devices.latency",
            "measure how late a robot, its gripper and its cameras are (it moves)",
        ),
        Verb("bench", "robopolicy_launch.verbs.bench", "measure speed beside a reference in the same run"),
    )
}
