"""Markers are found, followed and found again, on drawn gels and on real recordings."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from gel_images import SHAPE, gel_image, places_of_rest, pressed, wholly_shown
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.touch.marker_grid import arrange_grid, find_markers
from robopolicy_drivers.touch.marker_tracker import MarkerTracker

REST = places_of_rest()
SUBPIXEL = 0.25  # [px] largest error of a marker that is seen, on drawn gels with noise


def started(shape=SHAPE, places=REST):
    tracker = MarkerTracker(shape)
    tracker.start(gel_image(places))
    return tracker


def largest_error(tracker, places, markers=slice(None)):
    return np.linalg.norm(tracker.positions[markers] - places[markers], axis=1).max()


# --- the grid -----------------------------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(3, 9), st.integers(3, 11)),
    turn=st.floats(-0.3, 0.3),
    shear=st.floats(-0.2, 0.2),
    bend=st.floats(-0.15, 0.15),
    seed=st.integers(0, 2**16),
)
def test_any_order_of_a_turned_and_bent_grid_becomes_rows_and_columns(shape, turn, shear, bend, seed):
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    flat = np.stack([columns.ravel(), rows.ravel()], axis=1) * 30.0 + 100.0
    middle = flat.mean(0)
    cosine, sine = np.cos(turn), np.sin(turn)
    places = (flat - middle) @ np.array([[cosine, sine], [-sine, cosine]]) @ np.array([[1, 0], [shear, 1]])
    places[:, 1] += bend * places[:, 0] ** 2 / 300.0
    order = random.permutation(len(places))
    arranged, found = arrange_grid(places[order], shape)
    assert found.all()
    np.testing.assert_array_equal(arranged, places)


def test_a_missing_marker_is_put_where_its_neighbours_say():
    shown = np.delete(REST, 31, axis=0)
    arranged, found = arrange_grid(shown, SHAPE)
    assert np.flatnonzero(~found).tolist() == [31]
    assert np.linalg.norm(arranged[31] - REST[31]) < 1.0


@pytest.mark.parametrize("image", [np.full((240, 320), 100, np.uint8), gel_image(REST[:0])])
def test_an_image_without_markers_is_refused(image):
    with pytest.raises(DeviceError, match=r"7 x 9 markers.*nothing touch"):
        MarkerTracker(SHAPE).start(image)


def test_another_grid_is_refused_and_named():
    with pytest.raises(DeviceError, match=r"8 x 10 markers.*7 x 9 was seen.*set rows= and columns="):
        MarkerTracker((8, 10)).start(gel_image(REST))
    with pytest.raises(DeviceError, match="7 x 9 was seen"):
        MarkerTracker((5, 9)).start(gel_image(REST))


def test_dirt_is_no_marker():
    image = gel_image(REST)
    cv2.line(image, (0, 100), (319, 140), 60, 1)
    image[60:64, 75:78] = 60
    points, radius = find_markers(image)
    assert len(points) < len(REST) + 3
    assert 3.5 < radius < 6.5


# --- following ----------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    ways=st.lists(st.tuples(st.floats(-6, 6), st.floats(-6, 6)), min_size=1, max_size=4),
    depth=st.floats(0, 8),
    radius=st.floats(3.5, 6.5),
    seed=st.integers(0, 2**16),
)
def test_subpixel_motion_is_recovered(ways, depth, radius, seed):
    tracker = MarkerTracker(SHAPE)
    tracker.start(gel_image(REST, radius=radius, seed=seed))
    offset = np.zeros(2)
    for number, way in enumerate(ways):
        offset = np.clip(offset + way, -10, 10)
        places = pressed(REST, depth) + offset
        tracker.track(gel_image(places, radius=radius, seed=seed + number + 1))
    shown = wholly_shown(places, radius)
    assert shown.sum() >= 45
    assert tracker.found[shown].all()
    assert largest_error(tracker, places, shown) < SUBPIXEL
    np.testing.assert_allclose(tracker.displacements[shown], (places - REST)[shown], atol=2 * SUBPIXEL)


def test_nothing_adds_up_over_many_images():
    tracker = started()
    for number in range(200):
        angle = 0.2 * number
        places = REST + 4.0 * np.array([np.cos(angle), np.sin(angle)])
        tracker.track(gel_image(places, seed=number))
    assert largest_error(tracker, places) < SUBPIXEL


def test_a_hidden_marker_moves_with_its_neighbours_and_is_found_again():
    tracker, hidden = started(), (20, 21, 30, 40)
    for step in range(1, 6):
        places = REST + np.array([1.5 * step, -step])
        tracker.track(gel_image(places, hidden=hidden, seed=step))
    assert np.flatnonzero(~tracker.found).tolist() == list(hidden)
    assert largest_error(tracker, places) < 1.0
    tracker.track(gel_image(places, seed=9))
    assert tracker.found.all()
    assert largest_error(tracker, places) < SUBPIXEL


def test_markers_that_left_the_image_come_back_as_themselves():
    tracker = started()
    for x in (10, 20, 30, 40, 30, 20, 10, 0):  # the last column leaves at 18
        places = REST + np.array([x, 0.0])
        tracker.track(gel_image(places, seed=x))
        assert not tracker.found[places[:, 0] > 325].any()
        assert largest_error(tracker, places, wholly_shown(places)) < SUBPIXEL
    assert tracker.found.all()


def test_a_large_press_is_followed():
    tracker = started()
    for depth in (6, 12, 18, 24, 30, 24, 16, 8, 0):
        places = pressed(REST, depth, at=(150, 110), width=70)
        tracker.track(gel_image(places, seed=depth))
        assert largest_error(tracker, places, wholly_shown(places)) < 2 * SUBPIXEL
    assert tracker.found.all()


def test_a_dark_image_loses_all_and_light_finds_them_again():
    tracker = started()
    tracker.track(np.full((240, 320), 20, np.uint8))
    assert not tracker.found.any()
    assert np.isfinite(tracker.displacements).all()
    tracker.track(gel_image(REST + np.array([2, 1]), seed=3))
    assert tracker.found.all()


def test_zero_takes_the_present_shape_for_the_undeformed_one():
    tracker = started()
    places = pressed(REST, 5.0)
    tracker.track(gel_image(places, seed=1))
    tracker.zero()
    assert not tracker.displacements.any()
    tracker.track(gel_image(REST, seed=2))
    np.testing.assert_allclose(tracker.displacements, REST - places, atol=2 * SUBPIXEL)


# --- real recordings ----------------------------------------------------------------------------------------


def video(path):
    capture = cv2.VideoCapture(str(path))
    while True:
        there, image = capture.read()
        if not there:
            return
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def without_arrows(image):
    """The recordings with tables have red arrows drawn in; what they hide is painted over."""
    red, green, blue = (image[..., channel].astype(np.int16) for channel in range(3))
    arrows = cv2.dilate((red - np.maximum(blue, green) > 40).astype(np.uint8), np.ones((3, 3), np.uint8))
    return cv2.inpaint(image, arrows, 3, cv2.INPAINT_TELEA)


@pytest.mark.parametrize("name", [0, 1, 3, 5])
def test_recorded_tracks_are_met(shared_data, count, name):
    """Places in the tables are about half a pixel larger than ours, as if counted from the image's corner."""
    folder = shared_data / "gelsight_mini_markers"
    table = np.loadtxt(folder / f"marker_locations_{name}.csv", delimiter=",").reshape(-1, 80, 7)
    tracker, errors = MarkerTracker((8, 10)), []
    for image, rows in zip(video(folder / f"video_{name}.avi"), table[: count(150, 340)], strict=False):
        clean = without_arrows(image)
        if not errors:
            tracker.start(clean)
        moved = tracker.track(clean)
        place = np.linalg.norm(tracker.positions - rows[:, 5:], axis=1)
        motion = np.linalg.norm(moved - (rows[:, 5:] - rows[:, 3:5]), axis=1)
        errors.append((place, motion))
    place, motion = np.median(errors, axis=(0, 2))
    print(f"recording {name}: median {place:.2f} px from the places, {motion:.2f} px from the motions")
    assert place <= 1.0
    assert motion <= 0.6


def test_a_raw_recording_is_followed_from_end_to_end(shared_data):
    """Nothing touches the gel at the beginning and at the end; in between a finger does."""
    tracker, seen, largest = MarkerTracker((8, 10)), [], 0.0
    for image in video(shared_data / "gelsight_mini_markers" / "mini_example.avi"):
        if not seen:
            tracker.start(image)
        tracker.track(image)
        seen.append(tracker.found.reshape(8, 10)[1:])  # the first row is cut by the edge of the image
        largest = max(largest, np.abs(tracker.displacements).max())
    lost = 1.0 - np.mean(seen)
    print(f"markers move by up to {largest:.1f} px; {100 * lost:.2f} % are lost at a time")
    assert lost < 0.01
    assert largest > 5.0
    assert np.median(np.abs(tracker.displacements)) < 0.5
