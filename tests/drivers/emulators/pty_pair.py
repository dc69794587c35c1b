"""Two pseudo terminals, joined like the ends of a serial cable: both ends are real tty devices."""

import os
import selectors
import threading
import tty


class PtyPair:
    """``near`` and ``far`` are the paths of the two ends; ``cut`` ends the connection for good."""

    def __init__(self):
        ends = [os.openpty() for _ in range(2)]
        self._masters = [master for master, _ in ends]
        self._slaves = [slave for _, slave in ends]
        for master, slave in ends:
            os.set_blocking(master, False)
            tty.setraw(slave)
        self.near, self.far = (os.ttyname(slave) for slave in self._slaves)
        # A slave that stays open here would be another user of the port; a master lives without it.
        for slave in self._slaves:
            os.close(slave)
        threading.Thread(target=self._pump, daemon=True).start()

    def cut(self):
        for master in self._masters:
            os.close(master)

    def _pump(self):
        with selectors.DefaultSelector() as ready:
            for master, other in zip(self._masters, reversed(self._masters), strict=True):
                ready.register(master, selectors.EVENT_READ, other)
            while True:
                for key, _ in ready.select():
                    try:
                        os.write(key.data, os.read(key.fd, 4096))
                    except OSError:  # nobody has that end open just now, or the cable is cut
                        threading.Event().wait(0.01)
