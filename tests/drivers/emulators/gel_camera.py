"""Own emulator of the camera behind a gel: motion JPEG over HTTP, with drawn markers.

    python gel_camera.py FPS

It prints its port. Lines on stdin change what it shows, each is answered by "done":

    shift X Y      the markers are so far from their places [px]
    hide INDEX...  these markers are not seen
    dark           the light is off
    freeze         the same picture again and again
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "touch"))

from gel_images import gel_image, places_of_rest


class Gel:
    def __init__(self, fps):
        self.fps = fps
        self.shift, self.hidden, self.dark, self.frozen = np.zeros(2), (), False, None
        self.number = 0

    def obey(self, line):
        name, *words = line.split()
        if name == "shift":
            self.shift = np.array(words, float)
        elif name == "hide":
            self.hidden = tuple(map(int, words))
        elif name == "dark":
            self.dark = True
        elif name == "freeze":
            self.frozen = self.jpeg()

    def jpeg(self):
        if self.frozen is not None:
            return self.frozen
        self.number += 1
        image = gel_image(places_of_rest() + self.shift, hidden=self.hidden, seed=self.number)
        if self.dark:
            image = image // 8
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def main():
    gel = Gel(float(sys.argv[1]))

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due = time.monotonic()
            while True:
                due += 1 / gel.fps
                time.sleep(max(0.0, due - time.monotonic()))
                jpeg = gel.jpeg()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                except ConnectionError:
                    return

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        gel.obey(line)
        print("done", flush=True)


if __name__ == "__main__":
    main()
