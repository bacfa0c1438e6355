"""Files of others are opened in one place for each kind, which has the limits."""

import ast

import pytest
from repository_paths import REPOSITORY

PACKAGE = REPOSITORY / "curate"
MODULES = {file.relative_to(PACKAGE).as_posix(): file for file in sorted(PACKAGE.rglob("*.py"))}

# call → the modules that may make it
ONLY_IN = {
    ("Image", "open"): {"image_header.py"},
    ("cv2", "imdecode"): {"images.py"},
    ("cv2", "imread"): set(),
    ("cv2", "imreadmulti"): set(),
    ("plt", "imread"): set(),
    ("image", "imread"): set(),
    ("imageio", "imread"): set(),
    ("io", "read_image"): set(),
    ("io", "decode_image"): set(),
    ("utils", "read_image"): set(),
    ("yaml", "load"): {"documents/yaml_reader.py"},
    ("yaml", "safe_load"): set(),
    ("yaml", "compose"): set(),
    ("json", "load"): set(),
    ("json", "loads"): {
        "commands/run.py",  # of what it has just dumped
        "documents/json_reader.py",
        "engines/two_stage/first_stage.py",  # a line inside a checkpoint
        "fiftyone_app/guard.py",  # requests, whose size the guard limits
        "fiftyone_app/mongo.py",  # its own state and MongoDB's log, in a private folder
        "fiftyone_app/mongo_keeper.py",
        "monitor/actions/webhook/outbox.py",  # its own spool
        "monitor/permission.py",  # its own list
        "store.py",  # of what it has just dumped
        "versions.py",
    },
    ("orjson", "loads"): {
        "documents/json_reader.py",
        "evaluation/scores.py",  # the export that was just written
        "formats/export_folder.py",  # its own note
    },
}


def calls(text: str) -> set[tuple[str, str]]:
    """Every `a.b(…)` of a module as (a, b); `from x.a import b` counts as well."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            found.add((name, node.attr))
        elif isinstance(node, ast.ImportFrom):
            found |= {((node.module or "").rpartition(".")[2], alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("call", ONLY_IN, ids=".".join)
def test_files_of_others_are_opened_in_one_place(call):
    """A reader that knows no limits is called only by the module that sets them."""
    callers = {name for name, file in MODULES.items() if call in calls(file.read_text(encoding="utf-8"))}
    assert callers == ONLY_IN[call]


def test_pictures_are_opened_with_a_list_of_formats():
    """Every `Image.open` names the formats that it may read."""
    for name in ONLY_IN["Image", "open"]:
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                assert "formats" in {keyword.arg for keyword in node.keywords}


def test_calls_are_found_in_every_spelling():
    """The rule sees calls through the module, through its package, and of imported names."""
    assert ("Image", "open") in calls("from PIL import Image\nImage.open(x)")
    assert ("Image", "open") in calls("import PIL.Image\nwith PIL.Image.open(x) as y: pass")
    assert ("Image", "open") in calls("from PIL.Image import open")
    assert ("cv2", "imread") in calls("import cv2\nread = cv2.imread")
