"""A recording of a RealSense camera, made by librealsense's own software device and recorder.

``python realsense_recording.py FILE.db3 FPS COUNT``. Color pictures show their own time, from 0 and by the
device's clock, which is the time stamp of their frame too; distances are 0.62 m on the left and 1.5 m on the
right, and there is none at the top.
"""

import sys
import time

import numpy as np
import pyrealsense2 as rs

from robopolicy_launch.benchmarks._timed_pictures import HEIGHT, WIDTH, draw

EXPOSURE_TO_STAMP_US = 5000


def add_stream(sensor, kind, layout, pixel_bytes, fps, number):
    lens = rs.intrinsics()
    lens.width, lens.height, lens.ppx, lens.ppy = WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2
    lens.fx = lens.fy = 600
    lens.model, lens.coeffs = rs.distortion.none, [0] * 5
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.bpp, stream.fps = kind, layout, pixel_bytes, fps
    stream.width, stream.height, stream.intrinsics = WIDTH, HEIGHT, lens
    stream.index, stream.uid = 0, number
    return sensor.add_video_stream(stream).as_video_stream_profile()


def frame_of(pixels, profile, number, stamp_ms):
    frame = rs.software_video_frame()
    frame.bpp = pixels[0, 0].nbytes
    frame.stride = WIDTH * frame.bpp
    frame.pixels, frame.profile, frame.frame_number = pixels, profile, number
    frame.timestamp, frame.domain = stamp_ms, rs.timestamp_domain.hardware_clock
    return frame


def main():
    path, fps, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, "814212")
    depth_sensor, color_sensor = device.add_sensor("Depth"), device.add_sensor("Color")
    depth_sensor.add_read_only_option(rs.option.depth_units, 0.001)
    depth = add_stream(depth_sensor, rs.stream.depth, rs.format.z16, 2, fps, 0)
    color = add_stream(color_sensor, rs.stream.color, rs.format.rgb8, 3, fps, 1)
    same = rs.extrinsics()
    same.rotation, same.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
    depth.register_extrinsics_to(color, same)
    color.register_extrinsics_to(depth, same)
    device.create_matcher(rs.matchers.default)
    for sensor in (depth_sensor, color_sensor):
        sensor.set_metadata(rs.frame_metadata_value.frame_timestamp, 20_000)
        sensor.set_metadata(rs.frame_metadata_value.sensor_timestamp, 20_000 - EXPOSURE_TO_STAMP_US)
    recorder, queue = rs.recorder(path, device), rs.frame_queue(50)
    for sensor in recorder.query_sensors():
        sensor.open(sensor.get_stream_profiles())
        sensor.start(queue)
    distances = np.full((HEIGHT, WIDTH), 1500, np.uint16)
    distances[:, : WIDTH // 2] = 620
    distances[:60] = 0
    for number in range(count):
        time.sleep(1 / fps)
        stamp_ms = 1000.0 * number / fps
        picture = np.ascontiguousarray(draw(round(1e6 * stamp_ms))[..., ::-1])
        depth_sensor.on_video_frame(frame_of(distances, depth, number, stamp_ms))
        color_sensor.on_video_frame(frame_of(picture, color, number, stamp_ms))
    recorder.pause()


if __name__ == "__main__":
    main()
