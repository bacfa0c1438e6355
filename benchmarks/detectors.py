"""Compare trained detectors: AP by size, parameters, images per second.

    python benchmarks/detectors.py DATASET RUN… [--video FILE] [--images N] [--rounds N]

AP is that of each run's evaluation on val. Images per second measure `Detector.predict` alone, one photograph of val at
a time; with --video also frames per second of `watch --out`, including decoding, drawing and encoding. Detectors take
turns, and the best round counts. The last line is JSON.
"""
# ruff: noqa: T201 - prints results

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from curate.commands.evaluate import evaluate
from curate.commands.watch import watch
from curate.engines.base import Detector, engine_for
from curate.engines.training.checkpoint import read_checkpoint, read_model_name
from curate.engines.training.weights import read_tensors
from curate.engines.two_stage.first_stage import is_detector, read_embedded
from curate.images import decode_rgb
from curate.run_folder.folder import RunFolder
from curate.store import Store

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms; not parameters


def main() -> None:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    folders = {name: RunFolder.named(arguments.dataset, name) for name in arguments.runs}
    detectors = {name: engine_for(run.read_record().model).load(run.best, "cpu") for name, run in folders.items()}
    val = Store(arguments.dataset).load().select("val")
    paths = val.images["path"].tolist()[: arguments.images]
    pictures = [decode_rgb(val.image_file(path)) for path in paths]
    speed = dict.fromkeys(detectors, 0.0)
    watched = dict.fromkeys(detectors, 0.0)
    for _ in range(arguments.rounds):  # in turn, for equal conditions
        for name, detector in detectors.items():
            speed[name] = max(speed[name], images_per_s(detector, pictures))
            if arguments.video is not None:
                watched[name] = max(watched[name], frames_per_s(folders[name], arguments.video))
    print(f"{torch.get_num_threads()} threads, {len(pictures)} photographs; AP on {len(val.images)}")
    figures = {}
    for name, run in folders.items():
        scores = evaluate(arguments.dataset, run=name, report=False)
        figures[name] = {
            "model": run.read_record().model,
            **{key: getattr(scores, key) for key in ("ap", "ap50", "ap_small", "ap_medium", "ap_large")},
            "parameters": parameters(run.best),
            "images_per_s": round(speed[name], 1),
            "watch_out_frames_per_s": round(watched[name], 1) or None,
        }
        print(name, ", ".join(f"{key} {value}" for key, value in figures[name].items()))
    print(json.dumps(figures))


def images_per_s(detector: Detector, pictures: list) -> float:
    """Speed of the detector alone, one image at a time."""
    detector.predict(pictures[:1])
    started = time.perf_counter()
    for picture in pictures:
        detector.predict([picture])
    return len(pictures) / (time.perf_counter() - started)


def frames_per_s(run: RunFolder, video: Path) -> float:
    """Speed of `watch` with an annotated video."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        return watch(str(run.path), video, out=Path(folder) / "out.mp4", device="cpu").frames_per_s


def parameters(checkpoint: Path) -> int:
    """Number of parameters of a checkpoint, including its first stage."""
    if read_model_name(checkpoint) is None:
        return count(read_tensors(checkpoint))
    saved = read_checkpoint(checkpoint)
    own = count(saved.weights)
    if not any(is_detector(name) for name in saved.weights):
        return own
    first = read_embedded(checkpoint)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / first.file_name
        file.write_bytes(first.content)
        return own + parameters(file)


def count(tensors: Mapping[str, Tensor]) -> int:
    """Number of parameters of the detector: without statistics, embedded files and the dense branch."""
    return sum(
        tensor.numel()
        for name, tensor in tensors.items()
        if not name.endswith(_STATISTICS) and not is_detector(name) and not name.startswith("dense.")
    )


if __name__ == "__main__":
    main()
