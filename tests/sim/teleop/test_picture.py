"""The axes of a person who looks at a scene through its camera."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robopolicy_sim.teleop.picture import person_axes


@given(st.floats(-np.pi, np.pi), st.floats(-1.6, 1.6))
def test_away_is_the_world_axis_along_which_the_camera_looks(yaw, pitch):
    """For a camera without roll, even one that looks straight down."""
    level = Rotation.from_matrix([[0, 0, -1], [-1, 0, 0], [0, 1, 0]])  # looks along x, up is z
    axes = person_axes((Rotation.from_euler("ZY", [yaw, pitch]) * level).as_matrix())
    assert set(np.abs(axes).flat) == {0.0, 1.0}
    assert np.linalg.det(axes) == pytest.approx(1.0)
    np.testing.assert_array_equal(axes[:, 2], [0, 0, 1])
    looks = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    assert looks @ axes[:, 0] >= np.sqrt(0.5) - 1e-9
