"""A scripted expert that presses a peeler along a cucumber."""

from __future__ import annotations

from robopolicy_sim.experts.surface import SurfaceExpert


class PeelExpert(SurfaceExpert):
    """See ``SurfaceExpert``."""
