"""Runs one MongoDB server while processes use it: `python -m curate.fiftyone_app.mongo_keeper MONGOD FOLDER`.

A process of its own, so that the server outlives the `view` that started it, and ends with the last one. The files in
FOLDER are those of `mongo`.
"""

import ctypes
import hashlib
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote_plus

from curate.fiftyone_app.locks import LockMode, file_lock, try_file_lock
from curate.files import write_atomically

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_CACHE_GB = 0.25  # mongod's default is half of the memory
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MAX_END_S = 10.0
_MAX_SOCKET_PATH = 100  # bytes; sys/un.h has room for 104 or 108


def keep(mongod: str, folder: Path) -> None:
    """Run the server until no process holds the lock `in-use`, or until it ends by itself."""
    state_file = folder / "server.json"
    _end_orphan(state_file, folder)
    socket = _free_socket(folder)
    server = _start(mongod, folder, socket)
    try:
        _serve_until_unused(server, folder, socket, state_file)
    finally:
        _end(server)
        state_file.unlink(missing_ok=True)
        if socket.parent != folder:
            shutil.rmtree(socket.parent, ignore_errors=True)


def _free_socket(folder: Path) -> Path:
    """Path of the socket, without a file; always the same, so that a waiting client finds a restarted server."""
    socket = folder / "mongod.sock"
    if len(os.fsencode(socket)) > _MAX_SOCKET_PATH:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        parent = Path(tempfile.gettempdir()) / f"curate-{os.getuid()}-{name}"
        parent.mkdir(mode=0o700, exist_ok=True)
        status = parent.lstat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700 or not stat.S_ISDIR(status.st_mode):
            sys.exit(f"{parent} belongs to another user")
        socket = parent / "mongod.sock"
    socket.unlink(missing_ok=True)  # of a killed server
    return socket


def _start(mongod: str, folder: Path, socket: Path) -> subprocess.Popen[bytes]:
    data = folder / "data"
    data.mkdir(exist_ok=True, mode=0o700)
    command = [
        *(mongod, "--dbpath", str(data), "--bind_ip", str(socket)),
        *("--unixSocketPrefix", str(socket.parent), "--wiredTigerCacheSizeGB", str(_CACHE_GB)),
        *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=10MB)"),  # the default allocates 300 MB
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        "--noscripting",  # no JavaScript in queries
    ]
    # its output goes to that of this process: mongod.log
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent())


def _serve_until_unused(server: subprocess.Popen[bytes], folder: Path, socket: Path, state_file: Path) -> None:
    while not socket.exists():
        if server.poll() is not None:
            return  # it has failed to start, so its address must not be written
        time.sleep(0.02)
    uri = f"mongodb://{quote_plus(str(socket))}/?serverSelectionTimeoutMS=5000"
    state = {"keeper": os.getpid(), "mongod": server.pid, "uri": uri}
    write_atomically(state_file, lambda file: file.write(json.dumps(state).encode()))
    while server.poll() is None:
        with try_file_lock(folder / "in-use", LockMode.EXCLUSIVE) as is_unused:
            if is_unused:  # a process that comes now waits for the lock, and then finds no server
                _end(server)
                state_file.unlink(missing_ok=True)
                return
        time.sleep(_POLL_S)


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(_MAX_END_S)
        except subprocess.TimeoutExpired:
            logger.warning("mongod (process %d) has not ended after %.0f s and is killed", server.pid, _MAX_END_S)
            server.kill()
            server.wait()


def _end_orphan(state_file: Path, folder: Path) -> None:
    """End a server that runs without its keeper, which was killed; it would block the new one."""
    with suppress(OSError, ValueError, KeyError):
        pid = json.loads(state_file.read_text())["mongod"]
        command = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(pid)],  # noqa: S607 - its path differs between systems
            capture_output=True,
            text=True,
            check=False,
        )
        if str(folder / "data") in command.stdout:
            logger.warning("mongod (process %d) runs without a keeper and is ended", pid)
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + _MAX_END_S
            while time.monotonic() < until:
                os.kill(pid, 0)
                time.sleep(0.05)


def _end_with_parent() -> Callable[[], object] | None:
    """A function for the child that makes the kernel end it with its parent; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # to mongod.log
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    database = Path(sys.argv[2])
    with file_lock(database / "kept", LockMode.EXCLUSIVE):
        keep(sys.argv[1], database)
        os._exit(0)  # holds the lock until the process ends
