"""What every feed gives: frames as they are wanted, and notices of trouble."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class LiveTroubleError(Exception):
    """A live source cannot be opened or read on.

    Args:
        detail: what is wrong: a sentence without its full stop, without passwords.
        kind: whether it went silent, or failed.
        remedy: what the reader can do, as a sentence.
    """

    def __init__(
        self, detail: str, *, kind: Literal["stalled", "broken"] = "broken", remedy: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail, self.remedy = detail, remedy
        self.kind: NoticeKind = kind


@dataclass(frozen=True, eq=False)
class Shot:
    """One decoded frame, not a picture yet.

    Attributes:
        develop: makes H×W×3 uint8 RGB of it, upright; None for a damaged frame, which only counts. May be called in
            another thread than the one that reads.
        early_s: seconds before it is due, where a source hands out many frames at once.
    """

    develop: Callable[[], NDArray[np.uint8]] | None
    early_s: float = 0.0


class Connection(Protocol):
    """An opened source; all of it is used by one thread."""

    def read(self) -> list[Shot]:
        """Wait for what comes next and return its frames, mostly one; none where it showed nothing.

        Raises:
            LiveTroubleError: nothing came for too long, it ended, or it failed.
        """
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class Opener(Protocol):
    """Connects to one source, as often as needed.

    Attributes:
        name: of the source, for messages: without passwords.
    """

    name: str

    def open(self) -> Connection:
        """Connect.

        Raises:
            LiveTroubleError: that was not possible.
        """
        ...


NoticeKind = Literal["stalled", "broken", "back"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame.

    Attributes:
        index: from 0, as the source shows them; those that a live feed left out count too.
        timestamp_s: seconds from the first frame; of a live feed by this machine's monotonic clock.
        pixels: H×W×3 uint8 RGB, upright.
        arrived_s: `time.monotonic()` when it had been decoded; where every frame counts and they wait for whoever takes
            them, when it was taken.
    """

    index: int
    timestamp_s: float
    pixels: NDArray[np.uint8]
    arrived_s: float


@dataclass(frozen=True)
class Notice:
    """What happened to a live source: it went silent (stalled), it ended or failed (broken), or it shows again (back).

    Attributes:
        kind: one of these.
        timestamp_s: as of pictures.
        detail: a sentence without its full stop, without passwords.
    """

    kind: NoticeKind
    timestamp_s: float
    detail: str


class Feed(Protocol):
    """Frames of one source, decoded in a thread of its own.

    Attributes:
        name: of the source, for messages: without passwords.
        is_live: whether frames that come too fast are left out; else the source waits.
        ended: whether nothing more will come.
        fault: after the end, why frames are missing; None where all came.
    """

    name: str
    is_live: bool
    ended: bool
    fault: str | None

    def take(self, most: int, timeout_s: float) -> list[Picture | Notice]:
        """Wait at most so long and return what is there, oldest first; nothing where nothing came in time.

        A file gives up to `most` frames, as soon as there is one. A live feed gives notices, and at most the newest
        frame: what came before it and was not taken is left out.

        Raises:
            DataError: the source cannot be opened.
        """
        ...

    def close(self) -> None:
        """End the thread and give back what it holds. May be called again."""
        ...
