"""What a policy, a robot and a sensor are to everything that runs on the robot's computer.

Time is int64 nanoseconds of the monotonic clock (``robopolicy_datasets.clock.now_ns``). Any class with
these methods fits; no base class is needed. ``robopolicy_drivers.conformance`` checks a driver.

A ``Device`` is a ``Robot``, a ``Sensor`` or a ``Teleop``. An ``Arm``, a ``Gripper`` and an ``AerialVehicle``
are robots, and so is any composition of them (``robopolicy_drivers.composition``); a ``Camera``, a
``ForceTorque`` and a ``Touch`` are sensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.spec import Spec
from robopolicy_drivers.realtime.sections import CycleSummary
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_drivers.safety.configs import SafetyConfig

if TYPE_CHECKING:  # the clients of a robot need no store
    from robopolicy_datasets.store.events import Event
    from robopolicy_drivers.embodiments import Embodiment

Observation = Mapping[str, NDArray]


@dataclass(frozen=True)
class Chunk:
    """A timed sequence of actions.

    Attributes:
        actions: ``[T, A]`` in the units of the policy's action feature.
        first_step: absolute control step of row 0, the step at which the policy observed.
        dt_s: time between rows [s].
        time_ns: time of the newest observation behind the chunk [ns, monotonic].
    """

    actions: NDArray[np.floating]
    first_step: int
    dt_s: float
    time_ns: int


class ChunkPolicy(Protocol):
    """Turns observation histories into action chunks."""

    @property
    def spec(self) -> Spec:
        """The features that the policy reads and writes."""

    @property
    def observation_steps(self) -> int:
        """Length To of the observation history."""

    @property
    def action_steps(self) -> int:
        """Rows of a chunk to execute before the next inference."""

    @property
    def dt(self) -> float:
        """Time of one control step [s]."""

    def reset(self) -> None:
        """Forgets everything about the running episode."""

    def infer(self, observation: Observation, *, seeds: Sequence[int] | None = None) -> NDArray[np.floating]:
        """Samples chunks.

        Args:
            observation: per key ``[N, To, ...]``, oldest first; it may be read-only.
            seeds: one seed for each of the N samples; None draws fresh noise.

        Returns:
            ``[N, T, A]`` in real units; row 0 is the action for the newest observation's own step.
        """


@dataclass(frozen=True)
class Prefix:
    """What the robot is about to play, for a policy whose next chunk should continue it.

    Attributes:
        actions: ``[n, A]`` in real units; row 0 belongs to the newest observation's own step, as in a chunk.
        frozen: so many of its rows will have been played before the next chunk can be.
    """

    actions: NDArray[np.floating]
    frozen: int


@runtime_checkable
class TakesPrefix(Protocol):
    """A chunk policy whose chunks may be able to continue a prefix (real-time chunking)."""

    @property
    def takes_prefix(self) -> bool:
        """Whether they really can."""

    def infer(
        self, observation: Observation, *, seeds: Sequence[int] | None = None, prefix: Prefix | None = None
    ) -> NDArray[np.floating]:
        """As ``ChunkPolicy.infer``; all N chunks continue ``prefix``, where one is given."""


def noise_seed(episode_seed: int, step: int) -> int:
    """Returns the seed (63 bit) of a policy's noise at a step of an episode.

    Two calls share theirs by chance only; torch's generators on the CPU look at 32 of the bits.
    """
    return int(np.random.SeedSequence((episode_seed, step)).generate_state(1, np.uint64)[0]) >> 1


class Device(Protocol):
    """What is connected, used and closed."""

    @property
    def spec(self) -> Spec:
        """What it measures and takes; available while disconnected."""

    def connect(self) -> None:
        """Opens the device; returns when it can be used."""

    def close(self) -> None:
        """Stops and releases the device; calling it again does nothing."""

    def __enter__(self) -> Self:
        """Connects."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""


class Robot(Device, Protocol):
    """An arm, gripper, vehicle or any composition of them that takes time-stamped targets."""

    def state(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest state and its time [ns, monotonic]."""

    def command(self, target: NDArray, at_ns: int) -> NDArray:
        """Asks the robot to be at ``target`` ``[A]`` at the time ``at_ns``; does not wait.

        Returns:
            what was really sent, after limits, ``[A]``.

        Raises:
            DeviceError: the robot was stopped, and the stop is not released.
        """

    def hold(self) -> None:
        """Drops all pending targets; the robot holds its last commanded state until it is commanded again."""

    def stop(self, reason: str) -> None:
        """Brakes within the limits and latches: nothing is commanded until ``release``.

        Args:
            reason: told to everybody who commands.
        """

    def release(self) -> None:
        """Releases a stop; the robot stays where it is until it is commanded. A person decides this."""

    def safety_events(self) -> list[Event]:
        """Returns what the safety gate did since ``connect``, oldest first, as events of a demo store."""


class Arm(Robot, Protocol):
    """A robot whose action is joint positions, or poses of its tool center point in the world."""

    @property
    def embodiment(self) -> Embodiment:
        """Its kinematics and limits; available while disconnected."""


class Gripper(Robot, Protocol):
    """A robot whose action is one opening [m], of the kind ``width``."""

    @property
    def openings(self) -> tuple[float, float]:
        """The smallest and the largest [m]; available while disconnected."""


class AerialVehicle(Robot, Protocol):
    """A robot that flies: its action is poses of its base, or of its tool, in the world.

    While it stands on the ground it takes no commands; a stop in the air means hovering.
    """

    @property
    def embodiment(self) -> Embodiment:
        """Its mass and limits; available while disconnected."""

    def take_off(self, height: float) -> None:
        """Starts the rotors and rises; returns when it hovers ``height`` [m] above the ground."""

    def land(self) -> None:
        """Sinks where it is; returns when it stands and the rotors rest."""


class Sensor(Device, Protocol):
    """A device that only measures; its spec has no action."""

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest sample and when it was measured [ns, monotonic]; does not wait."""


class Camera(Sensor, Protocol):
    """One or several cameras that deliver images with one time stamp, that of the exposure."""


class ForceTorque(Sensor, Protocol):
    """A sensor of the force and torque at the tool: ``[6]`` [N, N m], of the kind ``wrench``."""

    def zero(self) -> None:
        """Takes the present load for none; the tool must touch nothing."""


class Touch(Sensor, Protocol):
    """A tactile sensor: readings of the kind ``touch``, and images where it has a camera inside."""

    def zero(self) -> None:
        """Takes the present shape for the undeformed one; nothing must touch it."""


class Teleop(Device, Protocol):
    """A device, or a script, by which a person drives a robot; its spec has the robot's action.

    At every control step it is polled, and asked for a target while it drives.
    """

    def poll(self) -> frozenset[str]:
        """Reads the device; does not wait.

        Returns:
            the buttons that were pressed since the last time, by their names in ``teleop.configs.Button``.

        Raises:
            DeviceError: the device was lost or is silent; the robot must hold.
        """

    def command(self, state: Observation, last: NDArray) -> NDArray:
        """Returns where the robot is to be ``[A]``; ``last`` where the person moves nothing.

        Args:
            state: the newest of the robot.
            last: the last target that was commanded ``[A]``, from which targets go on after ``let_go``.
        """

    def let_go(self) -> None:
        """Is told that the robot is not driven by it any more, until ``command`` is called again."""


@runtime_checkable
class RecallsStates(Protocol):
    """A robot or sensor that also remembers past states, so that they can be aligned with images in time."""

    def state_at(self, time_ns: int) -> tuple[int, dict[str, NDArray]]:
        """Returns the state at ``time_ns`` (see ``runtime.alignment``), or the nearest, and its time [ns]."""


@runtime_checkable
class GoesHome(Protocol):
    """A robot that finds back to the posture it begins in from wherever it stands."""

    def go_home(self) -> None:
        """Moves there slowly; returns when it is there, or raises DeviceError with what is in the way."""


@runtime_checkable
class ReportsLateness(Protocol):
    """A robot whose real-time loop counts how late its ticks are."""

    def lateness(self) -> LatenessSummary:
        """Returns the figures since the device was connected or last reset."""


@runtime_checkable
class ReportsCycles(Protocol):
    """A robot whose real-time loop measures the sections of its cycles."""

    def cycles(self) -> CycleSummary:
        """Returns the figures since the device was connected."""


@runtime_checkable
class IsGuarded(Protocol):
    """A robot that tells what its safety gate does."""

    @property
    def safety(self) -> SafetyConfig:
        """The settings of the gate."""


@runtime_checkable
class IsComposed(Protocol):
    """A robot that consists of others, each with a safety gate of its own."""

    @property
    def parts(self) -> Mapping[str, Robot]:
        """The robots that it consists of, by name."""


@dataclass(frozen=True)
class Member:
    """A robot or sensor as a member of a robot that consists of several.

    Attributes:
        name: in the whole, e.g. ``"robot0"`` or, of a sensor, ``"robot0_wrench"``.
        device: itself.
        rename: gives a key or frame of the device's own the name that it has in the whole.
    """

    name: str
    device: Robot | Sensor
    rename: Callable[[str], str]


@runtime_checkable
class HasMembers(Protocol):
    """A robot that consists of devices which measure at times and rates of their own."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The devices, sensors too; none of them consists of others."""


@runtime_checkable
class BringsCameras(Protocol):
    """A robot that has cameras of its own."""

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The cameras; each is connected and closed by itself, and needs the robot connected."""


@runtime_checkable
class HasEmbodiment(Protocol):
    """A robot whose body is known."""

    @property
    def embodiment(self) -> Embodiment:
        """Its kinematics and limits."""
