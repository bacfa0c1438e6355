"""`loop`: rounds, changes between them, when it stops, and resuming after an interruption at any moment."""

import json
import os
import sys
from types import MappingProxyType

import corner_engine
import pandas as pd
import pytest
from corner_engine import CornerDetector, CornerEngine
from sample_datasets import LARGE, SMALL, build_dataset, save, set_column, write_text

import curate
from curate.cli import main
from curate.cli.loop import loop_tables, round_lines
from curate.cli.output import print_rich
from curate.errors import DataError, StoreError, UsageError
from curate.result import as_json
from curate.run_folder.folder import RunFolder
from curate.store import Store

# a 20-pixel box that is found so many pixels beside its place has IoU (20 − d) / (20 + d): AP is the share of the ten
# thresholds 0.50, 0.55, … that it passes
AP_OF_OFFSET_PX = {0: 1.0, 2: 0.7, 4: 0.4}
MODEL = "corner:only"
ROUND_KEYS = ["round", "steps", "version", "ap", "ap_small", "ap_medium", "ap_large"]


@pytest.fixture(autouse=True)
def _corner_engine(monkeypatch):
    corner_engine.register(monkeypatch)


@pytest.fixture
def root(tmp_path):
    """Six images with one small face each: three in train, two in val, and one without label."""
    splits = pd.array(["train"] * 3 + ["val"] * 2 + ["train"], dtype="str")
    states = pd.array(["labelled"] * 5 + ["unlabelled"], dtype="str")
    images = [[("face", SMALL)] for _ in range(6)]
    faces = build_dataset(tmp_path / "faces", images, ("face",), split=splits, label_state=states)
    return save(faces, pictures=True)


def offsets(monkeypatch, *by_round):
    """Shift the detections of each round to the right by this many pixels."""
    names = {f"{number:02d}": float(offset) for number, offset in enumerate(by_round, 1)}
    monkeypatch.setattr(CornerEngine, "offsets_px", MappingProxyType(names))


def loop(root, run="night", **options):
    """A loop of three steps per round."""
    return curate.loop(root, **{"model": MODEL, "run": run, "steps": 3} | options)


def label_the_rest(root):
    """Commit the label of the sixth image, as `import-voc` does."""
    set_column(root, "label_state", ["labelled"] * 6)


def folder_of(root, run="night"):
    return RunFolder.named(root, run)


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_contract(root):
    """The document has the keys of the contract first, then those about changes."""
    document = loop(root, rounds=2).to_json()
    assert list(document) == ["run", "model", "steps", "best_step", "best_round", "ap", "rounds", "stopped"]
    own = [*ROUND_KEYS, "boxes", "classes", "ap_in_range", "missed", "false_positives"]
    assert list(document["rounds"][0]) == [*own, "best_step", "evaluated_version", "before", "best"]
    assert document["rounds"][0]["before"] is None
    assert list(document["rounds"][1]["before"]) == own
    assert document["rounds"][0]["classes"] == [{"name": "face", "ap": pytest.approx(1)}]
    assert document["rounds"][0]["boxes"] == {"face": 3}
    assert json.loads(json.dumps(document)) == document


def test_ap_of_each_round(root, monkeypatch):
    """Each round reports the AP of its own detector, by size; sizes that are not in val are null."""
    offsets(monkeypatch, 4, 2, 0)
    found = [(one.ap, one.ap_small, one.ap_medium, one.ap_large) for one in loop(root).rounds]
    aps = [pytest.approx(AP_OF_OFFSET_PX[offset]) for offset in (4, 2, 0)]
    assert found == [(ap, ap, None, None) for ap in aps]


def test_best_round_counts(root, monkeypatch):
    """AP, best step and weights of the loop are those of its best round; steps are those of all rounds."""
    offsets(monkeypatch, 4, 0, 2)
    found = loop(root)
    assert (found.steps, found.best_step, found.best_round, found.ap) == (9, 6, 2, pytest.approx(1))
    assert [one.best.round for one in found.rounds] == [1, 2, 2]


def test_equal_rounds(root):
    """A round as good as an earlier one is not better."""
    assert loop(root).best_round == 1


def test_a_round_starts_from_the_best_one(root, monkeypatch):
    """The first round starts from the given weights, later ones from the best checkpoint so far."""
    offsets(monkeypatch, 2, 0, 4, 4)
    loop(root, rounds=4, weights="none")
    runs = folder_of(root).path / "rounds"
    weights = [RunFolder(runs / f"{number:02d}").read_config()["weights"] for number in (1, 2, 3, 4)]
    best = [f"{runs}/{number}/checkpoints/best.pt" for number in ("01", "02", "02")]
    assert weights == ["none", *best]


def test_seed_of_each_round(root):
    """Each round has the next seed."""
    loop(root, rounds=2, training={"seed": 7})
    runs = folder_of(root).path / "rounds"
    assert [RunFolder(runs / number).read_config()["seed"] for number in ("01", "02")] == [7, 8]


def test_training_arguments_reach_every_round(root):
    """Every round gets the options of `train`."""
    loop(root, rounds=2, training={"batch": 2, "lr": 0.01})
    for number in ("01", "02"):
        config = RunFolder(folder_of(root).path / "rounds" / number).read_config()
        assert (config["batch"], config["lr"], config["steps"]) == (2, 0.01, 3)


def test_mistakes_by_size(root, monkeypatch):
    """Missed objects and false positives are counted by size: at an IoU below 0.5 there is one of each."""
    offsets(monkeypatch, 10)
    (only,) = loop(root, rounds=1).rounds
    assert only.missed == only.false_positives == {"small": 2, "medium": 0, "large": 0}


def test_range_of_interest(root):
    """With a range of interest, the AP within it is reported; objects outside are not missed."""
    (inside,) = loop(root, "near", rounds=1, min_side=20).rounds
    (outside,) = loop(root, "far", rounds=1, min_side=21).rounds
    assert (inside.ap_in_range, outside.ap_in_range) == (pytest.approx(1), None)


# ── what changed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_labels_are_picked_up(root):
    """The next round trains on a version that was committed during a round; the report has both counts."""
    said = []

    def announce(report):
        said.append(report)
        if report.round == 1:
            label_the_rest(root)

    loop(root, rounds=3, announce=announce)
    assert [(one.version, one.boxes) for one in said] == [(1, {"face": 3}), (2, {"face": 4}), (2, {"face": 4})]
    assert [(one.before.version, one.before.boxes) for one in said[1:]] == [(1, {"face": 3}), (2, {"face": 4})]


def test_every_round_is_announced_once_it_is_kept(root):
    """When a round is announced, it is in the run's folder already."""
    kept = []
    loop(root, rounds=2, announce=lambda report: kept.append(curate.runs(root).runs[0].rounds[-1].round))
    assert kept == [1, 2]


def test_earlier_rounds_are_evaluated_on_the_new_val_split(root, monkeypatch):
    """When val changes between rounds, a round is compared with others on the same objects.

    The new val has one more object, of a class that is never detected, which halves the AP.
    """
    offsets(monkeypatch, 2, 4)

    def add_a_large_face(now):
        extra = now.boxes.tail(1).assign(box_id=now.next_ids.box, image_id=5, class_id=2)
        extra = extra.assign(**dict(zip(("x0", "y0", "x1", "y1"), map(float, LARGE), strict=True)))
        classes = (*now.classes, (2, "crowd"))
        return now.replace(classes=classes, boxes=pd.concat([now.boxes, extra]))

    def announce(report):
        if report.round == 1:
            Store(root).commit("add", {}, add_a_large_face)

    found = loop(root, rounds=2, announce=announce)
    first, second = found.rounds
    assert (first.ap, first.ap_large) == (pytest.approx(0.7), None)
    assert (second.before.ap, second.before.ap_large) == (pytest.approx(0.35), 0)
    assert (second.ap, second.best.round) == (pytest.approx(0.2), 1)
    assert (found.best_round, found.ap) == (1, pytest.approx(0.35))
    assert (second.evaluated_version, first.evaluated_version) == (2, 1)


def test_classes_that_are_merged_between_rounds(tmp_path):
    """After a merge, the round before is evaluated with the merged class, too."""
    splits = pd.array(["train", "val"] * 2, dtype="str")
    images = [[("face", SMALL)], [("face", SMALL)], [("cloth", SMALL)], [("cloth", SMALL)]]
    root = save(build_dataset(tmp_path / "d", images, ("face", "cloth"), split=splits), pictures=True)

    def announce(report):
        if report.round == 1:
            curate.merge_classes(root, ["cloth"], "face")

    second = loop(root, rounds=2, announce=announce).rounds[1]
    assert (second.before.boxes, second.boxes) == ({"face": 1, "cloth": 1}, {"face": 2})
    assert [entry.name for entry in second.before.classes] == ["face"]


# ── when it stops ────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_rounds_are_the_default(root):
    """The default is three rounds."""
    assert (len(loop(root).rounds), CornerEngine.trainings) == (3, 3)


def test_target(root, monkeypatch):
    """The round that reaches the target AP is the last."""
    offsets(monkeypatch, 4, 2, 0)
    found = loop(root, target_ap=0.69)
    assert (found.stopped, len(found.rounds)) == ("target_ap", 2)


def test_patience(root, monkeypatch):
    """The loop stops after `patience` rounds without a better AP."""
    offsets(monkeypatch, 4, 2, 4, 2, 0)
    found = loop(root, rounds=9, patience=2)
    assert (found.stopped, len(found.rounds), found.best_round) == ("patience", 4, 2)


def test_rounds(root):
    """Otherwise it ends after the last round."""
    found = loop(root, rounds=2, target_ap=1, patience=2, run="a")
    assert (found.stopped, len(found.rounds)) == ("target_ap", 1)
    assert loop(root, rounds=2, patience=2, run="b").stopped == "rounds"


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"target_ap": 51}, r"--target-ap: invalid AP \(got 51"),
        ({"target_ap": 0}, "invalid AP"),
        ({"rounds": 0}, "--rounds: invalid number of rounds"),
        ({"patience": 0}, "--patience: invalid number of rounds"),
        ({"training": {"bacth": 2}}, r"unknown training argument \(got 'bacth'.*Did you mean 'batch'"),
        ({"training": {"patience": 2}}, "unknown training argument"),
        ({"training": {"lr": -1}}, "the training options are not valid"),
        ({"model": "nothing:x"}, "unknown engine"),
        ({"resume": True}, "there is no run to resume"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite are mutually exclusive"),
    ],
)
def test_misuse(root, options, fact):
    """Misuse is refused before anything is written."""
    with pytest.raises(UsageError, match=fact):
        loop(root, **options)
    assert not folder_of(root).record_file.exists()


@pytest.mark.parametrize("splits", [["train"] * 6, [None] * 6, ["train"] * 5 + ["val"]])
def test_val_without_objects(root, splits):
    """Without labelled objects in val there is no AP to compare; nothing is written."""
    set_column(root, "split", pd.array(splits, dtype="str"))
    with pytest.raises(DataError, match=r"the val split has no objects.*curate split"):
        loop(root)
    assert not folder_of(root).path.exists()


# ── the run's own files ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_run_is_its_best_round(root, monkeypatch):
    """The loop's run has the best round's weights and predictions: it can be evaluated without predicting again."""
    offsets(monkeypatch, 4, 0, 2)
    loop(root)
    shown = CornerDetector.shown
    assert curate.evaluate(root, run="night").ap == pytest.approx(1)
    assert CornerDetector.shown == shown == 3 * 2
    record = folder_of(root).read_record()
    assert (record.run, record.steps, record.steps_done, record.best_step) == ("night", 9, 9, 6)
    assert (record.ap, record.dataset_version, folder_of(root).finished) == (pytest.approx(1), 1, True)


def test_the_run_can_be_shown_beside_another(root, monkeypatch):
    """Its evaluation is saved, so `--against` finds it."""
    offsets(monkeypatch, 2)
    loop(root, rounds=1)
    curate.train(root, model=MODEL, run="other", steps=3)
    assert curate.evaluate(root, run="other", against="night").against["ap"] == pytest.approx(0.7)


def test_weights_lie_on_disk_once(root):
    """The best checkpoint is a second name of the round's file."""
    loop(root, rounds=1)
    assert os.path.samefile(folder_of(root).best, folder_of(root).path / "rounds/01/checkpoints/best.pt")


def test_between_rounds_the_run_is_not_finished(root):
    """Until the loop ends, its record has steps left."""
    open_steps = []
    loop(root, announce=lambda _: open_steps.append((folder_of(root).read_record().steps, folder_of(root).finished)))
    assert open_steps == [(9, False), (9, False), (9, True)]


# ── resume and overwrite ─────────────────────────────────────────────────────────────────────────────────────────


def test_finished_loop_stays_as_it_is(root):
    """`resume` on a finished loop trains nothing and returns the same."""
    document = loop(root).to_json()
    assert loop(root, resume=True, steps=None).to_json() == document
    assert CornerEngine.trainings == 3


def test_more_rounds(root, monkeypatch):
    """A finished loop continues with more rounds; earlier rounds are not repeated."""
    offsets(monkeypatch, 4, 4, 0)
    first = loop(root, rounds=2)
    found = loop(root, rounds=3, resume=True)
    assert (found.rounds[:2], len(found.rounds), CornerEngine.trainings) == (first.rounds, 3, 3)
    assert loop(root, resume=True).rounds == found.rounds


def test_other_patience_and_target(root, monkeypatch):
    """A loop that stopped early continues with another target or patience, which is saved."""
    offsets(monkeypatch, 4, 2, 4, 0)
    assert loop(root, rounds=4, target_ap=0.4).stopped == "target_ap"
    assert loop(root, target_ap=0.7, resume=True).stopped == "target_ap"
    assert loop(root, target_ap=1, patience=1, resume=True).stopped == "patience"
    assert loop(root, patience=2, resume=True).stopped == "target_ap"
    assert len(loop(root, resume=True).rounds) == 4


def test_other_training_arguments_count_from_the_next_round(root):
    """Options that are given on resume apply to later rounds."""
    loop(root, rounds=1, training={"batch": 2})
    loop(root, rounds=2, training={"lr": 0.5}, resume=True)
    config = RunFolder(folder_of(root).path / "rounds" / "02").read_config()
    assert (config["batch"], config["lr"]) == (2, 0.5)


@pytest.mark.parametrize("options", [{"model": "corner:other"}, {"weights": "none"}, {"min_side": 5}])
def test_options_that_cannot_change(root, options):
    """Model, initial weights and range cannot change."""
    loop(root, rounds=1)
    with pytest.raises(UsageError, match="the loop was started with another"):
        loop(root, rounds=2, resume=True, **options)


def test_interrupted_round_is_resumed(root, monkeypatch):
    """An interrupted round keeps its folder and version, also after a newer version."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        loop(root)
    label_the_rest(root)
    monkeypatch.setattr(CornerEngine, "fails", False)
    found = loop(root, resume=True)
    assert [one.version for one in found.rounds] == [1, 2, 2]


def test_interrupted_round_keeps_its_options(root, monkeypatch):
    """An option that would change an interrupted round is refused; without it the loop continues."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        loop(root, training={"seed": 3})
    monkeypatch.setattr(CornerEngine, "fails", False)
    with pytest.raises(UsageError, match="the run was started with other settings: batch"):
        loop(root, training={"batch": 9}, resume=True)
    assert len(loop(root, training={"seed": 3}, resume=True).rounds) == 3
    assert RunFolder(folder_of(root).path / "rounds" / "03").read_config()["batch"] == 4


def test_existing_loop_is_not_overwritten(root):
    """The error names both remedies."""
    loop(root, rounds=1)
    with pytest.raises(UsageError, match=r"the run exists already.*--resume.*--overwrite"):
        loop(root)


def test_overwrite_removes_the_rounds_and_nothing_else(root):
    """Rounds that the new loop does not reach are removed; files of the user stay."""
    loop(root, rounds=3)
    path = folder_of(root).path
    write_text(path / "note.txt", "mine")
    write_text(path / "rounds" / "02" / "note.txt", "mine too")
    found = loop(root, rounds=1, overwrite=True)
    left = sorted(file.relative_to(path).as_posix() for file in path.glob("rounds/*/*") if file.name != ".lock")
    assert len(found.rounds) == 1
    assert [name for name in left if not name.startswith("rounds/01/")] == ["rounds/02/note.txt"]
    assert (path / "note.txt").read_text() == "mine"


def test_overwrite_of_a_training(root):
    """A run of `train` can be replaced."""
    curate.train(root, model=MODEL, run="night", steps=5)
    assert loop(root, rounds=1, overwrite=True).steps == 3


def test_a_training_is_not_a_loop(root):
    """`resume` needs a loop."""
    curate.train(root, model=MODEL, run="night", steps=5)
    with pytest.raises(UsageError, match="the run is not a loop's"):
        loop(root, resume=True)


def test_overwrite_spares_a_folder_that_is_no_run(root, tmp_path):
    """A folder that is not a run is not emptied."""
    (tmp_path / "thesis").mkdir()
    write_text(tmp_path / "thesis" / "one.txt", "years of work")
    with pytest.raises(UsageError, match="holds no run"):
        loop(root, f"{tmp_path}/thesis", overwrite=True)
    assert [file.name for file in (tmp_path / "thesis").iterdir() if file.name != ".lock"] == ["one.txt"]


def test_loop_without_a_checkpoint_starts_again(root, monkeypatch):
    """A start that failed before the first checkpoint does not take the run's name."""
    monkeypatch.setattr(CornerEngine, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop(root, training={"batch": 3})
    monkeypatch.undo()
    corner_engine.register(monkeypatch)
    assert loop(root, rounds=1).rounds[0].steps == 3


def test_one_process_loops_in_a_folder(root):
    """A second process is refused."""
    with folder_of(root).locked(), pytest.raises(UsageError, match="another process"):
        loop(root)


def test_rounds_file_of_another_version(root):
    """A file with unknown keys is refused; the error has its name."""
    loop(root, rounds=1)
    file = folder_of(root).path / "rounds.json"
    file.write_text(file.read_text().replace("curate rounds 1", "curate rounds 9"))
    with pytest.raises(DataError, match=r"rounds\.json, format: the state of the loop is not valid"):
        loop(root, resume=True)


# ── terminal and pipeline ────────────────────────────────────────────────────────────────────────────────────────


def in_process(monkeypatch, capsys, *arguments):
    """Run the command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return caught.value.code or 0, out, err


def test_command(root, monkeypatch, capsys):
    """Rounds are reported on stderr; stdout has one document, the function's result."""
    offsets(monkeypatch, 4, 2)
    options = ("--steps", 3, "--rounds", 2, "--target-ap", 0.9, "--patience", 2, "--set", "anything=1", "--batch", 2)
    command = ("loop", root, "--model", MODEL, "--run", "night", *options)
    code, out, err = in_process(monkeypatch, capsys, *command, "--json")
    assert (code, [one["ap"] for one in json.loads(out)["rounds"]]) == (0, [pytest.approx(0.4), pytest.approx(0.7)])
    assert err.splitlines()[0] == "round 1: AP 40.0, small / medium / large 40.0 / – / –"
    assert RunFolder(folder_of(root).path / "rounds" / "01").read_config()["settings"] == {"anything": 1}
    code, again, err = in_process(monkeypatch, capsys, *command, "--json", "--resume")
    assert (code, again, err) == (0, out, "")


def test_lines_of_a_round(root, monkeypatch):
    """A round reports the changes since the one before: labels, AP by size and class, and the best round."""
    offsets(monkeypatch, 4, 2, 2)
    texts = []

    def announce(report):
        texts.append(round_lines(as_json(report)).splitlines())
        if report.round == 1:
            label_the_rest(root)

    loop(root, announce=announce)
    assert texts[1] == [
        "round 2: AP 70.0 (+30.0), small / medium / large 70.0 (+30.0) / – / –; the best so far",
        "         version 1 → 2, boxes: face 3 → 4",
        "         AP by class: face 70.0 (+30.0)",
        "         missed: small 0, medium 0, large 0; false positives: small 0, medium 0, large 0",
    ]
    assert texts[2][:2] == [
        "round 3: AP 70.0 (+0.0), small / medium / large 70.0 (+0.0) / – / –; round 2 stays the best with 70.0",
        "         trained on version 2, as before",
    ]


def test_tables(root, monkeypatch, capsys):
    """At the end, a table compares the rounds and marks the best one; another one has the classes."""
    offsets(monkeypatch, 2, 0, 4, 10)
    print_rich(loop_tables(loop(root, rounds=4).to_json()))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "1", "70.0", "70.0", "–", "–", "0", "0"] in lines
    assert ["2", "*", "1", "100.0", "+30.0", "100.0", "–", "–", "0", "0"] in lines
    assert ["4", "1", "0.0", "-40.0", "0.0", "–", "–", "2", "2"] in lines
    assert ["face", "3", "70.0", "3", "100.0", "3", "0.0"] in lines
    assert ["best:", "round", "2,", "val", "AP", "100.0"] in lines


def test_interruption_is_told(root, monkeypatch, capsys):
    """On Ctrl-C the command says how to continue, and exits with 130."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    code, out, err = in_process(monkeypatch, capsys, "loop", root, "--model", MODEL, "--run", "night", "--steps", 3)
    assert (code, out) == (130, "")
    assert "--resume" in err


def test_val_without_objects_on_the_command_line(root, monkeypatch, capsys):
    """A refusal is one line."""
    set_column(root, "split", pd.array([None] * 6, dtype="str"))
    code, _, err = in_process(monkeypatch, capsys, "loop", root, "--model", MODEL, "--run", "night")
    assert (code, err.count("\n"), "curate split" in err) == (1, 1, True)


def test_pipeline(root, monkeypatch):
    """In a pipeline, an interrupted loop is resumed and a finished one is skipped."""
    recipe = "name: r\nsteps:\n"
    recipe += (
        f"  - loop: {{dataset: {root}, model: '{MODEL}', run: night, steps: 3, rounds: 2, training: {{batch: 2}}}}\n"
    )
    recipe += f"  - runs: {{dataset: {root}}}\n"
    write_text(root / "r.yaml", recipe)
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        curate.run(root / "r.yaml")
    monkeypatch.setattr(CornerEngine, "fails", False)
    assert [step.skipped for step in curate.run(root / "r.yaml").steps] == [False, False]
    assert [step.skipped for step in curate.run(root / "r.yaml").steps] == [True, True]
    assert CornerEngine.trainings == 1 + 2


# ── killed at any moment ─────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """Raised in place of the process being killed."""


CHANGES = ("replace", "link", "unlink", "rmdir", "mkdir", "fsync")


def kill_after(monkeypatch, count):
    """Let `count` changes of the disk succeed and none after; the returned list holds how many are left."""
    left = [count]

    def dying(call):
        def either(*arguments, **options):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return call(*arguments, **options)

        return either

    for name in CHANGES:
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    return left


def dies_after(root, monkeypatch, count, run, **options):
    """Run a loop of two rounds that dies after `count` changes of the disk; whether it died."""
    with monkeypatch.context() as patch:
        kill_after(patch, count)
        try:
            loop(root, run, rounds=2, **options)
        except Killed:
            return True
    return False


# a loop of two rounds makes about 200 changes; the sample meets each part of it
SAMPLE = [11, 48, 90, 131, 168]
EACH = [pytest.param(range(start, 400, 10), marks=pytest.mark.long, id=f"each from {start}") for start in range(10)]


@pytest.mark.parametrize("counts", [SAMPLE, *EACH])
def test_killed_at_any_moment(root, monkeypatch, counts):
    """Whenever a loop is killed, `resume` gives the result of a loop that was never stopped."""
    offsets(monkeypatch, 4, 2)
    whole = loop(root, "whole", rounds=2).to_json()
    deaths = 0
    for count in counts:
        run = f"killed-{count}"
        if not dies_after(root, monkeypatch, count, run):
            break
        deaths += 1
        # where it died before its first change, there is nothing to resume
        found = loop(root, run, rounds=2, resume=folder_of(root, run).path.exists()).to_json()
        assert found == whole | {"run": run}, count
        assert curate.evaluate(root, run=run).ap == pytest.approx(0.7), count
    assert deaths >= len(SAMPLE) - 1


@pytest.mark.parametrize("spelling", [{}, {"resume": True}, {"overwrite": True}])
def test_killed_before_the_first_checkpoint(root, monkeypatch, spelling):
    """A loop that has learnt nothing begins anew in every spelling, with the options that it is given."""
    whole = loop(root, "whole", rounds=2).to_json()
    for count in range(1, 30):
        run = f"killed-{count}"
        assert dies_after(root, monkeypatch, count, run, steps=5)
        if RunFolder(folder_of(root, run).path / "rounds/01").has_learnt:
            break
        options = spelling if folder_of(root, run).path.exists() else {}
        assert loop(root, run, rounds=2, **options).to_json() == whole | {"run": run}, count
    assert count > 5


def test_a_loop_that_learnt_nothing_keeps_its_options_on_resume(root, monkeypatch):
    """As a resumed loop does."""
    monkeypatch.setattr(CornerEngine, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop(root, rounds=2, steps=5, training={"batch": 3})
    monkeypatch.undo()
    corner_engine.register(monkeypatch)
    found = loop(root, steps=None, resume=True)
    assert [one.steps for one in found.rounds] == [5, 5]
    assert RunFolder(folder_of(root).path / "rounds/02").read_config()["batch"] == 3


def test_what_fails_before_a_loop_replaces_nothing(root, monkeypatch):
    """Model and weights are checked while the old loop is whole; its own weights cannot be the initial ones."""
    loop(root, rounds=2)
    path = folder_of(root).path

    def files():
        return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}

    before = files()
    with pytest.raises(UsageError, match="belong to the run that would be replaced"):
        loop(root, weights=path / "rounds/02/checkpoints/best.pt", overwrite=True)
    monkeypatch.setattr(CornerEngine, "check", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop(root, overwrite=True)
    assert files() == before


@pytest.mark.parametrize("name", ["rounds", "rounds/01", "rounds/01/checkpoints", "checkpoints"])
def test_overwrite_removes_nothing_through_links(root, tmp_path, name):
    """A linked folder is refused before anything is removed."""
    loop(root, rounds=1)
    path, elsewhere = folder_of(root).path, tmp_path / "elsewhere"
    (path / name).rename(elsewhere)
    (path / name).symlink_to(elsewhere)
    before = sorted(file for folder in (path, elsewhere) for file in folder.rglob("*"))
    with pytest.raises(StoreError, match="is a link"):
        loop(root, overwrite=True)
    assert sorted(file for folder in (path, elsewhere) for file in folder.rglob("*")) == before


@pytest.mark.parametrize("counts", [[3, 30, 60], *EACH])
def test_killed_while_it_replaces_another(root, monkeypatch, counts):
    """A loop that is killed while it overwrites another leaves the old or the new one, not a mixture."""
    for count in counts:
        run = f"killed-{count}"
        offsets(monkeypatch, 0, 0)
        old = loop(root, run, rounds=2).to_json()
        offsets(monkeypatch, 4, 2)
        died = dies_after(root, monkeypatch, count, run, overwrite=True)
        found = loop(root, run, rounds=2, resume=True)
        new = [pytest.approx(0.4), pytest.approx(0.7)]
        assert found.to_json() == old or [one.ap for one in found.rounds] == new, count
        if not died:
            break
