"""Builders of image files, LabelImg XML and source folders; short ways to import and look at the result."""

import json
import zlib
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

import curate
from curate.columns import CORNERS
from curate.formats.voc.reader import read_voc
from curate.store import Store

WIDTH, HEIGHT = 64, 48
MASK = ("mask", 5, 6, 25, 36)
BARE = ("bare", 30, 10, 60, 40)
_ORIENTATION = 0x0112
_UNSPOKEN = object()


def write_image(path, width=WIDTH, height=HEIGHT, *, seed=None, orientation=None, mode="RGB", **options):
    """Write a noisy image in the format of the suffix; its content depends on `seed`, by default on its name.

    `width` and `height` are as stored, before an EXIF `orientation` turns the picture.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(path.name.encode()) if seed is None else seed)
    pixels = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    if orientation is not None:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        options["exif"] = exif
    pixels.save(path, **options)
    return path


def object_xml(name, *corners, difficult="0", truncated="0", pose="Unspecified", occluded=None, inner=""):
    """One `<object>` as LabelImg writes it; None leaves an element out."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    parts = {"name": name, "pose": pose, "truncated": truncated, "difficult": difficult, "occluded": occluded}
    lines = [f"\t\t{_element(tag, text)}\n" for tag, text in parts.items() if text is not None]
    box = "".join(f"\t\t\t{_element(tag, text)}\n" for tag, text in sides if text is not None)
    return f"\t<object>\n{''.join(lines)}{inner}\t\t<bndbox>\n{box}\t\t</bndbox>\n\t</object>\n"


def annotation_xml(filename="a.jpg", objects=(), size=(WIDTH, HEIGHT), *, verified=False, path=None, folder="images"):
    """An annotation file as LabelImg writes it.

    Args:
        filename: the text of `<filename>`; None leaves it out.
        objects: (name, xmin, ymin, xmax, ymax) each, or XML as from `object_xml`.
        size: width and height for `<size>`; None leaves it out.
        verified: LabelImg's mark.
        path: the text of `<path>`.
        folder: the text of `<folder>`.
    """
    rows = [one if isinstance(one, str) else object_xml(*one) for one in objects]
    head = f"\t{_element('folder', folder)}\n"
    head += f"\t{_element('filename', filename)}\n" if filename is not None else ""
    head += f"\t{_element('path', path)}\n" if path is not None else ""
    if size is not None:
        head += f"\t<size>\n\t\t<width>{size[0]}</width>\n\t\t<height>{size[1]}</height>\n"
        head += "\t\t<depth>3</depth>\n\t</size>\n"
    mark = ' verified="yes"' if verified else ""
    return f"<annotation{mark}>\n{head}\t<segmented>0</segmented>\n{''.join(rows)}</annotation>\n"


def write_xml(file, filename=_UNSPOKEN, objects=(), size=(WIDTH, HEIGHT), **options):
    """Write an annotation file; `<filename>` is by default the file's own stem with `.jpg`."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    name = f"{file.stem}.jpg" if filename is _UNSPOKEN else filename
    file.write_text(annotation_xml(name, objects, size, **options), encoding="utf-8")
    return file


def labelimg_folder(folder, images, *, xml_in="", images_in="", suffix=".jpg", seed=None):
    """Write a source folder: an image and its XML for every stem in `images`, which maps stems to objects.

    None in place of the objects writes the image alone. `seed` shifts the content of all images.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stem, objects in images.items():
        name = f"{stem}{suffix}"
        own_seed = None if seed is None else seed * 1000 + zlib.crc32(stem.encode()) % 1000
        write_image(folder / images_in / name, seed=own_seed)
        if objects is not None:
            write_xml(folder / xml_in / f"{stem}.xml", Path(name).name, objects)
    return folder


def load(dataset):
    """The current version of a dataset."""
    return Store(dataset).load()


def import_one(tmp_path, *objects, **options):
    """Import one image of 64×48 with the given objects."""
    folder = labelimg_folder(tmp_path / "one", {"a": list(objects)})
    return curate.import_voc(tmp_path / "dataset", folder, **options)


def corners_of(tmp_path, *objects, **options):
    """The corners in the dataset after importing one image with the given objects."""
    import_one(tmp_path, *objects, **options)
    return load(tmp_path / "dataset").boxes[CORNERS].to_numpy().tolist()


def box_rows(dataset):
    """Every box as (image file name, class, x0, y0, x1, y1), sorted."""
    current = load(dataset)
    names = current.images.set_index("image_id")["path"].map(lambda path: path.rpartition("/")[2])
    rows = current.boxes
    return sorted(
        (names[image_id], current.class_names[class_id], *corners)
        for image_id, class_id, corners in zip(
            rows["image_id"].tolist(), rows["class_id"].tolist(), rows[CORNERS].to_numpy().tolist(), strict=True
        )
    )


def image_row(dataset, name):
    """The row of the only image with that file name."""
    images = load(dataset).images
    (row,) = images[images["path"].map(lambda path: path.rpartition("/")[2] == name)].to_dict("records")
    return row


def state_of(dataset, name="a.jpg"):
    """The label state of the only image with that file name."""
    return image_row(dataset, name)["label_state"]


def kinds(result):
    """The kinds of an import's problems, sorted, with repetitions."""
    return sorted(problem["kind"] for problem in result.problems)


def problem_of(result, kind):
    """The only problem of a kind."""
    (found,) = [problem for problem in result.problems if problem["kind"] == kind]
    return found


def snapshot(folder):
    """Content and modification time of every file under a folder."""
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def read_versions(dataset):
    """The numbers of all versions that a dataset folder holds."""
    return sorted(json.loads(file.read_text())["version"] for file in Path(dataset).glob("versions/*.json"))


def _element(tag, text):
    return f"<{tag}>{escape(str(text))}</{tag}>"


# ── what a reader returned ───────────────────────────────────────────────────────────────────────────────────────


def images_of(folder, **options):
    """The images that `read_voc` read from a folder, relative to it."""
    return sorted(read_voc(folder, **options).images["file"])


def problems_of(folder, **options):
    """(file, kind) of every problem of `read_voc`."""
    return [(problem.file, problem.kind) for problem in read_voc(folder, **options).problems]


def pairs_of(folder, **options):
    """XML → image, by the boxes of `read_voc`."""
    found = read_voc(folder, **options)
    files = found.images["file"].to_numpy()
    return dict(zip(found.boxes["file"], files[found.boxes["image"].to_numpy()], strict=True))
