"""What a watch writes to and shows on, beside the frames' own way."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from curate.monitor.outputs.collector import Collector
from curate.monitor.outputs.detection_table import DetectionTable
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.outputs.event_log import EventLog
from curate.monitor.outputs.files import WatchFiles
from curate.monitor.outputs.thread import Output, Shown
from curate.monitor.outputs.window import Window
from curate.monitor.page.page import LivePage
from curate.monitor.triggers.event import Event
from curate.sources.feeds.open import Source


@dataclass
class Gear:
    """What lasts for all sources of a watch; None where it is not wanted.

    Attributes:
        files: where files go.
        names: of the classes, by index.
        sources: what is watched.
        name: of all of them.
        model: its name.
        table: of detections.
        log: of events.
        page: of `--serve`.
        window: of `--show`.
        collector: of `--collect`.
    """

    files: WatchFiles
    names: Sequence[str]
    sources: Sequence[Source]
    name: str
    model: str
    table: DetectionTable | None = None
    log: EventLog | None = None
    page: LivePage | None = None
    window: Window | None = None
    collector: Collector | None = None

    @classmethod
    def opened(
        cls,
        stack: ExitStack,
        files: WatchFiles,
        names: Sequence[str],
        sources: Sequence[Source],
        name: str,
        model: str,
    ) -> "Gear":
        """Open the files; the stack closes them."""
        gear = cls(files, names, sources, name, model)
        if files.detections is not None:
            table = DetectionTable(files.detections, names, with_source=len(sources) > 1)
            gear.table = stack.enter_context(closing(table))
        if files.events is not None:
            gear.log = stack.enter_context(closing(EventLog(files.events)))
        return gear

    def serve(self, stack: ExitStack, taken: socket.socket, address: str) -> None:
        """Open the page; it draws boxes only while somebody looks."""
        drawer = Drawer(self.names)
        self.page = LivePage(taken, address, source=self.name, run=self.model, draw=drawer.draw)
        stack.callback(self.page.close)
        self.page.start()

    @property
    def listeners(self) -> list[Callable[[Event], None]]:
        """What is told of events."""
        return [*([self.log.write] if self.log else []), *([self.page.tell] if self.page else [])]

    @property
    def outputs(self) -> list[Output]:
        """What gets every frame."""
        page = [_PageOutput(self.page)] if self.page else []
        return [*page, *(one for one in (self.table, self.collector, self.window) if one is not None)]


class _PageOutput:
    """The page as an output."""

    wants_boxes = False

    def __init__(self, page: LivePage) -> None:
        self._page = page

    def take(self, shown: Shown) -> None:
        self._page.show(shown.picture.pixels, shown.seen)
