"""Keeps one MongoDB server while somebody uses it: `python -m curate.fiftyone_app.mongo_keeper MONGOD FOLDER`.

A process of its own, so that the server outlives the `view` that started it, and ends with the last one. See `mongo`.
"""

import ctypes
import hashlib
import json
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

from curate.fiftyone_app.locks import Hold, held, try_hold
from curate.files import write_atomically

_LOOK_EVERY_S = 0.1
_CACHE_GB = 0.25  # mongod takes half of the memory otherwise
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ENDS_IN_S = 10.0
_LONGEST_SOCKET = 100  # sys/un.h has room for 104 or 108 letters


def keep(mongod: str, folder: Path) -> None:
    """Run the server until nobody holds the lock `in-use`, or until it ends by itself."""
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
    """Where the server listens: the same place each time, so that a client that waits finds it again."""
    socket = folder / "mongod.sock"
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        own = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        place = Path(tempfile.gettempdir()) / f"curate-{os.getuid()}-{own}"
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700 or not stat.S_ISDIR(status.st_mode):
            sys.exit(f"{place} belongs to somebody else")
        socket = place / "mongod.sock"
    socket.unlink(missing_ok=True)  # of one that was killed
    return socket


def _start(mongod: str, folder: Path, socket: Path) -> subprocess.Popen[bytes]:
    data = folder / "data"
    data.mkdir(exist_ok=True, mode=0o700)
    command = [
        *(mongod, "--dbpath", str(data), "--bind_ip", str(socket)),
        *("--unixSocketPrefix", str(socket.parent), "--wiredTigerCacheSizeGB", str(_CACHE_GB)),
        *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=10MB)"),  # else 300 MB at once
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        "--noscripting",  # no program in a query
    ]
    # it writes to what this process writes to: mongod.log
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent())


def _serve_until_unused(server: subprocess.Popen[bytes], folder: Path, socket: Path, state_file: Path) -> None:
    while not socket.exists():
        if server.poll() is not None:
            return  # it did not start: nobody is to find it
        time.sleep(0.02)
    uri = f"mongodb://{quote_plus(str(socket))}/?serverSelectionTimeoutMS=5000"
    state = {"keeper": os.getpid(), "mongod": server.pid, "uri": uri}
    write_atomically(state_file, lambda file: file.write(json.dumps(state).encode()))
    while server.poll() is None:
        with try_hold(folder / "in-use", Hold.ALONE) as unused:
            if unused:  # whoever comes now waits for the lock, and finds no server
                _end(server)
                state_file.unlink(missing_ok=True)
                return
        time.sleep(_LOOK_EVERY_S)


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(_ENDS_IN_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _end_orphan(state_file: Path, folder: Path) -> None:
    """End a server whose keeper was killed, where the kernel did not: it is in the way."""
    with suppress(OSError, ValueError, KeyError):
        pid = json.loads(state_file.read_text())["mongod"]
        command = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(pid)],  # noqa: S607 it is where the system has it
            capture_output=True,
            text=True,
            check=False,
        )
        if str(folder / "data") in command.stdout:
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + _ENDS_IN_S
            while time.monotonic() < until:
                os.kill(pid, 0)
                time.sleep(0.05)


def _die_with_parent() -> Callable[[], object] | None:
    """What makes a child end when its parent is killed; only Linux has it."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    place = Path(sys.argv[2])
    with held(place / "kept", Hold.ALONE):
        keep(sys.argv[1], place)
        os._exit(0)  # the lock is to be held until this process is no more
