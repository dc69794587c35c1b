"""Opening a store: of which kind it is, and whether its parts fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.store.foreign import ForeignFiles, is_foreign
from robopolicy_datasets.store.native import NativeFiles, is_native
from robopolicy_datasets.store.pickles import refuse_pickle

Files = NativeFiles | ForeignFiles


def open_files(path: Path, mode: str) -> Files:
    """Opens the files of a store, of ours or a foreign one.

    Args:
        path: the store's folder or zip.
        mode: ``"r"`` to read, ``"a"`` to read and append.

    Raises:
        StoreError: there is no store, it is damaged or a pickle, or cannot be appended to.
        MissingExtraError: its images need a decoder that is not installed.
    """
    if mode not in ("r", "a"):
        raise StoreError(f"A store is opened with the mode 'r' (read) or 'a' (append), not '{mode}'.")
    if not path.exists():
        raise StoreError(
            f"There is no demo store at {path}. Give the path of a *.zarr folder; "
            "`robopolicy collect` and `robopolicy data import` make one."
        )
    if is_native(path):
        return _consistent(NativeFiles(path))
    if not is_foreign(path):
        refuse_pickle(path)
        raise StoreError(
            f"{path} is not a demo store; expected is a folder with data/<key> arrays and "
            "meta/episode_ends, or a zip of one."
        )
    if mode == "a":
        raise StoreError(
            f"{path} was not written by robopolicy and is read only. "
            "Bring it into a store of its own with `robopolicy data import`."
        )
    return _consistent(ForeignFiles(path))


def _consistent(files: Files) -> Files:
    """Checks that the arrays fit the Spec and ``episode_ends``; returns ``files``.

    Raises:
        StoreError: names the key, what was expected and what was found.
    """
    ends = files.ends
    steps_back = np.flatnonzero(ends <= np.concatenate([[0], ends[:-1]]))  # differences could overflow
    if len(steps_back):
        index = steps_back[0]
        raise StoreError(
            f"meta/episode_ends of {files.path} must increase from above 0; it is {ends[index]} "
            f"at episode {index}, after {ends[index - 1] if index else 0}. Restore the store from a copy."
        )
    rows = int(ends[-1]) if len(ends) else 0
    for key, array in files.arrays.items():
        feature = files.spec[key]
        if array.row_shape != feature.shape or array.dtype != np.dtype(feature.dtype).name:
            raise StoreError(
                f"data/{key} of {files.path} is {array.dtype}{list(array.row_shape)} a step; "
                f"its Spec says {feature.dtype}{list(feature.shape)}."
            )
        if array.rows < rows:
            raise StoreError(
                f"data/{key} of {files.path} has {array.rows} steps but meta/episode_ends says {rows}; "
                "it is incomplete. Restore the store from a copy."
            )
    files.check_files(rows)
    return files
