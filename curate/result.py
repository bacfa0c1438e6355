"""What commands return: frozen values whose fields are the keys of the JSON contract."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base of all results. Its own fields are not part of the JSON.

    Attributes:
        notes: Sentences for the person at the terminal.
        reads: Files and folders that the result depends on and that no argument of the command names.
    """

    notes: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()

    def to_json(self) -> Any:
        """The document that `--json` prints."""
        base = {item.name for item in fields(Result)}
        return {item.name: as_json(getattr(self, item.name)) for item in fields(self) if item.name not in base}


def as_json(value: Any) -> Any:
    """Dicts, lists and scalars for a value of a result: dataclasses and paths are converted."""
    if isinstance(value, Result):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return value.as_posix() if isinstance(value, Path) else value
