"""Frames per second of `watch` and of the detector alone, and the share of decoding, drawing and encoding.

    python benchmarks/watch.py [--model torchvision:NAME] [--frames N] [--rounds N]

The network runs with random weights; its detections are replaced by five moving objects, so that there is something to
track and draw. The videos are 640×480 and 1280×720, H.264, and pan over a synthetic background. CPU seconds are of the
whole process, encoder threads included; the best round counts. The last line is JSON.
"""
# ruff: noqa: T201 - a script that reports to the one who runs it

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from curate.commands.watch import watch
from curate.dataset import ClassEntry
from curate.engines import base
from curate.engines.base import Detections
from curate.engines.torch_engine import TorchDetector
from curate.engines.torchvision.engine import build_model
from curate.monitor.detections import FrameDetections
from curate.monitor.outputs.drawing import Drawer
from curate.sources.feeds.file import FileFeed
from curate.sources.video.writing import VideoWriter

SHAPES = ((640, 480), (1280, 720))
CLASSES = (ClassEntry(1, "with_mask"), ClassEntry(2, "without_mask"))
OBJECTS = 5


class FiveObjects:
    """A detector that runs a network, and returns five objects that move by one pixel per frame."""

    classes = CLASSES
    network: TorchDetector
    frames = 0

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.network.predict(images)
        return [self._next(image) for image in images]

    def _next(self, image: NDArray[np.uint8]) -> Detections:
        type(self).frames += 1
        height, width = image.shape[:2]
        left = np.arange(OBJECTS) * width / OBJECTS + self.frames % (width // OBJECTS // 2)
        side = height / 6
        boxes = np.stack([left, np.full(OBJECTS, height / 3), left + side, np.full(OBJECTS, height / 3 + side)], axis=1)
        return Detections(boxes, np.linspace(0.95, 0.7, OBJECTS), np.arange(OBJECTS) % 2)


class Engine:
    """An engine with the detector above."""

    def load(self, checkpoint: Path, device: str = "auto") -> FiveObjects:
        return FiveObjects()

    def model_in(self, checkpoint: Path) -> str | None:
        """No model: the checkpoint is an empty file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="torchvision:ssdlite320_mobilenet_v3_large")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    model = build_model(arguments.model.partition(":")[2], len(CLASSES), None, {})
    FiveObjects.network = TorchDetector(model, CLASSES, torch.device("cpu"))
    base.ENGINES = {**base.ENGINES, "bench": base.EngineEntry(__name__, "Engine", ())}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        print(f"{arguments.model}, {torch.get_num_threads()} threads, {arguments.frames} frames")
        figures = {
            f"{width}x{height}": measure(Path(folder), width, height, arguments.frames, arguments.rounds)
            for width, height in SHAPES
        }
    print(json.dumps({"model": arguments.model, **figures}))


def measure(folder: Path, width: int, height: int, frames: int, rounds: int) -> dict[str, float]:
    """Measure at one frame size, and print the results."""
    video = folder / f"{width}.mp4"
    pictures = paint(width, height, frames)
    write(video, pictures)
    weights = folder / "weights"
    weights.touch()

    def detect() -> None:
        for picture in pictures:
            FiveObjects().predict([picture])

    def decode() -> None:
        feed = FileFeed(video)
        while not feed.ended:
            feed.take(1, 1.0)
        feed.close()

    def draw() -> None:
        drawer = Drawer([entry.name for entry in CLASSES])
        for number, picture in enumerate(pictures):
            found = FiveObjects()._next(picture)
            detections = FrameDetections(
                number, number / 30, found.boxes_xyxy, found.scores, found.class_indices, np.arange(OBJECTS) + 1
            )
            drawer.draw(picture, detections)

    def watch_only() -> None:
        watch("bench:five", video, weights=weights, device="cpu", detections=folder / "d.parquet", overwrite=True)

    def watch_and_write() -> None:
        watch("bench:five", video, weights=weights, device="cpu", out=folder / "out.mp4", overwrite=True)

    parts = {
        "detector": detect,
        "decoding": decode,
        "drawing": draw,
        "encoding": lambda: write(folder / "again.mp4", pictures),
        "watch": watch_only,
        "watch --out": watch_and_write,
    }
    watch_only()
    draw()  # loads modules and fonts
    best: dict[str, tuple[float, float]] = dict.fromkeys(parts, (np.inf, np.inf))
    for _ in range(rounds):  # alternating, so that all are exposed to the same noise
        for name, part in parts.items():
            best[name] = tuple(np.minimum(best[name], seconds_of(part)).tolist())  # pyright: ignore[reportArgumentType]
    cpu = {name: seconds[0] for name, seconds in best.items()}
    for name, (cpu_s, clock_s) in best.items():
        figures = f"{1000 * cpu_s / frames:7.2f} CPU ms per frame, {frames / clock_s:7.1f} frames/s"
        print(f"{width}×{height} {name:12} {figures}, {cpu_s / cpu['watch --out']:4.0%}")
    floor = cpu["detector"] + cpu["decoding"]
    rest = cpu["watch --out"] - floor - cpu["drawing"] - cpu["encoding"]
    print(f"{width}×{height} watch beside detector and decoding: {cpu['watch'] / floor - 1:+.1%}; with --out"
          f" drawing {cpu['drawing'] / floor:.1%}, encoding {cpu['encoding'] / floor:.1%}, the rest {rest / floor:.1%},"
          " including contention between threads")  # fmt: skip
    return {
        "detector_frames_per_s": round(frames / best["detector"][1], 1),
        "watch_frames_per_s": round(frames / best["watch"][1], 1),
        "watch_out_frames_per_s": round(frames / best["watch --out"][1], 1),
        "decoding_share": round(cpu["decoding"] / cpu["watch --out"], 3),
        "drawing_share": round(cpu["drawing"] / cpu["watch --out"], 3),
        "encoding_share": round(cpu["encoding"] / cpu["watch --out"], 3),
        "rest_share": round(rest / cpu["watch --out"], 3),
        "watch_over_detector_and_decoding": round(cpu["watch"] / floor, 3),
        "watch_out_over_detector_and_decoding": round(cpu["watch --out"] / floor, 3),
    }


def seconds_of(part: Callable[[], None]) -> tuple[float, float]:
    """Return (CPU seconds, wall-clock seconds)."""
    cpu, clock = time.process_time(), time.perf_counter()
    part()
    return time.process_time() - cpu, time.perf_counter() - clock


def paint(width: int, height: int, frames: int) -> list[NDArray[np.uint8]]:
    """Make frames that pan over a background with detail at all scales, as in a photograph, and sensor noise."""
    rng = np.random.default_rng(0)
    background = np.zeros((height, width + 2 * frames, 3), dtype=np.float32)
    for cell in (4, 16, 64, 256):
        shape = (-(-background.shape[0] // cell) + 1, -(-background.shape[1] // cell) + 1, 3)
        coarse = rng.normal(0, 6 * cell**0.4, shape).astype(np.float32)
        background += cv2.resize(coarse, background.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    background = np.clip(background + 128, 0, 255)
    noises = rng.normal(0, 2, (4, height, width, 1)).astype(np.float32)
    return [
        np.clip(background[:, 2 * number : 2 * number + width] + noises[number % 4], 0, 255).astype(np.uint8)
        for number in range(frames)
    ]


def write(path: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    writer = VideoWriter(path, time_base=Fraction(1, 30), rate=Fraction(30))
    for number, picture in enumerate(pictures):
        writer.write(picture, number, 1)
    writer.close()


if __name__ == "__main__":
    main()
