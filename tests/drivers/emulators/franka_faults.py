"""franky-sim (a third party's) whose arm can be made to stop by itself, which it never does alone.

Its hand also answers a motion that is stopped ("aborted", as libfranka expects), which franky-sim forgets.

Run as ``python franka_faults.py HOST``; it reads one word a line: ``reflex`` (the arm bumps into something),
``user_stop`` (its button is pressed), ``ready`` (the button is released).
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from contextlib import suppress

import franky_sim.simulation_server
from franky_sim.franka_gripper_protocol import GripperCommandStatus
from franky_sim.franka_gripper_server import FrankaGripperServer
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    MoveStatus,
    RobotCommand,
    RobotMode,
)
from franky_sim.franka_robot_server import FrankaRobotServer
from franky_sim.franka_server import BaseCommand
from franky_sim.mujoco_simulator import MujocoSimulator

CARTESIAN_REFLEX = 7  # its place among libfranka's 41 errors
WORDS: queue.SimpleQueue[str] = queue.SimpleQueue()


class FaultyServer(FrankaRobotServer):
    """The server of one robot, with faults."""

    mode: RobotMode | None = None  # what is told instead of the truth

    def process_commands(self) -> None:
        """Does what was asked for since the last millisecond, then what it always does."""
        while not WORDS.empty():
            match WORDS.get():
                case "reflex":
                    self.fail(RobotMode.kReflex, MoveStatus.kReflexAborted)
                case "user_stop":
                    self.fail(RobotMode.kUserStopped, MoveStatus.kEmergencyAborted)
                case "ready":
                    self.mode = None
        super().process_commands()

    def fail(self, mode: RobotMode, status: MoveStatus) -> None:
        """Holds the arm where it is and refuses to move it."""
        self.mode, motion = mode, self.current_motion_id
        self.reset_current_motion_id()
        self.stop_motion(send_preemption_signal=False)
        self.send_state()
        if motion:
            BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, status)

    def start_motion(self, *arguments, **named) -> None:
        """Refuses while the arm is not ready; who asked is told that the motion was aborted."""
        if self.mode is not None:
            raise RuntimeError(f"the arm is not ready: {self.mode.name}")
        super().start_motion(*arguments, **named)

    @property
    def robot_state(self):
        """The state that is sent."""
        state = super().robot_state
        if self.mode is None:
            return state
        errors = tuple(self.mode is RobotMode.kReflex and place == CARTESIAN_REFLEX for place in range(41))
        return state.replace(robot_mode=self.mode, errors=errors, reflex_reason=errors)


class AnsweringHand(FrankaGripperServer):
    """The server of one hand."""

    def stop(self, command_id, tcp_socket) -> None:
        """Ends the running motion, and says so to who waits for it."""
        kind, motion = self._pending_command_type, self._pending_command_id
        super().stop(command_id, tcp_socket)
        if motion is not None:
            aborted = GripperCommandStatus.kAborted
            BaseCommand.send_response(
                tcp_socket, kind, motion, aborted, command_type_struct="H", status_type_struct="H"
            )


class Recovery(AutomaticErrorRecoveryCommand):
    """Ends a reflex, but releases no button."""

    def handle(self, server: FaultyServer) -> None:
        """Answers the command."""
        if server.mode is RobotMode.kReflex:
            server.mode = None
        pressed = server.mode is RobotMode.kUserStopped
        statuses = AutomaticErrorRecoveryStatus
        self.reply(statuses.kCommandNotPossibleRejected if pressed else statuses.kSuccess)


def listen() -> None:
    """Takes the words from the standard input."""
    for line in sys.stdin:
        WORDS.put(line.strip())


def main(host: str) -> None:
    """Serves one robot until the process ends."""
    with suppress(PermissionError):  # an arm's controller has a computer of its own
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    franky_sim.simulation_server.FrankaRobotServer = FaultyServer
    franky_sim.franka_robot_server.FrankaGripperServer = AnsweringHand
    franky_sim.franka_robot_server.AutomaticErrorRecoveryCommand = Recovery
    threading.Thread(target=listen, daemon=True).start()
    with MujocoSimulator() as simulator:
        simulator.add_robot()
        with franky_sim.simulation_server.SimulationServer(simulator, hostname_candidates=[host]) as server:
            print("ready", flush=True)
            server.run_forever()


if __name__ == "__main__":
    main(sys.argv[1])
