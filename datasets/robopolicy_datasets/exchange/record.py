"""What an export keeps of its store beyond the format's own words, so that an import gives the same store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from robopolicy_datasets.errors import SpecError, StoreError
from robopolicy_datasets.exchange.layout import Column
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.episode import EpisodeInfo

RECORD_KEY = "robopolicy"  # where a format has a place for names of others
IMPORT_OF_EXPORT = "import of what robopolicy exported, which says so itself,"
_SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """What an export keeps.

    Attributes:
        spec: of the store.
        layout: what becomes of each key of the format, as in the config of an import.
        rate_hz: of the store.
        metadata: of the store.
        infos: of every episode.
    """

    spec: Spec
    layout: Mapping[str, Any]
    rate_hz: float
    metadata: Mapping[str, Any]
    infos: Sequence[EpisodeInfo]

    def to_json(self) -> dict[str, Any]:
        """Returns plain data for a JSON file."""
        return {
            "robopolicy_schema": _SCHEMA,
            "spec": self.spec.to_json(),
            "layout": dict(self.layout),
            "rate_hz": self.rate_hz,
            "metadata": dict(self.metadata),
            "episodes": [asdict(info) for info in self.infos],
        }

    @classmethod
    def from_json(cls, content: Any, place: str) -> Record:
        """Reads what ``to_json`` wrote.

        Args:
            content: plain data.
            place: where it was, for messages.

        Raises:
            StoreError: it is no record, or of a newer robopolicy.
        """
        try:
            if content["robopolicy_schema"] != _SCHEMA:
                raise StoreError(f"{place} was written by a newer robopolicy. Update robopolicy.")
            return cls(
                spec=Spec.from_json(content["spec"]),
                layout=dict(content["layout"]),
                rate_hz=float(content["rate_hz"]),
                metadata=dict(content["metadata"]),
                infos=[EpisodeInfo.from_json(info) for info in content["episodes"]],
            )
        except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
            raise changed(place, str(error)) from error

    def restored(self, columns: Sequence[Column], place: str) -> list[Column]:
        """Returns columns that were planned with the record's layout, with the features of the store.

        Raises:
            StoreError: layout and Spec differ.
        """
        kept = {feature.key: feature for feature in self.spec.features}
        planned = {column.feature.key: column.feature.size for column in columns}
        if {key: feature.size for key, feature in kept.items()} != planned:
            raise changed(place, "its layout and its Spec differ")
        return [replace(column, feature=kept[column.feature.key]) for column in columns]

    def check_episodes(self, found: int, place: str) -> None:
        """Checks that there are as many episodes as there were.

        Raises:
            StoreError: there are not.
        """
        if len(self.infos) != found:
            raise changed(place, f"it has {len(self.infos)} episodes where {found} were found")


def changed(place: str, problem: str) -> StoreError:
    """Builds the error for a record that does not fit what it is with."""
    return StoreError(
        f"{place} does not fit the rest ({problem}): one of them was damaged or changed after robopolicy "
        "exported it. Copy or export it again. If the change is meant, remove it: then the rest is read as "
        "any other data."
    )
