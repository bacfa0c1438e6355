"""The folder of an export: what may be replaced there, and how an export that was killed is given again.

An export first lists all its files in `OUT/.unfinished-export.json`, and removes that list when all are written. A
folder with the list is an unfinished export: the same command goes on in it. Files that neither the list nor an earlier
export names are not replaced and not removed.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from curate.errors import UsageError
from curate.files import OVERWRITE_REMEDY, write_atomically
from curate.paths import is_inside, refuse_links

UNFINISHED = ".unfinished-export.json"


class ExportFolder:
    """A folder that is free for an export.

    Args:
        path: The folder; it need not exist.
        earlier: The files of an earlier export in it, relative to it; None if it holds files of other tools.
        overwrite: Whether an earlier export may be replaced.

    Raises:
        UsageError: The folder is not empty and `overwrite` is false, or it is not an export of curate.
    """

    def __init__(self, path: Path, earlier: Collection[str] | None, *, overwrite: bool) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise UsageError("this is a file", place=path, expected="a folder")
        # a list that was being written when the process was killed is not counted
        self._is_empty = not path.is_dir() or all(entry.name.startswith(UNFINISHED) for entry in path.iterdir())
        unfinished = self._read_list()
        if not (self._is_empty or overwrite or unfinished):
            raise UsageError("the folder is not empty", place=path, remedy=OVERWRITE_REMEDY)
        if not self._is_empty and (earlier is None or not (earlier or unfinished)):
            raise UsageError("the folder is not an export of curate", place=path, remedy="Choose another name.")
        self._earlier = frozenset((*(earlier or ()), *(unfinished or ())))

    @contextmanager
    def writing(self, names: Collection[str]) -> Iterator[None]:
        """Write these files in the block, relative to the folder; afterwards, remove other files of earlier exports.

        Raises:
            UsageError: A file is there that no export wrote.
            StoreError: A folder on the way to a file is a link.
        """
        written = frozenset(names)
        for folder in sorted({name.rpartition("/")[0] for name in written | self._earlier}):
            refuse_links(self.path, folder)
        self._refuse_strangers(written)
        listing = orjson.dumps({"files": sorted(written | self._earlier)}, option=orjson.OPT_INDENT_2)
        write_atomically(self.path / UNFINISHED, lambda file: file.write(listing + b"\n"))
        yield
        for name in sorted(self._earlier - written):
            (self.path / name).unlink(missing_ok=True)
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def _refuse_strangers(self, written: frozenset[str]) -> None:
        strangers = () if self._is_empty else sorted(written - self._earlier)
        for name in strangers:
            if os.path.lexists(self.path / name):
                remedy = "Move it away, or choose another folder."
                raise UsageError("the file is not of an earlier export", place=self.path / name, remedy=remedy)

    def _read_list(self) -> list[str] | None:
        """The files of an unfinished export; None without one."""
        try:
            names = orjson.loads((self.path / UNFINISHED).read_bytes())["files"]
            return names if names and isinstance(names, list) and all(map(is_inside, names)) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
