"""Damaged and hostile checkpoints, weights and meshes: each is read, or is one error that names the file."""

import os
import pickle
import random

import pytest
from engine_contract import TINY, shapes_dataset, train_shapes
from extras import needs_torch
from mutating import mutated_bytes
from tally import tally

from curate.errors import CurateError

pytestmark = [pytest.mark.train, needs_torch]
ADVICE = ("weights_only", "torch.load", "add_safe_globals")


def kinds(folder):
    """(file, how it is read) of each kind of file."""
    import torch
    from safetensors.torch import save_file

    from curate.engines.base import engine_for
    from curate.engines.retinaface.dense.synthetic import synthetic_face
    from curate.engines.retinaface.dense.topology_file import read_topology, write_topology
    from curate.engines.training.checkpoint import read_checkpoint
    from curate.engines.training.tensor_files import load_tensor_file
    from curate.engines.training.weights import read_tensors

    run = train_shapes(shapes_dataset(folder / "shapes", images=2, empty=0), folder / "run", steps=1)
    tensors = {f"layer{number}.weight": torch.rand(3, 4) for number in range(4)}
    torch.save(tensors, folder / "a.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, folder / "a.safetensors")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    (folder / "a.pkl").write_bytes(pickle.dumps({"blobs": arrays}, 2))
    (folder / "b.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "us"}, 5))
    write_topology(synthetic_face(2), folder / "mesh.npz")
    engine = engine_for(TINY)
    return [
        (run.last, read_checkpoint),
        (run.best, lambda file: engine.load(file, "cpu")),
        (folder / "a.pth", read_tensors),
        (folder / "old.pth", read_tensors),
        (folder / "a.safetensors", read_tensors),
        (folder / "a.pkl", load_tensor_file),
        (folder / "b.pkl", load_tensor_file),
        (folder / "mesh.npz", read_topology),
    ]


def hostile(document, chance):
    """A checkpoint with one field that holds something else, or a number that is none."""
    import torch

    values = [None, -1, 1 << 62, float("nan"), "x" * 1000, [], {}, [[1, 2]], [["a", 1]], torch.zeros(2), b"", {"a": {}}]
    changed = dict(document)
    name = chance.choice(list(changed))
    way = chance.randrange(4)
    if way == 0:
        del changed[name]
    elif way == 1:
        changed["more"] = 1
    elif way == 2:
        weights = dict(changed["weights"])
        key = chance.choice(list(weights))
        weights[key] = chance.choice(
            [
                torch.tensor([float("nan")]),
                torch.zeros(1).expand(1 << 36),
                weights[key].flatten()[:0],
                3,
                weights[key].bool(),
            ]
        )
        changed["weights"] = weights
    else:
        changed[name] = chance.choice(values)
    return changed


@pytest.mark.parametrize("count", [64, pytest.param(1000, marks=pytest.mark.long)])
def test_damaged_checkpoints(tmp_path, count, one_thread):
    """Nothing but a CurateError with the file's name, and never torch's advice to run what a file holds."""
    import torch

    chance = random.Random(count)
    read_by = kinds(tmp_path)
    checkpoint = torch.load(read_by[0][0], weights_only=True)
    with tally("damaged and hostile checkpoints, weights and meshes", f"{count}") as counted:
        for number in range(count):
            origin, read = read_by[number % len(read_by)]
            damaged = tmp_path / f"damaged{origin.suffix}"
            if number % len(read_by) < 2 and number % 3:
                torch.save(hostile(checkpoint, chance), damaged)
            else:
                damaged.write_bytes(mutated_bytes(origin.read_bytes(), chance))
            counted.tried += 1
            check(read, damaged, f"{number} ({origin.name})", counted)


def check(read, file, what, counted):
    try:
        read(file)
    except CurateError as error:
        if str(file) not in str(error):
            counted.fault("lost", f"{what}: the file's name: {error}")
        if any(word in str(error) for word in ADVICE):
            counted.fault("let in", f"{what}: {error}")
    except Exception as error:
        counted.fault("tracebacks", f"{what}: {error!r}")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    """A pipe, a folder, a device and a dangling link in place of each kind of file."""
    with tally("no file in place of a checkpoint") as counted:
        for origin, read in kinds(tmp_path):
            for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda path: None):
                place = tmp_path / f"place-{counted.tried}{origin.suffix}"
                make(place)
                counted.tried += 1
                check(read, place, f"{origin.name}, {make}", counted)
