"""What the verbs that write a new store have in common."""

from __future__ import annotations

from pathlib import Path

from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.summary import summarise
from robopolicy_launch import console


def open_store(path: str) -> DemoStore:
    """Opens the store at a path that a user typed.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    return DemoStore.open(Path(path).expanduser())


def tell(store: DemoStore) -> None:
    """Prints what a new store holds."""
    console.print_table(dict(summarise(store).figures()))
