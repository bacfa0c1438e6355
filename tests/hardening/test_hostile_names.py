"""Names and paths with control and direction characters: none reaches a terminal, a table file or a page as it is."""

import csv
import json

import pytest
import yaml
from builders import write_image, write_xml
from lxml import etree

import curate
from curate.errors import CurateError
from curate.plain_text import is_clean, shown
from curate.store import Store

NASTY = {
    "escape": "a\x1b]0;x\x07\x1b[2J",
    "direction": "a\u202egpj.exe",
    "isolate": "a\u2066b",
    "c1": "a\x9b31mb",
    "line": "a\nok: all is well",
    "markup": "[bold red]a[/] :smile:",
    "return": "a\rcurate: done",
}
IN_XML = {key: text for key, text in NASTY.items() if key in ("direction", "isolate", "c1")}  # the others are no XML


def is_plain(text):
    """Whether a terminal shows the text as it is."""
    return all(is_clean(line) for line in text.split("\n"))


@pytest.fixture(params=NASTY.values(), ids=NASTY)
def nasty(request):
    """A name that attacks a terminal."""
    return request.param


def test_paths_work_and_are_shown_with_escapes(tmp_path, nasty, run_main):
    """Images with such names come in; tables, notes, errors, progress and logs have escapes, and JSON its own."""
    source = tmp_path / "clips"
    write_image(source / nasty / f"{nasty}.jpg")
    write_xml(source / nasty / f"{nasty}.xml", f"{nasty}.jpg" if nasty in IN_XML else None, [("mask", 2, 3, 20, 30)])
    (source / nasty / "broken.xml").write_text("<annotation>")
    for arguments in (
        ("import-voc", "faces", source, "--verbose"),
        ("import-voc", "more", source, "--json"),
        ("stats", "faces", "--by", "source"),
        ("log", "faces"),
        ("import-voc", "faces", tmp_path / nasty),
        ("stats", tmp_path / nasty),
        (nasty,),
        ("stats", "faces", f"--{nasty}"),
        ("rename-class", "faces", nasty, "x"),
        ("run", source / nasty / f"{nasty}.xml"),
        ("evaluate", "faces", "--predictions", source / nasty / f"{nasty}.jpg"),
        ("predict", tmp_path / nasty, source),
    ):
        answer = run_main(*arguments, folder=tmp_path)
        for text in (answer.stdout, answer.stderr):
            assert is_plain(text), arguments
            assert not any(line.strip().startswith("ok: all") for line in text.splitlines()), arguments
        assert "Traceback" not in answer.stderr, arguments
        if "--json" in arguments:
            document = json.loads(answer.stdout)
            assert document["images"] == 1
            assert nasty in document["problems"][0]["file"]
    assert len(Store(tmp_path / "faces").load().images) == 1


def test_old_class_names_are_shown_with_escapes(tmp_path, nasty, run_main):
    """A class of an earlier version may have any name; it controls nothing, and begins no line of its own."""
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [("mask", 2, 3, 20, 30)])
    curate.import_voc(tmp_path / "faces", tmp_path / "clips")
    Store(tmp_path / "faces").commit("test", {}, lambda before: before.replace(classes=[(1, nasty)]))
    for arguments in (
        ("stats", "faces"),
        ("stats", "faces", "--json"),
        ("diff", "faces", "1", "2"),
        ("import-voc", "faces", "clips"),
        ("merge-classes", "faces", "x", "--into", "y"),
        ("rename-class", "faces", shown(nasty), "y"),
    ):
        answer = run_main(*arguments, folder=tmp_path)
        assert is_plain(answer.stdout + answer.stderr), arguments
        assert not any(line.strip().startswith("ok: all") for line in answer.stdout.splitlines()), arguments
        assert answer.returncode == (2 if "merge-classes" in arguments else 0), answer
        if "--json" in arguments:
            assert json.loads(answer.stdout)["classes"][0]["name"] == nasty


@pytest.mark.parametrize("text", IN_XML.values(), ids=IN_XML)
def test_class_names_are_repaired(tmp_path, text, run_main):
    """An import takes such characters out of class names, as a repair that is listed."""
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [(text, 2, 3, 20, 30), ("\u202e", 30, 3, 40, 30)])
    result = curate.import_voc(tmp_path / "faces", tmp_path / "clips")
    (name,) = result.classes
    assert is_clean(name)
    found = {problem["action"]: problem for problem in result.to_json()["problems"]}
    assert {problem["kind"] for problem in found.values()} == {"class_name"}
    assert (found["repaired"]["object"], found["quarantined"]["object"]) == (1, 2)


def test_class_lists_are_repaired(tmp_path):
    """A class list with a mark before a name, or an invisible space in it, has the same classes as one without."""
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [("mask", 2, 3, 20, 30)])
    (tmp_path / "clips/predefined_classes.txt").write_text("\u200bmask\nface\u202e\n")
    assert list(curate.import_voc(tmp_path / "faces", tmp_path / "clips").classes) == ["mask", "face"]


@pytest.mark.parametrize("old", ["mask\u202e", "mas\u200bk"])
@pytest.mark.parametrize("then", ["nothing", "rename", "merge", "drop"])
def test_old_names_are_followed(tmp_path, old, then):
    """Annotations with a name that an earlier version took in as it is get the class that has their boxes now."""
    root, source = tmp_path / "faces", tmp_path / "clips"
    for number, name in enumerate((old, "face")):
        write_image(source / f"{number}.jpg")
        write_xml(source / f"{number}.xml", f"{number}.jpg", [(name, 2, 3, 20, 30)])
    curate.import_voc(root, source)
    named = [(entry.id, old if entry.name == "mask" else entry.name) for entry in Store(root).load().classes]
    Store(root).commit("test", {}, lambda before: before.replace(classes=named))
    if then == "rename":
        curate.rename_class(root, old, "covered")
    elif then == "merge":
        curate.merge_classes(root, [old], "face")
    elif then == "drop":
        curate.drop_class(root, [old])
    before = Store(root).load().class_counts()
    assert curate.import_voc(root, source).classes == before


def test_names_are_refused(tmp_path, nasty):
    """No class and no run gets such a name; brackets are no fault."""
    root = tmp_path / "faces"
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [("mask", 2, 3, 20, 30)])
    curate.import_voc(root, tmp_path / "clips")
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump({"name": "faces", "classes": ["mask", nasty]}))
    calls = (
        lambda: curate.rename_class(root, "mask", nasty),
        lambda: curate.import_voc(root, tmp_path / "clips", classes=["mask", nasty]),
        lambda: curate.import_voc(root, tmp_path / "clips", card=card),
        lambda: curate.import_widerface(root, tmp_path / "clips", class_name=nasty),
        lambda: curate.label(root, classes=[nasty]),
    )
    if is_clean(nasty):
        assert curate.rename_class(root, "mask", nasty).after == {nasty: 1}
        return
    for call in calls:
        with pytest.raises(CurateError, match="invisible character"):
            call()
    with pytest.raises(CurateError, match="not a run name: it has an invisible character"):
        curate.train(root, run=nasty, model="retinaface:mobilenet0.25", weights="none")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x"])
def test_tables_of_csv_compute_nothing(tmp_path, name):
    """A class whose name a spreadsheet would compute has an apostrophe in the table."""
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [(name, 2, 3, 20, 30)])
    curate.import_voc(tmp_path / "faces", tmp_path / "clips")
    curate.stats(tmp_path / "faces", csv=tmp_path / "a.csv")
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert (row["name"], row["boxes"]) == (f"'{name}", "1")


def test_names_are_no_formulas_of_plots(tmp_path):
    """A class name with dollar signs is text of a plot, and no mathematics."""
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [(r"$\frac$", 2, 3, 20, 30)])
    curate.import_voc(tmp_path / "faces", tmp_path / "clips")
    curate.stats(tmp_path / "faces", plot=tmp_path / "a.svg")
    assert (tmp_path / "a.svg").is_file()


def test_plots_show_names_with_escapes(tmp_path, nasty):
    """A name in a plot is shown with escapes; with a control character the SVG file would be no XML."""
    write_image(tmp_path / "clips/a.jpg")
    write_xml(tmp_path / "clips/a.xml", "a.jpg", [("mask", 2, 3, 20, 30)])
    curate.import_voc(tmp_path / "faces", tmp_path / "clips")
    Store(tmp_path / "faces").commit("test", {}, lambda before: before.replace(classes=[(1, nasty)]))
    curate.stats(tmp_path / "faces", plot=tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert is_plain(text)
    etree.fromstring(text.encode())
