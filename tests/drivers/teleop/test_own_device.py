"""The device in docs/teleoperation.md does what the page says."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "teleoperation.md"


def test_the_device_of_the_page_steers(tmp_path):
    section = PAGE.read_text().partition("## A device of your own")[2]
    device, use = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "udp_stick.py").write_text(device)
    (tmp_path / "use.py").write_text(use)
    result = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == re.search(r"```text\n(.*?)```", section, re.DOTALL)[1], result.stderr
