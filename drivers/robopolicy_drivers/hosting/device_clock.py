"""When a sample was measured, on our clock, from the time stamp of the device's own clock.

A sample arrives later than its device's time stamp says, by a delay of which most is jitter. So the offset
between both clocks is the lower envelope of arrival minus device time, which the samples that came quickest
tell; compare S. B. Moon, P. Skelly, D. Towsley, "Estimation and removal of clock skew from network delay
measurements", 1999. The envelope may rise by ``DRIFT``, so that a device whose clock goes slow is followed.
"""

from __future__ import annotations

DRIFT = 100e-6  # a quartz is within 50 ppm, and two of them may be off to opposite sides


class DeviceClock:
    """Maps the time stamps of one device to our monotonic clock. Give it every sample, in the device's order.

    A mapped time is never later than the arrival, and always later than the one before. What stays unknown is
    the least delay, which every sample has (exposure, readout, transport); ``robopolicy devices latency``
    measures it. A device whose clock goes back was restarted or set, or its counter has wrapped around: the
    envelope begins anew.
    """

    def __init__(self) -> None:
        self._offset_ns = 0
        self._device_ns: int | None = None
        self._arrival_ns = 0
        self._time_ns: int | None = None

    def monotonic_ns(self, device_ns: int, arrival_ns: int) -> int:
        """Returns when a sample was measured [ns, monotonic].

        Args:
            device_ns: its time stamp [ns]; any time may be the zero of that clock.
            arrival_ns: when it was here [ns, monotonic].
        """
        offset_ns = arrival_ns - device_ns
        if self._device_ns is not None and device_ns >= self._device_ns:
            risen_ns = self._offset_ns + round(DRIFT * (arrival_ns - self._arrival_ns))
            offset_ns = min(offset_ns, risen_ns)
        self._offset_ns, self._device_ns, self._arrival_ns = offset_ns, device_ns, arrival_ns
        time_ns = device_ns + offset_ns
        if self._time_ns is not None:
            time_ns = max(time_ns, self._time_ns + 1)
        self._time_ns = time_ns
        return time_ns
