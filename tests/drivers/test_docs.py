"""The driver in one file that docs/drivers.md shows is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "drivers.md"


def test_the_worked_example_conforms(tmp_path):
    files = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in files] == ["lab_arm.py", "lab_arm_controller.py", "check.py"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "check.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in ("a stop is among safety_events()", "release() lets commands pass again"):
        assert line in done.stdout
