"""Events on their way: completed with source and clip, written to `--events`, passed to actions, page and callback."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from curate.errors import CurateError, DataError, system_error
from curate.growing_files import append_line
from curate.monitor.problems import Problems
from curate.monitor.triggers.event import STREAM_PREFIX, Event
from curate.sources.feeds.feed import Notice

_LOST = ("event lost", "events lost")


class EventLog:
    """A file of JSON lines, one per event, each written whole as it happens. It appears with the first event.

    The log of a live source continues that of earlier watches, and after a full disk goes on with the next event. That
    of a recording begins anew, and an event that cannot be written ends the watch.

    Args:
        path: Of the file.
        problems: Gets events that are lost, and a line that an earlier writer has not finished.
        continues: Whether it continues a file from before.
        replace: Whether it otherwise replaces one.

    Attributes:
        must_be_whole: Whether an event that cannot be written is an error.
    """

    def __init__(self, path: Path, problems: Problems, *, continues: bool, replace: bool) -> None:
        self._path, self._problems = path, problems
        self._replace = replace
        self._is_begun = continues
        self.must_be_whole = True

    def write(self, event: Event) -> None:
        """Append an event.

        Raises:
            DataError: The file cannot be written, as on a full disk, and must be whole.
        """
        line = json.dumps(event.as_json(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        try:
            self._begin()
            is_torn = append_line(self._path, line)
        except OSError as error:
            if self.must_be_whole:
                raise system_error(error, "cannot write the event", place=self._path, kind=DataError) from error
            self._problems.count(str(self._path), _LOST, error.strerror or str(error))
            return
        if is_torn:
            self._problems.add(f"{self._path}: the last line of an earlier watch is cut off; events go on below it.")

    def finish(self) -> None:
        """Leave an empty file where there was no event.

        Raises:
            DataError: It cannot be created, and must be whole.
        """
        try:
            self._begin()
            if not self._path.exists():
                self._path.touch()
        except OSError as error:
            if self.must_be_whole:
                raise system_error(error, "cannot write the file", place=self._path, kind=DataError) from error
            self._problems.add(f"{self._path}: cannot write the file: {error.strerror}.")

    def _begin(self) -> None:
        if self._is_begun:
            return
        if self._path.is_file() or not self._path.exists():
            flags = os.O_TRUNC if self._replace else os.O_EXCL
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | flags, 0o644))
        self._is_begun = True


class EventPublisher:
    """Passes every event to all listeners; a listener that fails is a problem, and the others still get the event.

    Args:
        listeners: Called in turn with every event.
        problems: Gets failures of listeners.
        log: Gets every event last, so that whatever is in it has reached the listeners.

    Attributes:
        source: Name of the source that events carry; None where only one is watched.
        name_clip: Returns an event with the path of its clip, where there is one.
        count: Number of events.
    """

    def __init__(self, *listeners: Callable[[Event], None], problems: Problems, log: EventLog | None = None) -> None:
        self.source: str | None = None
        self.name_clip: Callable[[Event], Event] | None = None
        self.count = 0
        self._listeners, self._problems, self._log = listeners, problems, log

    def publish(self, event: Event) -> Event:
        """Pass on an event, and return it with its source and clip.

        Raises:
            DataError: The log of a recording cannot be written.
        """
        event = replace(event, source=self.source)
        if self.name_clip is not None:
            event = self.name_clip(event)
        self.count += 1
        for listener in self._listeners:
            try:
                listener(event)
            except (CurateError, OSError) as error:
                self._problems.add(str(error))
        if self._log is not None:
            self._log.write(event)
        return event


def make_stream_event(notice: Notice, now: datetime) -> Event:
    """Make the event of a source that stalls, breaks or comes back."""
    return Event(
        time=now.isoformat(timespec="milliseconds"),
        timestamp_s=notice.timestamp_s,
        trigger=f"{STREAM_PREFIX}{notice.kind}",
        class_name=None,
        track_id=None,
        score=None,
        box=None,
        frames=(),
        detail=notice.detail,
    )
