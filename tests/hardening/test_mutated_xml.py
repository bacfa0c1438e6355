"""Imports of mutated LabelImg files: boxes that keep the rules, or a problem that names the file."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import HEIGHT, WIDTH, annotation_xml, load, object_xml, write_image
from mutating import mutated_xml
from tally import tally

from curate import import_voc
from curate.errors import CurateError

FILES = 500  # in one import
GOOD = annotation_xml("a.jpg", [object_xml("mask", 2, 3, 20, 30), object_xml("bare", 30, 5, 50, 40)]).encode()


@pytest.mark.parametrize("count", [FILES, pytest.param(100_000, marks=pytest.mark.long)])
def test_mutated_xml(tmp_path, count):
    """Every picture comes in, boxes lie inside it, and an image that lost a box without a word does not exist."""
    chance, folder = random.Random(count), tmp_path / "clips"
    for number in range(FILES):
        write_image(folder / f"{number}.png", seed=number)
    with tally("mutated XML files, imported", f"{count}") as counted:
        for batch in range(count // FILES):
            for number in range(FILES):
                (folder / f"{number}.xml").write_bytes(mutated_xml(GOOD, chance))
            dataset = tmp_path / "dataset"
            try:
                result = import_voc(dataset, folder, with_unlabelled=True)
            except CurateError as error:
                counted.fault("lost", f"batch {batch}: {error}")
            except Exception as error:
                counted.fault("tracebacks", f"batch {batch}: {error!r}")
            else:
                check(load(dataset), result, counted)
            counted.tried += FILES
            shutil.rmtree(dataset, ignore_errors=True)


def check(current, result, counted):
    if result.images != FILES:
        counted.fault("lost", f"{FILES - result.images} pictures")
    corners = current.boxes_xyxy
    inside = np.isfinite(corners).all(axis=1) & (corners[:, :2] >= 0).all(axis=1)
    inside &= (corners[:, :2] < corners[:, 2:]).all(axis=1) & (corners[:, 2:] <= (WIDTH, HEIGHT)).all(axis=1)
    for row in corners[~inside]:
        counted.fault("let in", f"a box {row}")
    told = {Path(problem["file"]).stem for problem in result.problems}
    boxes = current.images["image_id"].map(current.boxes["image_id"].value_counts()).fillna(0)
    labelled = current.images["label_state"] == "labelled"
    for path in current.images.loc[labelled & (boxes < 2), "path"]:
        if Path(path).stem not in told:
            counted.fault("lost", f"a box of {path}, without a word")
