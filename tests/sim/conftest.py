"""Makes ``board_world`` and what the drivers are tested with importable."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent / "drivers")]
