"""Makes ``device_targets`` importable here and in the device processes that the tests start."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
