"""Frames a second of `watch` next to the bare detector's, and what decoding, drawing and encoding take.

    python benchmarks/watch.py [--model torchvision:NAME] [--frames N] [--rounds N]

The network computes as always, with random weights; what it finds is replaced by five objects that move, so that there
is something to follow and to draw. One video of 640×480 and one of 1280×720, H.264, panning over a painted ground.
CPU seconds are of the whole process, encoder threads included; the best of the rounds counts. The last line is JSON.
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
    """A detector that computes what a real one does and finds five objects that move a pixel a frame."""

    classes = CLASSES
    network: TorchDetector
    seen = 0

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """One answer an image."""
        self.network.predict(images)
        return [self._next(image) for image in images]

    def _next(self, image: NDArray[np.uint8]) -> Detections:
        type(self).seen += 1
        height, width = image.shape[:2]
        left = np.arange(OBJECTS) * width / OBJECTS + self.seen % (width // OBJECTS // 2)
        side = height / 6
        boxes = np.stack([left, np.full(OBJECTS, height / 3), left + side, np.full(OBJECTS, height / 3 + side)], axis=1)
        return Detections(boxes, np.linspace(0.95, 0.7, OBJECTS), np.arange(OBJECTS) % 2)


class Engine:
    """Gives the detector above to `watch`."""

    def load(self, checkpoint: Path, device: str = "auto") -> FiveObjects:
        """There is one already."""
        return FiveObjects()

    def model_in(self, checkpoint: Path) -> str | None:
        """The file is empty."""


def main() -> None:
    """Measure and print; see the module."""
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
    """All figures of one size, printed on the way."""
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
    draw()  # imports and fonts are loaded once
    best: dict[str, tuple[float, float]] = dict.fromkeys(parts, (np.inf, np.inf))
    for _ in range(rounds):  # in turn, so that all meet the same noise
        for name, part in parts.items():
            best[name] = tuple(np.minimum(best[name], seconds_of(part)).tolist())  # pyright: ignore[reportArgumentType]
    cpu = {name: seconds[0] for name, seconds in best.items()}
    for name, (cpu_s, clock_s) in best.items():
        figures = f"{1000 * cpu_s / frames:7.2f} CPU ms a frame, {frames / clock_s:7.1f} frames/s"
        print(f"{width}×{height} {name:12} {figures}, {cpu_s / cpu['watch --out']:4.0%}")
    floor = cpu["detector"] + cpu["decoding"]
    rest = cpu["watch --out"] - floor - cpu["drawing"] - cpu["encoding"]
    print(f"{width}×{height} over detector and decoding watch costs {cpu['watch'] / floor - 1:+.1%}; with --out"
          f" drawing {cpu['drawing'] / floor:.1%}, encoding {cpu['encoding'] / floor:.1%}, all else {rest / floor:.1%},"
          " threads in each other's way included")  # fmt: skip
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
    """(CPU seconds, seconds of the clock)."""
    cpu, clock = time.process_time(), time.perf_counter()
    part()
    return time.process_time() - cpu, time.perf_counter() - clock


def paint(width: int, height: int, frames: int) -> list[NDArray[np.uint8]]:
    """Frames that pan over a ground with detail of all sizes, as in a photograph, and a camera's noise."""
    chance = np.random.default_rng(0)
    ground = np.zeros((height, width + 2 * frames, 3), dtype=np.float32)
    for cell in (4, 16, 64, 256):
        shape = (-(-ground.shape[0] // cell) + 1, -(-ground.shape[1] // cell) + 1, 3)
        coarse = chance.normal(0, 6 * cell**0.4, shape).astype(np.float32)
        ground += cv2.resize(coarse, ground.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    ground = np.clip(ground + 128, 0, 255)
    noises = chance.normal(0, 2, (4, height, width, 1)).astype(np.float32)
    return [
        np.clip(ground[:, 2 * number : 2 * number + width] + noises[number % 4], 0, 255).astype(np.uint8)
        for number in range(frames)
    ]


def write(path: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """A video of these frames."""
    writer = VideoWriter(path, time_base=Fraction(1, 30), rate=Fraction(30))
    for number, picture in enumerate(pictures):
        writer.write(picture, number, 1)
    writer.close()


if __name__ == "__main__":
    main()
