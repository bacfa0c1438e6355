"""The deliveries that are not finished: a table in a SQLite file beside the trigger file, so that they survive a kill.

A delivery is stored before it is sent, and deleted once the receiver has taken it. While a watch sends it, the row is
claimed, so that several watches with one file do not send it twice; a claim ends by itself some seconds after the
webhook's timeout. If the file cannot be written, as on a full disk, deliveries wait in memory, which is a problem.
"""

import glob
import json
import logging
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from curate.monitor.actions.webhook.database import COLUMNS, SUFFIX, open_database
from curate.monitor.actions.webhook.sender import Delivery
from curate.monitor.problems import Problems
from curate.monitor.triggers.event import encode_json

EXPIRES_S = 7 * 86_400.0
DEPRIORITISED_AFTER = 10
"""Answers with a server error after which all other deliveries go first."""

logger = logging.getLogger(__name__)
_MOST_STORED = 100_000  # about 60 MB
_MOST_IN_MEMORY = 10_000
_CHECK_EVERY = 1000  # deliveries
_LONGEST_WAIT_S = 660.0  # a longer one is due to a change of the clock
_CLOCK_JUMP_S = 3600.0
_MOST_ATTEMPTS = 10**9
_SKIPPED_ROWS = 100  # that were written by something else, at a time
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")  # a header, which must not have a full stop
_OLD_SPOOL = ".undelivered.jsonl"  # up to version 0.1: one JSON line per delivery

_NOT_STORED = ("delivery not stored", "deliveries not stored")
_NOT_RECORDED = ("delivery not recorded", "deliveries not recorded")
_EXPIRED = ("delivery expired", "deliveries expired")
_DROPPED = ("delivery dropped", "deliveries dropped")

_FIRST = f"SELECT {COLUMNS} FROM deliveries WHERE url = ? AND server_errors < {DEPRIORITISED_AFTER} ORDER BY number"  # noqa: S608
_LAST = (
    f"SELECT {COLUMNS} FROM deliveries WHERE url = ? AND server_errors >= {DEPRIORITISED_AFTER} ORDER BY next_s, number"  # noqa: S608
)


class Outbox:
    """The stored deliveries as one watch uses them. All methods may be called from any thread; none raises.

    Args:
        file: Of the table; created with the first delivery.
        problems: Gets what cannot be stored, and what expires.
        now: Returns seconds since the epoch.
        steady: Returns seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        file: Path,
        problems: Problems,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file = file
        self._problems, self._now, self._steady = problems, now, steady
        self._offset_s = now() - steady()
        self._own_name = uuid.uuid4().hex
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False
        self._unsaved: dict[str, tuple[Delivery, float, float]] = {}  # with the times of creation and next attempt
        self._finished: set[str] = set()  # rows that could not be deleted yet
        self._unrecorded: dict[str, tuple[Delivery, float]] = {}  # failed attempts of rows that could not be updated
        if not file.exists() and not os.access(file.parent, os.W_OK):
            problems.add(f"{file}: the folder is not writable: webhooks are sent from memory, and a kill loses them.")
        with self._lock:
            self._adopt_old_spool()
            self._expire()

    def put(self, delivery: Delivery) -> None:
        """Store a delivery; where that fails it waits in memory."""
        with self._lock:
            self._unsaved[delivery.id] = delivery, self._now(), 0.0
            try:
                self._save()
            except sqlite3.Error as error:
                self._problems.count(str(self.file), _NOT_STORED, f"{error}; sent from memory, a kill loses them")
                while len(self._unsaved) > _MOST_IN_MEMORY:
                    del self._unsaved[next(iter(self._unsaved))]
                    self._problems.count(str(self.file), _DROPPED, f"more than {_MOST_IN_MEMORY} in memory")

    def take(self, url: str, claim_s: float, *, at_once: bool = False) -> Delivery | float | None:
        """Claim the next delivery to a URL.

        Args:
            url: Of the receiver.
            claim_s: How long the claim holds.
            at_once: Whether to ignore the wait after a failed attempt.

        Returns:
            The delivery; or seconds until one is due or another watch's claim ends; None where there is none.
        """
        with self._lock:
            with suppress(sqlite3.Error):
                self._save()
                self._follow_clock()
            while (row := self._first(url)) is not None:
                delivery, created_s, next_s, claimed_by, claimed_until_s = row
                now_s = self._now()
                if now_s - created_s > EXPIRES_S:
                    self.finish(delivery)
                    self._problems.count(str(self.file), _EXPIRED, _expiry_reason())
                elif claimed_by not in (None, self._own_name) and 0 < claimed_until_s - now_s <= _LONGEST_WAIT_S:
                    return claimed_until_s - now_s
                elif not at_once and 0 < next_s - now_s <= _LONGEST_WAIT_S:
                    return next_s - now_s
                elif self._claim(delivery, now_s, now_s + claim_s):
                    return delivery
            return None

    def retry(self, delivery: Delivery, wait_s: float) -> None:
        """Record a failed attempt, with the numbers in `delivery`, and end the claim."""
        with self._lock:
            next_s = self._now() + wait_s
            if delivery.id in self._unsaved:
                self._unsaved[delivery.id] = delivery, self._unsaved[delivery.id][1], next_s
                return
            columns = "attempts = ?, server_errors = ?, next_s = ?, claimed_by = NULL"
            self._unrecorded[delivery.id] = delivery, next_s
            if self._update(delivery, columns, delivery.attempts, delivery.server_errors, next_s):
                del self._unrecorded[delivery.id]

    def release(self, delivery: Delivery) -> None:
        """End the claim on a delivery that was not sent."""
        with self._lock:
            self._update(delivery, "claimed_by = NULL")

    def finish(self, delivery: Delivery) -> None:
        """Delete a delivery; where that fails it is deleted later, and not sent again by this watch."""
        with self._lock:
            if self._unsaved.pop(delivery.id, None) is not None:
                return
            self._finished.add(delivery.id)
            self._unrecorded.pop(delivery.id, None)
            try:
                self._delete_finished()
            except sqlite3.Error as error:
                self._problems.count(str(self.file), _NOT_RECORDED, f"{error}; may be sent again")

    def drop(self, url: str) -> int:
        """Delete all deliveries to a URL, and return their number."""
        with self._lock:
            dropped = self.count(url)
            self._unsaved = {own: one for own, one in self._unsaved.items() if one[0].url != url}
            with suppress(sqlite3.Error):
                self._execute("DELETE FROM deliveries WHERE url = ?", url)
            return dropped

    def count(self, url: str, *, with_memory: bool = True) -> int:
        """Number of deliveries to a URL that wait or are being sent."""
        with self._lock:
            stored = max(self._number("url = ?", url) - len(self._finished), 0)
            unsaved = sum(delivery.url == url for delivery, _, _ in self._unsaved.values())
            return stored + (unsaved if with_memory else 0)

    def count_others(self, urls: Collection[str]) -> int:
        """Number of deliveries to other URLs."""
        with self._lock:
            return self._number(f"url NOT IN ({', '.join('?' * len(urls))})", *urls)

    def count_in_memory(self) -> int:
        """Number of deliveries that cannot be stored, and are lost with this process."""
        with self._lock:
            with suppress(sqlite3.Error):
                self._save()
            return len(self._unsaved)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            with suppress(sqlite3.Error):
                self._delete_finished()
            self._is_closed = True
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None

    def _first(self, url: str) -> tuple[Delivery, float, float, str | None, float] | None:
        """The row that is to be sent next, except those that are finished."""
        for query in (_FIRST, _LAST):
            with suppress(sqlite3.Error):
                for row in self._query(f"{query} LIMIT {len(self._finished) + _SKIPPED_ROWS}", url):
                    if not _is_valid(row):
                        self._execute("DELETE FROM deliveries WHERE number = ?", row[-1])
                        self._problems.count(str(self.file), ("row skipped", "rows skipped"), "not a stored webhook")
                    elif row[0] not in self._finished:
                        delivery, next_s = self._unrecorded.get(row[0], (Delivery(*row[:5]), row[6]))
                        return delivery, row[5], next_s, *row[7:9]
            if query is _FIRST:
                for delivery, created_s, next_s in self._unsaved.values():
                    if delivery.url == url:
                        return delivery, created_s, next_s, None, 0.0
        return None

    def _claim(self, delivery: Delivery, now_s: float, until_s: float) -> bool:
        """Claim a row unless another watch has done so, or finished it, since it was read."""
        if delivery.id in self._unsaved:
            return True
        is_free = "claimed_by IS NULL OR claimed_by = ? OR claimed_until_s <= ? OR claimed_until_s > ?"
        command = f"UPDATE deliveries SET claimed_by = ?, claimed_until_s = ? WHERE id = ? AND ({is_free})"  # noqa: S608
        own, latest_s = self._own_name, now_s + _LONGEST_WAIT_S
        try:
            return self._execute(command, own, until_s, delivery.id, own, now_s, latest_s) > 0
        except sqlite3.Error as error:
            logger.info("%s: delivery %s not claimed: %s", self.file, delivery.id, error)
            return True  # on a full disk it is better sent twice than not at all

    def _delete_finished(self) -> None:
        for own_id in tuple(self._finished):
            self._execute("DELETE FROM deliveries WHERE id = ?", own_id)
            self._finished.discard(own_id)

    def _save(self) -> None:
        """Store what waits in memory, in its order."""
        for delivery, created_s, next_s in list(self._unsaved.values()):
            self._execute(
                "INSERT OR IGNORE INTO deliveries (id, url, body, created_s, attempts, server_errors, next_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                delivery.id, delivery.url, delivery.body, created_s, delivery.attempts, delivery.server_errors, next_s,
            )  # fmt: skip
            del self._unsaved[delivery.id]
            self._limit()

    def _limit(self) -> None:
        """Drop the oldest deliveries where there are too many; looks at every thousandth."""
        ((newest,),) = self._query("SELECT COALESCE(MAX(number), 0) FROM deliveries")
        if newest % _CHECK_EVERY == 0 and (excess := self._number("1") - _MOST_STORED) > 0:
            oldest = "SELECT number FROM deliveries ORDER BY number LIMIT ?"
            self._execute(f"DELETE FROM deliveries WHERE number IN ({oldest})", excess)  # noqa: S608
            self._problems.count(str(self.file), _DROPPED, f"more than {_MOST_STORED} are stored", excess)

    def _follow_clock(self) -> None:
        """Add to the times of creation what the clock was set forward: a small computer wakes up in the past."""
        now_s = self._now()
        jump_s = now_s - self._steady() - self._offset_s
        if abs(jump_s) > _CLOCK_JUMP_S:
            if jump_s > 0 and self.file.exists():
                self._execute("UPDATE deliveries SET created_s = MIN(created_s + ?, ?)", jump_s, now_s)
            self._offset_s += jump_s

    def _expire(self) -> None:
        """Delete deliveries of any URL that are too old."""
        with suppress(sqlite3.Error):
            before_s = self._now() - EXPIRES_S
            if expired := self._number("created_s < ?", before_s):
                self._execute("DELETE FROM deliveries WHERE created_s < ?", before_s)
                self._problems.count(str(self.file), _EXPIRED, _expiry_reason(), expired)

    def _adopt_old_spool(self) -> None:
        """Store the deliveries that an earlier version left in files, and delete these."""
        name = self.file.name.removesuffix(SUFFIX) + _OLD_SPOOL
        for old in sorted(self.file.parent.glob(f"{glob.escape(name)}*")):
            try:
                lines = old.read_bytes().splitlines() if old.is_file() else []
                for delivery in _read_old_spool(lines):
                    self._unsaved[delivery.id] = delivery, self._now(), 0.0
                self._save()
                old.unlink()
            except (OSError, sqlite3.Error) as error:
                self._problems.count(str(old), ("file not read", "files not read"), str(error))

    def _update(self, delivery: Delivery, columns: str, *values: object) -> bool:
        """Change a row; whether that went well."""
        if delivery.id in self._unsaved:
            return True
        try:
            self._execute(f"UPDATE deliveries SET {columns} WHERE id = ?", *values, delivery.id)  # noqa: S608
        except sqlite3.Error as error:
            logger.info("%s: delivery %s not updated: %s", self.file, delivery.id, error)
            return False
        return True

    def _number(self, condition: str, *values: object) -> int:
        """Number of rows that fulfil a condition; 0 where they cannot be read."""
        try:
            return self._query(f"SELECT COUNT(*) FROM deliveries WHERE {condition}", *values)[0][0]  # noqa: S608
        except (sqlite3.Error, IndexError):
            return 0

    def _query(self, query: str, *values: object) -> list[tuple]:
        """Rows of a query; none where there is no file yet."""
        if self._connection is None and not self.file.exists():
            return []
        return self._connect().execute(query, values).fetchall()

    def _execute(self, command: str, *values: object) -> int:
        """Change the table, and return the number of rows that changed. A command is a transaction of its own."""
        return self._connect().execute(command, values).rowcount

    def _connect(self) -> sqlite3.Connection:
        if self._is_closed:
            raise sqlite3.OperationalError("the watch ended")
        if self._connection is None:
            self._connection, remark = open_database(self.file)
            if remark is not None:
                self._problems.add(remark)
        return self._connection


def _is_valid(row: tuple) -> bool:
    """Whether a row has the types of `COLUMNS`; SQLite stores anything anywhere."""
    own_id, _, body, server_errors, attempts, created_s, next_s, claimed_by, claimed_until_s, _ = row
    return (
        isinstance(own_id, str)
        and _ID.fullmatch(own_id) is not None
        and isinstance(body, bytes)
        and all(isinstance(count, int) and 0 <= count <= _MOST_ATTEMPTS for count in (server_errors, attempts))
        and all(isinstance(time_s, int | float) for time_s in (created_s, next_s, claimed_until_s))
        and isinstance(claimed_by, str | None)
    )


def _expiry_reason() -> str:
    return f"not delivered within {EXPIRES_S / 86_400:.0f} days"


def _read_old_spool(lines: list[bytes]) -> list[Delivery]:
    deliveries: dict[str, Delivery] = {}
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):  # a torn line
            row = json.loads(line)
            if "done" in row:
                deliveries.pop(row["done"], None)
            else:
                one = Delivery(str(row["id"]), str(row["url"]), encode_json(row["body"]))
                deliveries[one.id] = replace(one, server_errors=int(row.get("refused", 0)))
    return list(deliveries.values())
