"""``python -m robopolicy_launch``: the command, for torchrun."""

import sys

from robopolicy_launch.command import main

sys.exit(main())
