"""Makes ``flights`` importable; pymavlink speaks MAVLink 2 in the tests too."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
os.environ["MAVLINK20"] = "1"
