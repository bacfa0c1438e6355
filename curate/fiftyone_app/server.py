"""Serves the FiftyOne app, guarded, until it is told to stop."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from curate.errors import MissingError
from curate.fiftyone_app.guard import guard_app, limit_requests
from curate.serving.address import Entrance

DEFAULT_PORT = 5151  # FiftyOne's own


class AppServer:
    """The app on one address, for who has its link."""

    def __init__(self, taken: socket.socket, address: str) -> None:
        self._socket = taken
        self._entrance = Entrance.at(taken, address)
        self.port, self.token = self._entrance.port, self._entrance.token

    def link(self, dataset: str, *, view: str, workspace: str, once: bool = False) -> str:
        """Where to open a view of a FiftyOne dataset; `once`: good for one time, where others may see it."""
        return self._entrance.link(f"/datasets/{dataset}", {"view": view, "workspace": workspace}, once=once)

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
        files = {entry.name for entry in (Path(fiftyone.server.__file__).parent / "static").iterdir()}
        guard = guard_app(app, self._entrance, is_media, files)
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


def media_of(files: frozenset[str]) -> Callable[[str], bool]:
    """Whether a path is one of these, letter by letter."""
    return lambda path: path in files and Path(path).is_file()
