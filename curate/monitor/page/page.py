"""The page of `watch --serve`: the live picture and the events, for who has its link."""

import socket

from curate.errors import MissingError
from curate.monitor.detections import Seen
from curate.monitor.page.app import PageNews
from curate.monitor.page.picture import Draw, LatestPicture, Pixels
from curate.monitor.triggers.event import Event
from curate.serving.address import Entrance
from curate.serving.background import BackgroundServer
from curate.serving.guard import Guard


class LivePage:
    """A small page on one address, served beside the watch.

    The thread that reads the video calls `show`, `tell` and `state`; they keep what they are given and return at once.

    Args:
        taken: the socket, from `curate.serving.address.take_port`; the page closes it.
        address: that it was taken on.
        source: what is watched, without passwords.
        run: what watches.
        draw: makes of a frame and what was seen in it the picture to show; called in the server's thread, only for
            frames that somebody gets to see. Without it frames are shown as they are given.

    Raises:
        MissingError: a package of the server is not installed.
    """

    def __init__(self, taken: socket.socket, address: str, *, source: str, run: str, draw: Draw | None = None) -> None:
        try:
            import hypercorn.asyncio  # noqa: F401

            from curate.monitor.page.app import POLICY, check_path, make_app
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in ("hypercorn", "starlette"):
                raise
            remedy = "pip install 'curate-vision[watch]'"
            raise MissingError(f"the package {package} is not installed", place="--serve", remedy=remedy) from error
        self._entrance = Entrance.at(taken, address)
        self._picture = LatestPicture(draw)
        self._news = PageNews(self._picture, source=source, run=run)
        app = make_app(self._picture, self._news, lambda: self._server.ending)
        guard = Guard(app, self._entrance, check_path, POLICY, "watch")  # pyright: ignore[reportArgumentType]
        self._server = BackgroundServer(guard, taken, "curate-page")

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._entrance.port

    def link(self, *, once: bool = False) -> str:
        """Where to open it; `once`: good for one time, where others may see it."""
        return self._entrance.link(once=once)

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def show(self, pixels: Pixels, seen: Seen | None) -> None:
        """Show a frame, until the next one comes.

        Args:
            pixels: H×W×3 uint8 RGB; not copied, so that nobody may write into it afterwards.
            seen: what was found in it.
        """
        self._picture.show(pixels, seen)

    def tell(self, event: Event) -> None:
        """Add an event to the list; the page keeps the last 200."""
        self._news.tell(event)

    def state(self, text: str, *, frames_per_s: float, latency_ms: float | None) -> None:
        """Say how the watch does.

        Args:
            text: in a few words, such as "watching".
            frames_per_s: of late.
            latency_ms: from a frame's arrival to its outcome; None where it tells nothing, as of a file.
        """
        self._news.set_state(text, frames_per_s, latency_ms)

    def close(self) -> None:
        """End the server and its thread within two seconds, whoever watches. May be called again."""
        self._server.close()
