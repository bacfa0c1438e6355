"""What `watch` looks with: the detector of a run or of a file of weights, and what counts of its detections."""

from dataclasses import dataclass
from pathlib import Path

from curate.curation.splits import VAL
from curate.engines.base import Detector, engine_for, names_model
from curate.errors import UsageError
from curate.inference.evaluations import read_terms
from curate.run_folder.folder import RunFolder
from curate.sizes import PinholeView, RangeOfInterest, choose_range, choose_view

USUAL_SCORE = 0.5


@dataclass(frozen=True)
class WatchTerms:
    """What counts: the same that `evaluate` counts.

    Attributes:
        score: least score.
        interest: the range of interest; None: all sizes.
        camera: tells distances; None where it is not described.
        as_evaluated: whether both are those of the run's last evaluation.
    """

    score: float
    interest: RangeOfInterest | None
    camera: PinholeView | None
    as_evaluated: bool

    def __str__(self) -> str:
        """In words."""
        side = self.interest.min_side_px if self.interest else 0
        far = self.camera.distance_m(side) if self.camera else None
        words = f"scores from {self.score:g}"
        words += f", sides of at least {side:g} px" if side else ""
        return words + (f" (up to {far:.1f} m away)" if far else "") + (", as evaluated" if self.as_evaluated else "")


@dataclass(frozen=True)
class Model:
    """A trained model that is not loaded yet.

    Attributes:
        name: for messages: the run's folder, or the model and its file.
        model: ENGINE:NAME.
        checkpoint: the file.
        run: its folder; None for a file of weights.
    """

    name: str
    model: str
    checkpoint: Path
    run: RunFolder | None

    def load(self, device: str) -> Detector:
        """Load it.

        Raises:
            UsageError: the weights are another model's.
            MissingError: the engine's library, or the device, is not there.
            DataError: not a checkpoint of the engine.
        """
        engine = engine_for(self.model)
        told = None if self.run is not None else engine.model_in(self.checkpoint)
        if told is not None and told != self.model:
            raise UsageError("the weights are another model's", place="--weights", got=told, expected=self.model)
        return engine.load(self.checkpoint, device)


def choose_model(run: str, weights: str | None) -> Model:
    """A run's best checkpoint; or, for ENGINE:NAME, that file of weights.

    Raises:
        UsageError: there is no such run, or no checkpoint.
    """
    if Path(run).exists() or not names_model(run):
        folder = RunFolder(run)
        record = folder.read_record()
        if weights is not None:
            raise UsageError(
                "a run has its own weights", place="--weights", got=weights, expected="it with ENGINE:NAME"
            )
        if not folder.best.is_file():
            remedy = "Train it, or go on with --resume."
            raise UsageError("the run has no checkpoint yet", place=folder.path, remedy=remedy)
        return Model(run, record.model, folder.best, folder)
    if weights is None:
        raise UsageError(
            "a model without weights has learnt nothing",
            place=run,
            expected="--weights FILE too",
            remedy="Train it; or, to find faces, get the file that `curate doctor` names.",
        )
    if not Path(weights).is_file():
        raise UsageError("there is no such file", place="--weights", got=weights)
    return Model(f"{run} with {weights}", run, Path(weights), None)


def choose_terms(
    model: Model,
    *,
    score: float | None,
    min_side: float | None,
    max_distance: float | None,
    object_height: float | None,
    focal_px: float | None,
) -> WatchTerms:
    """What is asked for; where nothing is, what the run was last evaluated at on val, so that this is what runs.

    Raises:
        UsageError: the options do not fit one another.
    """
    if score is not None and not 0 <= score <= 1:
        raise UsageError("not a score", place="--score", got=score, expected="0 to 1")
    kept = read_terms(model.run, VAL) if model.run is not None else {}
    says_range = min_side is not None or max_distance is not None
    if not says_range:
        min_side = kept.get("min_side")
    if object_height is None and focal_px is None:
        object_height, focal_px = (kept.get(name) if not says_range else None for name in ("object_height", "focal_px"))
    return WatchTerms(
        score=score if score is not None else kept.get("score", USUAL_SCORE),
        interest=choose_range(min_side, max_distance, object_height, focal_px),
        camera=choose_view(object_height, focal_px),
        as_evaluated=bool(kept) and score is None and not says_range,
    )


def usual_batch(device: str) -> int:
    """How many frames of a file to look at at once: a GPU is kept busy by some, a CPU gains nothing."""
    if device == "cpu":
        return 1
    from curate.engines.training.device import device_named

    return 8 if device_named(device).type == "cuda" else 1
