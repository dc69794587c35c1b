"""Robots, random states and references that the tests of the controllers share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
