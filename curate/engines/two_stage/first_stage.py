"""The detector of the first stage: its file, unchanged, and how it is kept in the pipeline's own checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from curate.engines.base import Detector, engine_for
from curate.engines.trained_model import TrainedModel, find_model
from curate.engines.training.checkpoint import read_checkpoint
from curate.errors import DataError, UsageError

ENGINE = "two-stage"
_NO_DETECTOR = "the checkpoint holds no detector for the first stage"
_STATE_KEY = "_extra_state"  # torch's name for what a module saves beside its tensors


@dataclass(frozen=True)
class FirstStage:
    """A detector's checkpoint, or a file of weights that its engine loads.

    Attributes:
        model: ENGINE:NAME.
        file_name: The file's name; some engines depend on its suffix.
        content: The file's bytes.
    """

    model: str
    file_name: str
    content: bytes

    def load(self, device: str = "auto") -> Detector:
        """Load the detector.

        Raises:
            DataError: Not a file that the engine loads.
            MissingError: The engine's library or the device is missing.
        """
        # an engine loads files, and this one is inside another
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
        """The inverse of `to_bytes`.

        Raises:
            DataError: The bytes are not from `to_bytes`.
        """
        header, _, content = document.partition(b"\n")
        try:
            names = json.loads(header)
            model, file_name = str(names["model"]), Path(str(names["file_name"])).name
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(_NO_DETECTOR, place=ENGINE) from error
        return cls(model, file_name, content)


def find_first_stage(detector: str, weights: str) -> TrainedModel:
    """The model that the settings `detector` and `detector_weights` name.

    Raises:
        UsageError: No detector is given, or see `find_model`.
    """
    if not detector:
        raise UsageError(
            "no detector is given for the first stage",
            place="--detector",
            expected="a run, or ENGINE:NAME with --detector-weights FILE",
        )
    return find_model(detector, weights, option="--detector-weights")


def read_first_stage(detector: str, weights: str) -> FirstStage:
    """Read the detector that the settings name. Of a two-stage pipeline, take its first stage.

    Raises:
        UsageError: See `find_first_stage`; or the file holds another model.
        MissingError: The library of the detector's engine is not installed.
        DataError: Its engine cannot load it.
    """
    found = find_first_stage(detector, weights)
    if found.model.partition(":")[0] == ENGINE:
        found.check()
        return read_embedded(found.checkpoint)
    found.load("cpu")  # a broken file is reported before the training, under its own name
    return FirstStage(found.model, found.checkpoint.name, found.checkpoint.read_bytes())


class EmbeddedDetector(nn.Module):
    """Keeps the file of a first stage in a network's state dict: no parameters, not averaged, on no device."""

    def __init__(self) -> None:
        super().__init__()
        self._document = torch.empty(0, dtype=torch.uint8)  # (n,)

    def embed(self, first: FirstStage) -> None:
        """Keep this first stage."""
        self._document = torch.frombuffer(bytearray(first.to_bytes()), dtype=torch.uint8)

    def extract(self) -> FirstStage:
        """The first stage that was embedded.

        Raises:
            DataError: There is none.
        """
        return FirstStage.from_bytes(self._document.numpy().tobytes())

    def get_extra_state(self) -> Tensor:
        """Called by `state_dict`."""
        return self._document

    def set_extra_state(self, state: Tensor) -> None:
        """Called by `load_state_dict`."""
        self._document = state


def is_detector(name: str) -> bool:
    """Whether an entry of a state dict is an embedded detector."""
    return name.endswith(_STATE_KEY)


def read_embedded(checkpoint: Path) -> FirstStage:
    """Read the first stage in a two-stage checkpoint.

    Raises:
        UsageError: There is no such file.
        DataError: Not a checkpoint, or one without a detector in it.
    """
    weights = read_checkpoint(checkpoint).weights
    for name, tensor in weights.items():
        if is_detector(name):
            return FirstStage.from_bytes(tensor.numpy().tobytes())
    raise DataError(_NO_DETECTOR, place=checkpoint)
