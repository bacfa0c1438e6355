"""The card of a dataset: its sources, authors, licence, class order, and the counts that an import must reach."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from curate.documents.shape import check_shape
from curate.documents.yaml_reader import read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CardSource(_Strict):
    """A source of images or boxes."""

    name: str
    url: str | None = None
    author: str | None = None
    licence: str | None = None
    note: str | None = None


class ExpectedCounts(_Strict):
    """Counts that an import must reach; None and missing classes are not checked."""

    images: int | None = None
    boxes: int | None = None
    repaired: int | None = None
    quarantined: int | None = None
    classes: Mapping[str, int] = Field(default_factory=dict)


class Card(_Strict):
    """`card.yaml`.

    Attributes:
        name: Name of the dataset.
        about: One or two sentences on what it shows.
        licence: Licence of the whole dataset.
        sources: Where images and boxes come from.
        classes: Class names in order; an import quarantines others.
        merges: Target → classes that a pipeline merges into it. For information: only `merge-classes` merges.
        expected: Counts that an import is compared with.
        notes: Anything else that users should know.
    """

    name: str
    about: str = ""
    licence: str | None = None
    sources: tuple[CardSource, ...] = ()
    classes: tuple[str, ...] = ()
    merges: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    expected: ExpectedCounts = ExpectedCounts()
    notes: str = ""

    def differences(self, counts: Mapping[str, Any]) -> list[str]:
        """A phrase for each count that differs from the card.

        Args:
            counts: `images`, `boxes`, `repaired`, `quarantined` and `classes` of an import.
        """
        expected = self.expected.model_dump(exclude={"classes"}, exclude_none=True)
        pairs = [(name, number, counts[name]) for name, number in expected.items()]
        if self.expected.classes:
            names = dict.fromkeys([*self.expected.classes, *counts["classes"]])
            pairs += [
                (f"{name} boxes", self.expected.classes.get(name, 0), counts["classes"].get(name, 0)) for name in names
            ]
        return [f"{name}: {got}, the card says {number}" for name, number, got in pairs if got != number]


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        DataError: The file does not exist, is not YAML, or has an unknown key.
    """
    return check_shape(read_yaml(path, "card"), Card, path, "card")
