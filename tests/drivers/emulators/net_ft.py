"""Own emulator of an ATI Net F/T: RDT over UDP, and the web page that tells its calibration.

    python net_ft.py HOST RATE

It prints the ports of RDT and of the page. Sample n has the counts n, n + 1000, ... n + 5000 (n begins anew
after a million), unless a load was set. Lines on stdin change what it does, each is answered by "done":

    load FX FY FZ TX TY TZ   counts to send from now on
    status WORD              sends this status word (hexadecimal)
    lose COUNT               lets so many records get lost
    garble                   sends packets that are no records
    units FORCE TORQUE       units that the page tells
    page TEXT                what the page has instead
"""

import select
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

REQUEST, RECORD = struct.Struct("!HHI"), struct.Struct("!IIIiiiiii")
COUNTS_PER_FORCE, COUNTS_PER_TORQUE = 1_000_000, 2_000_000
PAGE = (
    "<netFTApi><scfgfu>{}</scfgfu><scfgtu>{}</scfgtu><cfgcpf>{}</cfgcpf><cfgcpt>{}</cfgcpt>"
    "<comrdtrate>{}</comrdtrate></netFTApi>"
)


class NetFt:
    def __init__(self, host, rate_hz):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.period_s, self.rate_hz = 1.0 / rate_hz, rate_hz
        self.client, self.left, self.endless = None, 0, False
        self.sequence = self.sample = self.status = self.lost = 0
        self.load, self.garbled = None, False
        self.units, self.text = ("N", "N-m"), PAGE

    def page(self):
        return self.text.format(*self.units, COUNTS_PER_FORCE, COUNTS_PER_TORQUE, self.rate_hz)

    def obey(self, line):
        name, *words = line.split()
        if name == "load":
            self.load = [int(word) for word in words]
        elif name == "status":
            self.status = int(words[0], 16)
        elif name == "lose":
            self.lost = int(words[0])
        elif name == "garble":
            self.garbled = True
        elif name == "units":
            self.units = tuple(words)
        elif name == "page":
            self.text = words[0]

    def answer(self):
        """Takes requests as long as there are any; the last who asks gets the records."""
        while select.select([self.socket], [], [], 0)[0]:
            packet, client = self.socket.recvfrom(64)
            header, command, count = REQUEST.unpack(packet)
            if header == 0x1234 and command == 2:
                self.client, self.left, self.endless, self.sequence = client, count, count == 0, 0
            elif header == 0x1234 and command == 0:
                self.client = None

    def send(self):
        self.sample += 1
        if self.client is None or not (self.endless or self.left):
            return
        self.sequence += 1
        self.left -= 1
        if self.lost:
            self.lost -= 1
            return
        counts = self.load or [self.sample % 1_000_000 + 1000 * axis for axis in range(6)]
        record = RECORD.pack(self.sequence, self.sample, self.status, *counts)
        self.socket.sendto(record[:-4] if self.garbled else record, self.client)

    def run(self):
        due = time.monotonic()
        while True:
            self.answer()
            self.send()
            due = max(due + self.period_s, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))


def main():
    host, rate_hz = sys.argv[1], int(sys.argv[2])
    box = NetFt(host, rate_hz)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(box.page().encode())

        def log_message(self, *words):
            pass

    page = HTTPServer((host, 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    threading.Thread(target=box.run, daemon=True).start()
    print(box.socket.getsockname()[1], page.server_port, flush=True)
    for line in sys.stdin:
        box.obey(line)
        print("done", flush=True)


if __name__ == "__main__":
    main()
