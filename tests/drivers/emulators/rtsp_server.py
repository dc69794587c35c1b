"""A network camera by RTSP and H.264: the server is rtsp-rs, a third party's; pictures and encoder are given.

``python rtsp_server.py PORT FPS``; a line "ready" tells that it listens. The stream is rtsp://127.0.0.1:PORT/stream.
"""

import sys
import time
from fractions import Fraction

import av
import rtsp

from robopolicy_launch.benchmarks._timed_pictures import HEIGHT, WIDTH, draw

TICKS = 90_000  # of RTP's clock for video, a second


def main():
    port, fps = int(sys.argv[1]), int(sys.argv[2])
    server = rtsp.Server(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
    encoder.bit_rate, encoder.gop_size = 4_000_000, fps // 2
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    due_ns = time.monotonic_ns()
    while True:
        due_ns += 1_000_000_000 // fps
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        # The time that is shown is the one of RTP's clock too: a busy machine sends late, but no wrong times.
        frame = av.VideoFrame.from_ndarray(draw(due_ns), format="bgr24")
        for packet in encoder.encode(frame):
            server.send_frame(bytes(packet), TICKS // fps)


if __name__ == "__main__":
    main()
