"""The types of all feeds: frames, notices, and what a live source has to provide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.sources.video.remarks import Remark

NoticeKind = Literal["stalled", "broken", "back"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame.

    Attributes:
        index: From 0, in the order of the source; frames that a live feed skipped count too.
        timestamp_s: Seconds from the first frame; for a live feed by this machine's monotonic clock.
        pixels: H×W×3 uint8 RGB, upright; the size may change.
        arrived_s: `time.monotonic()` when it was decoded; for a recording, when it was taken from the feed.
    """

    index: int
    timestamp_s: float
    pixels: NDArray[np.uint8]
    arrived_s: float


@dataclass(frozen=True)
class Notice:
    """A change in the state of a live source.

    Attributes:
        kind: `stalled` (no frames), `broken` (ended or failed), or `back` (frames come again).
        timestamp_s: As in `Picture`.
        detail: The reason, without full stop and credentials.
    """

    kind: NoticeKind
    timestamp_s: float
    detail: str


class Feed(Protocol):
    """Frames of one source, decoded in a thread of its own.

    Attributes:
        name: Of the source, without credentials.
        is_live: Whether frames that are not taken in time are skipped; otherwise the source waits.
        ended: Whether nothing more will come.
        fault: Why frames are missing, known at the end; None where all came.
    """

    name: str
    is_live: bool
    ended: bool
    fault: str | None

    @property
    def remarks(self) -> Sequence[Remark]:
        """What is unusual about the pictures; of a recording, known at the end."""
        ...

    def take(self, limit: int, timeout_s: float) -> list[Picture | Notice]:
        """Wait for frames and notices, and return them oldest first; empty if nothing came in time.

        A recording returns up to `limit` frames, as soon as there is one. A live feed returns all notices and at most
        the latest frame; earlier frames that were not taken are skipped.

        Raises:
            DataError: The source cannot be opened.
        """
        ...

    def close(self) -> None:
        """End the thread and release the source. May be called again."""
        ...


class LiveSourceError(Exception):
    """A live source cannot be opened, or stopped sending frames.

    Args:
        detail: The reason, without full stop and credentials.
        kind: Whether it went silent or failed.
        remedy: What the user can do, as a sentence.
    """

    def __init__(
        self, detail: str, *, kind: Literal["stalled", "broken"] = "broken", remedy: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail, self.remedy = detail, remedy
        self.kind: NoticeKind = kind


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One decoded frame of a live source.

    Attributes:
        convert: Returns H×W×3 uint8 RGB, upright; may be called from another thread. None for a frame that was damaged
            or not decoded, and only counts.
        due_in_s: Seconds until it is to be shown, where a source delivers many frames at once.
    """

    convert: Callable[[], NDArray[np.uint8]] | None
    due_in_s: float = 0.0


class Connection(Protocol):
    """An open live source; used by one thread only, except for `remarks`."""

    @property
    def remarks(self) -> Sequence[Remark]:
        """What is unusual about the frames that were converted."""
        ...

    def read(self) -> list[LiveFrame]:
        """Wait for the next data, and return its frames: usually one, possibly none.

        Raises:
            LiveSourceError: No data came for too long, or the source ended or failed.
        """
        ...

    def close(self) -> None:
        """Release the source."""
        ...


class Opener(Protocol):
    """Connects to one live source, as often as needed.

    Attributes:
        name: Of the source, without credentials.
    """

    name: str

    def open(self) -> Connection:
        """Connect.

        Raises:
            LiveSourceError: The source cannot be opened.
        """
        ...
