"""ATI Net F/T: force and torque over UDP, moved from the sensor to the tool."""

from __future__ import annotations

import logging
import socket
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import quaternion_to_matrix
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.hosting.sensor import HostedSensor
from robopolicy_drivers.realtime.ring_source import LOST
from robopolicy_drivers.touch import rdt
from robopolicy_drivers.touch.configs import AtiNetFtConfig

logger = logging.getLogger(__name__)

KEY = "robot0_wrench"

_WAIT_S = 0.1
_ASKED = 5  # times, until the sensor counts as absent: UDP may lose a request
_SILENCE_S = 0.5
_ZERO_S = 0.2  # whose mean is taken for no load
_PAGE_BYTES = 65536
_PACKET_BYTES = 2048

Wrench = NDArray[np.float64]


class AtiNetFt(HostedSensor):
    """The wrench ``[6]`` [N, N m] at the TCP, along its axes; it fits ``interfaces.ForceTorque``.

    It is what the surroundings do to the tool: pressing down onto a table gives a force upwards. The tool's
    weight is in it until ``zero``, which takes the mean of the last 0.2 s for none.

    Args:
        config: the settings.
    """

    def __init__(self, config: AtiNetFtConfig) -> None:
        frame = KEY.partition("_")[0] + "_tcp"
        wrench = Feature(KEY, (6,), kind="wrench", unit="N, N m", rate_hz=config.rate_hz, frame=frame)
        super().__init__(
            "robopolicy_drivers.touch.ati_net_ft:AtiNetFtSource",
            config,
            Spec((wrench,), ()),
            name=f"ATI Net F/T {config.host}",
            slots=max(256, round(config.rate_hz)),  # a second of them
            hidden=(LOST,),
        )


class AtiNetFtSource:
    """Reads the records of the sensor (a ``sensor_loop.Source``).

    A record with a fault in its status is never delivered: the reading ends with the fault's name. Records
    that the network loses are counted and logged.

    Args:
        config: the settings.

    Attributes:
        lost: records that did not come, since ``open``.
    """

    def __init__(self, config: AtiNetFtConfig) -> None:
        self.config = config
        self.lost = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to_tcp = wrench_transform(config.sensor_position, config.sensor_quaternion)
        self._recent: deque[Wrench] = deque(maxlen=max(1, round(_ZERO_S * config.rate_hz)))
        self._bias = np.zeros(6)
        self._sequence = 0
        self._heard_ns = 0
        self._time_ns = 0

    def open(self) -> None:
        """Asks the sensor for its calibration and to send records.

        Raises:
            DeviceError: it does not answer, or is set up otherwise than the config says.
        """
        config = self.config
        if config.counts_per_force and config.counts_per_torque:
            counts = (config.counts_per_force, config.counts_per_torque)
        else:
            counts = _calibration(config)
        self._scale = np.repeat(1.0 / np.array(counts), 3)
        self._socket.settimeout(_WAIT_S)
        try:
            self._socket.connect((config.host, config.port))
        except OSError as error:
            raise DeviceError(self._absent(str(error))) from error
        for _ in range(_ASKED):
            packet = self._packet(rdt.request(rdt.START_REAL_TIME))
            if packet is not None:
                self._sequence = rdt.parse_record(packet).sequence
                self._heard_ns = now_ns()
                return
        raise DeviceError(self._absent("it did not answer"))

    def read(self) -> tuple[int, dict[str, NDArray]] | None:
        """Returns the next wrench and when its record arrived [ns, monotonic]; None where none has come.

        Raises:
            DeviceError: the sensor reports a fault, is silent, or sends something else than records.
        """
        packet = self._packet()
        arrived_ns = now_ns()
        if packet is None:
            self._check_silence(arrived_ns)
            return None
        record = rdt.parse_record(packet)
        self._check_status(record.status)
        self._heard_ns = arrived_ns
        missing = rdt.missing_between(self._sequence, record.sequence)
        if missing < 0:
            return None  # it was overtaken on the way
        self._count(missing)
        self._sequence = record.sequence
        self._time_ns = max(arrived_ns, self._time_ns + 1)
        sensed = self._scale * record.counts
        self._recent.append(sensed)
        wrench = self._to_tcp @ (sensed - self._bias)
        return self._time_ns, {KEY: wrench.astype(np.float32), LOST.key: np.array(self.lost)}

    def zero(self) -> None:
        """Takes the mean of the last 0.2 s for no load.

        Raises:
            DeviceError: nothing has been measured yet.
        """
        if not self._recent:
            raise DeviceError("No wrench has been measured yet that could be taken for none.")
        self._bias = np.mean(self._recent, axis=0)

    def close(self) -> None:
        """Tells the sensor to stop sending."""
        try:
            self._socket.send(rdt.request(rdt.STOP))
        except OSError:
            logger.debug("The Net F/T could not be told to stop sending.")  # it is gone, or never was there
        self._socket.close()

    def _packet(self, request: bytes = b"") -> bytes | None:
        """Sends a request, if any, and returns what comes within 0.1 s."""
        try:
            if request:
                self._socket.send(request)
            return self._socket.recv(_PACKET_BYTES)
        except TimeoutError:
            return None
        except ConnectionRefusedError as error:
            raise DeviceError(self._absent("nothing listens there")) from error
        except OSError as error:
            raise DeviceError(self._absent(str(error))) from error

    def _absent(self, reason: str) -> str:
        config = self.config
        return (
            f"No Net F/T at {config.host}, UDP port {config.port}: {reason}. Check its power, its cable, "
            f"that 'ping {config.host}' works, and that RDT is enabled on its Communications page."
        )

    def _check_silence(self, time_ns: int) -> None:
        silence_s = ns_to_seconds(time_ns - self._heard_ns)
        if silence_s > _SILENCE_S:
            raise DeviceError(
                f"The Net F/T has sent nothing for {silence_s:.1f} s. Its cable or power is gone, or another "
                "program asked for its records: it sends them to the last who asked. End that one, connect "
                "again."
            )

    def _check_status(self, status: int) -> None:
        found = rdt.faults(status)
        if found:
            raise DeviceError(
                f"The Net F/T reports: {', '.join(found)} (status {status:#010x}). Take the load off it; "
                "where the fault stays, switch it off and on and see its System Status page."
            )

    def _count(self, missing: int) -> None:
        if not missing:
            return
        before, self.lost = self.lost, self.lost + missing
        if before.bit_length() != self.lost.bit_length():  # with each doubling: a bad network fills no log
            logger.warning("Of the Net F/T %s, %d records were lost so far.", self.config.host, self.lost)


def wrench_transform(position: list[float], quaternion: list[float]) -> Wrench:
    """Returns the matrix ``[6, 6]`` that turns a wrench in the sensor's frame into that at the TCP.

    Args:
        position: of the sensor's origin in the frame of the TCP (3) [m].
        quaternion: of the sensor in the frame of the TCP (4, wxyz).
    """
    rotation = quaternion_to_matrix(np.array(quaternion, np.float64))
    x, y, z = position
    lever = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.block([[rotation, np.zeros((3, 3))], [lever @ rotation, rotation]])


def _calibration(config: AtiNetFtConfig) -> tuple[float, float]:
    """Returns counts per N and per N m, as the box tells on its web page.

    Raises:
        DeviceError: it does not tell, or is set to other units or to another rate.
    """
    address = f"http://{config.host}:{config.web_port}/netftapi2.xml"
    try:
        with urllib.request.urlopen(address, timeout=3.0) as answer:
            page = ElementTree.fromstring(answer.read(_PAGE_BYTES))
        told = {name: page.findtext(f".//{name}") or "" for name in ("scfgfu", "scfgtu")}
        force, torque, rate_hz = (
            float(page.findtext(f".//{name}") or "nan") for name in ("cfgcpf", "cfgcpt", "comrdtrate")
        )
    except (urllib.error.URLError, OSError, ElementTree.ParseError, ValueError) as error:
        raise DeviceError(
            f"The Net F/T does not tell its calibration at {address}: {error}. Check the address and the "
            "cable, or give counts_per_force= and counts_per_torque= from its Configurations page."
        ) from error
    if (told["scfgfu"], told["scfgtu"]) != ("N", "N-m") or not (force > 0 and torque > 0):
        raise DeviceError(
            f"The Net F/T measures in '{told['scfgfu']}' and '{told['scfgtu']}', {force:g} and {torque:g} "
            "counts each. Set its units to N and N-m on its Configurations page."
        )
    if rate_hz != config.rate_hz:
        raise DeviceError(
            f"The Net F/T sends at {rate_hz:g} Hz, but rate_hz is {config.rate_hz:g}. Set "
            f"rate_hz={rate_hz:g}, or the RDT output rate on its Communications page."
        )
    return force, torque
