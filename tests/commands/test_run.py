"""`run`: what is passed over, what runs again and from where, and what is told before anything runs."""

import io
import json
import os

import corner_engine
import pytest
import yaml
from builders import BARE, MASK, labelimg_folder, write_image
from corner_engine import CornerDetector, CornerEngine
from proposing import save_in_labelimg
from repository_paths import REPOSITORY
from rich.console import Console

import curate
from curate.cli.run import pipeline_summary
from curate.commands.run import fill_in, read_recipe
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
def kitchen(tmp_path, monkeypatch):
    """A folder with a source of six images, in which recipes are run."""
    monkeypatch.chdir(tmp_path)
    corner_engine.register(monkeypatch)
    odd = ("odd", *MASK[1:])
    labelimg_folder(
        tmp_path / "source", {"a": [MASK], "b": [BARE], "c": [odd], "d": [MASK, BARE], "e": [BARE], "f": []}
    )
    return tmp_path


def write_recipe(*steps, name="faces", **variables):
    """Write `recipe.yaml` and return its path."""
    values = {"dataset": "data", "source": "source", "out": "exported"} | variables
    with open("recipe.yaml", "w") as file:
        yaml.safe_dump({"name": name, "vars": values, "steps": list(steps)}, file)
    return "recipe.yaml"


def cook(*steps, variables=None, **options):
    """Run a recipe of these steps; the commands that ran, those passed over left out."""
    result = curate.run(write_recipe(*steps, **options), variables)
    return [outcome.step for outcome in result.steps if not outcome.skipped]


def with_arguments(step, **arguments):
    """A step with other arguments."""
    ((command, old),) = step.items()
    return {command: old | arguments}


def head():
    """The current version."""
    return Store("data").head()


# ── once and twice ───────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_runs_once(kitchen):
    """The first run does every step, and each answers as its command does."""
    result = curate.run(write_recipe(*ALL))
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


def test_second_run_does_nothing(kitchen):
    """The second run passes over every step, with the answers of the first, and changes no version."""
    first = curate.run(write_recipe(*ALL))
    second = curate.run("recipe.yaml")
    assert all(outcome.skipped for outcome in second.steps)
    assert [outcome.result for outcome in second.steps] == json.loads(
        json.dumps([outcome.result for outcome in first.steps])
    )
    assert (CornerEngine.trainings, CornerDetector.shown, head()) == (
        1,
        len(Store("data").load().select("val").images),
        3,
    )


def test_each_step_is_told(kitchen):
    """A caller hears of each step when it is done."""
    heard = []
    curate.run(write_recipe(IMPORT, SPLIT), on_step=lambda outcome: heard.append((outcome.step, outcome.skipped)))
    curate.run("recipe.yaml", on_step=lambda outcome: heard.append((outcome.step, outcome.skipped)))
    assert heard == [("import-voc", False), ("split", False), ("import-voc", True), ("split", True)]


# ── what changed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_changed_step_and_all_after_it(kitchen):
    """A changed step runs again, and so do all after it, from the version it started from."""
    cook(*ALL)
    assert cook(IMPORT, MERGE, with_arguments(SPLIT, val=0.5), EXPORT, TRAIN, EVALUATE) == [
        "split",
        "export-coco",
        "train",
        "evaluate",
    ]
    assert (head(), Store("data").read_version(4).parent, CornerEngine.trainings) == (4, 2, 2)
    assert cook(IMPORT, MERGE, with_arguments(SPLIT, val=0.5), EXPORT, TRAIN, EVALUATE) == []


def test_changed_first_step(kitchen):
    """When the first step changes, everything starts from the version before it, and the older work is kept."""
    cook(IMPORT, MERGE)
    assert cook(with_arguments(IMPORT, classes=["mask", "bare", "odd"]), MERGE) == ["import-voc", "merge-classes"]
    assert [(entry.version, entry.parent) for entry in Store("data").history()] == [(4, 3), (3, 0)]
    assert len(Store("data").load(2).images) == 6


def test_step_put_in_between(kitchen):
    """A step in the middle makes those after it run again, over what they had made themselves."""
    cook(IMPORT, SPLIT, EXPORT, TRAIN)
    assert cook(IMPORT, MERGE, SPLIT, EXPORT, TRAIN) == ["merge-classes", "split", "export-coco", "train"]


def test_step_taken_out(kitchen):
    """Without a step in the middle, those after it run again from before it."""
    cook(IMPORT, MERGE, SPLIT)
    assert cook(IMPORT, SPLIT) == ["split"]
    assert Store("data").load().class_counts() == {"bare": 3, "mask": 2, "odd": 1}


def test_step_added_at_the_end(kitchen):
    """A further step runs alone."""
    cook(IMPORT)
    assert cook(IMPORT, SPLIT) == ["split"]


def test_changed_input_file(kitchen):
    """A changed, new or removed input file makes the step run again that reads it."""
    cook(IMPORT, SPLIT)
    labelimg_folder(kitchen / "source", {"g": [MASK]})
    assert cook(IMPORT, SPLIT) == ["import-voc", "split"]
    assert len(Store("data").load().images) == 7
    os.utime("source/a.xml", ns=(1, 1))
    assert cook(IMPORT, SPLIT) == ["import-voc", "split"]
    os.remove("source/g.xml")
    assert cook(IMPORT, SPLIT) == ["import-voc", "split"]


def test_changed_map(kitchen):
    """A map file is an input too."""
    with_map = {"merge-classes": {"dataset": "$dataset", "map": "map.yaml"}}
    (kitchen / "map.yaml").write_text("odd: bare")
    cook(IMPORT, with_map)
    assert cook(IMPORT, with_map) == []
    (kitchen / "map.yaml").write_text("odd: mask")
    assert cook(IMPORT, with_map) == ["merge-classes"]
    assert Store("data").load().class_counts() == {"bare": 3, "mask": 3}


def test_link_to_nowhere_among_the_inputs(kitchen):
    """A broken link in the source does not stop a recipe."""
    os.symlink("nowhere", "source/broken.lnk")
    cook(IMPORT)
    assert cook(IMPORT) == []


@pytest.mark.parametrize(
    "lost", ["exported/annotations/instances_val.json", "exported", "data/runs/first/checkpoints/best.pt"]
)
def test_lost_output(kitchen, lost):
    """A step whose output was deleted runs again, and all after it."""
    cook(*ALL)
    os.rename(lost, "lost")
    ran = cook(*ALL)
    assert ran[0] == ("train" if "runs" in lost else "export-coco")
    assert os.path.exists(lost)


def test_lost_dataset(kitchen):
    """Without the dataset everything runs again."""
    cook(IMPORT, MERGE)
    os.rename("data", "lost")
    assert cook(IMPORT, MERGE) == ["import-voc", "merge-classes"]


# ── a run that is used ───────────────────────────────────────────────────────────────────────────────────────────────


def train_by_hand(run="first", offset_px=0):
    """Train a run outside the recipe; its detector looks so far to the right."""
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
def test_run_that_was_trained_again(kitchen, step):
    """What uses a run is passed over while nothing changed, and runs again when the run was trained outside."""
    write_image(kitchen / "source" / "waiting.jpg")
    curate.import_voc("data", "source", with_unlabelled=True)
    train_by_hand()
    ((command, _),) = step.items()
    assert [cook(step), cook(step), cook(step)] == [[command], [], []]
    train_by_hand(offset_px=20)
    assert [cook(step), cook(step)] == [[command], []]


def test_predictions_follow_the_run(kitchen):
    """After the training, results in the run's folder and proposals beside the images are those of the new weights."""
    write_image(kitchen / "source" / "waiting.jpg")
    curate.import_voc("data", "source", with_unlabelled=True)
    train_by_hand()
    steps = ({"predict": PREDICT}, {"predict": PREDICT | {"form": "voc"}})
    cook(*steps)
    train_by_hand(offset_px=20)
    cook(*steps)
    results = json.loads((kitchen / "data/runs/first/predicted/source/predictions.json").read_text())
    assert {tuple(row["bbox"]) for row in results} == {(30, 10, 20, 20)}
    assert "<xmin>30</xmin>" in (kitchen / "source" / "waiting.xml").read_text()


def test_results_that_the_recipe_did_not_make(kitchen):
    """Results in the run's folder that were made by hand are refused."""
    curate.import_voc("data", "source")
    train_by_hand()
    curate.predict("data/runs/first", "source")
    with pytest.raises(UsageError, match="the file already exists"):
        cook({"predict": PREDICT})


def test_what_predict_reads(kitchen):
    """Another image, or XML that a person saved, makes it run again; a text file beside them does not."""
    write_image(kitchen / "source" / "waiting.jpg")
    curate.import_voc("data", "source")
    train_by_hand()
    step = {"predict": PREDICT | {"form": "voc"}}
    cook(step)
    (kitchen / "source" / "notes.txt").write_text("night")
    assert cook(step) == []
    save_in_labelimg(kitchen / "source" / "waiting.xml")
    assert cook(step) == ["predict"]
    write_image(kitchen / "source" / "late.jpg")
    assert cook(step) == ["predict"]


def test_another_dataset_is_looked_at(kitchen):
    """Where the images are those of another dataset, its version tells whether they changed."""
    curate.import_voc("data", "source")
    curate.import_voc("other", "source")
    train_by_hand()
    step = {"predict": PREDICT | {"source": "other", "out": "found"}}
    cook(step)
    assert cook(step) == []
    curate.rename_class("other", "mask", "masked")
    assert cook(step) == ["predict"]


def test_evaluation_that_is_shown_beside(kitchen):
    """When the other run was evaluated anew with other numbers, the step that shows it beside runs again."""
    curate.import_voc("data", "source")
    curate.split("data", val=0.5, group_by="none")
    for run in ("first", "second"):
        train_by_hand(run)
    curate.evaluate("data", run="second")
    step = with_arguments(EVALUATE, against="second")
    cook(step)
    curate.evaluate("data", run="second")
    assert cook(step) == []
    train_by_hand("second", offset_px=1)
    curate.evaluate("data", run="second")
    assert cook(step) == ["evaluate"]


def test_summary_of_predict(kitchen):
    """What is printed at the end names the dataset where there is one, and the run as the recipe has it."""
    curate.import_voc("data", "source", with_unlabelled=True)
    train_by_hand()
    cook({"predict": PREDICT | {"out": "found"}})
    assert printed(curate.run("recipe.yaml")) == ["results", "run: data/runs/first", "export: found"]
    cook({"predict": PREDICT | {"source": "data", "into_dataset": True}})
    assert printed(curate.run("recipe.yaml")) == ["results", "dataset: data", "run: data/runs/first"]
    cook(EVALUATE)
    *_, dataset, run, report, browse = printed(curate.run("recipe.yaml"))
    assert (dataset, run, report) == (
        "dataset: data",
        "run: data/runs/first",
        "report: data/runs/first/report.html",
    )
    assert browse.endswith("view data --run first")


def printed(result):
    """The lines of a recipe's summary."""
    console = Console(width=100, file=io.StringIO())
    console.print(pipeline_summary(result.to_json()))
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]


# ── interrupted ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_failing_step_keeps_what_was_done(kitchen):
    """A step that fails leaves those before it done; when it is mended, the recipe goes on there."""
    with pytest.raises(UsageError, match="unknown class"):
        cook(IMPORT, with_arguments(MERGE, into="bear"), SPLIT)
    assert head() == 1
    assert cook(IMPORT, MERGE, SPLIT) == ["merge-classes", "split"]


def test_interrupted_training_goes_on(kitchen, monkeypatch):
    """A training that was stopped half way is gone on with."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        cook(*ALL)
    monkeypatch.setattr(CornerEngine, "fails", False)
    assert cook(*ALL) == ["train", "evaluate"]
    assert CornerEngine.trainings == 2


def test_interrupted_training_with_other_settings_begins_anew(kitchen, monkeypatch):
    """Changed settings begin a stopped training anew instead of going on with it."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        cook(*ALL)
    monkeypatch.setattr(CornerEngine, "fails", False)
    assert cook(IMPORT, MERGE, SPLIT, EXPORT, with_arguments(TRAIN, seed=5), EVALUATE) == ["train", "evaluate"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"steps": [1]}', '{"steps": null, "made": []}'])
def test_memory_that_cannot_be_read(kitchen, content):
    """Without its memory a recipe runs once more, and breaks nothing."""
    cook(IMPORT, MERGE)
    (kitchen / "data/pipelines/faces.json").write_text(content)
    assert cook(IMPORT, MERGE) == ["import-voc", "merge-classes"]


# ── work by hand ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_recipe_did_not_make_is_not_replaced(kitchen):
    """An export or run of the same name that was made by hand is refused, however often the recipe is run."""
    curate.import_voc("data", "source")
    curate.train("data", model="corner:only", run="first", steps=2)
    curate.export_coco("data", "exported")
    for _ in range(2):
        with pytest.raises(UsageError, match="the folder is not empty"):
            cook(IMPORT, EXPORT)
        with pytest.raises(UsageError, match="the run exists already"):
            cook(IMPORT, TRAIN)
    assert CornerEngine.trainings == 1


def test_recipe_that_overwrites(kitchen):
    """A step may say itself that it overwrites."""
    curate.import_voc("data", "source")
    curate.export_coco("data", "exported")
    bold = with_arguments(EXPORT, overwrite=True)
    assert cook(IMPORT, bold) == ["import-voc", "export-coco"]
    assert cook(IMPORT, MERGE, bold) == ["merge-classes", "export-coco"]


def test_commit_by_hand_stays_current(kitchen):
    """What was done by hand after the recipe stays current when nothing of the recipe changed."""
    cook(IMPORT, MERGE)
    curate.rename_class("data", "mask", "masked")
    assert cook(IMPORT, MERGE) == []
    assert list(Store("data").load().class_counts()) == ["bare", "masked"]


def test_commit_by_hand_is_told_when_it_is_left(kitchen):
    """When a step changed, work goes on from its version; that a version by hand is left is told, and it is kept."""
    cook(IMPORT, MERGE)
    curate.rename_class("data", "mask", "masked")
    result = curate.run(write_recipe(IMPORT, MERGE, SPLIT))
    assert result.notes == ("data: a step changed, so work went on from version 2; version 3 is kept.",)
    assert list(Store("data").load(3).class_counts()) == ["bare", "masked"]


def test_undo_is_taken_back_and_told(kitchen):
    """When the recipe's last version was undone, running it makes that version current again, and says so."""
    cook(IMPORT, MERGE)
    curate.undo("data")
    result = curate.run("recipe.yaml")
    assert head() == 2
    assert result.notes == ("data: version 2, the pipeline's last, is current again; version 1 is kept.",)


def test_recipe_on_a_dataset_that_is_there(kitchen):
    """A recipe starts from the version that it finds."""
    curate.import_voc("data", "source")
    Store("data").commit("rename", {}, lambda now: rename(now, {"mask": "masked"}))
    assert cook(MERGE) == ["merge-classes"]
    assert Store("data").load().class_counts() == {"bare": 4, "masked": 2}


def test_two_datasets(kitchen):
    """Each dataset of a recipe goes its own way."""
    other = {"import-voc": {"dataset": "other", "source": "$source"}}
    steps = (IMPORT, other, MERGE, {"stats": {"dataset": "other"}})
    cook(*steps)
    assert cook(*steps) == []
    assert (head(), Store("other").head()) == (2, 1)


def test_two_recipes_on_a_dataset(kitchen):
    """Recipes of different names remember apart."""
    cook(IMPORT)
    assert cook({"stats": {"dataset": "$dataset"}}, name="look") == ["stats"]
    assert cook(IMPORT) == []


# ── variables ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_variables_are_replaced(kitchen):
    """A variable alone keeps its type; inside text it becomes text; braces set it off."""
    recipe = read_recipe(
        write_recipe(
            {"export-coco": {"dataset": "$dataset", "out": "${out}_$dataset/x"}},
            {"split": {"dataset": "$dataset", "val": "$share"}},
            share=0.4,
        )
    )
    export, split = fill_in(recipe, {"out": "there"})
    assert export.arguments["out"] == "there_data/x"
    assert split.arguments["val"] == 0.4


def test_other_value_for_a_variable(kitchen):
    """A value that is given replaces the recipe's own, and what it changes runs again."""
    cook(IMPORT, SPLIT, EXPORT)
    assert cook(IMPORT, SPLIT, EXPORT, variables={"out": "elsewhere"}) == ["export-coco"]
    assert (kitchen / "elsewhere" / "annotations").is_dir()


def test_numbers_become_text_where_text_is_wanted(kitchen):
    """A run may be called 7."""
    (step,) = fill_in(read_recipe(write_recipe(with_arguments(TRAIN, run="$run"), run=7)), {})
    assert step.arguments["run"] == "7"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"imprt-voc": {}}, r"step 2: unknown command.*Did you mean 'import-voc'"),
        ({"split": {"dataset": "$datset"}}, r"step 2: unknown variable.*Did you mean 'dataset'"),
        ({"split": {"dataset": "d", "vall": 1}}, r"step 2, split: unknown argument.*Did you mean 'val'"),
        ({"split": {"dataset": "d", "progress": 1}}, r"unknown argument \(got 'progress'"),
        ({"split": {"val": 0.5}}, r"step 2, split: an argument is missing \(expected dataset\)"),
        ({"split": {"dataset": "d", "val": "much"}}, r"step 2, split, val: the argument does not fit \(got 'much'"),
        ({"split": {"dataset": "d", "group_by": "moon"}}, r"expected 'video', 'source' or 'none'"),
        ({"split": {"dataset": ["d"]}}, r"split, dataset: the argument does not fit"),
        ({"merge-classes": {"dataset": "d", "sources": "odd", "into": "b"}}, r"sources: the argument does not fit"),
        ({"train": {"dataset": "d", "model": "m", "run": True}}, r"run: the argument does not fit \(got True"),
        ({"split": {"dataset": "d"}, "stats": {"dataset": "d"}}, r"step 2: a step is one command \(got split, stats\)"),
        ({}, r"step 2: a step is one command \(got nothing\)"),
    ],
)
def test_faults_are_told_before_anything_runs(kitchen, step, message):
    """An unknown name or a value that does not fit is told with its step, and no step has run then."""
    with pytest.raises(UsageError, match=message):
        cook(IMPORT, step)
    assert not (kitchen / "data").exists()


def test_unknown_variable_that_is_given(kitchen):
    """A value for a variable that the recipe does not have is misuse."""
    with pytest.raises(UsageError, match=r"unknown variable \(got 'sauce'.*Did you mean 'source'"):
        cook(IMPORT, variables={"sauce": "x"})


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
def test_file_that_is_no_recipe(kitchen, text):
    """A file that is no recipe is misuse, told in one line with its name."""
    (kitchen / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"^recipe\.yaml") as caught:
        curate.run("recipe.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere.yaml", "."])
def test_recipe_that_is_not_there(kitchen, place):
    """A recipe that cannot be read is told."""
    with pytest.raises(CurateError, match="the pipeline cannot be read"):
        curate.run(place)


SHIPPED = sorted((REPOSITORY / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("recipe", SHIPPED, ids=lambda file: file.stem)
def test_recipes_that_come_with_curate_name_real_steps(recipe):
    """Commands, arguments and variables of each are known before anything runs."""
    steps = fill_in(read_recipe(recipe), {})
    assert [step.command for step in steps][-1] == "evaluate"
