"""The demo store: episodes of observations and actions in one zarr folder."""

from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import Episode, EpisodeInfo, NewEpisode
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.streams import Stream
from robopolicy_datasets.store.summary import StoreSummary, summarise

__all__ = [
    "DemoStore",
    "Episode",
    "EpisodeInfo",
    "Event",
    "NewEpisode",
    "StoreSummary",
    "Stream",
    "summarise",
]
