"""The detector of the first stage, as the file that it is: it goes into the pipeline's own checkpoint as it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from curate.engines.base import Detector, engine_for, names_model
from curate.engines.training.checkpoint import read_checkpoint
from curate.errors import DataError, UsageError
from curate.run_folder.folder import RunFolder

ENGINE = "two-stage"


@dataclass(frozen=True)
class FirstStage:
    """A detector's checkpoint, or a file of weights that its engine loads.

    Attributes:
        model: ENGINE:NAME.
        file_name: of the file; some engines go by its ending.
        content: of the file.
    """

    model: str
    file_name: str
    content: bytes

    def load(self, device: str = "auto") -> Detector:
        """The detector, ready to look at images.

        Raises:
            DataError: not a file that the engine loads.
            MissingError: the engine's library, or the device, is not there.
        """
        # an engine loads files, and this one lies inside another
        with TemporaryDirectory(prefix="curate-") as folder:
            file = Path(folder) / self.file_name
            file.write_bytes(self.content)
            return engine_for(self.model).load(file, device)

    def to_bytes(self) -> bytes:
        """A line of JSON, then the file."""
        header = {"model": self.model, "file_name": self.file_name}
        return json.dumps(header).encode() + b"\n" + self.content

    @classmethod
    def from_bytes(cls, document: bytes) -> "FirstStage":
        """What `to_bytes` wrote.

        Raises:
            DataError: something else.
        """
        header, _, content = document.partition(b"\n")
        try:
            names = json.loads(header)
            model, file_name = str(names["model"]), Path(str(names["file_name"])).name
        except (ValueError, TypeError, KeyError) as error:
            raise DataError("the checkpoint holds no detector for its first stage", place=ENGINE) from error
        return cls(model, file_name, content)


def find_first_stage(detector: str, weights: str) -> tuple[str, Path]:
    """The model and the file that the settings `detector` and `detector_weights` name.

    Raises:
        UsageError: there is no such run or file, or no checkpoint; or the weights are another model's.
        MissingError: the library of the detector's engine is not installed.
    """
    if not detector:
        raise UsageError(
            "the first stage is not named",
            place="--detector",
            expected="a run, or ENGINE:NAME with --detector-weights FILE",
        )
    if Path(detector).exists() or not names_model(detector):
        return _of_run(RunFolder(detector), weights)
    if not weights:
        raise UsageError(
            "a detector without weights has learnt nothing", place=detector, expected="--detector-weights FILE too"
        )
    file = Path(weights)
    if not file.is_file():
        raise UsageError("there is no such file", place="--detector-weights", got=weights)
    told = engine_for(detector).model_in(file)
    if told is not None and told != detector:
        raise UsageError("the weights are another model's", place="--detector-weights", got=told, expected=detector)
    return detector, file


def read_first_stage(detector: str, weights: str) -> FirstStage:
    """Read the detector that the settings name. Of a two-stage pipeline it is the first stage; only boxes count.

    Raises:
        UsageError, MissingError: see `find_first_stage`.
        DataError: its engine cannot load it.
    """
    model, file = find_first_stage(detector, weights)
    if model.partition(":")[0] == ENGINE:
        return first_stage_in(file)
    engine_for(model).load(file, "cpu")  # a fault is told before the training, and with the file's own name
    return FirstStage(model, file.name, file.read_bytes())


def _of_run(folder: RunFolder, weights: str) -> tuple[str, Path]:
    record = folder.read_record()
    if weights:
        raise UsageError(
            "a run has its own weights", place="--detector-weights", got=weights, expected="it with ENGINE:NAME"
        )
    if not folder.best.is_file():
        remedy = "Train it, or go on with --resume."
        raise UsageError("the run has no checkpoint yet", place=folder.path, remedy=remedy)
    return record.model, folder.best


_STATE = "_extra_state"  # torch's name for what a module saves beside its tensors


class EmbeddedDetector(nn.Module):
    """Holds the file of a first stage: no parameters, no part in optimizer, average or device."""

    def __init__(self) -> None:
        super().__init__()
        self._document = torch.empty(0, dtype=torch.uint8)  # (n,)

    def hold(self, first: FirstStage) -> None:
        """Save this one from now on."""
        self._document = torch.frombuffer(bytearray(first.to_bytes()), dtype=torch.uint8)

    def held(self) -> FirstStage:
        """What it holds.

        Raises:
            DataError: nothing.
        """
        return FirstStage.from_bytes(self._document.numpy().tobytes())

    def get_extra_state(self) -> Tensor:
        """What `state_dict` takes along; torch calls it."""
        return self._document

    def set_extra_state(self, state: Tensor) -> None:
        """Take it from a `state_dict`; torch calls it."""
        self._document = state


def is_detector(name: str) -> bool:
    """Whether a tensor of a state dict is a detector's file."""
    return name.endswith(_STATE)


def first_stage_in(checkpoint: Path) -> FirstStage:
    """The first stage of a two-stage checkpoint.

    Raises:
        UsageError: there is no such file.
        DataError: it is no checkpoint, or none with a detector in it.
    """
    weights = read_checkpoint(checkpoint).weights
    for name, tensor in weights.items():
        if is_detector(name):
            return FirstStage.from_bytes(tensor.numpy().tobytes())
    raise DataError("the checkpoint holds no detector for its first stage", place=checkpoint)
