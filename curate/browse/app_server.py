"""Serves the FiftyOne app, guarded, until it is told to stop."""

import asyncio
import ipaddress
import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

from curate.browse.app_guard import TOKEN, Guard
from curate.errors import UsageError

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 5151  # FiftyOne's own
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
_ANY = ("0.0.0.0", "::")  # noqa: S104


def take_port(address: str, port: int | None) -> socket.socket:
    """Bind before the long work, so that a taken port is known at once; without a number 5151, or else any.

    Raises:
        UsageError: it cannot be had.
    """
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
        self._ticket = secrets.token_urlsafe(24)

    def link(self, dataset: str, *, view: str, workspace: str, once: bool = False) -> str:
        """Where to open a view of a FiftyOne dataset; `once`: good for one time, where others may see it."""
        host = LOOPBACK if self._address in _ANY else self._address
        named = {"view": view, "workspace": workspace, TOKEN: self._ticket if once else self.token}
        query = urlencode(named)
        plain = f"[{host}]" if ":" in host else host
        return f"http://{plain}:{self.port}/datasets/{quote(dataset)}?{query}"

    def serve(self, is_media: Callable[[str], bool], on_ready: Callable[[], None]) -> None:
        """Answer until SIGINT or SIGTERM comes. FiftyOne must be prepared.

        Args:
            is_media: whether a file is one of the images to be shown.
            on_ready: called once when links open.
        """
        import hypercorn.asyncio
        import hypercorn.config
        from fiftyone.server.app import app
        from fiftyone.server.events import set_port

        app.debug = False  # else errors show code and paths
        set_port(self.port)
        names = {self._address} if self._address not in (*_LOCAL_NAMES, *_ANY) else set(_LOCAL_NAMES)
        if self._address in _ANY:
            names |= {socket.gethostname(), socket.getfqdn()}
        guard = Guard(app, self.token, self.port, names, is_media, {self._ticket})
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
            await serving

        asyncio.run(run())


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def media_of(files: frozenset[str]) -> Callable[[str], bool]:
    """Whether a path is one of these, as it stands; links and `..` are not followed."""
    return lambda path: path in files and Path(path).is_file()
