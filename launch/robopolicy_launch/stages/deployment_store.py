"""Keeps what happens during a deployment as episodes of a demo store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_datasets.recording import Recorder
from robopolicy_datasets.recording.recorder import STEPS
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event
from robopolicy_drivers.interfaces import Camera, Robot
from robopolicy_drivers.runtime.preflight import offered_spec
from robopolicy_drivers.runtime.records import StepRecord
from robopolicy_drivers.runtime.streams import streams_of


class DeploymentStore:
    """A new store with an episode for each that a policy or a person drove.

    A step is kept when something was sent to the robot: what was observed, and what was really sent. Beside
    the steps, all samples of sensors and of faster robots are kept as streams, see ``streams_of``. What the
    safety gate did, an error that ended the episode, and where samples are missing, are its events.

    Args:
        path: of the store.
        robot: what is driven; connected.
        cameras: what it is seen with.
        dt: time of one control step [s].
        metadata: plain JSON data to keep with the store.
        codecs: by key or kind; None: images as JPEG.

    Attributes:
        samples: of the streams that were kept so far.
        missing: samples of streams that are known to be missing.
    """

    def __init__(
        self,
        path: Path,
        robot: Robot,
        cameras: Sequence[Camera],
        dt: float,
        metadata: dict[str, Any],
        codecs: Mapping[str, str] | None = None,
    ) -> None:
        self.samples = self.missing = 0
        self._robot = robot
        self._spec = offered_spec(robot, cameras)
        self._action = self._spec.action[0].key
        if codecs is None:
            codecs = {feature.key: "jpeg" for feature in self._spec.observation if feature.kind == "rgb"}
        streams, sources = streams_of(robot, 1.0 / dt)
        store = DemoStore.create(
            path, self._spec, rate_hz=1.0 / dt, metadata=metadata, codecs=codecs, streams=streams
        )
        self._recorder = Recorder(store, sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.close()

    @contextlib.contextmanager
    def episode(self, info: EpisodeInfo, *, keep_broken: bool = True) -> Iterator[None]:
        """Records what is given to ``step`` within it.

        Args:
            info: what is known of the episode beforehand.
            keep_broken: whether it is kept also when an error ends it.
        """
        self._began_ns = now_ns()
        self._newest_ns = 0
        self._recorder.start(info)
        try:
            yield
        except BaseException as error:
            if not keep_broken:
                self.drop()
                raise
            self._keep([Event("fault", now_ns(), now_ns(), f"{type(error).__name__}: {error}", "executor")])
            raise

    def step(self, record: StepRecord) -> None:
        """Adds a step."""
        if record.action is None:
            return
        values = {feature.key: record.observation[feature.key] for feature in self._spec.observation}
        # Where a camera lags, two steps see the same: the second one is kept too, and times must increase.
        self._newest_ns = max(record.time_ns, self._newest_ns + 1)
        self._recorder.step(values | {self._action: record.action}, self._newest_ns)

    def finish(self, success: bool | None, events: Sequence[Event] = ()) -> None:
        """Ends the episode.

        Args:
            success: whether the task was done; None where nobody can tell.
            events: that happened in it.
        """
        self._keep(events, success)

    def drop(self) -> None:
        """Ends the episode and forgets it."""
        self._recorder.discard()

    def _keep(self, events: Sequence[Event], success: bool | None = None) -> None:
        with contextlib.suppress(RobopolicyError):  # a robot that died tells nothing any more
            for event in self._robot.safety_events():
                if event.end_ns >= self._began_ns:
                    self._recorder.event(event)
        for event in events:
            self._recorder.event(event)
        if self._newest_ns:  # the recorder counts what is encoded already
            recorded = self._recorder.save(success)
            self.samples += sum(recorded.samples.values())
            self.missing += sum(count for key, count in recorded.missing.items() if key != STEPS)
        else:
            self._recorder.discard()
