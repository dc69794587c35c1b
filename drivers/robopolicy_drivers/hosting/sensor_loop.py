"""What runs in a sensor's process: each sample of its source goes into the ring, as it comes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.hosting.device import RING
from robopolicy_drivers.realtime.child import DeviceChannel, Message

_FIRST_SAMPLE_S = 10.0
_AHEAD_S = 0.1  # of our own clock: more than what mapping one clock to another is wrong by


class Source(Protocol):
    """A sensor's protocol, in the sensor's process. It is built with the sensor's config alone.

    All of it raises DeviceError where the sensor cannot be used any more, with what to do.
    """

    def open(self) -> None:
        """Opens the sensor; returns when samples may come."""

    def read(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Returns the next sample and when it was measured [ns, monotonic].

        It waits for at most 0.1 s, and returns None where none has come. Times never go back.
        """

    def close(self) -> None:
        """Releases the sensor, however far ``open`` came."""


@runtime_checkable
class Zeroes(Protocol):
    """A source whose present reading can be taken for none."""

    def zero(self) -> None:
        """Takes it so; DeviceError where that is not possible now."""


def sense(channel: DeviceChannel, source: str, config: Any) -> None:
    """Runs the source that ``"module:class"`` names until the channel closes."""
    opened: Source = load_target(source)(config)
    try:
        opened.open()
        serve_sensor(channel, opened)
    finally:
        opened.close()


def serve_sensor(channel: DeviceChannel, source: Source) -> None:
    """Writes each sample into the ring until the channel closes.

    Raises:
        DeviceError: no first sample has come for ten seconds, the source failed, or its clock jumped.
    """
    ring, first_until_ns = channel.rings[RING], now_ns() + seconds_to_ns(_FIRST_SAMPLE_S)
    waiting, newest_ns = True, 0
    while not channel.closing:
        sample = source.read()
        if sample is not None:
            newest_ns = _checked_ns(sample[0], newest_ns)
            ring.write(*sample)
        if waiting and sample is not None:
            waiting = False
            channel.ready()
        elif waiting and now_ns() > first_until_ns:
            raise DeviceError(
                f"It was opened, but no sample has come for {_FIRST_SAMPLE_S:g} s. See that it measures: its "
                "rate, its trigger, and that nobody else reads it."
            )
        for message in channel.messages():
            if message.name != "zero":
                message.refuse(f"it knows zero, not '{message.name}'.")
            elif not isinstance(source, Zeroes):
                message.refuse("it has no zero that could be set.")
            else:
                _zero(source, message)


def _checked_ns(time_ns: int, before_ns: int) -> int:
    """Returns the time of a sample; DeviceError where it cannot be that of one after ``before_ns``."""
    ahead_s = ns_to_seconds(time_ns - now_ns())
    if time_ns < before_ns or ahead_s > _AHEAD_S:
        what = f"{ahead_s:.3g} s ahead of now" if ahead_s > _AHEAD_S else "before the sample before it"
        raise DeviceError(
            f"Its clock has jumped: a sample has a time {what}. Connect again; where it happens again, its "
            "driver must take the time of arrival."
        )
    return time_ns


def _zero(source: Zeroes, message: Message) -> None:
    try:
        source.zero()
    except DeviceError as error:
        message.refuse(str(error))
    else:
        message.reply()
