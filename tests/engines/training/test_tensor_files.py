"""Files of tensors: what is read, and that nothing else is."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from extras import needs_torch

from curate.errors import DataError

pytestmark = needs_torch


def load(path):
    from curate.engines.training.tensor_files import load_tensor_file

    return load_tensor_file(path)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "u1", "?", ">f4"])
def test_arrays_come_back(tmp_path, protocol, dtype):
    """Of every numeric type, shape and order, as any version of pickle writes them."""
    arrays = {
        "a": np.arange(24).reshape(2, 3, 4).astype(dtype),
        "turned": np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
        "none": np.empty((0, 3), dtype),
        "one": np.array(3, dtype),
    }
    content = {"model": OrderedDict(arrays), "__author__": "somebody", "scalar": np.float32(2.5), "matching": True}
    found = load(write(tmp_path / "a.pkl", content, protocol))
    assert (found["__author__"], found["scalar"], found["matching"]) == ("somebody", 2.5, True)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found["model"][name], array)
        assert found["model"][name].dtype == array.dtype.newbyteorder("=")


class Pointer:
    """An array of objects whose bytes are addresses, as an attacker writes it."""

    def __reduce__(self):
        reconstruct = np.array([1]).__reduce__()[0]
        return reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, b"\x41" * 8)


class WrongLength:
    def __reduce__(self):
        reconstruct = np.array([1]).__reduce__()[0]
        return reconstruct, (np.ndarray, (0,), b"b"), (1, (1 << 40,), np.dtype("f4"), False, b"\x41" * 8)


class Command:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize(
    "value",
    [
        Pointer(),
        WrongLength(),
        Command(),
        np.array(["text"], dtype="O"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2026"], dtype="datetime64[Y]"),
        np.array(["text"]),
        np.dtype([("a", "i4")]),
        3 + 4j,
        {1, 2},
    ],
)
def test_nothing_but_numbers_is_built(tmp_path, value):
    """Addresses, records, texts and calls are refused, with the file's name."""
    with pytest.raises(DataError, match=r"a\.pkl: "):
        load(write(tmp_path / "a.pkl", {"a": np.zeros(3), "b": value}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"(",
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of 64 gigabytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # bytes of any length
        b"(" * 100_000 + b".",
        b"cos\nsystem\n(S'true'\ntR.",
        pickle.dumps([1]),
    ],
)
def test_damaged_pickles_are_one_error(tmp_path, data):
    """Whatever they ask for."""
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.pkl: "):
        load(tmp_path / "a.pkl")


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    """A file that holds much more than its size is refused by its list of contents."""
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200_000_000))
    with pytest.raises(DataError, match="much more than its size"):
        load(tmp_path / "a.pth")


def test_torchs_advice_is_not_repeated(tmp_path):
    """A file with code says that it is refused, and not how to run it."""
    import torch

    torch.save({"a": Command()}, tmp_path / "a.pth")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "a.pth")
    assert not {"weights_only", "torch.load", "trust"} & set(str(caught.value).replace("=", " ").split())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, number):
    """They come from a training that failed."""
    import torch

    from curate.engines.training.weights import read_tensors

    torch.save({"good": torch.zeros(3), "bad": torch.tensor([0, number])}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"a\.pth.*NaN or infinite.*got bad"):
        read_tensors(tmp_path / "a.pth")


def test_a_tensor_of_any_size_takes_no_memory(tmp_path):
    """One number that stands for a terabyte is refused before it is looked at."""
    import torch

    from curate.engines.training.weights import read_tensors

    file = io.BytesIO()
    torch.save({"a": torch.zeros(1).expand(1 << 38)}, file)
    (tmp_path / "a.pth").write_bytes(file.getvalue())
    with pytest.raises(DataError, match=r"a\.pth.*fewer numbers than its shape"):
        read_tensors(tmp_path / "a.pth")
