"""The outputs that last for all sources of a watch."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from curate.errors import CurateError
from curate.monitor.outputs.collector import Collector
from curate.monitor.outputs.detection_table import DetectionTable
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.outputs.event_log import EventLog
from curate.monitor.outputs.files import WatchFiles
from curate.monitor.outputs.thread import Output, WatchedFrame
from curate.monitor.outputs.window import Window
from curate.monitor.page.page import LivePage
from curate.monitor.problems import Problems
from curate.monitor.triggers.event import Event
from curate.sources.feeds.feed import Feed
from curate.sources.feeds.open import Source


class Closable(Protocol):
    """An output that is finished by `close`."""

    def close(self) -> None:
        """Write what is left.

        Raises:
            CurateError: It cannot be written.
        """
        ...


@dataclass
class OutputSet:
    """Outputs for all sources of a watch; None where an option is not used.

    Attributes:
        files: Paths of the files.
        class_names: By class index.
        sources: What is watched.
        problems: Gets what is lost, and what an earlier watch left.
        name: Common name of the sources.
        model: Name of the model.
        table: `--detections`.
        log: `--events`.
        page: `--serve`.
        window: `--show`.
        collector: `--collect`.
    """

    files: WatchFiles
    class_names: Sequence[str]
    sources: Sequence[Source]
    problems: Problems
    name: str
    model: str
    table: DetectionTable | None = None
    log: EventLog | None = None
    page: LivePage | None = None
    window: Window | None = None
    collector: Collector | None = None
    _is_live: bool = False

    def open_files(self, stack: ExitStack) -> None:
        """Prepare table and log, which appear with the first row and event; the stack closes the table."""
        files = self.files
        if files.detections is not None:
            self.table = DetectionTable(
                files.detections,
                self.class_names,
                self.problems,
                with_source=len(self.sources) > 1,
                replace=files.replace,
            )
            stack.enter_context(self.closing(self.table))
        if files.events is not None:
            self.log = EventLog(files.events, self.problems, continues=files.are_live, replace=files.replace)

    @contextmanager
    def closing(self, output: Closable) -> Iterator[None]:
        """Close an output after the block. Where that fails, as on a full disk, it is a problem of a live source."""
        try:
            yield
        finally:
            try:
                output.close()
            except CurateError as error:
                if not self._is_live:
                    raise
                self.problems.add(str(error))

    def adapt_to(self, feed: Feed) -> None:
        """Let losses end the watch of a recording, which may be known only once its URL is open, and no other."""
        self._is_live = feed.is_live
        for output in (self.table, self.log):
            if output is not None:
                output.must_be_whole = not feed.is_live

    def open_page(self, stack: ExitStack, listener: socket.socket, address: str) -> None:
        """Start the page; the stack ends it. It draws boxes only while a browser is connected."""
        drawer = Drawer(self.class_names)
        self.page = LivePage(listener, address, source=self.name, run=self.model, draw=drawer.draw)
        stack.callback(self.page.close)
        self.page.start()

    @property
    def event_listeners(self) -> list[Callable[[Event], None]]:
        return [self.page.add_event] if self.page else []

    @property
    def frame_outputs(self) -> list[Output]:
        page = [_PageOutput(self.page)] if self.page else []
        return [*page, *(one for one in (self.table, self.collector, self.window) if one is not None)]


class _PageOutput:
    """Passes frames to the page."""

    wants_boxes = False

    def __init__(self, page: LivePage) -> None:
        self._page = page

    def take(self, frame: WatchedFrame) -> None:
        self._page.show(frame.picture.pixels, frame.detections)
