"""What a report tells, gathered: a page is made from this value and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.curation.stats import Balance
from curate.html_report.gallery import Gallery


@dataclass(frozen=True)
class ClassChange:
    """A version that merged, renamed or dropped classes.

    Attributes:
        version: that it made.
        operation: the command.
        before, after: class → boxes.
    """

    version: int
    operation: str
    before: Mapping[str, int]
    after: Mapping[str, int]


@dataclass(frozen=True)
class VersionLine:
    """One line of the history; `time` is UTC, ISO 8601."""

    version: int
    operation: str
    time: str
    images: int
    boxes: int


@dataclass(frozen=True)
class DataFacts:
    """The data that the run was judged on.

    Attributes:
        dataset: the folder's own name.
        version: that is current; 0 is the empty one.
        balance: of its labelled images.
        splits: the same for each split, by name.
        changes: of classes, oldest first.
        history: newest first.
    """

    dataset: str
    version: int
    balance: Balance
    splits: Mapping[str, Balance]
    changes: Sequence[ClassChange] = ()
    history: Sequence[VersionLine] = ()


@dataclass(frozen=True)
class RunFacts:
    """How the run came to be; values are words and numbers as they are to be read.

    Attributes:
        run: its name.
        facts: what the training did.
        settings: that it was started with.
        versions: package → version.
    """

    run: str
    facts: Mapping[str, str]
    settings: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class ReportContent:
    """All of a report.

    Attributes:
        evaluation: the document of `evaluate`, without `against`.
        objects: size → objects that count, of which the missed ones are a part.
        run, data: where it comes from.
        gallery: of the mistakes.
        against: the kept document of another run's evaluation under the same terms.
        all_mistakes_in: a file, or a command, that lists all mistakes.
        view_command: the command that shows them all.
        notes: what a person should know of the numbers.
        names_now: class, also by a name that it had → its name now; after a merge several have one.
    """

    evaluation: Mapping[str, Any]
    objects: Mapping[str, int]
    run: RunFacts
    data: DataFacts
    gallery: Gallery
    all_mistakes_in: str
    view_command: str
    notes: Sequence[str] = ()
    against: Mapping[str, Any] | None = None
    names_now: Mapping[str, str] = field(default_factory=dict)
