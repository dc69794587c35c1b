"""Cameras that OpenCV opens: network streams and files for real; of UVC what can be had without a camera."""

import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from threading import Thread

import cv2
import numpy as np
import pytest
from device_targets import wait_until

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.registry import cameras
from robopolicy_drivers.cameras.camera import HostedCamera
from robopolicy_drivers.cameras.configs import OpenCvCameraConfig
from robopolicy_drivers.cameras.opencv_inputs import VideoDevice
from robopolicy_drivers.conformance import check_camera
from robopolicy_launch.benchmarks._timed_pictures import HEIGHT, WIDTH, draw, shown_ns
from robopolicy_launch.benchmarks.cameras import compare

pytestmark = pytest.mark.realtime

KEY = "camera0_rgb"
FILE_FPS = 20


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A file of two seconds whose pictures show their own position."""
    path = tmp_path_factory.mktemp("video") / "pictures.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FILE_FPS, (WIDTH, HEIGHT))
    for index in range(2 * FILE_FPS):
        writer.write(draw(index * 1_000_000_000 // FILE_FPS))
    writer.release()
    return str(path)


def camera(address, **settings):
    return cameras.build("opencv", OpenCvCameraConfig(address=address, **settings))


def followed(device, seconds):
    """Yields (moment at which it was there, record) of every picture that comes."""
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        record = device.ring.wait_newer(number, 1.0)
        if record is None:
            continue
        number = record.number
        yield now_ns(), record


def fails(device):
    """Returns whether reading fails."""
    try:
        device.read()
    except DeviceError:
        return True
    return False


def why_not(address, **settings):
    """Returns what connecting says."""
    with pytest.raises(DeviceError) as raised:
        camera(address, **settings).connect()
    return str(raised.value)


def test_a_motion_jpeg_camera_conforms(mjpeg):
    check_camera(lambda: camera(mjpeg[1]))


def test_an_rtsp_camera_conforms(rtsp):
    check_camera(lambda: camera(rtsp[1]))


def test_a_video_file_conforms(video):
    check_camera(lambda: camera(video))


def test_an_image_is_the_middle_square_or_the_whole_picture(video):
    with camera(video) as device:
        square = device.read()[1][KEY]
    with camera(video, image_size=0, key="camera1_rgb") as device:
        whole = device.read()[1]["camera1_rgb"]
    assert square.shape == (224, 224, 3)
    assert whole.shape == (HEIGHT, WIDTH, 3)
    left = (WIDTH - HEIGHT) // 2
    near = np.abs(square[112, [0, -1]].astype(float) - whole[HEIGHT // 2, [left + 1, left + HEIGHT - 2]])
    assert near.max() < 12  # red falls and blue stays from left to right: colors and sides are right
    assert whole[5, 5, 0] == pytest.approx(90, abs=6)


def test_the_times_of_a_video_file_are_its_positions_until_it_ends(video):
    with camera(video) as device:
        rows = [(record.time_ns, shown_ns(record.data[KEY], 0)) for _, record in followed(device, 1.0)]
        assert wait_until(lambda: fails(device))
        with pytest.raises(DeviceError, match="has ended"):
            device.read()
    assert len(rows) > 5
    apart = [(later[0] - earlier[0]) - (later[1] - earlier[1]) for earlier, later in pairwise(rows)]
    assert max(map(abs, apart)) <= 1_000_000  # the file counts whole milliseconds


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_picture_is_never_old_however_seldom_it_is_read(kind, request):
    _, address = request.getfixturevalue(kind)
    with camera(address) as device:
        for _ in range(2):
            before_ns = now_ns()
            time.sleep(0.4)
            time_ns, images = device.read()
            shown = shown_ns(images[KEY], now_ns())
            assert before_ns < time_ns <= now_ns()
            assert before_ns < shown <= time_ns


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_the_age_of_pictures_beside_a_plain_loop(kind, request):
    """Printed, never judged: how old what a picture shows is when a program has it."""
    _, address = request.getfixturevalue(kind)
    for row in compare(kind, address, 1.0, rounds=1):
        print(f"{row.name}: {row.ours:.1f} {row.unit}, {row.reference:.1f} with {row.compared_with}")
        assert row.ours > 0


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_camera_that_dies_is_noticed(kind, request, reaction):
    process, address = request.getfixturevalue(kind)
    with camera(address) as device:
        process.kill()
        reaction(f"{kind} camera killed", lambda: fails(device))
        with pytest.raises(DeviceError, match=r"power and (network|its cable)"):
            device.read()


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_stream_without_pictures_is_noticed(kind, request, reaction):
    process, address = request.getfixturevalue(kind)
    with camera(address) as device:
        process.send_signal(signal.SIGSTOP)
        reaction(f"{kind} camera silent", lambda: fails(device))
        with pytest.raises(DeviceError, match=r"power and (network|its cable)"):
            device.read()


def test_a_frozen_picture_is_noticed(mjpeg, reaction):
    process, address = mjpeg
    with camera(address, frozen_after_s=1.0) as device:
        process.send_signal(signal.SIGUSR1)
        reaction("camera frozen (allowed: 1 s)", lambda: fails(device))
        with pytest.raises(DeviceError, match="has frozen"):
            device.read()


def test_a_picture_may_stay_the_same_where_that_is_said(mjpeg):
    process, address = mjpeg
    process.send_signal(signal.SIGUSR1)
    with camera(address, frozen_after_s=0.0) as device:
        time.sleep(1.0)
        first = device.read()[0]
        time.sleep(0.2)
        assert device.read()[0] > first


def test_pictures_of_another_size_are_refused_with_theirs(video):
    assert "set width=640 height=480" in why_not(video, width=1280, height=720)


class NoVideo(BaseHTTPRequestHandler):
    """Answers, but knows no path."""

    def log_message(self, *arguments):
        pass


def test_what_is_not_there_is_told(tmp_path):
    (tmp_path / "text.avi").write_text("no video")
    assert "Present: " in why_not("/dev/video97")
    assert "Present: " in why_not("97")
    assert "There is no video 'missing.mp4'" in why_not("missing.mp4")
    assert "no video that FFmpeg can read" in why_not(str(tmp_path / "text.avi"))


def test_a_network_camera_that_is_not_there_is_told():
    with HTTPServer(("127.0.0.1", 0), NoVideo) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        answer = why_not(f"http://user:secret@127.0.0.1:{server.server_port}/wrong")
        server.shutdown()
    assert "answers, but gives no video" in answer
    assert "secret" not in answer
    assert "Nobody answers" in why_not(f"rtsp://127.0.0.1:{server.server_port}/stream")


NOBODY = """
import os, pathlib
from robopolicy_drivers.cameras.opencv_inputs import DeviceError, check_device_file
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    check_device_file(pathlib.Path("/etc/shadow"))
except DeviceError as error:
    print(error)
"""


def test_a_device_that_may_not_be_opened_says_who_may():
    answer = subprocess.run([sys.executable, "-c", NOBODY], capture_output=True, text=True, check=True)
    assert "usermod -aG video" in answer.stdout


def test_settings_that_no_camera_has_are_refused():
    with pytest.raises(ConfigError, match=r"camera\.fps is 0"):
        OpenCvCameraConfig(fps=0)
    with pytest.raises(ConfigError, match=r"camera\.image_size is -1"):
        OpenCvCameraConfig(image_size=-1)
    with pytest.raises(ConfigError, match=r"camera\.fourcc is 'MJP'; give the four letters"):
        OpenCvCameraConfig(fourcc="MJP")


class GrantsVga:
    """Stands in for a webcam, of which there is none: it knows 640 x 480 at 30 Hz only."""

    fps = 30.0

    def __init__(self, path, backend):
        assert (path, backend) == ("/dev/video3", cv2.CAP_V4L2)

    def isOpened(self):
        return True

    def set(self, setting, value):
        return True

    def get(self, setting):
        mjpg = float(cv2.VideoWriter.fourcc(*"MJPG"))
        granted = {
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: self.fps,
        }
        return {**granted, cv2.CAP_PROP_FOURCC: mjpg}[setting]

    def release(self):
        pass


def test_a_webcam_that_grants_something_else_says_what_it_offers(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", GrantsVga)
    monkeypatch.setattr("robopolicy_drivers.cameras.opencv_inputs.check_device_file", lambda path: None)
    VideoDevice(OpenCvCameraConfig(address="3", fourcc="MJPG")).open()
    with pytest.raises(DeviceError, match="offers 640 x 480 px at 30 Hz MJPG"):
        VideoDevice(OpenCvCameraConfig(address="/dev/video3", fourcc="YUYV", width=1280, height=720)).open()
    with pytest.raises(DeviceError, match="asked for 640 x 480 px at 60 Hz"):
        VideoDevice(OpenCvCameraConfig(address="/dev/video3", fps=60)).open()
    monkeypatch.setattr(GrantsVga, "fps", 0.0)  # a driver that tells no rate
    VideoDevice(OpenCvCameraConfig(address="/dev/video3", fps=60)).open()


def test_a_webcam_buffers_time_is_taken_where_it_is_of_our_clock():
    device, now = VideoDevice(OpenCvCameraConfig()), now_ns()
    assert device.time_ns(now / 1e6 - 20.0, now) == pytest.approx(now - 20_000_000, abs=1000)
    late, following = now + 1_500_000_000, now + 1_510_000_000  # what waited in its queue meanwhile
    assert device.time_ns(now / 1e6 + 10.0, late) == pytest.approx(now + 10_000_000, abs=1000)
    assert device.time_ns(now / 1e6 + 900.0, following) == pytest.approx(now + 900_000_000, abs=1000)
    assert device.time_ns(0.0, now) == now  # a driver that tells nothing
    other = VideoDevice(OpenCvCameraConfig())
    assert [other.time_ns(1e12 + 33.0 * index, now + 33_000_000 * index) for index in range(3)] == [
        now + 33_000_000 * index for index in range(3)
    ]


def test_the_name_of_the_driver():
    assert isinstance(camera("0"), HostedCamera)
