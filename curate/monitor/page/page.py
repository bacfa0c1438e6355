"""The page of `watch --serve`: the live picture and the events, for browsers that have the link."""

import socket

from curate.errors import MissingError
from curate.monitor.detections import FrameDetections
from curate.monitor.page.picture import Draw, LatestPicture, Pixels
from curate.monitor.page.state import PageState
from curate.monitor.triggers.event import Event
from curate.serving.address import Entrance
from curate.serving.background import BackgroundServer
from curate.serving.connections import ConnectionLimit
from curate.serving.guard import Guard


class LivePage:
    """A page on one address, served in a thread beside the watch.

    `show`, `add_event` and `set_status` only store what they get, and return at once.

    Args:
        listener: Socket from `curate.serving.address.take_port`; the page closes it.
        address: Address that the socket is bound to.
        source: What is watched, without credentials.
        run: Name of the model.
        draw: Makes the picture to show from a frame and its detections; called in the server's thread, only for frames
            that are sent. None shows the plain frame.

    Raises:
        MissingError: A package of the server is not installed.
    """

    def __init__(
        self, listener: socket.socket, address: str, *, source: str, run: str, draw: Draw | None = None
    ) -> None:
        try:
            import hypercorn.asyncio  # noqa: F401

            from curate.monitor.page.app import POLICY, check_path, make_app
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in ("hypercorn", "starlette"):
                raise
            remedy = "pip install 'curate-vision[watch]'"
            raise MissingError(f"the package {package} is not installed", place="--serve", remedy=remedy) from error
        self._entrance = Entrance.at(listener, address)
        self._picture = LatestPicture(draw)
        self._state = PageState(self._picture, source=source, run=run)
        app = make_app(self._picture, self._state, lambda: self._server.ending)
        limited = ConnectionLimit(listener)
        guard = Guard(app, self._entrance, check_path, POLICY, "watch", limited.admit)  # pyright: ignore[reportArgumentType]
        self._server = BackgroundServer(guard, limited, "curate-page")

    @property
    def port(self) -> int:
        return self._entrance.port

    def link(self, *, once: bool = False) -> str:
        """The link that opens the page; with `once` it works one time, for places where others can read it."""
        return self._entrance.link(once=once)

    def start(self) -> None:
        """Start answering requests."""
        self._server.start()

    def show(self, pixels: Pixels, detections: FrameDetections | None) -> None:
        """Show a frame until the next one.

        Args:
            pixels: H×W×3 uint8 RGB; not copied, so it must not be changed afterwards.
            detections: What counts in it.
        """
        self._picture.show(pixels, detections)

    def add_event(self, event: Event) -> None:
        """Add an event to the list; the page keeps the last 200."""
        self._state.add_event(event)

    def set_status(self, text: str, *, frames_per_s: float, latency_ms: float | None) -> None:
        """Update the status line.

        Args:
            text: A few words, such as "watching".
            frames_per_s: Current speed.
            latency_ms: Time from a frame's arrival until all outputs have it; None for recordings.
        """
        self._state.set_status(text, frames_per_s, latency_ms)

    def close(self) -> None:
        """End the server and its thread within two seconds, even with open connections. May be called again."""
        self._server.close()
