"""Webhooks that a watch could not deliver, kept for the next one.

`FILE` has a line of JSON each: `{"url", "id", "body"}`, no secret; also `"refused"`, how often the receiver failed on
it, so that what always fails comes to its end over several watches too. A watch that starts renames it to
`FILE.claimed-…` and locks that, so that no two watches send the same. `{"done": id}` in there marks what has been
delivered since; where the watch was killed, the next one goes on with the rest.
"""

import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.monitor.actions.webhook.sender import Delivery, encode

_LOCK_S = 5.0


@dataclass
class _Claim:
    path: Path
    descriptor: int
    ids: set[str] = field(default_factory=set)


class Undelivered:
    """The file, as one watch sees it; `done` and `close` are for any thread, the others for one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._claims: list[_Claim] = []

    def claim(self) -> tuple[list[Delivery], int]:
        """Take what earlier watches have left, oldest first; also the number of lines that cannot be read.

        Raises:
            OSError: the folder or a file cannot be read or renamed. Everything stays for the next watch then.
        """
        try:
            return self._claim()
        except OSError:
            self.close()
            raise

    def done(self, delivery: Delivery) -> None:
        """Note that it needs no other attempt; nothing is written for one that was not claimed.

        Raises:
            OSError: the file cannot be written.
        """
        with self._lock:
            for claim in (claim for claim in self._claims if delivery.id in claim.ids):
                os.write(claim.descriptor, encode({"done": delivery.id}) + b"\n")

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Add these to the file, and let go of what was claimed, since it is done or among these.

        Raises:
            OSError: the file cannot be written; what was claimed stays claimed, until this process has ended.
        """
        if deliveries:
            text = b"".join(encode(_row(one)) + b"\n" for one in deliveries)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _open_locked(self.file)
            try:
                with os.fdopen(os.dup(descriptor), "ab") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                os.close(descriptor)
        for claim in self._claims:
            claim.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the locks; a claimed file that is still there goes to the next watch."""
        with self._lock:
            while self._claims:
                os.close(self._claims.pop().descriptor)

    def _claim(self) -> tuple[list[Delivery], int]:
        mark = f"{self.file.name}.claimed-"
        found = self.file.parent.iterdir() if self.file.parent.is_dir() else ()
        paths = [path for path in found if path.name.startswith(mark)]
        paths.sort(key=lambda path: path.stat().st_mtime_ns)
        own = self.file.with_name(f"{mark}{uuid.uuid4().hex}")
        try:
            os.rename(self.file, own)
            paths.append(own)
        except FileNotFoundError:
            pass  # nothing was left, or another watch took it
        taken: dict[str, Delivery] = {}
        unreadable = 0
        for path in paths:
            claim = _take(path)
            if claim is not None:
                self._claims.append(claim)
                deliveries, broken = _read(path)
                unreadable += broken
                fresh = {one.id: one for one in deliveries if one.id not in taken}
                claim.ids |= fresh.keys()
                taken |= fresh
        return list(taken.values()), unreadable


def _take(path: Path) -> _Claim | None:
    """A claim on a file; None where another watch, alive, has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return _Claim(path, descriptor)
    except (BlockingIOError, FileNotFoundError):
        pass  # another one has it, or had it and is done
    os.close(descriptor)
    return None


def _read(path: Path) -> tuple[list[Delivery], int]:
    waiting: dict[str, Delivery] = {}
    broken = 0
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            if "done" in row:
                waiting.pop(row["done"], None)
            else:
                refused = int(row.get("refused", 0))
                waiting[str(row["id"])] = Delivery(str(row["id"]), str(row["url"]), encode(row["body"]), refused)
        except (ValueError, TypeError, KeyError):
            broken += 1
    return list(waiting.values()), broken


def _row(delivery: Delivery) -> dict[str, Any]:
    refused = {"refused": delivery.refused} if delivery.refused else {}
    return {"url": delivery.url, "id": delivery.id, "body": json.loads(delivery.body), **refused}


def _open_locked(file: Path) -> int:
    """The file for appending, locked, and surely not one that another watch has renamed meanwhile."""
    until = time.monotonic() + _LOCK_S
    while True:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        if time.monotonic() > until:
            raise TimeoutError(f"{file.name} is in use")
        time.sleep(0.01)
