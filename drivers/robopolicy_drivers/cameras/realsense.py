"""Intel RealSense cameras through librealsense; a recording goes through the same pipeline as a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robopolicy_datasets.clock import now_ns, wall_anchor_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.cameras.configs import RealSenseConfig
from robopolicy_drivers.cameras.source import CameraSource, Pace, Picture
from robopolicy_drivers.hosting.device_clock import DeviceClock

_WAIT_MS = 100
_MILLISECOND_NS, _MICROSECOND_NS = 1_000_000, 1_000


def librealsense() -> Any:
    """Returns the module ``pyrealsense2``.

    Raises:
        MissingExtraError: it is not installed.
        DeviceError: it is, but a library of the system is not.
    """
    try:
        return load_target("pyrealsense2:pyrealsense2")
    except ImportError as error:
        raise DeviceError(
            f"librealsense cannot be loaded ({error}). On Debian or Ubuntu run: apt-get install libusb-1.0-0"
        ) from error


class RealSenseSource(CameraSource[RealSenseConfig]):
    """See the module text.

    Args:
        config: the settings.
    """

    def __init__(self, config: RealSenseConfig) -> None:
        super().__init__(config)
        self._rs = rs = librealsense()
        self._pipeline, self._align = rs.pipeline(), rs.align(rs.stream.color)
        self._times, self._pace = FrameTimes(live=not config.recording), Pace()
        self._started = False

    def open(self) -> None:
        """Starts the streams.

        Raises:
            DeviceError: there is no such camera, it cannot be used, or it has no such streams.
        """
        rs, config = self._rs, self.config
        wanted = rs.config()
        if config.recording:
            _check_recording(config.recording)
            rs.config.enable_device_from_file(wanted, config.recording, repeat_playback=False)
        else:
            wanted.enable_device(_serial_of(rs, config.serial))
        size = (config.width, config.height)
        wanted.enable_stream(rs.stream.color, *size, rs.format.rgb8, round(config.fps))
        if config.depth:
            wanted.enable_stream(rs.stream.depth, *size, rs.format.z16, round(config.fps))
        try:
            self._device = self._pipeline.start(wanted).get_device()
        except RuntimeError as error:
            raise DeviceError(self._refusal(str(error))) from error
        self._started = True
        if config.recording:
            # librealsense's own pace falls behind by some percent.
            self._device.as_playback().set_real_time(False)

    def picture(self) -> Picture | None:
        """Returns the newest picture that was not returned yet, or None where none comes within 0.1 s.

        Raises:
            DeviceError: the recording has ended.
        """
        there, frames = self._pipeline.try_wait_for_frames(_WAIT_MS)
        if not there:
            self._check_going_on()
            return None
        if self.config.recording:
            self._pace.wait(round(frames.get_timestamp() * _MILLISECOND_NS))
        arrival_ns = now_ns()
        if self.config.depth:
            frames = self._align.process(frames)
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not color or (self.config.depth and not depth):
            return None  # half a pair, as at the beginning
        time_ns = self._times.monotonic_ns(color, arrival_ns)
        return Picture(time_ns, np.array(color.get_data()), _distances(depth) if depth else None)

    def close(self) -> None:
        """Releases the camera, however far ``open`` came."""
        if self._started:
            self._started = False
            self._pipeline.stop()

    def _check_going_on(self) -> None:
        if not self.config.recording:
            return
        if self._device.as_playback().current_status() == self._rs.playback_status.stopped:
            raise DeviceError(
                f"The recording '{self.config.recording}' has ended. Connect again to play it from its "
                "beginning."
            )

    def _refusal(self, reason: str) -> str:
        config = self.config
        if "busy" in reason.lower():
            return f"{config.label} is used by another program ({reason}). End that one first."
        if "resolve" in reason:
            return (
                f"{config.label} has no streams of {config.width} x {config.height} px at {config.fps:g} Hz. "
                f"It offers: {', '.join(_offers(self._rs, config)) or 'none'}."
            )
        return (
            f"{config.label} cannot be started: {reason}. Plug it into another USB 3 port; where access is "
            "denied, install librealsense's udev rules (99-realsense-libusb.rules)."
        )


class FrameTimes:
    """When the middle of a frame's exposure was, on our clock.

    Args:
        live: whether frames are taken now. Those of a recording have times of the past.
    """

    def __init__(self, *, live: bool) -> None:
        self._live, self._rs = live, librealsense()
        self._clock = DeviceClock()
        self._last_ns: int | None = None

    def monotonic_ns(self, frame: Any, arrival_ns: int) -> int:
        """Returns the time of a ``pyrealsense2.frame`` [ns, monotonic]; times always increase.

        librealsense maps the times of a live camera to the wall clock ("global time"), with the delay of the
        transport known. Other times are of the device's clock.

        Args:
            frame: with its time stamp, and its metadata where the system's driver tells any.
            arrival_ns: when it was here [ns, monotonic].
        """
        stamp_ns = round(frame.get_timestamp() * _MILLISECOND_NS) - self._after_exposure_ns(frame)
        domain = frame.get_frame_timestamp_domain()
        if not (self._live and domain == self._rs.timestamp_domain.global_time):
            return self._clock.monotonic_ns(stamp_ns, arrival_ns)
        time_ns = min(stamp_ns - wall_anchor_ns(), arrival_ns)
        if self._last_ns is not None:  # the wall clock may be set back
            time_ns = max(time_ns, self._last_ns + 1)
        self._last_ns = time_ns
        return time_ns

    def _after_exposure_ns(self, frame: Any) -> int:
        """Returns how much later than the middle of the exposure a time stamp is; 0 where not told."""
        of = self._rs.frame_metadata_value
        if not all(map(frame.supports_frame_metadata, (of.frame_timestamp, of.sensor_timestamp))):
            return 0
        stamp_us, middle_us = map(frame.get_frame_metadata, (of.frame_timestamp, of.sensor_timestamp))
        return _MICROSECOND_NS * int(stamp_us - middle_us)


def _distances(depth: Any) -> np.ndarray:
    """Returns metres ``[height, width]`` float32; 0 where unknown."""
    return np.asanyarray(depth.get_data()).astype(np.float32) * np.float32(depth.get_units())


def _check_recording(recording: str) -> None:
    if not Path(recording).is_file():
        raise DeviceError(
            f"There is no recording '{recording}'. Give the name of a .db3 file, or none for a camera."
        )


def _serial_of(rs: Any, serial: str) -> str:
    """Returns the serial number of the camera that is meant, which is plugged in."""
    present = [device.get_info(rs.camera_info.serial_number) for device in rs.context().query_devices()]
    if not present:
        raise DeviceError(
            "No RealSense camera is plugged in. See whether 'lsusb -d 8086:' shows it; where it does, "
            "install librealsense's udev rules (99-realsense-libusb.rules)."
        )
    if serial not in present and (serial or len(present) > 1):
        given = f"There is no RealSense '{serial}'" if serial else "There are several RealSense cameras"
        raise DeviceError(f"{given}; set serial= to one of: {', '.join(sorted(present))}.")
    return serial or str(present[0])


def _offers(rs: Any, config: RealSenseConfig) -> list[str]:
    """Returns the sizes and rates of the color and depth streams of the camera or recording."""
    context = rs.context()
    if config.recording:
        device = context.load_device(config.recording)
    else:
        device = next(
            each
            for each in context.query_devices()
            if config.serial in ("", each.get_info(rs.camera_info.serial_number))
        )
    profiles = [profile for sensor in device.query_sensors() for profile in sensor.get_stream_profiles()]
    wanted = (rs.stream.color, rs.stream.depth)
    videos = [each.as_video_stream_profile() for each in profiles if each.stream_type() in wanted]
    return sorted({f"{v.stream_name()} {v.width()} x {v.height()} at {v.fps()} Hz" for v in videos})
