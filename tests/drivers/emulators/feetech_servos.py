"""Own emulator of a bus of Feetech STS3215 servos, on a pseudo terminal: protocol, registers, motion.

    python feetech_servos.py [ID=COUNT ...]

It prints the path of its port. COUNT is where the encoder of the servo ID stands at first (default 2048); the
shaft may turn by 1700 counts from there, either way. Lines on stdin change what it does:

    error ID BITS       the servo's status
    silent ID           it answers no more; with ID 0 none does
    corrupt ID COUNT    so many of its next answers have a wrong checksum
    model ID NUMBER     another model
    push ID COUNTS      a hand turns the shaft, slowly, by so many counts (the torque must be off)
    turn ID COUNTS      the same with a shaft that has no stops
    power               all servos lose their power for a moment
    set ID COUNT        another program writes a set point
    cut                 closes the terminal, as when the USB cable is pulled
"""

import contextlib
import math
import os
import select
import sys
import threading
import time
import tty

TURN = 4096
MODEL, MIN, MAX, PHASE, OFFSET = 3, 9, 11, 18, 31
TORQUE, GOAL, LOCK, POSITION, VELOCITY, STATUS = 40, 42, 55, 56, 58, 65
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
SPEED, ACCELERATION = 3550.0, 30000.0  # counts: 52 rpm without load
HALF_RANGE = 1700
STEP_S = 0.004


class Servo:
    def __init__(self, number, encoder):
        self.registers = bytearray(100)
        self.set(MODEL, 777)
        self.set(MAX, TURN - 1)
        self.registers[5] = number
        self.shaft = float(encoder)  # counts, beyond one turn too
        self.stops = encoder - HALF_RANGE, encoder + HALF_RANGE
        self.velocity, self.hand = 0.0, 0.0
        self.silent, self.corrupt = False, 0
        self.show()

    def word(self, address):
        return self.registers[address] | self.registers[address + 1] << 8

    def set(self, address, value):
        self.registers[address : address + 2] = value.to_bytes(2, "little")

    @property
    def offset(self):
        bits = self.word(OFFSET)
        return -(bits & 0x7FF) if bits & 0x800 else bits

    @property
    def position(self):
        return (round(self.shaft) - self.offset) % TURN

    def move(self, seconds):
        """The servo steers by what it tells: it does not know the shorter way around."""
        if self.registers[TORQUE]:
            goal = min(max(self.word(GOAL), self.word(MIN)), self.word(MAX))
            way = goal - self.position
            fastest = min(SPEED, 30.0 * abs(way), 0.8 * (2 * ACCELERATION * abs(way)) ** 0.5)
            wanted = max(-fastest, min(fastest, 1e6 * way))
            change = ACCELERATION * seconds
            self.velocity += max(-change, min(change, wanted - self.velocity))
            step = self.velocity * seconds
        else:
            step = max(-4000.0 * seconds, min(4000.0 * seconds, self.hand))
            self.hand -= step
            self.velocity = step / max(seconds, 1e-6)
        self.shaft = max(self.stops[0], min(self.stops[1], self.shaft + step))

    def show(self):
        self.set(POSITION, self.position)
        speed = round(abs(self.velocity))
        self.set(VELOCITY, speed | (0x8000 if self.velocity < 0 else 0))

    def write(self, address, values):
        for at, value in enumerate(values, address):
            if at >= TORQUE or not self.registers[LOCK]:
                self.registers[at] = value

    def lose_power(self):
        self.registers[TORQUE:STATUS] = bytes(STATUS - TORQUE)
        self.registers[LOCK] = 1


class Bus:
    def __init__(self, encoders):
        self.servos = {number: Servo(number, encoder) for number, encoder in encoders.items()}
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.port = os.ttyname(slave)
        os.close(slave)  # a slave that stays open here would be another user of the port
        self.received, self.lock = bytearray(), threading.Lock()

    def run(self):
        last = time.monotonic()
        while True:
            try:
                if select.select([self.master], [], [], 0.002)[0]:
                    self.received += os.read(self.master, 4096)
            except OSError:  # nobody has the port open, or the cable is cut
                time.sleep(0.002)
            now = time.monotonic()
            with self.lock:
                steps = math.ceil((now - last) / STEP_S)  # this process may have slept for long
                for servo in self.servos.values():
                    for _ in range(steps):
                        servo.move((now - last) / steps)
                    servo.show()
                self.answer_all()
            last = now

    def answer_all(self):
        while (begin := self.received.find(b"\xff\xff")) >= 0:
            del self.received[:begin]
            if len(self.received) < 4 or len(self.received) < 4 + self.received[3]:
                return
            packet = bytes(self.received[: 4 + self.received[3]])
            del self.received[: len(packet)]
            if ~sum(packet[2:-1]) & 0xFF == packet[-1]:
                self.obey(packet[2], packet[4], packet[5:-1])

    def obey(self, number, instruction, parameters):
        if instruction == SYNC_WRITE:
            address, size, *rest = parameters
            for at in range(0, len(rest), size + 1):
                if rest[at] in self.servos:
                    self.servos[rest[at]].write(address, rest[at + 1 : at + 1 + size])
        elif instruction == SYNC_READ:
            address, size, *numbers = parameters
            for each in numbers:
                self.reply(each, lambda servo: servo.registers[address : address + size])
        elif instruction == READ:
            self.reply(number, lambda servo: servo.registers[parameters[0] : sum(parameters[:2])])
        elif instruction == WRITE:
            self.reply(number, lambda servo: servo.write(parameters[0], parameters[1:]) or b"")
        elif instruction == PING:
            self.reply(number, lambda servo: b"")

    def reply(self, number, content):
        servo = self.servos.get(number)
        if servo is None:
            return
        body = bytes(content(servo))
        if servo.silent:
            return
        packet = bytes([number, len(body) + 2, servo.registers[STATUS], *body])
        checksum = ~sum(packet) & 0xFF
        if servo.corrupt:
            servo.corrupt -= 1
            checksum ^= 0x55
        with contextlib.suppress(OSError):  # nobody has the port open any more
            os.write(self.master, b"\xff\xff" + packet + bytes([checksum]))

    def change(self, name, number=0, value=0):
        chosen = [self.servos[number]] if number else list(self.servos.values())
        for servo in chosen:
            match name:
                case "error":
                    servo.registers[STATUS] = value
                case "silent":
                    servo.silent = True
                case "corrupt":
                    servo.corrupt = value
                case "model":
                    servo.set(MODEL, value)
                case "push":
                    servo.hand += value
                case "turn":
                    servo.stops = servo.stops[0] - abs(value), servo.stops[1] + abs(value)
                    servo.hand += value
                case "power":
                    servo.lose_power()
                case "set":
                    servo.set(GOAL, value)
        if name == "cut":
            os.close(self.master)


def main(*encoders):
    given = dict(map(int, pair.split("=")) for pair in encoders)
    bus = Bus({number: given.get(number, 2048) for number in range(1, 7)})
    threading.Thread(target=bus.run, daemon=True).start()
    print(bus.port, flush=True)
    for line in sys.stdin:
        name, *numbers = line.split()
        with bus.lock:
            bus.change(name, *map(int, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
