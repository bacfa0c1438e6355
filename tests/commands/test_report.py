"""Options and files of `report`: options of the last evaluation, commands, kept evaluations, old pages."""

import json
import re
import shlex
import shutil
from pathlib import Path

import corner_engine
import pytest
from app_scene import keep_run, save_scene
from lxml import html as lxml_html
from report_page import page_of, section, table
from sample_datasets import SMALL, build_dataset, face_dataset, save

import curate
from curate.commands import evaluate as evaluating
from curate.errors import DataError, UsageError
from curate.inference.predictions import _fingerprint
from curate.run_folder.folder import RunFolder
from curate.store import Store

CAMERA = {"object_height": 0.25, "focal_px": 900}


@pytest.fixture
def root(tmp_path):
    """A dataset with a run that makes mistakes of every kind and size, without an evaluation."""
    return save_scene(tmp_path / "faces")


def commands(page):
    """The words of each command in the gallery."""
    codes = page.get_element_by_id("gallery").iter("code")
    return [shlex.split(code.text_content()) for code in codes if code.text_content().startswith("curate ")]


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_commands_say_all_terms(root):
    """Both commands have split, range and score, so that they give the mistakes of the page."""
    page = page_of(root, split="val", min_side=30.5, score=0.1)
    terms = ["faces", "--run", "first", "--min-side", "30.5", "--score", "0.1"]
    assert commands(page) == [["curate", "evaluate", *terms, "--errors", "mistakes.csv"], ["curate", "view", *terms]]


def test_commands_say_the_split(tmp_path):
    """Commands name a split other than val, also "all" for a dataset without splits."""
    root = save(build_dataset(tmp_path / "faces", [[("with_mask", SMALL)]]), pictures=True)
    folder = keep_run_of_all(root)
    assert commands(page_of(root))[1][3:] == ["--run", folder.name, "--split", "all", "--score", "0.5"]


def keep_run_of_all(root):
    """A run with an empty list of kept detections on the whole dataset."""
    folder = keep_run(root, "first", [])
    folder.predictions_file("all").write_text("[]")
    mark = _fingerprint(folder.best, Store(root).load().select())
    (folder.path / "predictions_all.sha256").write_text(mark)
    return folder


def test_commands_survive_a_shell(root):
    """Names are quoted for a shell."""
    keep_run(root, "it's $HOME")
    (_, view) = commands(page_of(root, run="it's $HOME"))
    assert view == ["curate", "view", "faces", "--run", "it's $HOME", "--score", "0.5"]


@pytest.mark.parametrize(
    ("place", "told"),
    [("other/runs/away", "other/runs/away"), ("away", "./away"), ("faces/runs/first/rounds/01", None)],
)
def test_run_from_elsewhere(root, place, told):
    """A run outside the dataset is named by its path from the parent folder of the dataset."""
    folder = RunFolder(root.parent / place)
    shutil.copytree(root / "runs/first", folder.path)
    (_, view) = commands(page_of(root, run=f"{folder.path}/"))
    assert view == ["curate", "view", "faces", "--run", told or place, "--score", "0.5"]


def test_run_from_far_away(root, tmp_path_factory):
    """The absolute path of a run is not shown."""
    far = tmp_path_factory.mktemp("far") / "secret" / "away"
    shutil.copytree(root / "runs/first", far)
    data = Path(curate.report(root, run=str(far), out=root / "page.html").report).read_text(encoding="utf-8")
    assert "secret" not in data
    assert "--run &#39;…/away&#39;" in data


# ── terms ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", ["merge", "rename"])
def test_list_of_other_classes(root, change):
    """A table of mistakes from before a change of classes is not named."""
    curate.evaluate(root, run="first", report=False)
    assert "All mistakes: errors_val.csv" in section(page_of(root), "gallery")
    if change == "merge":
        curate.merge_classes(root, ["without_mask"], "with_mask")
    else:
        curate.rename_class(root, "with_mask", "masked")
    assert "All mistakes: curate evaluate faces" in section(page_of(root), "gallery")


def test_rule_for_difficult_objects_is_kept(root):
    """A page after `evaluate --ignore-difficult` is that of `evaluate`, and its command does the same."""
    Store(root).commit("mark", {}, lambda now: now.replace(boxes=now.boxes.assign(difficult=True)))
    written = curate.evaluate(root, run="first", ignore_difficult=True, max_detections=7).report.read_bytes()
    (root / "runs/first/errors_val.csv").unlink()
    page = page_of(root)
    assert "There is no object to find (all objects, without difficult ones)." in section(page, "summary")
    assert "--ignore-difficult" in commands(page)[0]
    curate.evaluate(root, run="first", ignore_difficult=True, max_detections=7, report=False)
    assert curate.report(root, run="first").report.read_bytes() == written


def test_camera_is_kept(root):
    """A page after `evaluate` in metres is, byte for byte, the page of `evaluate`, including distances."""
    written = curate.evaluate(root, run="first", max_distance=8, **CAMERA).report.read_bytes()
    page = curate.report(root, run="first").report
    assert page.read_bytes() == written
    assert "up to" in table(lxml_html.fromstring(written.decode()), "AP by the smallest side that counts")[0]


def test_cameras_are_no_terms(root):
    """Evaluations on the same range can be compared, whatever the camera."""
    keep_run(root, "second")
    curate.evaluate(root, run="first", min_side=24, report=False, **CAMERA)
    assert curate.evaluate(root, run="second", min_side=24, against="first", report=False).against["run"] == "first"


def test_evaluation_without_a_camera(root):
    """An evaluation of an older version without a camera has no distances."""
    curate.evaluate(root, run="first", min_side=24, report=False)
    file = root / "runs/first/evaluation_val.json"
    document = json.loads(file.read_text())
    del document["terms"]["camera"]
    file.write_text(json.dumps(document))
    assert table(page_of(root), "AP by the smallest side that counts")[0] == ["shorter side", "objects", "AP", "AP50"]


def test_given_options_take_the_place_of_their_own(root):
    """A given distance replaces the kept smallest side, and the kept score applies."""
    curate.evaluate(root, run="first", min_side=24, score=0.7, report=False)
    text = section(page_of(root, max_distance=9, **CAMERA), "summary")
    assert "shorter side ≥ 25 px" in text
    assert "counts from score 0.7 on" in text


# ── kept documents that are damaged ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", '"x"', '{"terms": 3}', "{}"),
        '{"terms": {"min_side_px": "a", "score": "b"}}',
        '{"terms": {"min_side_px": null, "score": 7}}',
        '{"terms": {"min_side_px": null, "score": 0.5, "camera": {"focal_px": 3}}}',
        '{"terms": {"min_side_px": null, "score": NaN}}',
    ],
)
@pytest.mark.parametrize("options", [{}, {"score": 0.5}, {"against": "first"}])
def test_damaged_document(root, text, options):
    """A damaged evaluation raises an error with its path, for options and for a comparison."""
    keep_run(root, "second")
    (root / "runs/first/evaluation_val.json").write_text(text)
    with pytest.raises(DataError, match=r"evaluation_val\.json.*the evaluation (cannot|is not).*`curate evaluate`\.$"):
        curate.report(root, run="second" if "against" in options else "first", **options)


@pytest.mark.parametrize(
    "lost", ["run", "errors", "classes", "ap75", "errors.kinds", "errors.missed.small", "classes.ap"]
)
@pytest.mark.parametrize("command", [curate.report, curate.evaluate])
def test_document_that_lacks_numbers(root, lost, command):
    """An evaluation with a missing key raises an error that names the key."""
    keep_run(root, "second")
    curate.evaluate(root, run="first", report=False)
    file = root / "runs/first/evaluation_val.json"
    document = json.loads(file.read_text())
    part = document
    *outer, name = lost.split(".")
    for one in outer:
        part = part[one]
    del (part[0] if isinstance(part, list) else part)[name]
    file.write_text(json.dumps(document))
    where = re.escape(lost.replace("classes.", "classes[0]."))
    with pytest.raises(DataError, match=rf"evaluation_val\.json, {where}: .*: a required key is missing"):
        command(root, run="second", against="first")


# ── old pages ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_page_of_an_older_evaluation(root):
    """A new evaluation deletes the old page of its split, also without a new page."""
    page = curate.evaluate(root, run="first").report
    other = page.with_name("report_train.html")
    other.write_text("of another split")
    curate.evaluate(root, run="first", score=0.85, report=False)
    assert (page.exists(), other.exists()) == (False, True)


def test_page_that_cannot_be_written(root, monkeypatch):
    """The old page is deleted even if the new one fails."""
    page = curate.evaluate(root, run="first").report

    def fail(*_, **__):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(evaluating, "write_report", fail)
    assert curate.evaluate(root, run="first", score=0.85).notes[-1] == "The report was not written: no"
    assert not page.exists()


def test_pages_of_a_dataset_without_splits(tmp_path):
    """Without splits, a new evaluation deletes the pages of all requested splits."""
    root = save(build_dataset(tmp_path / "faces", [[("with_mask", SMALL)]]), pictures=True)
    folder = keep_run_of_all(root)
    pages = [curate.report(root, run="first", split=split).report for split in ("val", "train", "all")]
    assert [page.name for page in pages] == ["report.html", "report_train.html", "report_all.html"]
    curate.evaluate(root, run="first", split="all", score=0.7)
    assert sorted(page.name for page in folder.path.glob("*.html")) == ["report_all.html"]


def test_page_of_a_training_that_goes_on(tmp_path, monkeypatch):
    """The evaluation after a resumed training deletes the old page."""
    corner_engine.register(monkeypatch)
    root = save(face_dataset(tmp_path / "faces", split=["train"] * 3 + ["val"] * 5), pictures=True)
    curate.train(root, model="corner:only", run="new", steps=3)
    page = curate.evaluate(root, run="new", min_side=24).report
    curate.train(root, model="corner:only", run="new", steps=6, resume=True)
    assert not page.exists()


# ── what the machine has to do with it ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", [None, "a: [", "[]"])
def test_settings_that_cannot_be_read(root, monkeypatch, damage):
    """Unreadable settings are noted without a path of the machine."""
    file = root / "runs/first/config.yaml"
    file.unlink()
    if damage is not None:
        file.write_text(damage)
    monkeypatch.chdir(root.parent)
    pages = [Path(curate.report(name, run="first").report).read_bytes() for name in ("faces", root)]
    assert pages[0] == pages[1]
    assert "The run's settings cannot be read: config.yaml is missing or damaged." in section(page_of(root), "summary")
    assert str(root.parent).encode() not in pages[0]


def test_folders_within_settings(root):
    """Absolute paths in nested settings are not shown."""
    file = root / "runs/first/config.yaml"
    file.write_text("settings: {init: /home/secret/w.pt, more: [{at: /home/secret/x}, 3]}\n")
    settings = dict(table(page_of(root), "Settings (config.yaml)"))
    assert settings["settings"] == "{init: …/w.pt, more: [{at: …/x}, 3]}"


def test_version_of_another_dataset(root, tmp_path, monkeypatch):
    """A run of another dataset says that its version is of another dataset."""
    corner_engine.register(monkeypatch)
    other = save(face_dataset(tmp_path / "other", split=["train"] * 3 + [None] * 5), pictures=True)
    curate.train(other, model="corner:only", run="away", steps=3)
    facts = dict(table(page_of(root), "Training"))
    assert facts["trained on"] == "7 images, 6 boxes, version 1"
    facts = dict(table(page_of(root, run=f"{other}/runs/away"), "Training"))
    assert facts["trained on"] == "3 images, 5 boxes, version 1 of another dataset"


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["file/x.html", "file/new/x.html", f"{'x' * 251}.html", f"{'x' * 400}/x.html"])
def test_place_that_takes_no_file(root, tmp_path, name):
    """A page that cannot be written raises an error before the work, and leaves no file."""
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"the page cannot be written \(got .*Choose another path\."):
        curate.report(root, run="nowhere", out=tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_in_the_place_of_the_page(root):
    """A folder with the name of the page raises an error and stays; no file is left."""
    place = root / "runs/first/report.html"
    place.mkdir()
    with pytest.raises(UsageError, match=r"report\.html: the path is a folder"):
        curate.report(root, run="first")
    assert "the path is a folder" in curate.evaluate(root, run="first").notes[-1]
    assert place.is_dir()
    assert not list(place.parent.glob("*.tmp"))


def test_page_without_pictures(root):
    """Mistakes in missing images are listed without a picture."""
    shutil.rmtree(root / "media")
    result = curate.report(root, run="first")
    assert (result.shown, result.missed + result.false_positives) == (9, 9)
    assert result.notes == ("Not readable: 6 images. The report has no picture of the mistakes in them.",)
