"""Own emulator of a Robotiq 2F gripper's registers, on pymodbus' server (a third party's Modbus stack).

    python robotiq_gripper.py tcp HOST PORT
    python robotiq_gripper.py pty

It prints where it listens (and with pty the path of the port to open). Lines on stdin change what it does:

    fault CODE      reports a fault until it is activated anew
    object COUNT    something that the fingers cannot pass when they close beyond COUNT; 0 for nothing
    silent          answers nothing any more
    cut             closes the terminal, as when the cable is pulled
    set COUNT       another program asks for a position
    pause           another program takes away the bit that makes the gripper follow
"""

import asyncio
import sys
import time

from pty_pair import PtyPair
from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

OPEN, CLOSED = 3, 230
SLOWEST, FASTEST = 53.0, 400.0  # counts a second, about 20 and 150 mm/s
ACTIVATION_S = 1.0
UNIT = 9


class Gripper:
    """Registers 1000 to 1002 are what is asked for, 2000 to 2002 what is told."""

    def __init__(self):
        self.asked = [0, 0, 0]
        self.position, self.moved_at = 100.0, time.monotonic()
        self.activated_at = None
        self.fault, self.object, self.silent = 0, 0, False
        self.contact = 0

    async def access(self, function, start, address, count, registers, values):
        if self.silent:
            await asyncio.sleep(3600)
        self.move()
        if values is not None:
            if address < 1000 or address + count > 1003:
                return ExcCodes.ILLEGAL_ADDRESS
            offset = address - 1000
            self.ask(self.asked[:offset] + list(values) + self.asked[offset + count :])
        registers[2000 - start : 2003 - start] = self.told()
        return None

    def ask(self, asked):
        active, before = asked[0] & 0x0100, self.asked[0] & 0x0100
        if not active:
            self.activated_at = None
        elif not before:
            self.activated_at, self.fault, self.position = time.monotonic(), 0, OPEN
        self.asked = asked

    @property
    def activation(self):
        if self.activated_at is None:
            return 0
        return 3 if time.monotonic() > self.activated_at + ACTIVATION_S else 1

    def move(self):
        now = time.monotonic()
        elapsed, self.moved_at = now - self.moved_at, now
        if self.activation != 3 or not self.asked[0] & 0x0800 or self.fault:
            return
        goal = min(max(self.asked[1] & 0xFF, OPEN), CLOSED)
        speed = SLOWEST + (FASTEST - SLOWEST) * (self.asked[2] >> 8) / 255
        step = speed * elapsed
        reached = min(max(goal, self.position - step), self.position + step)
        self.contact = 0
        if self.object and self.position <= self.object < reached:
            reached, self.contact = self.object, 2
        self.position = reached

    def told(self):
        active, going = bool(self.asked[0] & 0x0100), bool(self.asked[0] & 0x0800)
        goal = min(max(self.asked[1] & 0xFF, OPEN), CLOSED)
        there = 3 if abs(self.position - goal) < 1 else 0
        state = (self.contact or there) << 6 | self.activation << 4 | going << 3 | active
        fault = self.fault or (7 if not active else 0)
        return [state << 8, fault << 8 | self.asked[1] & 0xFF, round(self.position) << 8]


async def obey(gripper, cable):
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        match line:
            case ["fault", code]:
                gripper.fault = int(code)
            case ["object", count]:
                gripper.object = int(count)
            case ["silent"]:
                gripper.silent = True
            case ["cut"]:
                cable.cut()
            case ["set", count]:
                gripper.asked[1] = int(count)
            case ["pause"]:
                gripper.asked[0] &= ~0x0800
    sys.exit(0)


async def main(kind, *where):
    gripper = Gripper()
    registers = [SimData(at, count=3, values=0, datatype=DataType.REGISTERS) for at in (1000, 2000)]
    device = SimDevice(UNIT, registers, action=gripper.access)
    cable = PtyPair() if kind == "pty" else None
    if cable is None:
        address = where[0], int(where[1])
        server = ModbusTcpServer(device, framer=FramerType.RTU, address=address, ignore_missing_devices=True)
    else:
        server = ModbusSerialServer(device, port=cable.far, baudrate=115_200, ignore_missing_devices=True)
    await server.serve_forever(background=True)
    print(cable.near if cable else "{}:{}".format(*where), flush=True)
    await obey(gripper, cable)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
