"""What can become of a link."""

from dataclasses import dataclass

from curate.sources.youtube.archive import Record
from curate.sources.youtube.failures import Failure
from curate.sources.youtube.links import Wish


@dataclass(frozen=True)
class Got:
    """A video that is there now; `is_new` tells whether it was fetched in this run."""

    wish: Wish
    record: Record
    is_new: bool
    note: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A link that was left out on purpose; `later` is what the next run is to ask for."""

    wish: Wish
    reason: str
    later: Wish | None = None


@dataclass(frozen=True)
class Failed:
    """A link that gave nothing; `later` is what the next run is to ask for."""

    wish: Wish
    failure: Failure
    later: Wish | None = None


Outcome = Got | Skipped | Failed
