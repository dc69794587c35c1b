"""FeatureSpace: laws of ways and means, against scipy's own interpolation of rotations."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.runtime.spaces import FeatureSpace

POSE = Feature("action", (7,), kind="pose_width", unit="m, rad")
TWO_ARMS = Feature("action", (14,), kind="pose_width", unit="m, rad")
ANGLE = Feature("angle", (2,), kind="angle", unit="rad")
number = st.floats(-1.7, 1.7)


def vectors(size):
    return st.lists(number, min_size=size, max_size=size).map(np.array)


def same_pose(first, second, atol=1e-9):
    np.testing.assert_allclose(first[[0, 1, 2, 6]], second[[0, 1, 2, 6]], atol=atol)
    turn = Rotation.from_rotvec(first[3:6]).inv() * Rotation.from_rotvec(second[3:6])
    assert turn.magnitude() < max(atol, 1e-7)


@given(vectors(7), vectors(7), st.floats(0, 1))
def test_ways_lead_where_they_should_along_the_geodesic(start, end, share):
    space = FeatureSpace((POSE,))
    way = space.difference(start, end)
    same_pose(space.moved(start, way), end)
    assume(np.linalg.norm(way[3:6]) < np.pi - 1e-3)
    between = space.between(start, end, share)
    expected = Slerp([0, 1], Rotation.from_rotvec(np.stack([start[3:6], end[3:6]])))(share)
    assert (Rotation.from_rotvec(between[3:6]).inv() * expected).magnitude() < 1e-6
    np.testing.assert_allclose(between[:3], start[:3] + share * (end[:3] - start[:3]), atol=1e-12)


@given(vectors(7), st.lists(vectors(7), min_size=1, max_size=5), st.randoms())
def test_the_mean_is_where_the_weighted_ways_cancel_out(center, offsets, random):
    space = FeatureSpace((POSE,))
    values = np.stack([space.moved(center, 0.3 * offset) for offset in offsets])
    weights = np.array([random.uniform(0.1, 1.0) for _ in offsets])
    mean = space.mean(values, weights)
    np.testing.assert_allclose((weights[:, None] * space.difference(mean, values)).sum(0), 0, atol=1e-8)
    same_pose(mean, space.mean(values[::-1], weights[::-1]), atol=1e-8)


def test_each_arm_has_its_own_rotation_and_angles_go_the_shorter_way():
    space = FeatureSpace((TWO_ARMS, ANGLE))
    assert [part.kind for part in space.parts] == ["position", "rotation", "other"] * 2 + ["angle"] * 2
    start, end = np.zeros(16), np.zeros(16)
    end[10:13] = [0, 0, 3.0]
    start[10:13] = [0, 0, -3.0]
    start[14], end[14] = 3.0, -3.0
    way = space.difference(start, end)
    np.testing.assert_allclose(way[10:13], [0, 0, 6.0 - 2 * np.pi], atol=1e-9)
    assert way[14] == pytest.approx(2 * np.pi - 6.0)
    assert space.lengths(way)[1] == pytest.approx(2 * np.pi - 6.0)


def test_a_pose_without_a_width_is_a_position_and_a_rotation():
    pose = FeatureSpace((Feature("action", (6,), kind="pose", unit="m, rad"),))
    with_width = FeatureSpace((POSE,))
    start, end = np.random.default_rng(1).normal(size=(2, 7))
    expected = with_width.between(start, end, 0.3)[:6]
    np.testing.assert_allclose(pose.between(start[:6], end[:6], 0.3), expected, atol=1e-12)
    assert pose.lengths(pose.difference(start[:6], end[:6])) == pytest.approx(
        with_width.lengths(with_width.difference(start, end))
    )


def test_rows_are_computed_together():
    space = FeatureSpace((POSE,))
    values = np.random.default_rng(0).normal(size=(5, 3, 7))
    ways = space.difference(values[0, 0], values)
    for index in np.ndindex(5, 3):
        np.testing.assert_allclose(ways[index], space.difference(values[0, 0], values[index]), atol=1e-12)


def test_only_metres_are_positions_and_a_size_that_does_not_fit_is_refused():
    pixels = Feature("action", (2,), kind="position", unit="px")
    assert FeatureSpace((pixels,)).lengths(np.array([3.0, 4.0])) == (0.0, 0.0)
    metres = Feature("action", (2,), kind="position", unit="m")
    assert FeatureSpace((metres,)).lengths(np.array([3.0, 4.0])) == (5.0, 0.0)
    with pytest.raises(SpecError, match="multiple of 7"):
        FeatureSpace((Feature("action", (8,), kind="pose_width"),))
