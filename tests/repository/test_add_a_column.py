"""A new column of images or boxes is one line in `curate/columns.py`.

The test adds such lines to a copy of the package, and imports, re-imports and exports to the app with that copy.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import MASK, labelimg_folder
from extras import needs_pymongo

import curate

pytestmark = needs_pymongo

IMAGE_LINES = """
        "camera": JoinedColumn("str", pd.NA, Reimport.FILL, in_app=True),
        "weather": JoinedColumn("str", "dry", Reimport.REPLACE, in_app=True),
        "take": JoinedColumn("Int64", pd.NA, Reimport.REPLACE, in_app=True),
        "loaned": JoinedColumn("bool", False, Reimport.KEEP, in_app=False),
"""
BOX_LINES = """
        "blurred": JoinedColumn("bool", False, Reimport.REPLACE, in_app=True),
        "age": JoinedColumn("Int64", pd.NA, Reimport.REPLACE, in_app=True),
"""

SCRIPT = """
import json
import sys
from pathlib import Path

import pandas as pd

import curate
from curate.columns import CORNERS
from curate.fiftyone_app.documents import make_documents
from curate.formats.incoming import Incoming
from curate.formats.ingest import find_allowed_classes, ingest
from curate.images import read_image_facts
from curate.progress import silent
from curate.store import Store

root, source = Path(sys.argv[1]), Path(sys.argv[2])
store = Store(root)


def bring(image_columns=None, box_columns=None):
    facts = read_image_facts(source / "a.jpg")
    row = {"file": "a.jpg", "annotated": True, "label_state": "labelled", **(image_columns or {})}
    row |= {"width": facts.width, "height": facts.height, "sha256": facts.sha256}
    box = {"image": 0, "name": "mask", "file": "", "line": 1, "object": 1}
    box |= dict(zip(CORNERS, (5.0, 6.0, 25.0, 36.0))) | (box_columns or {})
    tables = {"images": pd.DataFrame([row]), "boxes": pd.DataFrame([box])}
    incoming = Incoming(folder=source, image_folder=source, **tables, problems=(), files=(), reads=())
    allowed = find_allowed_classes(store)
    result = ingest(store, str(root), incoming, allowed, ("bring", {}), strict=False, progress=silent)
    dataset = store.load()
    images, boxes = (table.astype(object).where(table.notna(), None) for table in (dataset.images, dataset.boxes))
    (document,) = make_documents(dataset, (), None)
    (shown,) = document["ground_truth"]["detections"]
    new = ("camera", "weather", "take", "loaned", "blurred", "age")
    return {
        "updated": result.updated,
        "box_id": boxes["box_id"][0],
        "image": {name: images[name][0] for name in new if name in images},
        "box": {name: boxes[name][0] for name in new if name in boxes},
        "app_image": {name: document[name] for name in new if name in document},
        "app_box": {name: shown[name] for name in new if name in shown},
    }


first = {"camera": "north", "weather": "rain", "take": 1, "loaned": True}
report = [
    bring(first, {"blurred": True, "age": 30}),
    bring({"camera": "south", "weather": "snow", "take": 2, "loaned": False}, {"blurred": False, "age": 31}),
    bring(),  # a format that has none of the columns
]
report.append(curate.import_voc(root, source).to_json())
report.append(curate.stats(root).to_json())
print(json.dumps(report, default=int))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What each import leaves in the dataset and shows in the app, with the columns added."""
    folder = tmp_path_factory.mktemp("columns")
    package = Path(curate.__file__).parent
    shutil.copytree(package, folder / "curate", ignore=shutil.ignore_patterns("__pycache__"))
    columns = folder / "curate" / "columns.py"
    text = columns.read_text()
    for table, lines in (("IMAGE_COLUMNS", IMAGE_LINES), ("BOX_COLUMNS", BOX_LINES)):
        start = text.index("    }\n)", text.index(f"{table}: Mapping"))
        text = text[:start] + lines.lstrip("\n") + text[start:]
    columns.write_text(text)
    source = labelimg_folder(folder / "clips", {"a": [MASK], "b": [MASK]})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "dataset"), str(source)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_new_column_is_stored(report):
    """The first import stores what the source says."""
    assert report[0]["image"] == {"camera": "north", "weather": "rain", "take": 1, "loaned": True}
    assert report[0]["box"] == {"blurred": True, "age": 30}


def test_a_second_import_joins_it_as_declared(report):
    """FILL and KEEP leave the value, REPLACE takes the new one; the box is the same box."""
    assert report[1]["image"] == {"camera": "north", "weather": "snow", "take": 2, "loaned": True}
    assert report[1]["box"] == {"blurred": False, "age": 31}
    assert (report[1]["updated"], report[1]["box_id"]) == (1, report[0]["box_id"])


def test_a_format_without_it_leaves_it(report):
    """A format that does not have the columns changes nothing."""
    assert report[2] == report[1] | {"updated": 0}


def test_the_app_shows_it_as_declared(report):
    """The app's documents have the columns with `in_app`, and no others."""
    assert report[1]["app_image"] == {"camera": "north", "weather": "snow", "take": 2}
    assert report[1]["app_box"] == {"blurred": False, "age": 31}


def test_other_commands_are_unchanged(report):
    """Formats and commands that were there before work with the new columns."""
    imported, counted = report[3:]
    assert (imported["added"], imported["boxes"], counted["boxes"]) == (1, 2, 2)
