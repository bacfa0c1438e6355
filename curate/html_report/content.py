"""Content of a report: the page is made from this value alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.curation.stats import Balance
from curate.evaluation.judgement import EvaluateResult
from curate.html_report.gallery import Gallery


@dataclass(frozen=True)
class ClassChange:
    """A version that merged, renamed or dropped classes.

    Attributes:
        version: Its number.
        operation: The command.
        before, after: Class → boxes.
    """

    version: int
    operation: str
    before: Mapping[str, int]
    after: Mapping[str, int]


@dataclass(frozen=True)
class VersionEntry:
    """A version of the history; `time` is UTC, ISO 8601."""

    version: int
    operation: str
    time: str
    images: int
    boxes: int


@dataclass(frozen=True)
class DataFacts:
    """The dataset of the evaluation.

    Attributes:
        dataset: Name of its folder.
        version: Its version; 0 is the empty one.
        balance: Class balance of its labelled images.
        splits: Split → class balance.
        changes: Changes of classes, oldest first.
        history: Versions, newest first.
    """

    dataset: str
    version: int
    balance: Balance
    splits: Mapping[str, Balance]
    changes: Sequence[ClassChange] = ()
    history: Sequence[VersionEntry] = ()


@dataclass(frozen=True)
class TrainingCurve:
    """Loss and AP over the steps of a training; for a loop, of all its rounds.

    Attributes:
        losses: Step and loss; of a long training, means of neighbouring steps.
        aps: Step and AP on the val split, for each evaluation during the training.
        best_step: Step of the checkpoint that was kept.
    """

    losses: Sequence[tuple[int, float]]
    aps: Sequence[tuple[int, float]]
    best_step: int | None = None


@dataclass(frozen=True)
class RunFacts:
    """The training of the run; values are text for the reader.

    Attributes:
        run: Name of the run.
        facts: What was trained, on what, and for how long.
        settings: Its settings.
        versions: Package → version.
        curve: Loss and AP over its steps; None if its metrics are missing.
    """

    run: str
    facts: Mapping[str, str]
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    curve: TrainingCurve | None = None


@dataclass(frozen=True)
class ReportContent:
    """Content of a report.

    Attributes:
        evaluation: All numbers.
        objects: Size → objects that count.
        run, data: The run and its data.
        gallery: Pictures of the mistakes.
        against: Kept document of another run's evaluation on the same terms.
        all_mistakes_in: File or command that lists all mistakes.
        view_command: Command that shows all mistakes.
        notes: Notes on the numbers.
        current_names: Current or former class name → current name; merged classes share one.
    """

    evaluation: EvaluateResult
    objects: Mapping[str, int]
    run: RunFacts
    data: DataFacts
    gallery: Gallery
    all_mistakes_in: str
    view_command: str
    notes: Sequence[str] = ()
    against: Mapping[str, Any] | None = None
    current_names: Mapping[str, str] = field(default_factory=dict)
