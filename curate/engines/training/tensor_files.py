"""Files of tensors from anywhere: read without running code, within limits, and every fault is one error.

`.pth` and `.pt` are read by torch's own reader of weights, `.safetensors` by its library, `.pkl` (Detectron2's and
Caffe2's) here. Torch's advice to read a refused file with code is never repeated.
"""

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.errors import CurateError, DataError
from curate.files import read_regular

LARGEST_PICKLE = 1 << 32  # bytes
_MOST_MEMOS = 1 << 20  # of a pickle; each costs memory up to the highest number
_SLACK_BYTES = 1 << 26  # a zip file may hold so much more than its own size
_NUMERIC = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
_MOST_DIMENSIONS = 8


def load_tensor_file(path: Path) -> Any:
    """Read what a .pth, .pt, .safetensors or .pkl file holds: numbers, texts and tensors in containers.

    Raises:
        DataError: It cannot be read, is damaged, holds anything else, or much more than its size.
    """
    try:
        if path.suffix == ".pkl":
            return _read_pickle(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except CurateError:
        raise
    except Exception as error:  # damaged files raise anything in these libraries
        raise DataError(f"not a file of tensors: {_reason(error)}", place=path) from error


def check_tensors(tensors: Mapping[str, Tensor], place: object) -> None:
    """Check that tensors have the numbers that their shapes ask for, and that all of them are finite.

    Raises:
        DataError: Names the first tensor that does not.
    """
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            shape = "×".join(map(str, tensor.shape))
            raise DataError("a tensor has fewer numbers than its shape", place=place, got=f"{name[:100]}, {shape}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(
                "a tensor has numbers that are NaN or infinite",
                place=place,
                got=name[:100],
                remedy="Use a file from before the training failed.",
            )


def _reason(error: Exception) -> str:
    """Why a file is refused, without what a library advises."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors, or is damaged"
    words = " ".join(str(error).split())
    is_advice = re.search(r"weights_only|torch\.load|trust", words)
    return f"{type(error).__name__}" if is_advice or not words else words.split(". ")[0][:200]


def _check_archive(path: Path) -> None:
    """Refuse a zip file that holds much more than its size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    if total > 2 * path.stat().st_size + _SLACK_BYTES:
        raise DataError("the file holds much more than its size", place=path, got=f"{total:,} bytes")


# ── pickles of numpy arrays ──────────────────────────────────────────────────────────────────────────────────────


class _Type:
    """Stands for a numeric `numpy.dtype`."""

    def __init__(self, text: Any = None, *_: Any) -> None:
        if not isinstance(text, str | bytes):
            raise ValueError("a type of numbers without a name")
        name = text.decode("ascii") if isinstance(text, bytes) else text
        if not _NUMERIC.fullmatch(name):
            raise ValueError(f"an array of {name[:20]!r}, not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; all else is for types that are not numbers."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise ValueError("a type that is not of numbers")
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("a type with an unknown byte order")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for a `numpy.ndarray`, which is built from its bytes here: numpy's own reader believes the pickle."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array of an unknown form")
        _, shape, dtype, is_fortran, content = state
        self.values = _array(content, dtype, shape, "F" if is_fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    data = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(data, bytes | bytearray) or type(dtype) is not _Type or order not in ("C", "F"):
        raise ValueError("an array of an unknown form")
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS or not all(type(side) is int for side in shape):
        raise ValueError("an array of an unknown shape")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"an array whose shape is not that of its {len(data):,} bytes")
    values = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return values.astype(dtype.dtype.newbyteorder("="))  # a copy, in this machine's byte order


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = _array(content, dtype, shape, order)
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (), "C").item()


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a text of an unknown encoding")
    return text.encode("latin1")


_STAND_INS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): lambda: b"",  # as the old forms of pickle write no bytes
    ("numpy", "ndarray"): None,  # the argument of `_reconstruct`, which ignores it
    ("numpy", "dtype"): _Type,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise ValueError(f"it refers to {module[:50]}.{name[:50]}, which is not allowed in weights")
        return _STAND_INS[module, name]


def _read_pickle(path: Path) -> dict[Any, Any]:
    data = read_regular(path, LARGEST_PICKLE)
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) >= _MOST_MEMOS:
            raise ValueError("it is damaged")
        if opcode.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"):
            raise ValueError("it refers to something outside the file")
    content = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    if not isinstance(content, dict):
        raise DataError("the file holds no named tensors", place=path, expected="a dictionary")
    return _with_arrays(content.items(), deeper=True)


def _with_arrays(items: Iterable[tuple[Any, Any]], *, deeper: bool) -> dict[Any, Any]:
    """A dictionary with arrays in place of what stands for them, and in the dictionaries directly in it."""
    found: dict[Any, Any] = {}
    for name, value in items:
        if isinstance(value, _Array):
            if value.values is None:
                raise ValueError("an array without its numbers")
            found[name] = value.values
        elif isinstance(value, dict):
            if deeper:
                found[name] = _with_arrays(value.items(), deeper=False)
        elif isinstance(value, str | int | float | bytes | bool | None):
            found[name] = value
    return found
