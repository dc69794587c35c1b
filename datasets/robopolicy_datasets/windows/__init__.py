"""Windows of demonstrations, the samples of imitation learning.

A window stands at one step of one episode, its *present*, and shows steps of the store's keys and samples
of its streams around it. ``WindowSampler`` draws windows of one store, ``WindowMixture`` of several.
"""

from robopolicy_datasets.windows.batches import StreamBatch, WindowBatch, Windows
from robopolicy_datasets.windows.key_window import Edges, HistoryWindow, KeyWindow
from robopolicy_datasets.windows.mixture import WindowMixture
from robopolicy_datasets.windows.prefetch import prefetch
from robopolicy_datasets.windows.sampler import WindowSampler
from robopolicy_datasets.windows.splits import split_episodes
from robopolicy_datasets.windows.streams import Ragged, Resampled, StreamWindow

__all__ = [
    "Edges",
    "HistoryWindow",
    "KeyWindow",
    "Ragged",
    "Resampled",
    "StreamBatch",
    "StreamWindow",
    "WindowBatch",
    "WindowMixture",
    "WindowSampler",
    "Windows",
    "prefetch",
    "split_episodes",
]
