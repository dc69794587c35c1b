"""RealSense: the driver on a recording, through the pipeline of a camera. No camera was there."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns, wall_anchor_ns
from robopolicy_datasets.errors import DeviceError, MissingExtraError
from robopolicy_datasets.registry import cameras
from robopolicy_drivers.cameras.configs import RealSenseConfig
from robopolicy_drivers.cameras.realsense import FrameTimes, librealsense
from robopolicy_drivers.conformance import check_camera
from robopolicy_launch.benchmarks._timed_pictures import HEIGHT, WIDTH, shown_ns

pytestmark = pytest.mark.realtime

RECORD = Path(__file__).parent.parent / "emulators" / "realsense_recording.py"
FPS, COUNT = 30, 30


@pytest.fixture(scope="module")
def sdk():
    """librealsense; it also needs libusb-1.0-0 of the system."""
    return pytest.importorskip("pyrealsense2", exc_type=ImportError)


@pytest.fixture(scope="module")
def recording(sdk, tmp_path_factory):
    path = tmp_path_factory.mktemp("realsense") / "camera.db3"
    subprocess.run([sys.executable, RECORD, path, str(FPS), str(COUNT)], check=True)
    return str(path)


def camera(recording, **settings):
    return cameras.build("realsense", RealSenseConfig(recording=recording, **settings))


def followed(device):
    """Returns (moment at which it was there, record) of every picture, and how the recording ended."""
    number, rows = 0, []
    try:
        while True:
            record = device.ring.wait_newer(number, 0.2)
            if record is None:
                device.read()
                continue
            number = record.number
            rows.append((now_ns(), record))
    except DeviceError as error:
        return rows, str(error)


def why_not(**settings):
    with pytest.raises(DeviceError) as raised:
        camera(**settings).connect()
    return str(raised.value)


def test_it_conforms(recording):
    check_camera(lambda: camera(recording, depth=True))


def test_color_and_depth_are_the_middle_square_of_what_was_recorded(recording):
    with camera(recording, depth=True) as device:
        _, images = device.read()
    color, depth = images["camera0_rgb"], images["camera0_depth"]
    assert color.shape == (224, 224, 3)
    assert depth.shape == (224, 224)
    assert (depth[:27] == 0).all()
    for part, distance in ((depth[30:, :110], 0.62), (depth[30:, 114:], 1.5)):
        known = part[part > 0]  # librealsense's alignment leaves some pixels out
        assert known.size > 0.9 * part.size
        np.testing.assert_allclose(known, distance, rtol=1e-6)
    assert color[200, 10, 0] == pytest.approx(90, abs=1)
    assert color[200, 10, 2] < color[200, -10, 2]  # blue rises to the right


def test_whole_pictures_and_no_depth(recording):
    with camera(recording, image_size=0, key="camera3_rgb") as device:
        assert {key: image.shape for key, image in device.read()[1].items()} == {
            "camera3_rgb": (HEIGHT, WIDTH, 3)
        }


def test_frame_times_are_the_cameras_own_until_the_recording_ends(recording):
    """The times that the pictures show and those that the driver tells have the same distances."""
    with camera(recording) as device:
        rows, end = followed(device)
    assert rows[-1][1].number > 0.8 * COUNT
    assert "has ended" in end
    late = np.array([(there - record.time_ns) / 1e6 for there, record in rows])
    shown = [(record.time_ns, shown_ns(record.data["camera0_rgb"], 0)) for _, record in rows]
    apart_us = [abs((b[0] - a[0]) - (b[1] - a[1])) / 1e3 for a, b in pairwise(shown)]
    print(f"distances between frames: p50 {np.median(apart_us):.0f} us, max {max(apart_us):.0f} us off")
    print(f"{len(rows)} of {COUNT} frames; there after p50 {np.median(late):.1f} ms, max {late.max():.1f} ms")
    assert np.median(apart_us) < 1000  # what the envelope creeps in a frame is 3 us


def test_frames_beside_a_bare_pipeline(recording, sdk):
    """Printed, never judged: frames of a recording that each of both gets."""
    pipeline, wanted = sdk.pipeline(), sdk.config()
    sdk.config.enable_device_from_file(wanted, recording, repeat_playback=False)
    wanted.enable_stream(sdk.stream.color, WIDTH, HEIGHT, sdk.format.rgb8, FPS)
    wanted.enable_stream(sdk.stream.depth, WIDTH, HEIGHT, sdk.format.z16, FPS)
    align, count = sdk.align(sdk.stream.color), 0
    playback = pipeline.start(wanted).get_device().as_playback()
    there = True
    while there or playback.current_status() != sdk.playback_status.stopped:
        there, frames = pipeline.try_wait_for_frames(100)
        count += bool(there and align.process(frames).get_color_frame())
    pipeline.stop()
    with camera(recording, depth=True) as device:
        ours = followed(device)[0][-1][1].number
    print(f"of {COUNT} color and depth frames at {FPS} Hz: bare pipeline {count}, ours {ours}")
    assert ours > 0.7 * COUNT


def test_a_time_is_the_middle_of_the_exposure_on_our_clock(recording, sdk):
    """Global time is of the wall clock; the metadata say that the exposure's middle was 5 ms before it."""
    pipeline, wanted = sdk.pipeline(), sdk.config()
    sdk.config.enable_device_from_file(wanted, recording, repeat_playback=False)
    pipeline.start(wanted)
    color = pipeline.wait_for_frames().get_color_frame()
    pipeline.stop()
    times = FrameTimes(live=True)
    now = now_ns()
    wall_ms = (now + wall_anchor_ns()) / 1e6
    assert times.monotonic_ns(Stamped(color, wall_ms, sdk), now) == pytest.approx(now - 5e6, abs=1e6)
    assert times.monotonic_ns(Stamped(color, wall_ms + 33.0, sdk), now + 40_000_000) == pytest.approx(
        now + 28e6, abs=1e6
    )
    before = times.monotonic_ns(Stamped(color, wall_ms + 66.0, sdk), now + 70_000_000)
    assert times.monotonic_ns(Stamped(color, wall_ms, sdk), now + 100_000_000) == before + 1


class Stamped:
    """A recorded frame, with the time stamp that a live camera's would have."""

    def __init__(self, frame, stamp_ms, sdk):
        self._frame, self._stamp_ms, self._sdk = frame, stamp_ms, sdk

    def __getattr__(self, name):
        return getattr(self._frame, name)

    def get_timestamp(self):
        return self._stamp_ms

    def get_frame_timestamp_domain(self):
        return self._sdk.timestamp_domain.global_time


def test_streams_that_it_does_not_have_are_refused_with_those_that_it_has(recording):
    answer = why_not(recording=recording, width=1280, height=720)
    assert "Color 640 x 480 at 30 Hz" in answer
    assert "Color 640 x 480 at 30 Hz" in why_not(recording=recording, fps=60)


def test_what_is_not_there_is_told(sdk):
    assert "There is no recording 'missing.db3'" in why_not(recording="missing.db3")
    if not sdk.context().query_devices():
        assert "No RealSense camera is plugged in" in why_not(recording="", serial="814212")


def test_a_file_that_is_no_recording_is_refused(sdk, tmp_path):
    path = tmp_path / "text.db3"
    path.write_text("no recording")
    assert "text.db3" in why_not(recording=str(path))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(MissingExtraError, match=r"robopolicy\[realsense\]"):
        librealsense()


def test_a_missing_library_of_the_system_is_named(monkeypatch, tmp_path):
    (tmp_path / "pyrealsense2.py").write_text("raise ImportError('libusb-1.0.so.0: no such file')")
    monkeypatch.delitem(sys.modules, "pyrealsense2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match="apt-get install libusb"):
        librealsense()
