"""Export of a store as robomimic's HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robopolicy_datasets.errors import missing_extra
from robopolicy_datasets.exchange.configs import RobomimicFormatConfig
from robopolicy_datasets.exchange.outputs import Output, action_output, open_for_export, record_of
from robopolicy_datasets.exchange.record import RECORD_KEY
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import Episode
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.staging import staged, sync_files

if TYPE_CHECKING:
    import h5py

_GYM = 2  # robomimic's number of the kind of environment that needs no simulator of its own


def export_store(
    config: RobomimicFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a store as a robomimic file; the target appears complete or not at all.

    Every observation becomes ``data/demo_N/obs/<key>`` to the bit, the action ``actions``. ``rewards`` are 1
    at the last step of an episode that succeeded, else 0; ``dones`` are 1 at the last step. The steps' times
    are in ``time_ns``, and what else robomimic has no place for is in the array ``robopolicy``: both are used
    when the file is imported again.

    Args:
        config: of the format; nothing is to be set.
        source: the store.
        target: the new file; must not exist.
        progress: called with (episodes done, episodes in all).

    Raises:
        StoreError: the store cannot be read, has no episodes or rate, or the target exists or cannot be
            written.
        ConfigError: settings of an import are given, or there is not one action.
        MissingExtraError: h5py is not installed.
    """
    config.refuse_given(
        *("layout", "features", "next_step", "rate_hz", "mask", "task", "operator", "embodiment"),
        verb="export",
    )
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise missing_extra("Writing HDF5 files", "formats") from error
    store = open_for_export(source)
    outputs = [Output(f"obs/{feature.key}", feature.dtype, (feature,)) for feature in store.spec.observation]
    outputs.append(action_output("actions", store.spec.action))
    with staged(source, target, "exported") as staging:
        with h5py.File(staging, "w") as file:
            _write_head(file, store, outputs)
            for episode in store:
                _write_demo(file.create_group(f"data/demo_{episode.index}"), episode, outputs)
                if progress is not None:
                    progress(episode.index + 1, len(store))
        sync_files(staging)


def _write_head(file: h5py.File, store: DemoStore, outputs: Sequence[Output]) -> None:
    data = file.create_group("data")
    data.attrs["total"] = store.num_steps
    environment = {
        "env_name": store.episode_info(0).task or store.path.stem,
        "type": _GYM,
        "env_kwargs": {"control_freq": store.rate_hz},
    }
    data.attrs["env_args"] = json.dumps(environment)
    text = json.dumps(record_of(store, outputs).to_json())
    file[RECORD_KEY] = np.frombuffer(text.encode(), np.uint8)


def _write_demo(demo: h5py.Group, episode: Episode, outputs: Sequence[Output]) -> None:
    demo.attrs["num_samples"] = episode.length
    last = np.arange(episode.length) == episode.length - 1
    for output in outputs:
        settings: dict[str, Any] = {}
        if output.features[0].is_image:
            settings = {"compression": "gzip", "chunks": (1, *output.shape)}
        demo.create_dataset(output.key, data=output.gather(episode.data), **settings)
    demo["rewards"] = (last & bool(episode.info.success)).astype(np.float64)
    demo["dones"] = last.astype(np.int64)
    demo[TIME_KEY] = episode.time_ns
    if episode.info.success is not None:
        demo.attrs["success"] = episode.info.success
