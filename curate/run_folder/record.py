"""The record of a run: the content of `run.json`."""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Required

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from curate import __version__


class RunClass(BaseModel):
    """A class of the run; its position in the list is the model's class index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    name: str


class WeightsReport(BaseModel):
    """Which of the model's tensors the initial weights filled.

    Attributes:
        source: The setting `weights`.
        how: "random", "by name" or "in order".
        loaded: Number of tensors filled.
        total: Number of tensors of the model.
        not_loaded: The model's tensors that start from random weights, such as the head for other classes.
        not_used: The file's tensors that match none of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    how: str
    loaded: int
    total: int
    not_loaded: tuple[str, ...] = ()
    not_used: tuple[str, ...] = ()


class RunRecord(BaseModel):
    """`run.json`: what a run is, and its progress.

    Attributes:
        run: Its name.
        model: ENGINE:NAME.
        classes: In the order of the model's indices.
        dataset_version: The version trained on.
        dataset_mark: `Store.mark` of the dataset trained on; None in runs of older versions.
        images, boxes: Number of images and boxes trained on.
        seed: Random seed.
        steps: Number of steps to do.
        steps_done: Steps in the last checkpoint.
        stopped: "patience" if training stopped early, else None.
        best_step: Step of the best checkpoint; None before the first.
        ap: COCO's AP of the best checkpoint on the val split; None before it was evaluated.
        seconds: Time spent training, over all starts.
        weights: Which tensors the initial weights filled.
        versions: Of curate and the engines' libraries.
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


class MetricsLine(TypedDict, total=False):
    """A line of `metrics.jsonl`: a step, and numbers that were measured at it; those of an evaluation have `ap`."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    step: Required[int]
    ap: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


def installed_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of curate and of those of the packages that are installed."""
    versions = {"curate": __version__}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
