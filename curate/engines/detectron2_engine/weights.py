"""Initial weights of Detectron2's models: `.pkl` files of its zoo, or `.pth` files. No code in them is run."""

# Detectron2 is on no package registry, so type checks run without it
# pyright: reportMissingImports=false

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from curate.engines.detectron2_engine.config import has_frozen_norm
from curate.engines.training.tensor_files import check_tensors, load_tensor_file
from curate.engines.training.weights import download, find_weights_file, read_tensors
from curate.errors import CurateError, DataError, UsageError
from curate.run_folder.record import WeightsReport


def load_initial_weights(model: nn.Module, weights: str, own: str) -> WeightsReport:
    """Fill a model from `weights`: "default", "none", "package:DISTRIBUTION" or a file.

    Args:
        model: Changed in place.
        weights: As in `TrainingConfig`.
        own: URL or path of the model's own weights, for "default"; may be empty.

    Raises:
        UsageError: There is no such file, or the model cannot be trained from random weights.
        MissingError: The download failed, or the package is not installed.
        DataError: The file holds no tensors, or none that fits.
    """
    slots = list(model.state_dict())
    if weights == "none" or (weights == "default" and not own):
        if has_frozen_norm(model):
            raise UsageError(
                "the model has frozen batch norms and cannot be trained from random weights",
                place="--weights",
                got=weights,
                expected="a file of weights",
                remedy="Or use a model that trains from scratch, such as Misc/scratch_mask_rcnn_R_50_FPN_3x_gn.",
            )
        return WeightsReport(source=weights, how="random", loaded=0, total=len(slots), not_loaded=tuple(slots))
    if weights == "default":
        remedy = "Give a local file with --weights FILE."
        fetch = partial(PathManager.get_local_path, own)
        file = Path(download("the pretrained weights", fetch, own, remedy))
    else:
        file = find_weights_file(weights)
    return _fill(model, file, weights, slots)


def _fill(model: nn.Module, file: Path, source: str, slots: list[str]) -> WeightsReport:
    reader = _Checkpointer(model)
    try:
        reader.load(str(file))
    except CurateError:
        raise
    except Exception as error:  # the library's own matching of names, on whatever the file holds
        raise DataError("the file does not fit the model", place=file, got=type(error).__name__) from error
    missing = {*reader.missing, *reader.wrong_shape}
    if len(missing) >= len(slots):
        raise DataError(
            "no tensor of the file fits the model",
            place=file,
            got=", ".join(reader.unused[:3]),
            expected="weights in Detectron2's names",
            remedy="Detectron2's tools/convert-torchvision-to-d2.py renames those of torchvision's ResNets.",
        )
    return WeightsReport(
        source=source,
        how="by name",
        loaded=len(slots) - len(missing),
        total=len(slots),
        not_loaded=tuple(slot for slot in slots if slot in missing),
        not_used=(*reader.unused, *reader.wrong_shape),
    )


class _Checkpointer(DetectionCheckpointer):
    """Detectron2's own matching of names, on files that are read without running code.

    Attributes:
        missing: The model's tensors that the file lacks.
        unused: The file's tensors that the model lacks.
        wrong_shape: Tensors of both with different shapes.
    """

    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(".pkl"):
            return {"model": read_tensors(Path(filename))}
        content = _read_zoo_file(Path(filename))
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)
        if not isinstance(blobs, dict):
            raise DataError("the file holds no named tensors", place=filename, expected="a dictionary")
        model = {
            name: value for name, value in blobs.items() if isinstance(name, str) and not name.endswith("_momentum")
        }
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        mismatch = super()._load_model(checkpoint)
        self.missing, self.unused = tuple(mismatch.missing_keys), tuple(mismatch.unexpected_keys)
        self.wrong_shape = tuple(name for name, *_ in mismatch.incorrect_shapes)
        return mismatch


def _read_zoo_file(file: Path) -> dict[str, Any]:
    """The dictionary in a `.pkl` file, whose arrays are finite numbers."""
    content = load_tensor_file(file)
    for part in (content, *(value for value in content.values() if isinstance(value, dict))):
        arrays = {str(name): torch.from_numpy(value) for name, value in part.items() if isinstance(value, np.ndarray)}
        check_tensors(arrays, file)
    return content
