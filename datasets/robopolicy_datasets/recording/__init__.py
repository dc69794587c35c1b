"""Recording episodes while they happen, from sensors of any rate."""

from robopolicy_datasets.recording.recorder import RecordedEpisode, Recorder
from robopolicy_datasets.recording.sources import Samples, Source

__all__ = ["RecordedEpisode", "Recorder", "Samples", "Source"]
