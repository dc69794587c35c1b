"""A step of the wall clock (NTP, a person, daylight saving) is felt nowhere on the robot's computer."""

import ast
import time
from pathlib import Path

import numpy as np
import pytest

import robopolicy_drivers
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.ring import Ring

FOLDER = Path(robopolicy_drivers.__file__).parent
WALL_CLOCK = {
    *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.CLOCK_REALTIME"),
    *("datetime", "wall_anchor_ns"),
}


def uses(source: str) -> set[str]:
    """Returns what a module's source takes from the wall clock, under whatever name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module, *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            # "import time as t" would hide what it is used for.
            found |= {"time.time" for alias in node.names if alias.name == "time" and alias.asname}
    return found & WALL_CLOCK


def test_no_driver_asks_for_the_wall_clock():
    found = {path.name: names for path in FOLDER.rglob("*.py") if (names := uses(path.read_text()))}
    # librealsense tells times of the wall clock, which are put on ours.
    assert found == {"realsense.py": {"wall_anchor_ns"}}


@pytest.mark.parametrize(
    "source",
    [
        *("import time\nnow = time.time()", "from time import time_ns", "import time as clock"),
        *("import datetime", "from datetime import datetime", "import time\nf(time.CLOCK_REALTIME)"),
        "from robopolicy_datasets.clock import wall_anchor_ns",
    ],
)
def test_the_search_finds_it(source):
    assert uses(source)


def test_a_loop_and_a_ring_run_while_the_wall_clock_jumps(monkeypatch):
    jumping = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(time, "time", lambda: float(next(jumping)))
    monkeypatch.setattr(time, "time_ns", lambda: -(10**9) * next(jumping))
    loop, ring = DeadlineLoop(500.0), Ring((Feature("x", (1,)),), 4)
    loop.wait()
    first = loop.deadline_ns
    elapsed = 0
    for number in range(1, 20):
        elapsed += loop.wait()
        ring.write(loop.deadline_ns, {"x": np.zeros(1, np.float32)})
        assert ring.wait_newer(number - 1, 1.0).time_ns == first + elapsed * loop.period_ns
    assert ring.wait_newer(19, 0.01) is None
