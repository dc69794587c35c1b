"""An own emulator of a network camera: motion JPEG over HTTP, from the standard library's server.

``python mjpeg_server.py PORT FPS``; a line "ready" tells that it listens. Pictures show their own time.
``SIGUSR1`` freezes the picture: the same is sent again and again.
"""

import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from robopolicy_launch.benchmarks._timed_pictures import draw

frozen = []


class Camera(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    fps = 30.0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        due = time.monotonic()
        try:
            while True:
                due += 1 / self.fps
                time.sleep(max(0.0, due - time.monotonic()))
                self.wfile.write(self._part())
        except ConnectionError:
            return

    def _part(self):
        picture = frozen[0] if frozen else draw(time.monotonic_ns())
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n"

    def log_message(self, *arguments):
        pass


def main():
    signal.signal(signal.SIGUSR1, lambda *_: frozen.append(draw(time.monotonic_ns())))
    Camera.fps = float(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
