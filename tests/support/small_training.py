"""Trainings with little shared memory, and on a disk that gets full. Run as a script inside `unshare -rm`.

python small_training.py FOLDER memory|disk COUNT     prints what was tried and the faults as JSON

Whatever the room, a training gives the weights of one with room; or it ends with one error that names a file of its
run, leaves nothing in part, and with room gives these weights.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from engine_contract import TINY, shapes_dataset, train_shapes
from small_disk import SmallDisk

from curate.errors import CurateError
from curate.run_folder.folder import RunFolder

_STEPS, _LONGEST_S = 4, 100
_OPTIONS = {"model": TINY, "steps": _STEPS, "checkpoint_every": 2, "seed": 3}


def weights_of(run):
    import torch

    return torch.load(run.last, weights_only=True)["weights"]


def are_equal(one, other):
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def with_little_memory(folder, count):
    """Faults of trainings with workers, whose shared memory has 16 pages, 15, 14, …"""
    dataset = shapes_dataset(folder / "shapes", images=8)
    whole = weights_of(train_shapes(dataset, folder / "whole", batch=4, **_OPTIONS))
    for number in range(count):
        size = f"{4 * (16 - number % 16)}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/dev/shm"], check=True)
        try:
            run = train_shapes(dataset, folder / f"run-{number}", batch=4, workers=2, **_OPTIONS)
            if not are_equal(weights_of(run), whole):
                yield "lost", f"{size}: other weights"
        except TimeoutError:
            yield "hangs", size
        except CurateError as error:
            yield "lost", f"{size}: {error}"
        except Exception as error:
            yield "tracebacks", f"{size}: {error!r}"
        finally:
            subprocess.run(["umount", "-l", "/dev/shm"], check=True)


def on_full_disks(folder, count):
    """Faults of trainings whose disk takes so many shares of what a run needs."""
    dataset = shapes_dataset(folder / "shapes", images=4)
    disk = SmallDisk(folder / "disk")
    before = disk.used()
    whole = weights_of(train_shapes(dataset, disk.folder / "whole", **_OPTIONS))
    needed = disk.used() - before
    shutil.rmtree(disk.folder / "whole")
    for number in range(count):
        free, run = needed * (2 * number + 1) // (2 * count), RunFolder(disk.folder / f"run-{number}")
        try:
            with disk.with_free(free):
                try:
                    train_shapes(dataset, run.path, **_OPTIONS)
                except (CurateError, OSError) as error:
                    words = f"{error} {getattr(error, 'filename', '')}"
                    if "No space left" not in words or str(run.path) not in words:
                        yield "lost", f"{free} bytes: {words}"
        except TimeoutError:
            yield "hangs", f"{free} bytes"
        except Exception as error:
            yield "tracebacks", f"{free} bytes: {error!r}"
        if left := [str(file) for file in run.path.rglob("*.tmp")]:
            yield "let in", f"{free} bytes: left {left}"
        train_shapes(dataset, run.path, resume=run.path.exists() and not run.finished, **_OPTIONS)
        if not are_equal(weights_of(run), whole) or [line["step"] for line in run.read_metrics()] != [_STEPS]:
            yield "lost", f"{free} bytes: other weights or metrics"
        shutil.rmtree(run.path)


def main(folder, what, count):
    def stop(*_):
        raise TimeoutError

    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LONGEST_S * (count + 1))
    faults = list({"memory": with_little_memory, "disk": on_full_disks}[what](folder, count))
    sys.stdout.write(json.dumps({"tried": count, "faults": faults}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
