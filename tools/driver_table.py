"""Prints the table of drivers for docs/drivers.md: python tools/driver_table.py"""

from __future__ import annotations

import sys

from robopolicy_datasets import registry
from robopolicy_drivers.hosting.facts import DeviceFacts

KINDS = (registry.robots, registry.cameras, registry.sensors, registry.teleops)
HEADER = ("driver", "protocol", "spoken by", "rates", "tested against")


def driver_table() -> str:
    """Returns a Markdown table of all registered drivers that say what they were tested against."""
    rows = [HEADER, ("---",) * len(HEADER)]
    for kind in KINDS:
        for name in kind.names():
            facts: DeviceFacts | None = getattr(kind.config_class(name), "device", None)
            if facts is None:
                continue
            tested = ": ".join(filter(None, (facts.evidence, facts.tested_against)))
            rows.append((f"`{kind.kind}={name}`", facts.protocol, facts.sdk, facts.rates, tested))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(driver_table())
