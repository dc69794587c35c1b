"""Makes the devices of these tests importable here and in the processes that the tests start."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
