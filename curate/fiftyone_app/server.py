"""Serves the FiftyOne app behind its guard until a signal ends it."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from curate.errors import MissingError
from curate.fiftyone_app.guard import guard_app, limit_requests
from curate.serving.address import Entrance
from curate.serving.background import exception_handler
from curate.serving.connections import ConnectionLimit, end_strangers_in_time, server_config

logger = logging.getLogger(__name__)

_GRACE_S = 0.5  # for responses in progress when the server ends
DEFAULT_PORT = 5151  # FiftyOne's own


class AppServer:
    """The app on one address, for people who have its link."""

    def __init__(self, taken: socket.socket, address: str) -> None:
        self._socket = taken
        self._entrance = Entrance.at(taken, address)
        self.port, self.token = self._entrance.port, self._entrance.token

    def link(self, dataset: str, *, view: str, workspace: str, once: bool = False) -> str:
        """Link to a view of a FiftyOne dataset; with `once` valid for one request, for use where others can see it."""
        return self._entrance.link(f"/datasets/{dataset}", {"view": view, "workspace": workspace}, once=once)

    def serve(
        self, is_media: Callable[[str], bool], on_ready: Callable[[], None], has_database: Callable[[], bool]
    ) -> None:
        """Serve until SIGINT or SIGTERM. FiftyOne must be connected.

        Args:
            is_media: Whether a file is one of the images to show.
            on_ready: Called once, when links can be opened.
            has_database: Called every second; returns whether the database still runs.

        Raises:
            MissingError: The database has ended.
        """
        import fiftyone.server
        import hypercorn.asyncio
        from fiftyone.server.app import app
        from fiftyone.server.events import set_port

        limit_requests()
        app.debug = False  # errors would show code and paths
        set_port(self.port)
        files = {entry.name for entry in (Path(fiftyone.server.__file__).parent / "static").iterdir()}
        listener = ConnectionLimit(self._socket)
        guard = guard_app(app, self._entrance, is_media, files, listener.admit)
        config = server_config(listener, _GRACE_S)

        async def run() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            loop.set_exception_handler(exception_handler())
            for sent in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(sent, stop.set)
            serving = asyncio.create_task(hypercorn.asyncio.serve(guard, config, shutdown_trigger=stop.wait))  # pyright: ignore
            await asyncio.sleep(0)
            on_ready()
            logger.info("serving the app on port %d", self.port)
            others = [watch_database(stop), end_strangers_in_time(listener)]
            beside = [asyncio.create_task(one) for one in others]
            await serving
            for one in beside:
                one.cancel()
            logger.info("the server has ended")
            if not has_database():
                remedy = "No data is lost; start `curate view` again."
                raise MissingError("the database has ended", place="view", remedy=remedy)

        async def watch_database(stop: asyncio.Event) -> None:
            while has_database():
                await asyncio.sleep(1)
            logger.warning("the database has ended; the server ends too")
            stop.set()

        asyncio.run(run())


def media_of(files: frozenset[str]) -> Callable[[str], bool]:
    """A function that returns whether a path is exactly one of these files."""
    return lambda path: path in files and Path(path).is_file()
