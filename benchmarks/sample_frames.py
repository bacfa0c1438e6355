"""CPU seconds to sample one frame every 2.2 s from a minute of 720p video, compared with other tools.

    python benchmarks/sample_frames.py [--rounds N] [--folder FOLDER]

Two videos are made first, with a keyframe every 50 and every 250 frames: a panning, textured scene with sensor noise,
H.264, B-frames, 30 frames per second. Each frame has its number drawn into it, so that wrong frames are recognised;
curate is compared with the fastest tool that returns the right ones.

Each tool runs in processes of its own, alternating with the others, with one decoding thread, and after a short video,
so that loading modules does not count. Measured are: finding the frames (curate first reads the packets of the whole
file), decoding, and conversion to RGB. A run for one frame is subtracted from ffmpeg's time. The minimum over all
rounds is compared, since other load can only increase it. The last line is JSON.
"""
# ruff: noqa: T201 - a script that reports to the one who runs it

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve()
WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 30, 60
EVERY = Fraction(11, 5)  # seconds
GOPS = (50, 250)
SCENE = 250  # frames, then scene and numbers repeat
BLOCK, BITS = 40, 8  # side in pixels, and number, of the blocks in the top row that encode the frame number
Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="folder for the videos; existing ones are used")
    parser.add_argument("--sample", nargs=2, metavar=("TOOL", "VIDEO"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sample:
        print(json.dumps(sample(arguments.sample[0], Path(arguments.sample[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        print(json.dumps(measure(arguments.folder or Path(folder), max(arguments.rounds, 2))))


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Measure and print CPU seconds by tool and video, and the ratio of the best peer's to curate's."""
    folder.mkdir(parents=True, exist_ok=True)
    videos = {gop: folder / f"gop{gop}.mp4" for gop in GOPS}
    if not all(video.is_file() for video in videos.values()):
        start = time.process_time()
        for gop, video in videos.items():
            make_video(video, gop, SECONDS)
        print(f"made the videos in {time.process_time() - start:.0f} CPU seconds")
    make_video(folder / "short.mp4", 10, 1)
    tools = [tool for tool in TOOLS if is_installed(tool)]
    expected = [int(number * EVERY * FPS) % SCENE for number in range(int(SECONDS / EVERY) + 1)]
    seconds: dict[tuple[str, int], list[float]] = {(tool, gop): [] for tool in tools for gop in GOPS}
    wrong: dict[str, int] = dict.fromkeys(tools, 0)
    for turn in range(1, rounds + 1):
        for (tool, gop), measured in seconds.items():
            result = run(tool, videos[gop])
            measured.append(result["cpu_s"])
            differing = sum(a != b for a, b in zip(result["numbers"], expected, strict=False))
            wrong[tool] = max(wrong[tool], differing + abs(len(result["numbers"]) - len(expected)))
        print(f"round {turn} of {rounds} is done", file=sys.stderr)
    return report({case: min(measured) for case, measured in seconds.items()}, tools, wrong, len(expected), videos)


def report(
    best: dict[tuple[str, int], float], tools: list[str], wrong: dict[str, int], frames: int, videos: dict[int, Path]
) -> dict[str, float]:
    """Print the table, and return the figures for the last line."""
    sizes = ", ".join(f"{video.stat().st_size * 8 / SECONDS / 1e6:.1f}" for video in videos.values())
    print(
        f"{frames} frames from {SECONDS} s of {WIDTH}×{HEIGHT} at {FPS} frames per second ({sizes} Mbit/s); CPU seconds"
    )
    print(f"{'':22}" + "".join(f"{f'GOP {gop}':>10}" for gop in GOPS) + "  frames")
    for tool in tools:
        verdict = f"{wrong[tool]} wrong" if wrong[tool] else "correct"
        print(f"{tool:22}" + "".join(f"{best[tool, gop]:10.2f}" for gop in GOPS) + f"  {verdict}")
    figures: dict[str, float] = {"frames": frames}
    for gop in GOPS:
        peers = {tool: best[tool, gop] for tool in tools if tool != "curate" and not wrong[tool]}
        figures |= {f"{tool.replace(' ', '_')}_gop{gop}_cpu_s": round(best[tool, gop], 3) for tool in tools}
        if peers and not wrong["curate"]:
            peer = min(peers, key=lambda tool: peers[tool])
            figures[f"gop{gop}_ratio"] = round(peers[peer] / best["curate", gop], 3)
            print(f"GOP {gop}: {figures[f'gop{gop}_ratio']:.2f} times fewer than {peer}, the fastest correct peer")
    return figures


def run(tool: str, video: Path) -> dict:
    """Run `sample` in a new process."""
    command = [sys.executable, str(HERE), "--sample", tool, str(video)]
    environment = os.environ | {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "threads;1", "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def sample(tool: str, video: Path) -> dict[str, object]:
    """Sample the short video, then the given one; return CPU seconds and frame numbers of the latter."""
    sampler = TOOLS[tool][1]
    sampler(video.parent / "short.mp4", 1)
    start, before = time.process_time(), children_s()
    frames = sampler(video, SECONDS)
    seconds = time.process_time() - start
    if tool.startswith("ffmpeg"):
        seconds = children_s() - before
        subprocess.run([*ffmpeg(video), "-frames:v", "1", "-f", "null", "-"], check=True)
        seconds -= children_s() - before - seconds
    return {"cpu_s": seconds, "numbers": [read_number(frame) for frame in frames]}


def children_s() -> float:
    """CPU seconds of child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# ---- Tools ----


def with_curate(video: Path, seconds: int) -> list[Pixels]:
    """Read all packets first, then decode only what the requested frames need."""
    from curate.sources.video import FrameReader, index_video

    index = index_video(video)
    numbers = [index.frame_at(number * EVERY) for number in range(int(seconds / EVERY) + 1)]
    return [frame.pixels for frame in FrameReader(index).read(numbers)]


def with_pyav(video: Path, seconds: int) -> list[Pixels]:
    """Decode every frame in order, convert the requested ones."""
    frames: list[Pixels] = []
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        unit = Fraction(stream.time_base or 1)
        for frame in container.decode(stream):
            if (frame.pts or 0) * unit >= len(frames) * EVERY and len(frames) * EVERY < seconds:
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    return frames


def with_opencv(video: Path, seconds: int) -> list[Pixels]:
    """`grab` every frame, `retrieve` the requested ones."""
    import cv2

    frames: list[Pixels] = []
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    number = 0
    while capture.grab():
        if number == int(len(frames) * EVERY * FPS):
            frames.append(np.asarray(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB), np.uint8))
        number += 1
    return frames


def with_torchcodec(video: Path, seconds: int) -> list[Pixels]:
    """Exact mode, which reads all packets first, too."""
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportPrivateImportUsage]

    decoder = VideoDecoder(str(video), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    numbers = [int(number * EVERY * FPS) for number in range(int(seconds / EVERY) + 1)]
    return list(decoder.get_frames_at(numbers).data.numpy())


def with_ffmpeg_select(video: Path, seconds: int) -> list[Pixels]:
    """Select every 66th frame."""
    return through_pipe(video, f"select=not(mod(n\\,{int(EVERY * FPS)}))", "-vsync", "vfr")


def with_ffmpeg_fps(video: Path, seconds: int) -> list[Pixels]:
    """The most common filter."""
    return through_pipe(video, f"fps={1 / EVERY}")


def through_pipe(video: Path, graph: str, *options: str) -> list[Pixels]:
    """Read raw RGB frames from ffmpeg."""
    command = [*ffmpeg(video), "-vf", graph, *options, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return list(np.frombuffer(data, np.uint8).reshape(-1, HEIGHT, WIDTH, 3))


def ffmpeg(video: Path) -> list[str]:
    return [shutil.which("ffmpeg") or "ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", str(video)]


TOOLS: dict[str, tuple[str, Callable[[Path, int], list[Pixels]]]] = {
    "curate": ("curate", with_curate),
    "PyAV in order": ("av", with_pyav),
    "OpenCV grab": ("cv2", with_opencv),
    "torchcodec exact": ("torchcodec", with_torchcodec),
    "ffmpeg select": ("ffmpeg", with_ffmpeg_select),
    "ffmpeg fps": ("ffmpeg", with_ffmpeg_fps),
}


def is_installed(tool: str) -> bool:
    """Whether a tool can run; prints a message if not."""
    requirement = TOOLS[tool][0]
    try:
        if requirement == "ffmpeg":
            available = shutil.which(requirement) is not None
        elif requirement == "torchcodec":
            available = importlib.util.find_spec(requirement) is not None
            if available:
                subprocess.run([sys.executable, "-c", "import torchcodec.decoders"], check=True, capture_output=True)
        else:
            available = importlib.util.find_spec(requirement) is not None
    except subprocess.CalledProcessError:
        available = False
    if not available:
        print(f"{tool}: skipped, {requirement} is not installed or cannot be loaded")
    return available


# ---- Videos ----


def make_video(video: Path, gop: int, seconds: int) -> None:
    """Repeat a scene of 250 frames, since encoding the whole video would take minutes."""
    count = seconds * FPS
    whole, rest = divmod(count, SCENE)
    parts = [video.with_suffix(f".{number}.mp4") for number in range(2)]
    for part, length in zip(parts, (SCENE if whole else 0, rest), strict=True):
        if length:
            encode(part, gop, length)
    with av.open(str(video), "w") as container:
        stream = None
        for number in range(whole + bool(rest)):
            with av.open(str(parts[number == whole])) as part:
                source = part.streams.video[0]
                stream = stream or container.add_stream_from_template(source)
                for packet in part.demux(source):
                    if packet.pts is not None and packet.dts is not None and source.time_base:
                        shift = int(number * SCENE / FPS / source.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        container.mux(packet)
    for part in parts:
        part.unlink(missing_ok=True)


def encode(video: Path, gop: int, count: int) -> None:
    """Encode the first frames of the scene."""
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {
            "preset": "medium",
            "crf": "23",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0",
        }
        for frame in draw_scene(count):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def draw_scene(count: int) -> Iterator[av.VideoFrame]:
    """Yield a slow pan over a textured plane, with moving objects and sensor noise."""
    import cv2

    rng = np.random.default_rng(0)
    far = 400  # pixels by which the plane is larger than a frame
    full = (WIDTH + far, HEIGHT + far)
    plane = np.full(full[::-1], 120, np.float32)
    for scale, strength in ((160, 40), (40, 25), (10, 12), (3, 6)):
        coarse = rng.normal(0, strength, (full[1] // scale, full[0] // scale)).astype(np.float32)
        plane += cv2.resize(coarse, full, interpolation=cv2.INTER_CUBIC)
    plane = np.clip(plane, 16, 235).astype(np.int16)
    hues = [cv2.resize(rng.normal(128, 12, (9, 16)), (WIDTH // 2, HEIGHT // 2)).astype(np.uint8) for _ in "uv"]
    noise = [rng.normal(0, 2.5, (HEIGHT, WIDTH)).round().astype(np.int16) for _ in range(8)]
    objects = [(rng.integers(40, 160, 2), rng.integers(0, 600, 2), rng.uniform(-6, 6, 2)) for _ in range(6)]
    for number in range(count):
        left, top = int(far / 2 * (1 + np.sin(number * 0.01))), int(far / 2 * (1 + np.cos(number * 0.007)))
        light = plane[top : top + HEIGHT, left : left + WIDTH].copy()
        for size, place, speed in objects:
            y, x = ((place + speed * number) % (HEIGHT - 160, WIDTH - 160)).astype(int)
            light[y : y + size[0], x : x + size[1]] = plane[: size[0], : size[1]] // 2 + 90
        light += np.roll(noise[number % len(noise)], number * 37 % WIDTH, axis=1)
        for bit in range(BITS):
            light[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
        planes = [np.clip(light, 0, 255).astype(np.uint8), *hues]
        frame = av.VideoFrame.from_ndarray(np.concatenate([one.reshape(-1, WIDTH) for one in planes]), format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def read_number(pixels: Pixels) -> int:
    """Read the frame number from the top row of blocks."""
    margin = BLOCK // 4
    lights = [
        pixels[margin : BLOCK - margin, bit * BLOCK + margin : (bit + 1) * BLOCK - margin].mean() for bit in range(BITS)
    ]
    return sum(int(light > 128) << bit for bit, light in enumerate(lights))


if __name__ == "__main__":
    main()
