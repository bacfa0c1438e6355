"""Draw the demo's data: videos of people with and without face masks, and LabelImg XML of some of their frames.

    python datasets/demo/draw_scenes.py OUT [--clips 12] [--frames 16] [--seed 7]

A clip is a scene of CLIP_S seconds with its own place, light and people (see `places.py`, `people.py`), rendered as
OUT/clips/clip00.mp4. FRAMES of its frames are labelled, evenly spread: 16 are one every half second. Their XML lies in
OUT/annotations, under the names that `curate sample-frames` gives to these frames, as if a person had drawn it there.

OUT/scenes.json holds what was asked for; it is completed last, so that a second run knows that nothing is left to do.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from pen import HEIGHT, WIDTH, ZOOM
from people import WITHOUT, Person, class_at, draw_person, face_box, hidden_share, make_person
from places import paint_place

CLIP_S = 8.0
STEPS = 3  # video frames from one labelled frame to the next
SMALLEST_PX, LARGEST_PX = 8.0, 150.0  # face height


class Face(NamedTuple):
    """One drawn face: class name and box as pixel edges of the small image, clipped to it."""

    name: str
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Clip:
    """One scene: its background (ZOOM times enlarged), its people from the farthest to the nearest, its light."""

    seed: tuple[int, int]
    background: np.ndarray  # (HEIGHT * ZOOM, WIDTH * ZOOM, 3) uint8 RGB
    people: tuple[Person, ...]
    light: tuple[float, float, float]  # gains of red, green, blue
    blur: float
    noise: float  # largest deviation, of 255


def make_clip(seed: int, number: int) -> Clip:
    """Compose one scene; the same arguments give the same scene."""
    rng = np.random.default_rng([seed, number])
    background = np.zeros((HEIGHT * ZOOM, WIDTH * ZOOM, 3), np.uint8)
    ground = paint_place(background, rng, number)
    people = give_masks(choose_people(rng, ground), rng, number)
    gain, warm = rng.uniform(0.84, 1.06), rng.uniform(-0.07, 0.07)
    light = (gain * (1 + warm), gain, gain * (1 - warm))
    return Clip((seed, number), background, people, light, blur=rng.uniform(0, 0.6), noise=rng.uniform(2, 6))


def choose_people(rng: np.random.Generator, ground: float) -> list[Person]:
    """Place people of every distance so that nobody's face is mostly hidden at any time; the farthest come first."""
    count = int(rng.integers(7, 11))
    people: list[Person] = []
    for rank in reversed(range(count)):
        size_px = SMALLEST_PX * (LARGEST_PX / SMALLEST_PX) ** (((rank + rng.random()) / count) ** 1.2)
        hidden = rng.uniform(0.1, 0.4)
        for _ in range(200):
            person = make_person(rng, size_px, ground)
            if all(hidden_share(person, people, t) < hidden for t in np.linspace(0, CLIP_S, 17)):
                people.insert(0, person)
                break
    return people


def give_masks(people: list[Person], rng: np.random.Generator, number: int) -> tuple[Person, ...]:
    """Leave about one in five bare; in two clips of three somebody pulls the mask down for a while.

    Who it is follows the golden ratio from clip to clip, so that every class comes near and far.
    """
    count = len(people)
    shares = [(0.618 * number + start) % 1 for start in ((0.2, 0.7) if number % 6 == 0 else (0.2,))]
    bare = {int(share * count) for share in shares}
    masked = [i for i in range(count) if i not in bare]
    slipping = masked[int((0.618 * number + 0.55) % 1 * len(masked))] if number % 3 != 2 else None
    start_s, depth = rng.uniform(0.1, 0.6) * CLIP_S, 0.17 if rng.random() < 0.6 else 0.32
    people = [replace(person, kind=WITHOUT) if i in bare else person for i, person in enumerate(people)]
    if slipping is not None:
        slip_s = (start_s, start_s + 0.28 * CLIP_S)
        people[slipping] = replace(people[slipping], slip_s=slip_s, slip_depth=depth)
    return tuple(people)


def visible_people(clip: Clip, time_s: float) -> list[Person]:
    """List who is drawn, the farthest first: everybody whose face is not mostly hidden."""
    nearer = [(person, clip.people[i + 1 :]) for i, person in enumerate(clip.people)]
    return [person for person, others in nearer if hidden_share(person, others, time_s) <= 0.6]


def list_faces(clip: Clip, time_s: float) -> list[Face]:
    """List a clip's faces at a time, the farthest first."""
    return [Face(class_at(person, time_s), face_box(person, time_s)) for person in visible_people(clip, time_s)]


def draw_frame(clip: Clip, time_s: float) -> tuple[np.ndarray, list[Face]]:
    """Draw a clip at a time: (HEIGHT, WIDTH, 3) uint8 RGB and its faces, the farthest first."""
    canvas = clip.background.copy()
    for person in visible_people(clip, time_s):
        draw_person(canvas, person, time_s)
    image = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    if clip.blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), clip.blur)
    rng = np.random.default_rng([*clip.seed, round(time_s * 1000)])
    noise = clip.noise * rng.uniform(-1, 1, (HEIGHT, WIDTH, 1))
    return np.clip(image * np.array(clip.light) + noise, 0, 255).astype(np.uint8), list_faces(clip, time_s)


# Files --------------------------------------------------------------------------------------------------------------


def format_xml(file_name: str, faces: list[Face]) -> str:
    """Write what LabelImg's PascalVocWriter writes: whole pixels, minima at least 1, tabs, somebody's own path."""
    objects = "".join(format_object(face) for face in faces)
    return f"""<annotation>
\t<folder>label</folder>
\t<filename>{file_name}</filename>
\t<path>/home/labeller/demo/label/{file_name}</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>{WIDTH}</width>
\t\t<height>{HEIGHT}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
{objects}</annotation>
"""


def format_object(face: Face) -> str:
    """Write one box; `truncated` is set where it touches the image's edge, as LabelImg does."""
    x0, y0, x1, y1 = (round(value) for value in face.box_xyxy)
    x0, y0 = max(x0, 1), max(y0, 1)
    return f"""\t<object>
\t\t<name>{face.name}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>{int(x0 == 1 or y0 == 1 or x1 == WIDTH or y1 == HEIGHT)}</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>{x0}</xmin>
\t\t\t<ymin>{y0}</ymin>
\t\t\t<xmax>{x1}</xmax>
\t\t\t<ymax>{y1}</ymax>
\t\t</bndbox>
\t</object>
"""


def write_if_changed(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; leave it alone when it holds the content already."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def write_marker(marker: Path, content: dict) -> None:
    """Write what OUT holds, or shall hold."""
    write_if_changed(marker, (json.dumps(content, indent=2) + "\n").encode())


def write_clip(number: int, out: Path, seed: int, frames: int) -> Counter[str]:
    """Write one clip's video and XML; return how often each class is in the labelled frames."""
    clip, counts = make_clip(seed, number), Counter()
    images = (draw_frame(clip, float(step * CLIP_S / frames / STEPS))[0] for step in range(frames * STEPS))
    write_if_changed(
        out / f"clips/{name_clip(number)}.mp4", encode_video(images, Fraction(frames * STEPS) / int(CLIP_S))
    )
    for frame in range(frames):
        faces = list_faces(clip, frame * CLIP_S / frames)
        name = name_frame(number, frame, frames)
        write_if_changed(out / f"annotations/{name}.xml", format_xml(f"{name}.jpg", faces).encode())
        counts.update(face.name for face in faces)
    return counts


def encode_video(images: Iterable[np.ndarray], fps: Fraction) -> bytes:
    """Encode images (HEIGHT, WIDTH, 3), uint8 RGB, as H.264 in MP4; the same images give the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # x264's macroblock tree gives other bytes each time on some processors
        options = {"crf": "18", "preset": "fast", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def write_scenes(out: Path, clips: int, frames: int, seed: int, map_clips: Callable = map) -> dict:
    """Draw all clips into OUT, unless they are there already.

    Args:
        map_clips: `map`, or that of a pool.

    Returns:
        What the marker says: `asked`, `drawn_by` (hash of the drawing code), `labelled`, `classes` (name to count).

    Raises:
        SystemExit: OUT holds scenes that were asked for differently.
    """
    marker, asked = out / "scenes.json", {"clips": clips, "frames": frames, "seed": seed}
    found = json.loads(marker.read_text()) if marker.exists() else {"asked": asked}
    if found["asked"] != asked:
        raise SystemExit(f"{out}: holds other scenes (got {found['asked']}; expected {asked}). Choose another folder.")
    names = [name_frame(number, frame, frames) for number in range(clips) for frame in range(frames)]
    files = [out / f"annotations/{name}.xml" for name in names]
    files += [out / f"clips/{name_clip(number)}.mp4" for number in range(clips)]
    drawn_by = hash_code()
    if found.get("drawn_by") == drawn_by and all(path.exists() for path in files):
        return found
    write_marker(marker, {"asked": asked})
    counts = sum(map_clips(partial(write_clip, out=out, seed=seed, frames=frames), range(clips)), Counter())
    done = {"asked": asked, "drawn_by": drawn_by, "labelled": len(names), "classes": dict(counts.most_common())}
    write_marker(marker, done)
    return done


def name_clip(number: int) -> str:
    """Name a clip's file, without suffix."""
    return f"clip{number:02}"


def name_frame(number: int, frame: int, frames: int) -> str:
    """Name a labelled frame's files, without suffix, as `curate sample-frames` does: video and milliseconds."""
    return f"{name_clip(number)}_{int(frame * Fraction(CLIP_S) / frames * 1000):08}ms"


def hash_code() -> str:
    """Hash the drawing code, so that scenes are drawn again after it changed."""
    code = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in ("draw_scenes", "pen", "people", "places")]
    return hashlib.sha256(b"".join(code)).hexdigest()


def main() -> None:
    """Read the command line, write the scenes, say what is there."""
    parser = argparse.ArgumentParser(description="Draw the demo's videos and LabelImg XML of their frames.")
    parser.add_argument("out", type=Path, help="folder that gets clips/ and annotations/")
    for name, default in (("clips", 12), ("frames", 16), ("seed", 7)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    asked = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        done = write_scenes(asked.out, asked.clips, asked.frames, asked.seed, pool.map)
    classes = ", ".join(f"{count} {name}" for name, count in done["classes"].items())
    print(f"{asked.clips} clips, XML of {done['labelled']} frames: {classes}")  # noqa: T201


if __name__ == "__main__":
    main()
