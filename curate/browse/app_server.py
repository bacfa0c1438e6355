"""Serves the FiftyOne app, guarded, until it is told to stop."""

import asyncio
import ipaddress
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

from curate.browse.app_guard import TOKEN, Guard
from curate.browse.fiftyone_limits import limit_requests
from curate.errors import MissingError, UsageError

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 5151  # FiftyOne's own
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
_ANY = ("0.0.0.0", "::")  # noqa: S104


def take_port(address: str, port: int | None) -> socket.socket:
    """Bind before the long work, so that a taken port is known at once; without a number 5151, or else any.

    Raises:
        UsageError: it cannot be had.
    """
    if not address:
        raise UsageError("not an address", place="--address", got=repr(address), expected="such as 127.0.0.1")
    for wanted in (port,) if port is not None else (DEFAULT_PORT, 0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((address, wanted))
            taken.listen()  # two may bind to one port as long as neither listens
        except (OSError, OverflowError) as error:
            taken.close()
            if port is None and wanted:
                continue
            raise UsageError(
                f"the address cannot be had: {error}", place="--port", got=f"{address}:{wanted}", expected="a free port"
            ) from error
        else:
            return taken
    raise AssertionError  # port 0 is always free, or has raised


class AppServer:
    """The app on one address, for who has its link."""

    def __init__(self, taken: socket.socket, address: str) -> None:
        self._socket = taken
        self._address = address
        self.port = taken.getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        self._name = self._host_name()
        self._ticket = secrets.token_urlsafe(24)

    def link(self, dataset: str, *, view: str, workspace: str, once: bool = False) -> str:
        """Where to open a view of a FiftyOne dataset; `once`: good for one time, where others may see it."""
        named = {"view": view, "workspace": workspace, TOKEN: self._ticket if once else self.token}
        query = urlencode(named)
        plain = f"[{self._name}]" if ":" in self._name else self._name
        return f"http://{plain}:{self.port}/datasets/{quote(dataset)}?{query}"

    def _host_name(self) -> str:
        """What links name. Browsers send cookies to all ports of a host, so that the loopback gets a name of its own.

        Browsers take every name below .localhost for this machine (RFC 6761, 6.3); only Safari does not.
        """
        if self._address in _ANY:
            return socket.gethostname()
        if is_loopback(self._address) and sys.platform != "darwin":
            return f"{secrets.token_hex(8)}.localhost"
        return self._address

    def serve(
        self, is_media: Callable[[str], bool], on_ready: Callable[[], None], has_database: Callable[[], bool]
    ) -> None:
        """Answer until SIGINT or SIGTERM comes. FiftyOne must be connected.

        Args:
            is_media: whether a file is one of the images to be shown.
            on_ready: called once when links open.
            has_database: asked every second whether the database is still there.

        Raises:
            MissingError: the database is gone.
        """
        import fiftyone.server
        import hypercorn.asyncio
        import hypercorn.config
        from fiftyone.server.app import app
        from fiftyone.server.events import set_port

        limit_requests()
        app.debug = False  # else errors show code and paths
        set_port(self.port)
        names = {self._name, *(_LOCAL_NAMES if self._address in (*_LOCAL_NAMES, *_ANY) else (self._address,))}
        files = {entry.name for entry in (Path(fiftyone.server.__file__).parent / "static").iterdir()}
        guard = Guard(app, self.token, self.port, names, is_media, files, {self._ticket})
        config = hypercorn.config.Config()
        config.bind = [f"fd://{self._socket.fileno()}"]
        config.loglevel = "ERROR"
        config.graceful_timeout = 0.5

        async def run() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            for sent in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(sent, stop.set)
            serving = asyncio.create_task(hypercorn.asyncio.serve(guard, config, shutdown_trigger=stop.wait))  # pyright: ignore
            await asyncio.sleep(0)
            on_ready()
            watching = asyncio.create_task(watch(stop))
            await serving
            watching.cancel()
            if not has_database():
                remedy = "Nothing of yours is lost; start `curate view` again."
                raise MissingError("the database has ended", place="view", remedy=remedy)

        async def watch(stop: asyncio.Event) -> None:
            while has_database():
                await asyncio.sleep(1)
            stop.set()

        asyncio.run(run())


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def media_of(files: frozenset[str]) -> Callable[[str], bool]:
    """Whether a path is one of these, letter by letter."""
    return lambda path: path in files and Path(path).is_file()
