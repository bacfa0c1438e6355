"""A detector inside a network: its file is saved and loaded with the network's tensors, and nothing ever trains it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from curate.engines.training.checkpoint import read_checkpoint
from curate.engines.two_stage.first_stage import FirstStage
from curate.errors import DataError

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
