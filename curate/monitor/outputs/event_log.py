"""Events on their way: completed with source and clip, written to `--events`, passed to actions, page and callback."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from curate.errors import CurateError, DataError, UsageError
from curate.monitor.problems import Problems
from curate.monitor.triggers.event import STREAM_PREFIX, Event
from curate.sources.feeds.feed import Notice


class EventLog:
    """A file of JSON lines, one per event, written as it happens.

    Raises:
        UsageError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        except OSError as error:
            raise UsageError(f"cannot write the file: {error.strerror}", place=path) from error

    def write(self, event: Event) -> None:
        """Append an event.

        Raises:
            DataError: The file cannot be written, as on a full disk.
        """
        line = json.dumps(event.as_json(), ensure_ascii=False) + "\n"
        try:
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise DataError(f"cannot write the event: {error.strerror}", place=self._path) from error

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class EventPublisher:
    """Passes every event to all listeners; a listener that fails is a problem, and the others still get the event.

    Args:
        listeners: Called in turn with every event.
        problems: Gets failures of listeners.

    Attributes:
        source: Name of the source that events carry; None where only one is watched.
        name_clip: Returns an event with the path of its clip, where there is one.
        count: Number of events.
    """

    def __init__(self, *listeners: Callable[[Event], None], problems: Problems) -> None:
        self.source: str | None = None
        self.name_clip: Callable[[Event], Event] | None = None
        self.count = 0
        self._listeners, self._problems = listeners, problems

    def publish(self, event: Event) -> Event:
        """Pass on an event, and return it with its source and clip."""
        event = replace(event, source=self.source)
        if self.name_clip is not None:
            event = self.name_clip(event)
        self.count += 1
        for listener in self._listeners:
            try:
                listener(event)
            except (CurateError, OSError) as error:
                self._problems.add(str(error))
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
