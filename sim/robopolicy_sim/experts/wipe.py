"""A scripted expert that presses an eraser along a board."""

from __future__ import annotations

from robopolicy_sim.experts.surface import SurfaceExpert


class WipeExpert(SurfaceExpert):
    """See ``SurfaceExpert``."""
