"""How many CPU seconds `import-voc` and `export-coco` take, beside labelformat's conversion of the same XML.

    python benchmarks/import_voc.py [--source FOLDER] [--rounds N]

curate reads and hashes every image, keeps it, checks every box and evaluates what it wrote; labelformat only reads the
XML. Both run in processes of their own, by turns, each after converting a small folder, so that loading modules does
not count. The minimum of the rounds is compared: whatever else a machine does can only add to it. The last line is
JSON.
"""
# ruff: noqa: T201 - a script that reports to the one who runs it

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
DEFAULT_SOURCE = HERE.parents[2] / "shared" / "data" / "face-mask"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
COPIES, MANY_COPIES, SMALL = 10, 50, 3
CLASSES = ("with_mask", "without_mask", "mask_weared_incorrect")


def main() -> None:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a folder with XML and images; default: a public one, or made up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--convert", nargs=2, metavar=("TOOL", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.convert:
        print(json.dumps(convert(arguments.convert[0], Path(arguments.convert[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        work = Path(folder)
        source = arguments.source or (DEFAULT_SOURCE if DEFAULT_SOURCE.is_dir() else draw_source(work / "drawn"))
        print(json.dumps(measure(source, work, max(arguments.rounds, 3))))


def measure(source: Path, work: Path, rounds: int) -> dict[str, float | int]:
    """All figures for one source, printed on the way."""
    pairs = find_pairs(source)
    copy_pairs(pairs[:SMALL], work / "small", 1)
    files = copy_pairs(pairs, work / "some", COPIES)
    print(f"{files} XML files, {COPIES} copies of {source}; CPU seconds")
    seconds: dict[str, list[float]] = {"curate": [], "labelformat": []}
    for turn in range(1, rounds + 1):
        for tool, found in seconds.items():
            found.append(run(tool, work / "some")["cpu_s"])
        print(f"round {turn}: " + ", ".join(f"{tool} {found[-1]:.2f}" for tool, found in seconds.items()))
    ours, theirs = min(seconds["curate"]), min(seconds["labelformat"])
    print(f"minimum: curate {ours:.2f}, labelformat {theirs:.2f}; {theirs / ours:.2f} times fewer")

    # links, since so many copies would not fit everywhere; the first are the originals, on the same disk
    first = [(xml, work / "some" / "images" / f"0_{image.name}") for xml, image in pairs]
    many = copy_pairs(first, work / "many", MANY_COPIES, os.link)
    large = run("curate", work / "many")
    print(f"{many} XML files: {large['cpu_s']:.2f} CPU seconds, {large['peak_mb']:.0f} MB at most")
    return {
        "files": files,
        "curate_cpu_s": round(ours, 3),
        "labelformat_cpu_s": round(theirs, 3),
        "ratio": round(theirs / ours, 3),
        "many_files": many,
        "many_cpu_s": round(large["cpu_s"], 3),
        "many_peak_mb": round(large["peak_mb"], 1),
    }


def run(tool: str, folder: Path) -> dict[str, float]:
    """One conversion in a new process."""
    command = [sys.executable, str(HERE), "--convert", tool, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def convert(tool: str, folder: Path) -> dict[str, float]:
    """Convert the small folder, then the given one; the CPU seconds of the second, and the most memory so far."""
    converter: Callable[[Path, Path], None] = {"curate": with_curate, "labelformat": with_labelformat}[tool]
    for source in (folder.parent / "small", folder):
        out = folder.parent / "out"
        out.mkdir()
        start = time.process_time()
        converter(source, out)
        seconds = time.process_time() - start
        shutil.rmtree(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return {"cpu_s": seconds, "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3)}


def with_curate(source: Path, out: Path) -> None:
    """XML and images to a dataset, the dataset to COCO."""
    import curate

    # links: labelformat copies no image
    curate.import_voc(out / "dataset", source, link=True)
    curate.export_coco(out / "dataset", out / "coco", link=True)


def with_labelformat(source: Path, out: Path) -> None:
    """XML to COCO; the class names have to be given."""
    from labelformat.formats import COCOObjectDetectionOutput, PascalVOCObjectDetectionInput

    names = ",".join((source / "classes.txt").read_text().split("\n"))
    annotations = PascalVOCObjectDetectionInput(source / "annotations", names)
    COCOObjectDetectionOutput(out / "coco.json").save(annotations)


def find_pairs(source: Path) -> list[tuple[Path, Path]]:
    """Each XML file with the image of its stem."""
    images = {file.stem: file for file in source.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES}
    pairs = [(xml, images[xml.stem]) for xml in sorted(source.rglob("*.xml")) if xml.stem in images]
    if not pairs:
        sys.exit(f"{source}: no XML with an image of its name")
    return pairs


def copy_pairs(
    pairs: list[tuple[Path, Path]], folder: Path, copies: int, put: Callable[[Path, Path], object] = shutil.copyfile
) -> int:
    """The pairs so many times under names of their own, which the XML tells; the number of XML files."""
    names: set[str] = set()
    for part in ("annotations", "images"):
        (folder / part).mkdir(parents=True)
    for xml, image in pairs:
        text = xml.read_text(encoding="utf-8")
        names.update(re.findall(r"<object>\s*<name>([^<]+)</name>", text))
        for number in range(copies):
            copy = folder / "images" / f"{number}_{image.name}"
            put(image, copy)
            named = re.sub("<filename>.*?</filename>", f"<filename>{copy.name}</filename>", text, count=1)
            (folder / "annotations" / f"{number}_{xml.name}").write_text(named, encoding="utf-8")
    (folder / "classes.txt").write_text("\n".join(sorted(names)))
    return len(pairs) * copies


def draw_source(folder: Path, images: int = 853) -> Path:
    """Noise with boxes on it, where no public data set is at hand: 853 images of 400×300 pixels."""
    import cv2
    import numpy as np

    chance = np.random.default_rng(0)
    for part in ("annotations", "images"):
        (folder / part).mkdir(parents=True)
    for number in range(images):
        pixels = cv2.resize(chance.integers(0, 256, (75, 100, 3), dtype=np.uint8), (400, 300))
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), pixels)
        objects = [
            draw_object(*chance.integers(1, 200, 2), *chance.integers(8, 99, 2), chance.choice(CLASSES))
            for _ in range(chance.integers(1, 9))
        ]
        (folder / "annotations" / f"{number}.xml").write_text(
            f"<annotation>\n\t<folder>images</folder>\n\t<filename>{number}.jpg</filename>\n\t<size>\n\t\t<width>400</width>"
            f"\n\t\t<height>300</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n{''.join(objects)}</annotation>\n"
        )
    return folder


def draw_object(left: int, top: int, width: int, height: int, name: str) -> str:
    """One object as LabelImg writes it."""
    corners = {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height}
    box = "".join(f"\t\t\t<{side}>{value}</{side}>\n" for side, value in corners.items())
    flags = "\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n"
    return f"\t<object>\n\t\t<name>{name}</name>\n{flags}\t\t<bndbox>\n{box}\t\t</bndbox>\n\t</object>\n"


if __name__ == "__main__":
    main()
