"""What a live feed reads from: something that is opened again whenever it breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.sources.feeds.feed import NoticeKind


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
