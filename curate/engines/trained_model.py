"""Trained models by name: a run, or ENGINE:NAME with a file of weights."""

from dataclasses import dataclass
from pathlib import Path

from curate.engines.base import Detector, engine_for, names_model
from curate.errors import UsageError
from curate.files import suggest_file
from curate.run_folder.folder import RunFolder


@dataclass(frozen=True)
class TrainedModel:
    """A trained model that is not loaded yet.

    Attributes:
        name: For messages: the run as it was given, or the model and its file.
        model: ENGINE:NAME.
        checkpoint: The file.
        run: The run's folder; None for a file of weights.
        option: The option that named the file, for messages.
    """

    name: str
    model: str
    checkpoint: Path
    run: RunFolder | None
    option: str = "--weights"

    def check(self) -> None:
        """Refuse a file that says it belongs to another model.

        Raises:
            UsageError: The file holds another model.
            MissingError: The engine's library is not installed.
        """
        if self.run is not None:
            return
        actual = engine_for(self.model).model_in(self.checkpoint)
        if actual is not None and actual != self.model:
            raise UsageError(
                f"the weights belong to the model {actual}",
                place=self.option,
                got=self.checkpoint,
                expected=f"weights of {self.model}",
            )

    def load(self, device: str) -> Detector:
        """Load the model.

        Raises:
            UsageError: The file holds another model.
            MissingError: The engine's library or the device is missing.
            DataError: Not a checkpoint of the engine.
        """
        self.check()
        return engine_for(self.model).load(self.checkpoint, device)


def find_model(run_or_model: str, weights: str | None, *, option: str = "--weights") -> TrainedModel:
    """The best checkpoint of a run; or, for ENGINE:NAME, the given file of weights.

    Args:
        run_or_model: A run's folder or ENGINE:NAME; an existing path is taken for a run.
        weights: A file, for ENGINE:NAME.
        option: The option that names `weights`, for messages.

    Raises:
        UsageError: There is no such run or file, the run has no checkpoint, or `weights` is missing or superfluous.
    """
    if Path(run_or_model).exists() or not names_model(run_or_model):
        return _of_run(run_or_model, weights, option)
    if not weights:
        raise UsageError(
            f"ENGINE:NAME needs {option} FILE",
            place=run_or_model,
            remedy="Train a model first; or, to find faces, download the file that `curate doctor` names.",
        )
    if not Path(weights).is_file():
        raise UsageError("there is no such file", place=option, got=weights, remedy=suggest_file(weights))
    return TrainedModel(f"{run_or_model} with {weights}", run_or_model, Path(weights), None, option)


def _of_run(run: str, weights: str | None, option: str) -> TrainedModel:
    folder = RunFolder(run)
    record = folder.read_record()
    if weights:
        raise UsageError(
            f"{option} cannot be combined with a run, which has weights of its own",
            place=option,
            got=weights,
            expected=f"ENGINE:NAME with {option}",
        )
    if not folder.best.is_file():
        remedy = "Train it, or continue it with --resume."
        raise UsageError("the run has no checkpoint yet", place=folder.path, remedy=remedy)
    return TrainedModel(run, record.model, folder.best, folder, option)
