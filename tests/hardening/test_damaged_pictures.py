"""Damaged pictures through import, training and prediction: left out and named, or used; never the end of the work."""

import random

import numpy as np
import pytest
from builders import annotation_xml, load, write_image
from mutating import mutated_bytes
from tally import tally

from curate import import_voc
from curate.errors import CurateError, DataError
from curate.images import Unreadable, decode_rgb

FORMATS = ["jpg", "png", "bmp", "gif", "tif", "webp", "ppm"]
FILES = 50  # in one import


@pytest.mark.parametrize("count", [FILES, pytest.param(2000, marks=pytest.mark.long)])
def test_damaged_pictures(tmp_path, count):
    """Each is imported or named; what is imported is decoded, or is an error that names it."""
    chance = random.Random(count)
    originals = [write_image(tmp_path / f"good.{suffix}", seed=1).read_bytes() for suffix in FORMATS]
    with tally("damaged pictures, imported and decoded", f"{count}") as counted:
        for batch in range(count // FILES):
            folder = tmp_path / f"clips-{batch}"
            folder.mkdir()
            for number in range(FILES):
                suffix = FORMATS[number % len(FORMATS)]
                data = originals[number % len(FORMATS)]
                name = f"{number}.{suffix}"
                # one in ten is whole when it is imported, and damaged later
                (folder / name).write_bytes(data if number % 10 == 0 else mutated_bytes(data, chance))
                (folder / f"{number}.xml").write_text(annotation_xml(name, [("mask", 2, 3, 20, 30)]))
            counted.tried += FILES
            try:
                result = import_voc(tmp_path / f"dataset-{batch}", folder)
            except CurateError as error:
                counted.fault("lost", f"batch {batch}: {error}")
                continue
            except Exception as error:
                counted.fault("tracebacks", f"batch {batch}: {error!r}")
                continue
            check(load(tmp_path / f"dataset-{batch}"), result, chance, counted)


def check(current, result, chance, counted):
    told = " ".join(f"{problem['file']} {problem['detail']}" for problem in result.problems)
    names = {path.rpartition("/")[2] for path in current.images["path"]}
    for number in range(FILES):
        name = f"{number}.{FORMATS[number % len(FORMATS)]}"
        if name not in names and name not in told and f"{number}.xml" not in told:
            counted.fault("lost", f"{name}, without a word")
    unreadable = Unreadable(10 * len(names), "the check")
    for path, width, height in current.images[["path", "width", "height"]].itertuples(index=False):
        file = current.image_file(path)
        if int(file.stem) % 10 == 0:
            data = mutated_bytes(file.read_bytes(), chance)
            file.unlink()  # it may be a link to the source
            file.write_bytes(data)
        try:
            pixels = unreadable.decode(path, file)
            if pixels is not None and (pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape):
                counted.fault("let in", f"{path}: {pixels.shape} {pixels.dtype}")
            if pixels is not None and int(file.stem) % 10 and pixels.shape[:2] != (height, width):
                counted.fault("let in", f"{path}: {pixels.shape}, imported as {width}×{height}")
        except CurateError as error:
            counted.fault("lost", f"{path}: {error}")
        except Exception as error:
            counted.fault("tracebacks", f"{path}: {error!r}")


def test_many_damaged_pictures_are_an_error(tmp_path):
    """Of a dataset of which a large part cannot be decoded, nothing is learnt; one picture of few is left out."""
    write_image(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:100])
    unreadable = Unreadable(20, "the training")
    assert unreadable.decode("good.png", tmp_path / "good.png").shape == decode_rgb(tmp_path / "good.png").shape
    assert [unreadable.decode(name, tmp_path / "bad.png") for name in ("a", "a", "b")] == [None] * 3
    with pytest.raises(DataError, match=r"a: 3 of 20 pictures cannot be decoded.*at most 10%"):
        unreadable.decode("c", tmp_path / "bad.png")
