"""A new annotation format is one reader that returns `Incoming`; all else an import does is shared.

The walk of `docs/architecture.md` is done in a copy of the package: reader, function, options, row. The other tests
pass the reader's answer to the shared code.

The format is made up here: `dots.txt` beside PNG images, a line `IMAGE CLASS X Y RADIUS` for each dot. Its reader
is a module of its own, as it would be in `curate/formats/`; no list of formats, kinds or suffixes is changed for it.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import box_rows, image_row, load, write_image

import curate
from curate.commands.history import log, undo
from curate.errors import StrictImportError
from curate.formats.ingest import find_allowed_classes, ingest
from curate.progress import silent
from curate.store import Store

READER = '''
"""Reads a folder with `dots.txt`."""

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.errors import DataError
from curate.formats.incoming import Incoming, Problem, mend_boxes
from curate.formats.listing import list_files
from curate.formatting import count_of
from curate.image_header import is_image_name
from curate.images import read_image_facts


def read_dots(folder, *, leave_out=None):
    listed, problems = list_files(folder, leave_out=leave_out, annotation_suffixes=(".txt",))
    facts = {}
    for file in sorted(filter(is_image_name, listed)):
        try:
            facts[file] = read_image_facts(folder / file)
        except DataError as error:
            problems.append(Problem(file, None, None, "image_broken", error.fact, "quarantined"))
    dots = []
    for line, text in enumerate((folder / "dots.txt").read_text().splitlines(), start=1):
        image, name, *numbers = text.split()
        if image not in facts:
            problems.append(Problem("dots.txt", line, None, "image_missing", image, "quarantined"))
        elif len(numbers) > 3:
            problems.append(Problem("dots.txt", line, line, "too_many_numbers", text, "noted"))
        if image in facts:
            x, y, radius = map(float, numbers[:3])
            dots.append((image, name, line, x - radius, y - radius, x + radius, y + radius))
    annotated = list(dict.fromkeys(dot[0] for dot in dots))
    images = pd.DataFrame(
        {
            "file": annotated,
            "annotated": True,
            "label_state": "labelled",
            **{key: [getattr(facts[file], key) for file in annotated] for key in ("width", "height", "sha256")},
        }
    )
    columns = {"image": [annotated.index(dot[0]) for dot in dots], "name": [dot[1] for dot in dots]}
    columns |= {"file": "dots.txt", "line": [dot[2] for dot in dots], "object": [dot[2] for dot in dots]}
    corners = np.array([dot[3:] for dot in dots], dtype=float).reshape(-1, 4)
    written = pd.DataFrame(columns | dict(zip(CORNERS, corners.T, strict=True)))
    rows = written["image"].to_numpy()
    boxes, faults = mend_boxes(written, images["width"].to_numpy()[rows], images["height"].to_numpy()[rows])
    left_out = sorted(facts.keys() - set(annotated))
    return Incoming(
        folder=folder,
        image_folder=folder,
        images=images,
        boxes=boxes,
        problems=(*problems, *faults),
        files=("dots.txt",),
        reads=(folder,),
        annotation_suffixes=(".txt",),
        class_order=("small", "large"),
        unannotated=[Problem(file, None, None, "image_without_dots", "left out", "noted") for file in left_out],
        unannotated_note=f"Left out: {count_of(len(left_out), 'image')} without dots.",
    )
'''

COMMAND = '''


def import_dots(dataset: str, source: str, *, strict: bool = False, progress: Progress = silent) -> ImportResult:
    """Import dots."""
    from pathlib import Path

    from curate.formats.dots import read_dots

    store = Store(dataset)
    allowed = find_allowed_classes(store)
    incoming = read_dots(Path(source), leave_out=store.root)
    operation = "import-dots", {"source": source}
    return ingest(store, dataset, incoming, allowed, operation, strict=strict, progress=progress)
'''

OPTIONS = """


def import_dots(
    dataset: DatasetFolder,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder with dots.txt.")],
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.imports import import_dots as command

    with progress_on_stderr() as progress:
        result = command(str(dataset), str(source), strict=strict, progress=progress)
    show(result, import_table, as_json=as_json)
"""

ROW = """    Command(
        "import-dots",
        panel=_IMPORT,
        about="Import dots.",
        module="imports",
        brief="import_brief",
        written="",
        arguments={Role.DATASET_AND_CARD: "dataset", Role.INPUT: "source"},
    ),
"""


@pytest.fixture
def copied(tmp_path):
    """Runs the command line of a copy of the package that has the importer: exit code, stdout, stderr."""
    package = tmp_path / "copy" / "curate"
    shutil.copytree(Path(curate.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "formats" / "dots.py").write_text(READER)
    commands, options = package / "commands" / "imports.py", package / "cli" / "imports.py"
    commands.write_text(
        commands.read_text().replace("import os\n", "import os\nfrom pathlib import Path\n", 1) + COMMAND
    )
    options.write_text(options.read_text() + OPTIONS)
    registry = package / "commands" / "registry.py"
    registry.write_text(registry.read_text().replace("_ROWS = (\n", f"_ROWS = (\n{ROW}", 1))

    def called(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", "from curate.cli import main; main()", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(package.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return called


def test_reader_function_options_and_row_are_all(tmp_path, dots, copied):
    """The command is in the help, imports, updates, refuses, and is a step of pipelines that follows its source."""
    assert "import-dots" in copied("--help")[1]
    code, out, err = copied("import-dots", "data", "sky", "--json")
    assert (code, json.loads(out)["added"], err) == (0, 2, "note: Left out: 1 image without dots.\n")
    (tmp_path / "pipeline.yaml").write_text(
        "name: dots\nsteps:\n  - import-dots: {dataset: data, source: sky}\n  - stats: {dataset: data}\n"
    )
    before = [step["skipped"] for step in json.loads(copied("run", "pipeline.yaml", "--json")[1])["steps"]]
    (dots / "dots.txt").write_text("a.png small 10 10 5\n")
    again = [json.loads(copied("run", "pipeline.yaml", "--json")[1])["steps"] for _ in range(2)]
    assert [before, *([step["skipped"] for step in steps] for steps in again)] == [[False] * 2, [False] * 2, [True] * 2]
    assert again[0][0]["result"]["updated"] == 1
    assert copied("import-dots", "data", "nowhere")[0] == 1


@pytest.fixture
def read_dots(tmp_path):
    """The reader, loaded from a file."""
    file = tmp_path / "dots.py"
    file.write_text(READER)
    spec = importlib.util.spec_from_file_location("dots", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_dots


@pytest.fixture
def import_dots(read_dots):
    """The function that would be in `curate/commands/imports.py`."""

    def import_dots(dataset, source, *, classes=None, card=None, strict=False):
        store = Store(dataset)
        allowed = find_allowed_classes(store, classes, card)
        incoming = read_dots(source, leave_out=store.root)
        operation = "import-dots", {"source": str(source)}
        return ingest(store, str(dataset), incoming, allowed, operation, strict=strict, progress=silent)

    return import_dots


@pytest.fixture
def dots(tmp_path):
    """Two images of 64×48 with dots, one without, and a fault for each action."""
    folder = tmp_path / "sky"
    for name in ("a.png", "b.png", "rest.png"):
        write_image(folder / name)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "dots.txt").write_text(
        "a.png small 10 10 5\n"
        "a.png large 60 30 10\n"  # leaves the image: repaired
        "b.png large 200 200 5\n"  # outside the image: quarantined
        "b.png small 20 20 5 7\n"  # a number too many: noted
        "gone.png small 1 1 1\n"
    )
    return folder


def actions(result):
    return {problem["kind"]: problem["action"] for problem in result.problems}


def test_boxes_classes_and_media_come_in(dataset, dots, import_dots):
    """Boxes are clipped, classes have the source's order, images lie in the dataset under the source's name."""
    result = import_dots(dataset, dots)
    assert (result.version, result.images, result.added) == (1, 2, 2)
    assert box_rows(dataset) == [
        ("a.png", "large", 50, 20, 64, 40),
        ("a.png", "small", 5, 5, 15, 15),
        ("b.png", "small", 15, 15, 25, 25),
    ]
    assert load(dataset).class_names == {1: "small", 2: "large"}
    row = image_row(dataset, "a.png")
    assert (row["path"], row["source"], row["label_state"]) == ("media/images/sky/a.png", "sky", "labelled")
    assert (dataset / row["path"]).read_bytes() == (dots / "a.png").read_bytes()


def test_each_problem_has_the_action_of_its_reader(dataset, dots, import_dots):
    """Kinds that no shared code knows keep the reader's action, in the result and in the dataset."""
    result = import_dots(dataset, dots)
    expected = {
        "image_broken": "quarantined",
        "outside_image": "repaired",
        "not_in_image": "quarantined",
        "too_many_numbers": "noted",
        "image_missing": "quarantined",
        "image_without_dots": "noted",
    }
    assert actions(result) == expected
    assert dict(zip(*(load(dataset).problems[name] for name in ("kind", "action")), strict=True)) == expected
    assert (result.repaired, result.quarantined, result.notes) == (1, 1, ("Left out: 1 image without dots.",))
    assert [problem["file"] for problem in result.problems if problem["line"] == 3] == [str(dots / "dots.txt")]


def test_strict_refuses_what_is_more_than_a_note(dataset, dots, import_dots):
    """`strict` makes no version; a source with notes alone passes."""
    with pytest.raises(StrictImportError, match="4 faults in the annotations"):
        import_dots(dataset, dots, strict=True)
    assert not Store(dataset).exists()
    (dots / "cut.png").unlink()
    (dots / "dots.txt").write_text("b.png small 20 20 5 7\n")
    assert import_dots(dataset, dots, strict=True).version == 1


def test_a_second_import_updates(dataset, dots, import_dots):
    """Changed boxes are replaced under the same image id, equal boxes keep theirs; solved problems go."""
    import_dots(dataset, dots)
    before = load(dataset)
    (dots / "dots.txt").write_text("a.png small 10 10 5\na.png large 30 30 10\nb.png small 20 20 5\n")
    (dots / "cut.png").unlink()
    result = import_dots(dataset, dots)
    assert (result.version, result.added, result.updated, result.unchanged) == (2, 0, 1, 1)
    after = load(dataset)
    assert after.images["image_id"].tolist() == before.images["image_id"].tolist()
    kept = set(before.boxes["box_id"]) & set(after.boxes["box_id"])
    assert (len(kept), len(after.boxes)) == (2, 3)
    assert after.problems["kind"].tolist() == ["image_without_dots"]


def test_problems_of_a_deleted_annotation_file_stay(dataset, dots, import_dots):
    """The suffix that the reader names tells annotation files that are gone from images that are gone."""
    folder_link = dots / "more.txt"
    folder_link.symlink_to("nothing")  # an annotation file that cannot be opened
    import_dots(dataset, dots)
    folder_link.unlink()
    (dots / "rest.png").unlink()
    import_dots(dataset, dots)
    files = load(dataset).problems["file"].tolist()
    assert ("more.txt" in files, "rest.png" in files) == (True, False)


def test_classes_cards_and_history_are_shared(tmp_path, dataset, dots, import_dots):
    """Undeclared classes are quarantined, a card's counts are compared, and the version can be undone."""
    card = tmp_path / "card.yaml"
    card.write_text("name: sky\nexpected: {images: 3}\n")
    result = import_dots(dataset, dots, classes=["small"], card=card)
    assert actions(result)["unknown_class"] == "quarantined"
    assert "images: 2, the card says 3" in result.notes[0]
    assert [entry.operation for entry in log(dataset).entries] == ["import-dots"]
    assert undo(dataset).undone == 1


def test_images_of_the_dataset_wait_without_a_problem(dataset, dots, import_dots):
    """Images inside the dataset that have no annotation yet are not reported."""
    import_dots(dataset, dots)
    folder = dataset / "media" / "images" / "sky"
    write_image(folder / "new.png")
    (folder / "dots.txt").write_text("a.png small 10 10 5\n")
    result = import_dots(dataset, folder)
    assert (result.problems, result.notes) == ((), ())


def test_columns_that_the_format_lacks_keep_their_values(dataset, dots, import_dots):
    """A dot has no `difficult`: a box that is there again keeps what the dataset says; a new one gets the default."""
    import_dots(dataset, dots)
    boxes = load(dataset).boxes
    Store(dataset).commit("set", {}, lambda now: now.replace(boxes=boxes.assign(difficult=True, pose="Left")))
    (dots / "dots.txt").write_text("a.png small 10 10 5\na.png large 30 30 10\n")
    import_dots(dataset, dots)
    after = load(dataset).boxes
    rows = after[after["image_id"] == image_row(dataset, "a.png")["image_id"]].sort_values("x0")
    assert rows["difficult"].tolist() == [True, False]
    assert rows["pose"].tolist()[:1] == ["Left"]
    assert rows["pose"].isna().tolist() == [False, True]


@pytest.mark.parametrize("column", ["camra", "image_id"])
def test_a_column_that_a_reader_cannot_give_is_an_error(dots, read_dots, column):
    """A misspelt column, or one that the dataset gives itself, is refused and not dropped."""
    incoming = read_dots(dots)
    with pytest.raises(ValueError, match=f"unknown columns: {column}"):
        replace(incoming, images=incoming.images.assign(**{column: 1}))


def test_a_column_that_a_reader_must_give_is_an_error(dots, read_dots):
    """A reader that does not say whether images are annotated is refused."""
    incoming = read_dots(dots)
    with pytest.raises(ValueError, match="images lack annotated"):
        replace(incoming, images=incoming.images.drop(columns="annotated"))
