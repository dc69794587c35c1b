"""Own emulator of a FlexiTac board on a pseudo terminal, which sends row by row as its firmware does.

    python flexitac_board.py RATE

It prints the path of the port. In frame n the taxel i reads (n + i) % 160, unless a press was set: 160 and
more never occur then, so no reading looks like a marker. Lines on stdin change what it does, each is
answered by "done":

    press COUNT              all taxels read so much from now on
    noise COUNT              sends so many random bytes between two frames
    drop COUNT               leaves out so many bytes of the next frame
    rows COUNT               sends frames of so many rows
    silent                   sends nothing any more
    cut                      closes the terminal, as when the cable is pulled
"""

import contextlib
import os
import random
import sys
import threading
import time
import tty

MARKER = b"\xaa\x55"
COLUMNS = 32


class Board:
    def __init__(self, rate_hz):
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.period_s = 1.0 / rate_hz
        self.rows, self.number = 12, 0
        self.press, self.noise, self.dropped, self.silent = None, 0, 0, False

    def obey(self, line):
        name, *words = line.split()
        if name in ("press", "noise", "rows"):
            setattr(self, name, int(words[0]))
        elif name == "drop":
            self.dropped = int(words[0])
        elif name == "silent":
            self.silent = True
        elif name == "cut":
            os.close(self.master)

    def frame(self):
        count = self.rows * COLUMNS
        if self.press is not None:
            return bytes([self.press]) * count
        return bytes((self.number + index) % 160 for index in range(count))

    def send(self, data):
        with contextlib.suppress(BlockingIOError):  # nobody reads
            os.write(self.master, data)

    def run(self):
        due = time.monotonic()
        while True:
            begin = random.Random(self.number).randbytes(self.noise) + MARKER
            self.noise = 0
            data = self.frame()[self.dropped :]
            self.dropped = 0
            self.number += 1
            if not self.silent:
                self.send(begin)
            for row in range(self.rows):
                due += self.period_s / self.rows
                time.sleep(max(0.0, due - time.monotonic()))
                if not self.silent:
                    self.send(data[row * COLUMNS : (row + 1) * COLUMNS])
            due = max(due, time.monotonic() - 0.1)


def run(board):
    with contextlib.suppress(OSError):  # the cable is cut
        board.run()


def main():
    board = Board(float(sys.argv[1]))
    threading.Thread(target=run, args=(board,), daemon=True).start()
    print(board.port, flush=True)
    for line in sys.stdin:
        board.obey(line)
        print("done", flush=True)


if __name__ == "__main__":
    main()
