"""Initial weights of Detectron2's models, from its zoo's `.pkl` files or `.pth` ones; code in them is not run."""

# Detectron2 is on no registry, so that type checks must do without it
# pyright: reportMissingImports=false

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from curate.engines.detectron2_engine.config import has_frozen_norm
from curate.engines.training.weights import PACKAGE, file_in_package, read_tensors
from curate.errors import DataError, MissingError, UsageError
from curate.run_folder.record import WeightsReport

# all that a dictionary of arrays needs
_HARMLESS = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


def load_initial_weights(model: nn.Module, weights: str, own: str) -> WeightsReport:
    """Fill a model as the setting `weights` says: "default", "none", "package:DISTRIBUTION" or a file.

    Args:
        model: changed in place.
        weights: the setting.
        own: what "default" means for the model: an address, or empty.

    Raises:
        UsageError: there is no such file, or the model cannot learn from random weights.
        MissingError: no network for the download, or the package is not installed.
        DataError: the file holds no tensors, or none that fits.
    """
    slots = list(model.state_dict())
    if weights == "none" or (weights == "default" and not own):
        if has_frozen_norm(model):
            raise UsageError(
                "the model's batch norms are frozen, so that it cannot learn from random weights",
                place="--weights",
                got=weights,
                expected="a file of weights",
                remedy="Or take a model that starts from scratch, such as Misc/scratch_mask_rcnn_R_50_FPN_3x_gn.",
            )
        return WeightsReport(source=weights, how="random", loaded=0, total=len(slots), not_loaded=tuple(slots))
    if weights == "default":
        file = _download(own)
    else:
        file = file_in_package(weights.removeprefix(PACKAGE)) if weights.startswith(PACKAGE) else Path(weights)
        if not file.is_file():
            raise UsageError(
                "there is no such weights file", place=file, expected="a file, `package:NAME`, `default` or `none`"
            )
    return _fill(model, file, weights, slots)


def _fill(model: nn.Module, file: Path, source: str, slots: list[str]) -> WeightsReport:
    reader = _Checkpointer(model)
    reader.load(str(file))
    missing = {*reader.missing, *reader.misfits}
    if len(missing) >= len(slots):
        raise DataError(
            "no tensor of the file fits the model",
            place=file,
            got=", ".join(reader.unused[:3]),
            expected="weights in Detectron2's names",
            remedy="Its tools/convert-torchvision-to-d2.py renames those of torchvision's ResNets.",
        )
    return WeightsReport(
        source=source,
        how="by name",
        loaded=len(slots) - len(missing),
        total=len(slots),
        not_loaded=tuple(slot for slot in slots if slot in missing),
        not_used=(*reader.unused, *reader.misfits),
    )


class _Checkpointer(DetectionCheckpointer):
    """Detectron2's own matching of names, on files that are read without running code; keeps what did not fit."""

    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(".pkl"):
            return {"model": read_tensors(Path(filename))}
        content = _read_pickle(Path(filename))
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)
        model = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        found = super()._load_model(checkpoint)
        self.missing, self.unused = tuple(found.missing_keys), tuple(found.unexpected_keys)
        self.misfits = tuple(name for name, *_ in found.incorrect_shapes)
        return found


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which no weights need")
        return super().find_class(module, name)


def _read_pickle(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = _ArraysOnly(opened, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, ImportError, AttributeError, IndexError) as error:
        raise DataError(f"not a file of tensors: {error}", place=file) from error
    if not isinstance(content, dict):
        raise DataError("the file holds no named tensors", place=file, expected="a dictionary")
    return content


def _download(address: str) -> Path:
    try:
        return Path(PathManager.get_local_path(address))
    except (URLError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise MissingError(
            f"the pretrained weights cannot be downloaded: {reason}",
            place=address,
            remedy="Give a local file with --weights FILE.",
        ) from error
