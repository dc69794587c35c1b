"""The gel sensor as a driver: an own emulator of its camera, and real recordings played as a camera."""

from __future__ import annotations

import numpy as np
import pytest
from device_targets import wait_until
from gel_images import HEIGHT, WIDTH
from sensor_faults import noticed

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.cameras.configs import OpenCvCameraConfig
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.touch.configs import GelSightConfig
from robopolicy_drivers.touch.gelsight import GelSight, GelSightSource
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.touch import GelPad
from robopolicy_sim.worlds.world import World

pytestmark = pytest.mark.realtime

KEY = GelSightConfig.key
PIXEL = np.array([0.0186 / WIDTH, 0.0143 / HEIGHT])  # [m]


@pytest.fixture
def gel(emulator):
    """An emulator, and the config that reaches it."""
    started = emulator("gel_camera", 50)
    address = f"http://127.0.0.1:{started.told[0]}/"
    started.config = GelSightConfig(OpenCvCameraConfig(address=address, width=WIDTH, height=HEIGHT, fps=50.0))
    return started


def moved_by(sensor, pixels):
    """Whether all markers are so far from their places, but for a quarter of a pixel."""
    return lambda: np.abs(sensor.read()[1][KEY] / PIXEL - pixels).max() < 0.25


def test_it_conforms(gel):
    assert check_sensor(lambda: GelSight(gel.config))


def test_readings_are_those_of_a_simulated_pad():
    """Same key, shape, unit, kind and frame, so a store or a policy need not know which it was."""
    world = World(PickPlaceScene(), ("fr3",))
    pad = GelPad(world.model, world.data, load_embodiment("fr3").touch[0], outputs=("markers", "rgb"))
    ours = GelSight(GelSightConfig(images=True)).spec
    assert ours == pad.spec


def test_displacements_are_in_metres_along_x_and_y_of_the_picture(gel):
    with GelSight(gel.config) as sensor:
        assert wait_until(moved_by(sensor, (0, 0)))
        gel.tell("shift 4 -3")
        assert wait_until(moved_by(sensor, (4, -3)))


def test_zero_takes_the_present_shape_for_the_undeformed_one(gel):
    with GelSight(gel.config) as sensor:
        gel.tell("shift 4 -3")
        assert wait_until(moved_by(sensor, (4, -3)))
        sensor.zero()
        assert moved_by(sensor, (0, 0))()
        gel.tell("shift 0 0")
        assert wait_until(moved_by(sensor, (-4, 3)))
        gel.tell("hide 30 31")

        def refused():
            try:
                sensor.zero()
            except DeviceError as error:
                return "2 of 63 markers are not seen" in str(error)
            return False

        assert wait_until(refused)


def test_pictures_come_with_the_displacements_and_large_ones_are_reduced(gel):
    gel.config.images = True
    with GelSight(gel.config) as sensor:
        _, sample = sensor.read()
        assert sample["robot0_tactile0_rgb"].shape == (240, 320, 3)
    camera = OpenCvCameraConfig(width=640, height=480, fps=25.0)
    assert GelSight(GelSightConfig(camera, images=True)).spec["robot0_tactile0_rgb"].shape == (240, 320, 3)


def test_a_real_recording_is_tracked_as_a_camera(shared_data):
    video = shared_data / "gelsight_mini_markers" / "mini_example.avi"
    camera = OpenCvCameraConfig(address=str(video), width=320, height=240, fps=25.0)
    with GelSight(GelSightConfig(camera, rows=8, columns=10)) as sensor:
        assert wait_until(lambda: np.abs(sensor.read()[1][KEY] / PIXEL).max() > 3.0)  # a finger comes


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"), [("dark", "of the markers have been seen"), ("freeze", "frozen")]
)
def test_a_fault_of_the_picture_ends_the_reading(gel, reaction, fault, words):
    with GelSight(gel.config) as sensor:
        gel.tell(fault)
        reaction(f"'{fault}'", noticed(sensor, words))


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_camera_that_is_gone_is_noticed(gel, reaction, fault):
    with GelSight(gel.config) as sensor:
        getattr(gel, fault)()
        reaction(f"'{fault}' of the camera", noticed(sensor, "connect again"))


def test_another_gel_is_refused(gel):
    gel.config.rows, gel.config.columns = 8, 10
    with pytest.raises(DeviceError, match=r"should show 8 x 10 markers, but a grid of 7 x 9 was seen"):
        GelSight(gel.config).connect()


def test_a_missing_camera_is_refused():
    with pytest.raises(DeviceError, match="no camera /dev/video77"):
        GelSightSource(GelSightConfig(OpenCvCameraConfig(address="/dev/video77"))).open()


@pytest.mark.parametrize("wrong", [{"rows": 1}, {"size": [0.01]}, {"size": [0.01, 0.0]}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GelSightConfig(**wrong)
