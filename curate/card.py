"""The card of a dataset: where it is from, whose it is, its classes in order, and what an import must count."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.errors import DataError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CardSource(_Strict):
    """One place that images or boxes come from."""

    name: str
    url: str | None = None
    author: str | None = None
    licence: str | None = None
    note: str | None = None


class ExpectedCounts(_Strict):
    """What an import of the source must count; what is not named is not checked."""

    images: int | None = None
    boxes: int | None = None
    repaired: int | None = None
    quarantined: int | None = None
    classes: Mapping[str, int] = Field(default_factory=dict)


class Card(_Strict):
    """`card.yaml`.

    Attributes:
        name: of the dataset.
        about: what it shows, in a sentence or two.
        licence: of the whole.
        sources: where it is from.
        classes: names in order; an import takes no others.
        merges: target → classes that a recipe merges into it. Told, not done: a merge is a command with a history.
        expected: counts that an import is checked against.
        notes: anything else that a reader should know.
    """

    name: str
    about: str = ""
    licence: str | None = None
    sources: tuple[CardSource, ...] = ()
    classes: tuple[str, ...] = ()
    merges: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    expected: ExpectedCounts = ExpectedCounts()
    notes: str = ""

    def differences(self, found: Mapping[str, Any]) -> list[str]:
        """Each count that is not as expected, as a phrase.

        Args:
            found: `images`, `boxes`, `repaired`, `quarantined` and `classes` as an import counted them.
        """
        wanted = self.expected.model_dump(exclude={"classes"}, exclude_none=True)
        pairs = [(name, number, found[name]) for name, number in wanted.items()]
        if self.expected.classes:
            names = dict.fromkeys([*self.expected.classes, *found["classes"]])
            pairs += [
                (f"{name} boxes", self.expected.classes.get(name, 0), found["classes"].get(name, 0)) for name in names
            ]
        return [f"{name}: {got}, the card says {number}" for name, number, got in pairs if got != number]


def find_card(dataset: Path) -> Path | None:
    """The card of a dataset folder: in it, or beside it as in `datasets/NAME/{card.yaml,data/}`."""
    for path in (dataset / "card.yaml", dataset.resolve().parent / "card.yaml"):
        if path.is_file():
            return path
    return None


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        DataError: the file is not there, is no YAML, or has a key that a card does not know.
    """
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"the card is not valid: {'.'.join(map(str, first['loc']))}: {first['msg']}", place=path
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"the card cannot be read: {' '.join(str(error).split())}", place=path) from error
