"""The SQLite file of an outbox: opened with its table, put aside where it is damaged or something else."""

import os
import sqlite3
from pathlib import Path

from curate.growing_files import free_name

SUFFIX = ".outbox.sqlite"
"""Of the file, in place of the trigger file's."""

COLUMNS = "id, url, body, server_errors, attempts, created_s, next_s, claimed_by, claimed_until_s, number"
"""Of the table `deliveries`."""

_BUSY_TIMEOUT_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    body BLOB NOT NULL,
    created_s REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    server_errors INTEGER NOT NULL DEFAULT 0,
    next_s REAL NOT NULL DEFAULT 0,
    claimed_by TEXT,
    claimed_until_s REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_url ON deliveries (url, number);
"""


def open_database(file: Path) -> tuple[sqlite3.Connection, str | None]:
    """Open the file, or a new one where it is damaged or no outbox.

    Returns:
        The connection, and a sentence that says what became of a file that was put aside.

    Raises:
        sqlite3.OperationalError: It cannot be opened now: it is locked, the disk is full, or a link is in its place.
    """
    try:
        return _open(file), None
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        kept = _put_aside(file)
        return _open(file), f"{file} cannot be read ({error}); it is {kept} now, and a new one begins."


def _open(file: Path) -> sqlite3.Connection:
    try:
        # deliveries are not for everyone's eyes; SQLite gives its other files the same mode
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    for one in _all_files(file):
        if os.path.lexists(one) and (one.is_symlink() or not one.is_file()):  # SQLite would write through a link
            raise sqlite3.OperationalError(f"{one.name} is not a regular file")
    connection = sqlite3.connect(file, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    # bytes that are no text would be an error of the whole query
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        connection.execute("PRAGMA trusted_schema = OFF")  # whoever has written the file
        # a commit survives a kill at once, and a power failure after the next checkpoint
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 100")  # pages: the log beside the file stays below 1 MB
        connection.executescript(_SCHEMA)
        _check(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    if (fault := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(fault)
    others = "SELECT COUNT(*) FROM sqlite_schema WHERE type IN ('trigger', 'view')"
    columns = {row[1] for row in connection.execute("PRAGMA table_info(deliveries)")}
    if connection.execute(others).fetchone()[0] or not columns.issuperset(COLUMNS.split(", ")):
        raise sqlite3.DatabaseError("it has another structure")


def _all_files(file: Path) -> list[Path]:
    """The file, and those that SQLite keeps beside it."""
    return [file.with_name(f"{file.name}{end}") for end in ("", "-wal", "-shm", "-journal")]


def _put_aside(file: Path) -> Path:
    kept = free_name(file.with_name(f"{file.name.removesuffix(SUFFIX)}-damaged{SUFFIX}"))
    try:
        for one in _all_files(file):
            if one.exists():
                one.rename(kept.with_name(one.name.replace(file.name, kept.name)))
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    return kept
