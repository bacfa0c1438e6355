"""What a run tells about itself: the content of `run.json`."""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from pydantic import BaseModel, ConfigDict

from curate import __version__


class RunClass(BaseModel):
    """A class as the run knows it; its place in the list is the model's index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    name: str


class WeightsReport(BaseModel):
    """Which tensors the model took from its initial weights.

    Attributes:
        source: the setting `weights`.
        how: "random", "by name" or "in order".
        loaded: tensors taken.
        total: tensors the model has.
        not_loaded: the model's tensors that keep their random start, such as the head for other classes.
        not_used: the file's tensors that fit nowhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    how: str
    loaded: int
    total: int
    not_loaded: tuple[str, ...] = ()
    not_used: tuple[str, ...] = ()


class RunRecord(BaseModel):
    """`run.json`: what a run is and how far it has come.

    Attributes:
        run: its name.
        model: ENGINE:NAME.
        classes: in the order of the model's indices.
        dataset_version: the version trained on.
        dataset_mark: of the dataset trained on, as its store tells it; None where that was not kept.
        images, boxes: how many were trained on.
        seed: of the training.
        steps: to do.
        steps_done: done and in the last checkpoint.
        stopped: why it ended before its last step: "patience"; None where it did not.
        best_step: step of the best checkpoint; None before the first.
        ap: COCO's AP of the best checkpoint on the validation split; None before it was evaluated.
        seconds: spent training, over all starts.
        weights: what the initial weights filled.
        versions: of curate and the libraries that trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    model: str
    classes: tuple[RunClass, ...]
    dataset_version: int | None
    dataset_mark: str | None = None
    images: int
    boxes: int
    seed: int
    steps: int
    steps_done: int = 0
    stopped: str | None = None
    best_step: int | None = None
    ap: float | None = None
    seconds: float = 0.0
    weights: WeightsReport | None = None
    versions: Mapping[str, str]


def installed_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of curate and of those of the packages that are installed."""
    versions = {"curate": __version__}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
