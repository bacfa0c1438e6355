"""A download that goes on where it stopped, as long as the site still has the same file."""

import json
import re
from pathlib import Path
from typing import Any

from curate.files import write_atomically


class ChangedError(Exception):
    """The site's file is another now than the one that was begun."""


class Begun:
    """An unfinished file, with a note beside it that tells which of the site's files it is the beginning of.

    A server that was given another file answers a request for the rest like any other, and two files would become one.

    Args:
        part: the unfinished file; deleted where its note is missing.
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        self._note = part.with_name(part.name + ".json")
        if not self._note.exists():
            part.unlink(missing_ok=True)

    def check(self, answer: Any) -> None:
        """Look at the head of an answer that brings bytes of the file; the first one is kept in the note.

        Raises:
            ChangedError: it is of another file.
        """
        told = _stamp(answer)
        if not self._part.exists():
            write_atomically(self._note, lambda file: file.write(json.dumps(told).encode()))
            return
        known = json.loads(self._note.read_text(encoding="utf-8"))
        if any(known[name] and told[name] and known[name] != told[name] for name in told):
            answer.close()
            raise ChangedError

    def forget(self) -> None:
        """Delete what was begun."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _stamp(answer: Any) -> dict[str, str | None]:
    """What tells one state of a file from another."""
    part = re.match(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range") or "")
    return {
        "etag": answer.headers.get("ETag"),
        "last_modified": answer.headers.get("Last-Modified"),
        "total": part[1] if part else answer.headers.get("Content-Length") if answer.status == 200 else None,
    }
