"""Events on their way: named after their source, written down, acted upon, told."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from curate.errors import CurateError, DataError, UsageError
from curate.monitor.actions.clip import ClipRecorder
from curate.monitor.triggers.event import Event
from curate.sources.feeds.feed import Notice


class EventLog:
    """A file of JSON lines, one an event, each there as soon as it happens.

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        except OSError as error:
            raise UsageError(f"the file cannot be written: {error.strerror}", place=path) from error

    def write(self, event: Event) -> None:
        """Add an event.

        Raises:
            DataError: the disk is full, say.
        """
        line = json.dumps(event.as_json(), ensure_ascii=False) + "\n"
        try:
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise DataError(f"the event cannot be written: {error.strerror}", place=self._path) from error

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Announcer:
    """Brings events to all who want them. One that fails keeps no other from hearing: its first failure is a problem.

    Args:
        tell: each in turn gets every event.

    Attributes:
        problems: of those who are told.
        source: what events say where they are from; None where there is one source only.
        clips: what names the clips of events.
        count: how many there were.
    """

    def __init__(self, *tell: Callable[[Event], None]) -> None:
        self.source: str | None = None
        self.clips: ClipRecorder | None = None
        self.count = 0
        self.problems: list[str] = []
        self._tell = tell

    def announce(self, event: Event) -> Event:
        """Tell everybody, and return the event as it was told."""
        event = replace(event, source=self.source)
        if self.clips is not None:
            event = self.clips.announce(event)
        self.count += 1
        for tell in self._tell:
            try:
                tell(event)
            except (CurateError, OSError) as error:
                self._note(str(error))
        return event

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def event_of(notice: Notice, now: datetime) -> Event:
    """The event of trouble with a source, or of its end."""
    return Event(
        time=now.isoformat(timespec="milliseconds"),
        timestamp_s=notice.timestamp_s,
        trigger=f"stream_{notice.kind}",
        class_name=None,
        track_id=None,
        score=None,
        box=None,
        frames=(),
        detail=notice.detail,
    )
