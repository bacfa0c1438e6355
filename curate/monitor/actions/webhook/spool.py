"""Stores the deliveries that a watch could not finish for the next one.

`FILE` has one JSON line per delivery: `{"url", "id", "body"}`, without secrets, and `"refused"`, the number of server
errors, so that the limit on them holds over several watches. A watch renames the file to `FILE.claimed-…` at its start
and locks that, so that no two watches send the same delivery. A line `{"done": id}` in the claimed file marks a
finished delivery; if the watch is killed, the next one sends the rest.
"""

import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.monitor.actions.webhook.sender import Delivery
from curate.monitor.triggers.event import encode_json

logger = logging.getLogger(__name__)
_LOCK_TIMEOUT_S = 5.0


@dataclass
class _Claim:
    path: Path
    descriptor: int
    ids: set[str] = field(default_factory=set)


class Spool:
    """The file as one watch uses it. `mark_done` and `close` may be called from any thread."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._claims: list[_Claim] = []

    def claim(self) -> tuple[list[Delivery], int]:
        """Take the deliveries that earlier watches left, oldest first.

        Returns:
            The deliveries, and the number of lines that are not valid.

        Raises:
            OSError: The folder or a file cannot be read or renamed; everything stays for the next watch.
        """
        try:
            return self._claim()
        except OSError:
            self.close()
            raise

    def mark_done(self, delivery: Delivery) -> None:
        """Record that a claimed delivery is finished; others need no record.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            for claim in (claim for claim in self._claims if delivery.id in claim.ids):
                os.write(claim.descriptor, encode_json({"done": delivery.id}) + b"\n")

    def store(self, deliveries: Sequence[Delivery]) -> None:
        """Add unfinished deliveries to the file, and delete the claimed files, whose deliveries are done or among them.

        Raises:
            OSError: The file cannot be written; claimed deliveries stay claimed until this process ends.
        """
        if deliveries:
            text = b"".join(encode_json(_as_row(one)) + b"\n" for one in deliveries)
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
        """Release the locks; claimed files that still exist go to the next watch."""
        with self._lock:
            while self._claims:
                os.close(self._claims.pop().descriptor)

    def _claim(self) -> tuple[list[Delivery], int]:
        prefix = f"{self.file.name}.claimed-"
        siblings = self.file.parent.iterdir() if self.file.parent.is_dir() else ()
        paths = [path for path in siblings if path.name.startswith(prefix)]
        paths.sort(key=lambda path: path.stat().st_mtime_ns)
        own = self.file.with_name(f"{prefix}{uuid.uuid4().hex}")
        try:
            os.rename(self.file, own)
            paths.append(own)
        except FileNotFoundError:
            pass  # no deliveries, or another watch has claimed them
        claimed: dict[str, Delivery] = {}
        invalid_lines = 0
        for path in paths:
            claim = _lock(path)
            if claim is not None:
                self._claims.append(claim)
                deliveries, invalid = _read(path)
                invalid_lines += invalid
                new = {one.id: one for one in deliveries if one.id not in claimed}
                claim.ids |= new.keys()
                claimed |= new
        if claimed:
            logger.info("%s: webhooks of earlier watches to send: %d", self.file, len(claimed))
        return list(claimed.values()), invalid_lines


def _lock(path: Path) -> _Claim | None:
    """Lock a claimed file; None where a running watch holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return _Claim(path, descriptor)
    except (BlockingIOError, FileNotFoundError):
        pass  # a running watch holds it, or has just deleted it
    os.close(descriptor)
    return None


def _read(path: Path) -> tuple[list[Delivery], int]:
    deliveries: dict[str, Delivery] = {}
    invalid = 0
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            if "done" in row:
                deliveries.pop(row["done"], None)
            else:
                own_id, server_errors = str(row["id"]), int(row.get("refused", 0))
                deliveries[own_id] = Delivery(own_id, str(row["url"]), encode_json(row["body"]), server_errors)
        except (ValueError, TypeError, KeyError):
            invalid += 1
    return list(deliveries.values()), invalid


def _as_row(delivery: Delivery) -> dict[str, Any]:
    refused = {"refused": delivery.server_errors} if delivery.server_errors else {}
    return {"url": delivery.url, "id": delivery.id, "body": json.loads(delivery.body), **refused}


def _open_locked(file: Path) -> int:
    """Open and lock the file for appending; a file that another watch has renamed meanwhile is opened again."""
    until = time.monotonic() + _LOCK_TIMEOUT_S
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
