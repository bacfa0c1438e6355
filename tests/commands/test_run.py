"""`run`: which steps are skipped, which run again, from which version, and errors before any step runs."""

import io
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import corner_engine
import pytest
import yaml
from builders import BARE, MASK, labelimg_folder, write_image
from corner_engine import CornerDetector, CornerEngine
from proposing import save_in_labelimg
from repository_paths import REPOSITORY
from rich.console import Console
from sample_datasets import write_text

import curate
from curate.cli.run import pipeline_summary
from curate.commands import imports
from curate.commands.pipeline_file import read_pipeline, resolve_steps
from curate.curation.classes import rename
from curate.errors import CurateError, UsageError
from curate.store import Store

IMPORT = {"import-voc": {"dataset": "$dataset", "source": "$source", "video_from": "(clip)"}}
MERGE = {"merge-classes": {"dataset": "$dataset", "sources": ["odd"], "into": "bare"}}
SPLIT = {"split": {"dataset": "$dataset", "val": 0.3, "group_by": "none"}}
EXPORT = {"export-coco": {"dataset": "$dataset", "out": "$out"}}
TRAIN = {"train": {"dataset": "$dataset", "model": "corner:only", "run": "first", "steps": 3}}
EVALUATE = {"evaluate": {"dataset": "$dataset", "run": "first"}}
ALL = (IMPORT, MERGE, SPLIT, EXPORT, TRAIN, EVALUATE)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a source of six images, in which pipelines run."""
    monkeypatch.chdir(tmp_path)
    corner_engine.register(monkeypatch)
    odd = ("odd", *MASK[1:])
    labelimg_folder(
        tmp_path / "source", {"a": [MASK], "b": [BARE], "c": [odd], "d": [MASK, BARE], "e": [BARE], "f": []}
    )
    return tmp_path


def write_pipeline(*steps, name="faces", **variables):
    """Write `pipeline.yaml` and return its path."""
    values = {"dataset": "data", "source": "source", "out": "exported"} | variables
    with open("pipeline.yaml", "w") as file:
        yaml.safe_dump({"name": name, "vars": values, "steps": list(steps)}, file)
    return "pipeline.yaml"


def run_steps(*steps, variables=None, **options):
    """Run a pipeline of these steps; the commands that ran, without the skipped ones."""
    result = curate.run(write_pipeline(*steps, **options), variables)
    return [outcome.step for outcome in result.steps if not outcome.skipped]


def with_arguments(step, **arguments):
    """A step with other arguments."""
    ((command, old),) = step.items()
    return {command: old | arguments}


def head():
    """The current version."""
    return Store("data").head()


# ── once and twice ───────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_runs_once(workspace):
    """The first run runs every step, and each returns what its command returns."""
    result = curate.run(write_pipeline(*ALL))
    assert [outcome.step for outcome in result.steps] == [next(iter(step)) for step in ALL]
    assert not any(outcome.skipped for outcome in result.steps)
    assert result.steps[1].result == {
        "version": 2,
        "before": {"bare": 3, "mask": 2, "odd": 1},
        "after": {"bare": 4, "mask": 2},
    }
    document = result.to_json()
    assert list(document) == ["pipeline", "steps"]
    assert list(document["steps"][0]) == ["step", "arguments", "skipped", "seconds", "result"]


def test_second_run_does_nothing(workspace):
    """The second run skips every step, returns the results of the first, and creates no version."""
    first = curate.run(write_pipeline(*ALL))
    second = curate.run("pipeline.yaml")
    assert all(outcome.skipped for outcome in second.steps)
    assert [outcome.result for outcome in second.steps] == json.loads(
        json.dumps([outcome.result for outcome in first.steps])
    )
    assert (CornerEngine.trainings, CornerDetector.shown, head()) == (
        1,
        len(Store("data").load().select("val").images),
        3,
    )


def test_on_step(workspace):
    """`on_step` is called with each outcome."""
    outcomes = []
    curate.run(write_pipeline(IMPORT, SPLIT), on_step=lambda outcome: outcomes.append((outcome.step, outcome.skipped)))
    curate.run("pipeline.yaml", on_step=lambda outcome: outcomes.append((outcome.step, outcome.skipped)))
    assert outcomes == [("import-voc", False), ("split", False), ("import-voc", True), ("split", True)]


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_changed_step_and_all_after_it(workspace):
    """A changed step and all steps after it run again, from the version that it started from."""
    run_steps(*ALL)
    assert run_steps(IMPORT, MERGE, with_arguments(SPLIT, val=0.5), EXPORT, TRAIN, EVALUATE) == [
        "split",
        "export-coco",
        "train",
        "evaluate",
    ]
    assert (head(), Store("data").read_version(4).parent, CornerEngine.trainings) == (4, 2, 2)
    assert run_steps(IMPORT, MERGE, with_arguments(SPLIT, val=0.5), EXPORT, TRAIN, EVALUATE) == []


def test_changed_first_step(workspace):
    """When the first step changes, everything starts from the version before it, and the older versions are kept."""
    run_steps(IMPORT, MERGE)
    assert run_steps(with_arguments(IMPORT, classes=["mask", "bare", "odd"]), MERGE) == ["import-voc", "merge-classes"]
    assert [(entry.version, entry.parent) for entry in Store("data").history()] == [(4, 3), (3, 0)]
    assert len(Store("data").load(2).images) == 6


def test_step_put_in_between(workspace):
    """A step inserted in the middle makes the later ones run again, replacing their outputs."""
    run_steps(IMPORT, SPLIT, EXPORT, TRAIN)
    assert run_steps(IMPORT, MERGE, SPLIT, EXPORT, TRAIN) == ["merge-classes", "split", "export-coco", "train"]


def test_step_taken_out(workspace):
    """When a step in the middle is removed, the later ones run again from the version before it."""
    run_steps(IMPORT, MERGE, SPLIT)
    assert run_steps(IMPORT, SPLIT) == ["split"]
    assert Store("data").load().class_counts() == {"bare": 3, "mask": 2, "odd": 1}


def test_step_added_at_the_end(workspace):
    """A step added at the end runs alone."""
    run_steps(IMPORT)
    assert run_steps(IMPORT, SPLIT) == ["split"]


def test_changed_input_file(workspace):
    """A changed, new or removed input file makes the step that reads it run again."""
    run_steps(IMPORT, SPLIT)
    labelimg_folder(workspace / "source", {"g": [MASK]})
    assert run_steps(IMPORT, SPLIT) == ["import-voc", "split"]
    assert len(Store("data").load().images) == 7
    os.utime("source/a.xml", ns=(1, 1))
    assert run_steps(IMPORT, SPLIT) == ["import-voc", "split"]
    os.remove("source/g.xml")
    assert run_steps(IMPORT, SPLIT) == ["import-voc", "split"]


def test_changed_map(workspace):
    """A map file is an input."""
    with_map = {"merge-classes": {"dataset": "$dataset", "map": "map.yaml"}}
    (workspace / "map.yaml").write_text("odd: bare")
    run_steps(IMPORT, with_map)
    assert run_steps(IMPORT, with_map) == []
    (workspace / "map.yaml").write_text("odd: mask")
    assert run_steps(IMPORT, with_map) == ["merge-classes"]
    assert Store("data").load().class_counts() == {"bare": 3, "mask": 3}


def test_link_to_nowhere_among_the_inputs(workspace):
    """A broken link in the source does not stop a pipeline."""
    os.symlink("nowhere", "source/broken.lnk")
    run_steps(IMPORT)
    assert run_steps(IMPORT) == []


class Listing:
    """An import whose reader also reads files that no argument names, as `data.yaml` names folders elsewhere."""

    def __init__(self, monkeypatch, *reads):
        self.while_reading = lambda: None
        read_voc = imports.read_voc

        def read_with_listing(*arguments, **options):
            incoming = read_voc(*arguments, **options)
            self.while_reading()
            return replace(incoming, reads=(*incoming.reads, *map(Path, reads)))

        monkeypatch.setattr(imports, "read_voc", read_with_listing)


def test_file_that_no_argument_names(workspace, monkeypatch):
    """A file outside SOURCE that the reader read makes the step run again when it changes, and only then."""
    write_text(workspace / "names.txt", "mask")
    Listing(monkeypatch, "names.txt")
    assert run_steps(IMPORT, SPLIT) == ["import-voc", "split"]
    assert run_steps(IMPORT, SPLIT) == []
    write_text(workspace / "names.txt", "mask, bare")
    assert run_steps(IMPORT, SPLIT) == ["import-voc", "split"]
    assert run_steps(IMPORT, SPLIT) == []


def test_folder_that_no_argument_names(workspace, monkeypatch):
    """A file that appears in a folder that the reader read makes the step run again."""
    os.makedirs("elsewhere")
    Listing(monkeypatch, "elsewhere")
    run_steps(IMPORT)
    write_text(workspace / "elsewhere" / "b.txt", "")
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]


def test_file_that_the_reader_did_not_find(workspace, monkeypatch):
    """A file that the reader looked for in vain makes the step run again when it appears."""
    Listing(monkeypatch, "names.txt")
    run_steps(IMPORT)
    assert run_steps(IMPORT) == []
    write_text(workspace / "names.txt", "mask")
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]


def test_file_that_changes_while_it_is_read(workspace, monkeypatch):
    """Nobody knows which content was read, so the step runs once more."""
    names = workspace / "names.txt"
    write_text(names, "mask")
    listing = Listing(monkeypatch, "names.txt")
    listing.while_reading = lambda: os.utime(names, (time.time() + 1,) * 2)
    run_steps(IMPORT)
    listing.while_reading = lambda: None
    os.utime(names, (1, 1))
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]


def test_record_of_an_older_version(workspace, monkeypatch):
    """A record without the files that a step read is not a reason to train again."""
    run_steps(IMPORT, SPLIT)
    file = workspace / "data" / "pipelines" / "faces.json"
    document = json.loads(file.read_text())
    for entry in document["steps"]:
        del entry["reads"]
    file.write_text(json.dumps(document))
    assert run_steps(IMPORT, SPLIT) == []


def test_images_apart(workspace):
    """An image that is added to the folder of `images` makes the import run again."""
    os.makedirs("pictures")
    for name in os.listdir("source"):
        if not name.endswith(".xml"):
            os.rename(f"source/{name}", f"pictures/{name}")
    apart = with_arguments(IMPORT, images="pictures", with_unlabelled=True)
    assert [run_steps(apart), run_steps(apart)] == [["import-voc"], []]
    write_image(workspace / "pictures" / "new.jpg")
    assert run_steps(apart) == ["import-voc"]
    assert len(Store("data").load().images) == 7


def test_linked_folder_in_the_source(workspace):
    """The import follows a link out of the source, and so does the fingerprint; a link back up ends there."""
    os.rename("source", "elsewhere")
    os.makedirs("source")
    os.symlink("../elsewhere", "source/linked")
    os.symlink("../source", "elsewhere/up")
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]
    labelimg_folder(workspace / "elsewhere", {"g": [MASK]})
    assert run_steps(IMPORT) == ["import-voc"]


def test_class_list_in_the_source(workspace):
    """`predefined_classes.txt` gives the order of the classes, so a change of it makes the import run again."""
    run_steps(IMPORT)
    write_text(workspace / "source" / "predefined_classes.txt", "odd\nmask\nbare\n")
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]


def test_card_beside_the_dataset(workspace):
    """A card that appears, or changes, makes the import run again."""
    run_steps(IMPORT)
    write_text(workspace / "card.yaml", "name: faces\n")
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]
    write_text(workspace / "card.yaml", "name: faces\nclasses: [mask, bare, odd]\n")
    assert [run_steps(IMPORT), run_steps(IMPORT)] == [["import-voc"], []]


def test_dataset_inside_the_source(workspace):
    """What the pipeline writes into its own dataset is not an input, also where the dataset is inside the source."""
    steps = (with_arguments(IMPORT, dataset="source/data"),)
    assert run_steps(*steps, dataset="source/data") == ["import-voc"]
    assert run_steps(*steps, dataset="source/data") == []


def test_files_in_settings(workspace):
    """A setting whose value is a file makes the training run again when the file changes."""
    write_text(workspace / "mesh.npz", "1")
    curate.import_voc("data", "source")
    step = with_arguments(TRAIN, settings={"mesh": "mesh.npz", "other": "x" * 300})
    assert [run_steps(step), run_steps(step)] == [["train"], []]
    write_text(workspace / "mesh.npz", "22")
    assert run_steps(step) == ["train"]


def test_runs_follows_all_runs(workspace):
    """`runs` runs again after a training, or another evaluation, outside the pipeline."""
    curate.import_voc("data", "source")
    train_by_hand()
    step = {"runs": {"dataset": "$dataset"}}
    assert [run_steps(step), run_steps(step)] == [["runs"], []]
    train_by_hand("second")
    assert [run_steps(step), run_steps(step)] == [["runs"], []]
    curate.evaluate("data", run="second")
    assert [run_steps(step), run_steps(step)] == [["runs"], []]


def test_report_follows_the_evaluation(workspace):
    """`report` takes range and score from the run's last evaluation, so it runs again after another one."""
    curate.import_voc("data", "source")
    train_by_hand()
    curate.evaluate("data", run="first")
    step = {"report": {"dataset": "$dataset", "run": "first"}}
    assert [run_steps(step), run_steps(step)] == [["report"], []]
    curate.evaluate("data", run="first", min_side=10)
    assert [run_steps(step), run_steps(step)] == [["report"], []]


def test_a_report_that_was_deleted_is_written_again(workspace):
    """Files in the run's folder that no argument names are outputs too; those that a later step removes are not."""
    steps = [IMPORT, SPLIT, TRAIN, EVALUATE]
    run_steps(*steps)
    os.remove("data/runs/first/report.html")
    assert [run_steps(*steps), run_steps(*steps)] == [["evaluate"], []]
    assert os.path.isfile("data/runs/first/report.html")
    steps.append(with_arguments(EVALUATE, min_side=10, report=False))
    assert [run_steps(*steps), run_steps(*steps)] == [["evaluate"], []]
    assert not os.path.exists("data/runs/first/report.html")


def test_what_later_steps_write_is_no_input(workspace):
    """Evaluations and runs that the same pipeline makes further down do not make a step run again each time."""
    report = {"report": {"dataset": "$dataset", "run": "first"}}
    runs = {"runs": {"dataset": "$dataset"}}
    steps = [IMPORT, SPLIT, TRAIN, EVALUATE, report, runs]
    steps += [with_arguments(EVALUATE, min_side=10), with_arguments(TRAIN, run="second")]
    assert [len(run_steps(*steps)), run_steps(*steps), run_steps(*steps)] == [len(steps), [], []]


@pytest.mark.parametrize(
    "lost",
    [
        *("exported/annotations/instances_val.json", "exported/annotations", "exported/images", "exported"),
        "data/runs/first/checkpoints/best.pt",
    ],
)
def test_lost_output(workspace, lost):
    """A step whose output was deleted runs again, and so do all after it."""
    run_steps(*ALL)
    os.rename(lost, "lost")
    ran = run_steps(*ALL)
    assert ran[0] == ("train" if "runs" in lost else "export-coco")
    assert os.path.exists(lost)


def test_lost_dataset(workspace):
    """Without the dataset everything runs again."""
    run_steps(IMPORT, MERGE)
    os.rename("data", "lost")
    assert run_steps(IMPORT, MERGE) == ["import-voc", "merge-classes"]


# ── a run that is used ───────────────────────────────────────────────────────────────────────────────────────────────


def train_by_hand(run="first", offset_px=0):
    """Train a run outside the pipeline; its detections are shifted to the right by `offset_px`."""
    CornerEngine.offsets_px = {run: offset_px}
    curate.train("data", model="corner:only", run=run, steps=2, overwrite=True)


PREDICT = {"run": "data/runs/first", "source": "source"}


@pytest.mark.parametrize(
    "step",
    [
        EVALUATE,
        {"predict": PREDICT},
        {"predict": PREDICT | {"out": "found"}},
        {"predict": PREDICT | {"form": "voc"}},
        {"predict": PREDICT | {"source": "data"}},
        {"predict": PREDICT | {"source": "data", "into_dataset": True}},
    ],
)
def test_run_that_was_trained_again(workspace, step):
    """A step that uses a run is skipped while nothing changed, and runs again after the run was trained elsewhere."""
    write_image(workspace / "source" / "waiting.jpg")
    curate.import_voc("data", "source", with_unlabelled=True)
    train_by_hand()
    ((command, _),) = step.items()
    assert [run_steps(step), run_steps(step), run_steps(step)] == [[command], [], []]
    train_by_hand(offset_px=20)
    assert [run_steps(step), run_steps(step)] == [[command], []]


def test_predictions_follow_the_run(workspace):
    """After a training, results in the run's folder and proposals beside the images come from the new weights."""
    write_image(workspace / "source" / "waiting.jpg")
    curate.import_voc("data", "source", with_unlabelled=True)
    train_by_hand()
    steps = ({"predict": PREDICT}, {"predict": PREDICT | {"form": "voc"}})
    run_steps(*steps)
    train_by_hand(offset_px=20)
    run_steps(*steps)
    results = json.loads((workspace / "data/runs/first/predicted/source/predictions.json").read_text())
    assert {tuple(row["bbox"]) for row in results} == {(30, 10, 20, 20)}
    assert "<xmin>30</xmin>" in (workspace / "source" / "waiting.xml").read_text()


def test_predictions_made_by_hand(workspace):
    """Results in the run's folder that were made by hand are not replaced."""
    curate.import_voc("data", "source")
    train_by_hand()
    curate.predict("data/runs/first", "source")
    with pytest.raises(UsageError, match="the file already exists"):
        run_steps({"predict": PREDICT})


def test_what_predict_reads(workspace):
    """A new image, or XML that a person saved, makes the step run again; a text file beside them does not."""
    write_image(workspace / "source" / "waiting.jpg")
    curate.import_voc("data", "source")
    train_by_hand()
    step = {"predict": PREDICT | {"form": "voc"}}
    run_steps(step)
    (workspace / "source" / "notes.txt").write_text("night")
    assert run_steps(step) == []
    save_in_labelimg(workspace / "source" / "waiting.xml")
    assert run_steps(step) == ["predict"]
    write_image(workspace / "source" / "late.jpg")
    assert run_steps(step) == ["predict"]


def test_another_dataset_is_looked_at(workspace):
    """For images of another dataset, a new version of it makes the step run again."""
    curate.import_voc("data", "source")
    curate.import_voc("other", "source")
    train_by_hand()
    step = {"predict": PREDICT | {"source": "other", "out": "found"}}
    run_steps(step)
    assert run_steps(step) == []
    curate.rename_class("other", "mask", "masked")
    assert run_steps(step) == ["predict"]


def test_evaluation_of_the_other_run(workspace):
    """The step runs again when the other run was evaluated again with other numbers."""
    curate.import_voc("data", "source")
    curate.split("data", val=0.5, group_by="none")
    for run in ("first", "second"):
        train_by_hand(run)
    curate.evaluate("data", run="second")
    step = with_arguments(EVALUATE, against="second")
    run_steps(step)
    curate.evaluate("data", run="second")
    assert run_steps(step) == []
    train_by_hand("second", offset_px=1)
    curate.evaluate("data", run="second")
    assert run_steps(step) == ["evaluate"]


def test_summary_of_predict(workspace):
    """The summary names the dataset if there is one, and the run as the pipeline names it."""
    curate.import_voc("data", "source", with_unlabelled=True)
    train_by_hand()
    run_steps({"predict": PREDICT | {"out": "found"}})
    assert printed(curate.run("pipeline.yaml")) == ["results", "run: data/runs/first", "export: found"]
    run_steps({"predict": PREDICT | {"source": "data", "into_dataset": True}})
    assert printed(curate.run("pipeline.yaml")) == ["results", "dataset: data", "run: data/runs/first"]
    run_steps(EVALUATE)
    *_, dataset, run, report, browse = printed(curate.run("pipeline.yaml"))
    assert (dataset, run, report) == (
        "dataset: data",
        "run: data/runs/first",
        "report: data/runs/first/report.html",
    )
    assert browse.endswith("view data --run first")


def printed(result):
    """The lines of a pipeline's summary."""
    console = Console(width=100, file=io.StringIO())
    console.print(pipeline_summary(result.to_json()))
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]


# ── interrupted ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_failing_step_keeps_what_was_done(workspace):
    """When a step fails, the steps before it stay finished; after the fault is fixed, the pipeline continues there."""
    with pytest.raises(UsageError, match="unknown class"):
        run_steps(IMPORT, with_arguments(MERGE, into="bear"), SPLIT)
    assert head() == 1
    assert run_steps(IMPORT, MERGE, SPLIT) == ["merge-classes", "split"]


def test_interrupted_training_is_resumed(workspace, monkeypatch):
    """An interrupted training is resumed."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        run_steps(*ALL)
    monkeypatch.setattr(CornerEngine, "fails", False)
    assert run_steps(*ALL) == ["train", "evaluate"]
    assert CornerEngine.trainings == 2


def test_interrupted_training_with_other_settings_starts_again(workspace, monkeypatch):
    """With changed settings an interrupted training starts again."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        run_steps(*ALL)
    monkeypatch.setattr(CornerEngine, "fails", False)
    assert run_steps(IMPORT, MERGE, SPLIT, EXPORT, with_arguments(TRAIN, seed=5), EVALUATE) == ["train", "evaluate"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"steps": [1]}', '{"steps": null, "made": []}'])
def test_unreadable_record(workspace, content):
    """Without its record a pipeline runs once more and breaks nothing."""
    run_steps(IMPORT, MERGE)
    (workspace / "data/pipelines/faces.json").write_text(content)
    assert run_steps(IMPORT, MERGE) == ["import-voc", "merge-classes"]


# ── work by hand ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_outputs_made_by_hand_are_not_replaced(workspace):
    """An export or run of the same name that was made by hand is refused in every run of the pipeline."""
    curate.import_voc("data", "source")
    curate.train("data", model="corner:only", run="first", steps=2)
    curate.export_coco("data", "exported")
    for _ in range(2):
        with pytest.raises(UsageError, match="the folder is not empty"):
            run_steps(IMPORT, EXPORT)
        with pytest.raises(UsageError, match="the run exists already"):
            run_steps(IMPORT, TRAIN)
    assert CornerEngine.trainings == 1


def test_step_that_overwrites(workspace):
    """A step can overwrite with an argument of its own."""
    curate.import_voc("data", "source")
    curate.export_coco("data", "exported")
    overwriting = with_arguments(EXPORT, overwrite=True)
    assert run_steps(IMPORT, overwriting) == ["import-voc", "export-coco"]
    assert run_steps(IMPORT, MERGE, overwriting) == ["merge-classes", "export-coco"]


def test_commit_by_hand_stays_current(workspace):
    """A version made by hand after the pipeline stays current when nothing in the pipeline changed."""
    run_steps(IMPORT, MERGE)
    curate.rename_class("data", "mask", "masked")
    assert run_steps(IMPORT, MERGE) == []
    assert list(Store("data").load().class_counts()) == ["bare", "masked"]


def test_note_about_a_commit_by_hand(workspace):
    """When a step changed, the pipeline continues from its version; a note names the version by hand, which is kept."""
    run_steps(IMPORT, MERGE)
    curate.rename_class("data", "mask", "masked")
    result = curate.run(write_pipeline(IMPORT, MERGE, SPLIT))
    assert result.notes == ("data: a step changed; the pipeline continued from version 2. Version 3 is kept.",)
    assert list(Store("data").load(3).class_counts()) == ["bare", "masked"]


def test_note_about_an_undone_version(workspace):
    """When the pipeline's last version was undone, running it makes that version current again, with a note."""
    run_steps(IMPORT, MERGE)
    curate.undo("data")
    result = curate.run("pipeline.yaml")
    assert head() == 2
    assert result.notes == ("data: version 2, the pipeline's last, is current again. Version 1 is kept.",)


def test_pipeline_on_an_existing_dataset(workspace):
    """A pipeline starts from the version that it finds."""
    curate.import_voc("data", "source")
    Store("data").commit("rename", {}, lambda now: rename(now, {"mask": "masked"}))
    assert run_steps(MERGE) == ["merge-classes"]
    assert Store("data").load().class_counts() == {"bare": 4, "masked": 2}


def test_two_datasets(workspace):
    """Each dataset of a pipeline has its own versions."""
    other = {"import-voc": {"dataset": "other", "source": "$source"}}
    steps = (IMPORT, other, MERGE, {"stats": {"dataset": "other"}})
    run_steps(*steps)
    assert run_steps(*steps) == []
    assert (head(), Store("other").head()) == (2, 1)


def test_two_pipelines_on_a_dataset(workspace):
    """Pipelines of different names have records of their own."""
    run_steps(IMPORT)
    assert run_steps({"stats": {"dataset": "$dataset"}}, name="statistics") == ["stats"]
    assert run_steps(IMPORT) == []


# ── variables ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_variables_are_replaced(workspace):
    """A variable that is the whole value keeps its type; inside text it becomes text; braces delimit it."""
    pipeline = read_pipeline(
        write_pipeline(
            {"export-coco": {"dataset": "$dataset", "out": "${out}_$dataset/x"}},
            {"split": {"dataset": "$dataset", "val": "$share"}},
            share=0.4,
        )
    )
    export, split = resolve_steps(pipeline, {"out": "there"})
    assert export.arguments["out"] == "there_data/x"
    assert split.arguments["val"] == 0.4


def test_other_value_for_a_variable(workspace):
    """A given value replaces the one in the file, and what it changes runs again."""
    run_steps(IMPORT, SPLIT, EXPORT)
    assert run_steps(IMPORT, SPLIT, EXPORT, variables={"out": "elsewhere"}) == ["export-coco"]
    assert (workspace / "elsewhere" / "annotations").is_dir()


def test_numbers_become_text_where_text_is_wanted(workspace):
    """A run can be called 7."""
    (step,) = resolve_steps(read_pipeline(write_pipeline(with_arguments(TRAIN, run="$run"), run=7)), {})
    assert step.arguments["run"] == "7"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"imprt-voc": {}}, r"step 2: unknown command.*Did you mean 'import-voc'"),
        ({"split": {"dataset": "$datset"}}, r"step 2: unknown variable.*Did you mean 'dataset'"),
        ({"split": {"dataset": "d", "vall": 1}}, r"step 2, split: unknown argument.*Did you mean 'val'"),
        ({"split": {"dataset": "d", "progress": 1}}, r"unknown argument \(got 'progress'"),
        ({"loop": {"dataset": "d", "announce": 1}}, r"unknown argument \(got 'announce'"),
        ({"split": {"val": 0.5}}, r"step 2, split: an argument is missing \(expected dataset\)"),
        ({"split": {"dataset": "d", "val": "much"}}, r"split, val: the argument is not valid \(got 'much'"),
        ({"split": {"dataset": "d", "group_by": "moon"}}, r"expected 'video', 'source' or 'none'"),
        ({"split": {"dataset": ["d"]}}, r"split, dataset: the argument is not valid"),
        ({"merge-classes": {"dataset": "d", "sources": "odd", "into": "b"}}, r"sources: the argument is not valid"),
        ({"train": {"dataset": "d", "model": "m", "run": True}}, r"run: the argument is not valid \(got True"),
        ({"split": {"dataset": "d"}, "stats": {"dataset": "d"}}, r"step 2: a step has exactly one command \(got split"),
        ({}, r"step 2: a step has exactly one command \(got none\)"),
    ],
)
def test_errors_before_any_step_runs(workspace, step, message):
    """An unknown name or a value of the wrong type is reported with its step, and no step has run."""
    with pytest.raises(UsageError, match=message):
        run_steps(IMPORT, step)
    assert not (workspace / "data").exists()


def test_unknown_variable(workspace):
    """A value for a variable that the pipeline does not have is misuse."""
    with pytest.raises(UsageError, match=r"unknown variable \(got 'sauce'.*Did you mean 'source'"):
        run_steps(IMPORT, variables={"sauce": "x"})


@pytest.mark.parametrize("value", ["a\udcff", ["a\udcff"]])
def test_a_variable_that_is_no_text(workspace, value):
    """A path that is not UTF-8 cannot be recorded; the error names the variable before anything runs."""
    with pytest.raises(UsageError, match=r"^variable source: the value is not UTF-8 \(got .*udcff"):
        run_steps(IMPORT, variables={"source": value})
    assert not (workspace / "data").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just text",
        "steps: []",
        "name: a",
        "name: a\nsteps: []",
        "name: a\nsteps: [stats]",
        "name: a\nsteps: [{stats: }]",
        "name: ../../etc/x\nsteps: [{stats: {dataset: d}}]",
        "name: a\nsteps: [{stats: {dataset: d}}]\nstep: 3",
        "a: [",
        "\x00",
        "name: 3\nsteps: [{stats: {dataset: d}}]",
    ],
)
def test_not_a_pipeline(workspace, text):
    """A file that is not a pipeline is misuse, reported in one line with its name."""
    (workspace / "pipeline.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"^pipeline\.yaml") as caught:
        curate.run("pipeline.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere.yaml", "."])
def test_missing_pipeline_file(workspace, place):
    """A pipeline file that cannot be read is reported."""
    with pytest.raises(CurateError, match="the pipeline cannot be read"):
        curate.run(place)


SHIPPED = sorted((REPOSITORY / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_pipelines(file):
    """Commands, arguments and variables of the shipped pipelines are known."""
    steps = resolve_steps(read_pipeline(file), {})
    assert [step.command for step in steps][-1] == "evaluate"
