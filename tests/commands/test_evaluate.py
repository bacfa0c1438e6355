"""`evaluate`: files of predictions, runs, splits, merged classes, comparison of runs."""

import json
import os

import corner_engine
import pandas as pd
import pytest
from corner_engine import CornerDetector, CornerEngine
from sample_datasets import CLASSES, SMALL, build_dataset, face_dataset, results_of, save, write_json

import curate
from curate.errors import CurateError, DataError, MissingError, UsageError
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

SPLITS = pd.array(["train"] * 3 + ["val"] * 3 + [None, "val"], dtype="str")
KEYS = [
    "split",
    "images",
    "truth",
    "detections",
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
    "classes",
    "range_of_interest",
    "by_min_side",
    "max_detections",
    "operating_point",
    "errors",
    "confusion",
    "ignore_difficult",
    "wished_precision",
    "thresholds",
    "precision_recall",
    "score_histogram",
]
KINDS = ["missed", "class", "localisation", "both", "duplicate", "background"]


@pytest.fixture
def root(tmp_path):
    """A saved dataset: val holds images 4, 5, 6 and 8 with 4 boxes."""
    return save(face_dataset(tmp_path / "faces", split=SPLITS), pictures=True)


def own_results(root, **options):
    """The dataset's own boxes as a results file."""
    return write_json(root / "results.json", results_of(Store(root).load(), **options))


# ── a file of predictions ────────────────────────────────────────────────────────────────────────────────────────


def test_json_contract(root):
    """The document has exactly the keys of the contract, with plain JSON values."""
    document = curate.evaluate(root, predictions=own_results(root), min_side=24).to_json()
    assert list(document) == [*KEYS, "report"]
    assert document["report"] is None
    assert list(document["classes"][0]) == ["name", "truth", "ap", "ap50", "ap_small", "ap_medium", "ap_large"]
    assert list(document["range_of_interest"]) == ["min_side_px", "truth", "ap", "ap50", "ap75", "ar_100"]
    assert document["operating_point"] == {"iou": 0.5, "score": 0.5}
    assert list(document["errors"]) == ["missed", "false_positives", "kinds", "ap_cost"]
    assert list(document["errors"]["missed"]) == ["small", "medium", "large"]
    assert list(document["errors"]["kinds"]) == KINDS
    assert list(document["errors"]["ap_cost"]) == [*KINDS, "false_positives", "false_negatives"]
    assert list(document["by_min_side"][0]) == ["min_side_px", "truth", "ap", "ap50", "distance_m"]
    assert list(document["confusion"]) == ["classes", "matrix"]
    assert list(document["thresholds"][0]) == ["class", "score", "precision", "recall", "best_f1"]
    assert list(document["thresholds"][0]["best_f1"]) == ["score", "precision", "recall", "f1"]
    assert list(document["precision_recall"]) == ["recall", "classes", "mean"]
    assert list(document["score_histogram"]) == ["edges", "true_positives", "false_positives"]
    assert json.loads(json.dumps(document)) == document


def test_perfect_predictions(root):
    """Perfect predictions score 1 without misses; undefined scores are null."""
    document = curate.evaluate(root, predictions=own_results(root)).to_json()
    assert (document["images"], document["truth"], document["detections"]) == (4, 4, 4)
    assert document["ap"] == pytest.approx(1, abs=1e-9)
    assert document["range_of_interest"] is None
    assert document["classes"][2] == dict.fromkeys(["ap", "ap50", "ap_small", "ap_medium", "ap_large"]) | {
        "name": "badly_masked",
        "truth": 0,
    }
    assert sum(document["errors"]["missed"].values()) == sum(document["errors"]["false_positives"].values()) == 0


def test_no_detections(root):
    """Without detections, scores are 0."""
    document = curate.evaluate(root, predictions=write_json(root / "none.json", [])).to_json()
    assert (document["ap"], document["ar_100"], document["detections"]) == (0, 0, 0)
    assert document["errors"]["missed"] == {"small": 2, "medium": 1, "large": 1}
    assert document["errors"]["kinds"]["missed"] == 4


def test_range_of_interest(root):
    """With a smallest side, smaller objects are not missed, and the range has scores of its own."""
    result = curate.evaluate(root, predictions=write_json(root / "none.json", []), min_side=24)
    assert (result.range_of_interest.truth, result.range_of_interest.ap) == (2, 0)
    assert result.errors.missed == {"small": 0, "medium": 1, "large": 1}


def test_score_decides_what_is_missed(root):
    """A detection below the score does not count for mistakes, but for AP."""
    file = own_results(root, score=0.4)
    low, high = (curate.evaluate(root, predictions=file, score=score) for score in (0.4, 0.5))
    assert (sum(low.errors.missed.values()), sum(high.errors.missed.values())) == (0, 4)
    assert low.ap == high.ap


def test_predictions_of_other_splits_are_left_out(root):
    """Predictions on images of other splits are left out."""
    assert curate.evaluate(root, predictions=own_results(root), split="train").detections == 5
    assert curate.evaluate(root, predictions=own_results(root), split="all").detections == 11


def test_results_that_are_not_there(root):
    """A missing file raises an error with its name."""
    with pytest.raises(MissingError, match=r"nowhere\.json: the results cannot be read"):
        curate.evaluate(root, predictions="nowhere.json")


# ── beyond COCO's numbers ────────────────────────────────────────────────────────────────────────────────────────


def test_by_min_side(root):
    """AP by smallest side goes from all objects to the largest one, and includes the range of interest."""
    document = curate.evaluate(root, predictions=own_results(root), min_side=40).to_json()
    entries = {entry["min_side_px"]: entry for entry in document["by_min_side"]}
    assert list(entries) == [0, 4, 8, 12, 16, 24, 32, 40, 48, 64, 96, 128]
    assert [entries[side]["truth"] for side in (0, 24, 40, 128)] == [4, 2, 2, 1]
    assert entries[40]["ap"] == document["range_of_interest"]["ap"] == pytest.approx(1, abs=1e-9)
    assert {entry["distance_m"] for entry in document["by_min_side"]} == {None}


def test_by_min_side_is_min_side(root):
    """Each entry has the scores of `--min-side` with its side."""
    start_run(root)
    for entry in curate.evaluate(root, run="first").by_min_side:
        alone = curate.evaluate(root, run="first", min_side=entry.min_side_px).range_of_interest
        assert (entry.truth, entry.ap, entry.ap50) == (alone.truth, alone.ap, alone.ap50)


def test_range_by_distance(root):
    """A range in metres is converted to pixels, and every side has its distance."""
    camera = {"object_height": 0.24, "focal_px": 1000}
    metres = curate.evaluate(root, predictions=own_results(root), max_distance=10, **camera)
    pixels = curate.evaluate(root, predictions=own_results(root), min_side=24)
    assert metres.range_of_interest == pixels.range_of_interest
    assert metres.errors == pixels.errors
    assert [entry.distance_m for entry in metres.by_min_side if entry.min_side_px in (0, 24, 48)] == [None, 10, 5]


def test_camera_alone_is_no_range(root):
    """Object height and focal length without a range only add distances."""
    result = curate.evaluate(root, predictions=own_results(root), object_height=1.2, focal_px=1000)
    assert result.range_of_interest is None
    assert result.by_min_side[-1].distance_m == pytest.approx(1200 / 128)


def test_confusion(root):
    """The confusion matrix has the classes in declared order, then the background."""
    swapped = [one | {"category_id": 3 - one["category_id"]} for one in results_of(Store(root).load().select("val"))]
    confusion = curate.evaluate(root, predictions=write_json(root / "swapped.json", swapped)).to_json()["confusion"]
    assert confusion["classes"] == [*CLASSES, "background"]
    assert confusion["matrix"] == [[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_thresholds(root):
    """A target precision gives the score that reaches it; None for a class without objects."""
    first, _, third = curate.evaluate(root, predictions=own_results(root), precision=0.9).to_json()["thresholds"]
    best = {"score": 0.9, "precision": 1, "recall": 1, "f1": 1}
    assert first == {"class": "with_mask", "score": 0.9, "precision": 1, "recall": 1, "best_f1": best}
    assert third == {"class": "badly_masked", "score": None, "precision": None, "recall": None, "best_f1": None}


def test_no_wished_precision(root):
    """Without a target precision there is no score for it, but the best F1."""
    document = curate.evaluate(root, predictions=own_results(root)).to_json()
    assert document["wished_precision"] is None
    assert [entry["score"] for entry in document["thresholds"]] == [None] * 3
    assert document["thresholds"][0]["best_f1"]["f1"] == 1


def test_curves(root):
    """The curves have precision at 101 recalls for classes with objects, and the histogram of scores."""
    document = curate.evaluate(root, predictions=own_results(root)).to_json()
    assert document["precision_recall"]["mean"] == [1] * 101
    assert document["precision_recall"]["classes"]["badly_masked"] is None
    assert sum(document["score_histogram"]["true_positives"]) == document["truth"] == 4


@pytest.mark.parametrize("results", [[], [{"image_id": 8, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9}]])
def test_no_truth(root, results):
    """A split without objects has counts, and scores are null."""
    Store(root).commit("empty", {}, lambda now: now.replace(boxes=now.boxes[now.boxes["image_id"] < 4]))
    document = curate.evaluate(root, predictions=write_json(root / "some.json", results)).to_json()
    assert (document["truth"], document["detections"]) == (0, len(results))
    assert set(document["errors"]["ap_cost"].values()) == {None}
    assert [(entry["min_side_px"], entry["ap"]) for entry in document["by_min_side"]] == [(0, None)]
    assert document["precision_recall"]["mean"] is None


def test_one_class(root):
    """With one class the matrix has found, missed and false positives."""
    curate.merge_classes(root, ["without_mask", "badly_masked"], "with_mask")
    confusion = curate.evaluate(root, predictions=own_results(root)).confusion
    assert confusion.matrix == ((4, 0), (0, 0))


def test_proposed_boxes_are_no_truth(root):
    """Images with proposals are not evaluated."""
    states = ["labelled"] * 3 + ["proposed"] + ["labelled"] * 4
    Store(root).commit("propose", {}, lambda now: now.replace(images=now.images.assign(label_state=states)))
    assert curate.evaluate(root, predictions=own_results(root)).images == 3


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_errors_file(root, tmp_path, suffix, read):
    """The file of `errors` has one row per mistake."""
    file = tmp_path / f"errors.{suffix}"
    result = curate.evaluate(root, predictions=write_json(root / "none.json", []), errors=file)
    rows = read(file)
    assert len(rows) == sum(result.errors.missed.values()) == 4
    assert rows["path"].tolist()[0] == "media/images/faces/004.png"
    assert set(rows["class"]) == {"with_mask", "without_mask"}
    assert set(rows["split"]) == {"val"}


def test_a_run_keeps_its_errors(root):
    """A run's folder has the mistakes of its last evaluation, by split."""
    folder = start_run(root)
    for score in (0.5, 0.95):  # nothing is found from 0.95 on
        result = curate.evaluate(root, run="first", score=score)
        rows = pd.read_csv(folder.path / "errors_val.csv")
        counts = result.errors.missed, result.errors.false_positives
        assert len(rows) == sum(sum(count.values()) for count in counts)
    assert set(rows["mistake"]) == {"missed"}


def test_plots(root, tmp_path):
    """The plots are written into a folder, which is created."""
    curate.evaluate(root, predictions=own_results(root), plots=tmp_path / "new" / "plots")
    assert sorted(file.name for file in (tmp_path / "new" / "plots").iterdir()) == [
        *("ap_by_min_side.png", "confusion.png", "errors.png", "precision_recall.png", "scores.png")
    ]


@pytest.mark.parametrize("options", [{"errors": "e.csv"}, {"plots": "."}])
def test_nothing_is_overwritten(root, tmp_path, monkeypatch, options):
    """An existing file raises an error before the work; `overwrite` replaces it."""
    monkeypatch.chdir(tmp_path)
    for name in ("e.csv", "scores.png"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="the file already exists"):
        curate.evaluate(root, predictions="nowhere.json", **options)
    assert {(tmp_path / name).read_text() for name in ("e.csv", "scores.png")} == {"mine"}
    curate.evaluate(root, predictions=own_results(root), overwrite=True, **options)
    changed = [name for name in ("e.csv", "scores.png") if (tmp_path / name).read_bytes() != b"mine"]
    assert changed == (["e.csv"] if "errors" in options else ["scores.png"])


def test_unknown_kind_of_errors_file(root):
    """An unknown suffix raises an error before the work."""
    with pytest.raises(UsageError, match="not a table file"):
        curate.evaluate(root, predictions="nowhere.json", errors="errors.xlsx")


# ── splits ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dataset_without_splits_is_evaluated_whole(tmp_path):
    """Without splits all labelled images are evaluated, with a note."""
    root = save(face_dataset(tmp_path / "d"))
    result = curate.evaluate(root, predictions=own_results(root))
    assert (result.split, result.images) == ("all", 8)
    assert "all labelled images are evaluated" in result.notes[0]


@pytest.mark.parametrize("splits", [None, SPLITS])
def test_unknown_split(tmp_path, splits):
    """An unknown split raises an error, with splits and without."""
    root = save(face_dataset(tmp_path / "d", **({} if splits is None else {"split": splits})))
    with pytest.raises(UsageError, match=r"unknown split \(got 'vla'; expected one of .*all\)"):
        curate.evaluate(root, predictions=own_results(root), split="vla")


def test_split_that_is_empty(root):
    """An empty split raises an error instead of scores of 0."""
    with pytest.raises(UsageError, match="unknown split"):
        curate.evaluate(root, predictions=own_results(root), split="test")


def test_nothing_is_labelled(tmp_path):
    """Without a labelled image an error is raised."""
    root = save(face_dataset(tmp_path / "d", label_state=pd.array(["unlabelled"] * 8, dtype="str")))
    with pytest.raises(DataError, match="no image is labelled"):
        curate.evaluate(root, predictions=own_results(root))


@pytest.mark.parametrize(
    "options", [{}, {"run": "a", "predictions": "b"}, {"predictions": "b", "score": 2}, {"run": "a", "min_side": -1}]
)
def test_half_said(root, options):
    """Neither or both of run and predictions, and values out of range, raise an error."""
    with pytest.raises(UsageError):
        curate.evaluate(root, **options)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def _corner_engine(monkeypatch):
    corner_engine.register(monkeypatch)


def start_run(root, name="first"):
    """A finished run of the corner engine without predictions."""
    dataset = Store(root).load().select("train")
    config = TrainingConfig(model="corner:only", steps=3)
    folder = RunFolder.named(root, name)
    folder.start(config, dataset, dataset_version=Store(root).head())
    CornerEngine().train(dataset, folder, config)
    return folder


def test_run(root):
    """Detections of a run are made, kept and scored: three classes in four images."""
    folder = start_run(root)
    result = curate.evaluate(root, run="first")
    assert (result.detections, result.images, CornerDetector.shown) == (12, 4, 4)
    assert len(json.loads(folder.predictions_file("val").read_text())) == 12


def test_detections_are_used_again(root):
    """A second evaluation of the same run and images reuses the detections."""
    start_run(root)
    first = curate.evaluate(root, run="first")
    assert curate.evaluate(root, run="first", score=0.7).ap == first.ap
    assert CornerDetector.shown == 4


def test_other_weights_or_images_are_predicted_anew(root):
    """With new weights or other images the detections are made again."""
    folder = start_run(root)
    curate.evaluate(root, run="first")
    os.utime(folder.best, ns=(1, 1))
    curate.evaluate(root, run="first")
    Store(root).commit("widen", {}, lambda now: now.replace(images=now.images.assign(split=["val"] * 8)))
    curate.evaluate(root, run="first")
    assert CornerDetector.shown == 4 + 4 + 8


def test_run_by_path(root, tmp_path):
    """A run with a slash is a path."""
    folder = start_run(root)
    os.rename(folder.path, tmp_path / "moved")
    assert curate.evaluate(root, run=f"{tmp_path}/moved").detections == 12


def test_merged_class_is_followed(root):
    """Detections of a merged class count as the surviving class."""
    start_run(root)
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    result = curate.evaluate(root, run="first")
    assert (result.detections, [entry.name for entry in result.classes]) == (12, ["with_mask", "without_mask"])


def test_class_that_was_renamed_and_merged_is_followed(root):
    """They also do after a rename and another merge."""
    start_run(root)
    curate.rename_class(root, "badly_masked", "bad")
    curate.merge_classes(root, ["bad"], "without_mask")
    curate.merge_classes(root, ["without_mask"], "with_mask")
    assert curate.evaluate(root, run="first").detections == 12


def test_dropped_class_is_left_out(root):
    """Detections of a dropped class are left out, with a note."""
    start_run(root)
    curate.drop_class(root, ["badly_masked"])
    result = curate.evaluate(root, run="first")
    assert (result.detections, result.notes) == (
        8,
        ("Left out: 4 detections of classes that were dropped since.",),
    )


def test_against_another_run(root):
    """`against` adds the numbers of another evaluated run under its name."""
    start_run(root, "first")
    start_run(root, "second")
    curate.evaluate(root, run="first")
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    document = curate.evaluate(root, run="second", against="first").to_json()
    assert (document["against"]["run"], len(document["against"]["classes"]), len(document["classes"])) == (
        "first",
        3,
        2,
    )
    assert list(document["against"]) == ["run", *KEYS]


def test_against_a_run_that_was_not_evaluated(root):
    """`against` with a run that was not evaluated on the split raises an error."""
    start_run(root, "first")
    start_run(root, "second")
    with pytest.raises(UsageError, match="the run was not evaluated on val yet"):
        curate.evaluate(root, run="second", against="first")


def test_against_is_read_before_anything_is_predicted(root):
    """Errors about `against` are raised before the work."""
    start_run(root, "first")
    start_run(root, "second")
    with pytest.raises(UsageError, match="not evaluated on val yet"):
        curate.evaluate(root, run="second", against="first")
    assert CornerDetector.shown == 0


def test_against_numbers_of_other_boxes(root):
    """After a correction of a box, older numbers cannot be compared."""
    start_run(root, "first")
    start_run(root, "second")
    curate.evaluate(root, run="first")
    Store(root).commit("correct", {}, lambda now: now.replace(boxes=now.boxes.assign(x1=now.boxes["x1"] + 1)))
    with pytest.raises(UsageError, match=r"evaluated with different boxes\. Evaluate it again"):
        curate.evaluate(root, run="second", against="first")
    curate.evaluate(root, run="first")
    assert curate.evaluate(root, run="second", against="first").against["run"] == "first"


def test_against_an_evaluation_of_an_older_version(root):
    """An evaluation of an older version without a record of its boxes cannot be compared."""
    folder = start_run(root)
    curate.evaluate(root, run="first")
    file = folder.path / "evaluation_val.json"
    document = json.loads(file.read_text())
    del document["terms"]["truth"]
    write_json(file, document)
    with pytest.raises(UsageError, match="Evaluate it again"):
        curate.evaluate(root, run="first", against="first")


@pytest.mark.parametrize(
    ("option", "name"),
    [({"max_detections": 50}, "--max-detections"), ({"ignore_difficult": True}, "--ignore-difficult")],
)
def test_against_an_evaluation_with_another_rule(root, option, name):
    """Evaluations with another limit of detections, or another rule for difficult objects, cannot be compared."""
    start_run(root, "first")
    start_run(root, "second")
    curate.evaluate(root, run="first", **option)
    with pytest.raises(UsageError, match=rf"evaluated with different {name}\. "):
        curate.evaluate(root, run="second", against="first")
    assert curate.evaluate(root, run="second", against="first", **option).against["run"] == "first"


def test_against_an_evaluation_from_before_these_rules(root):
    """An evaluation that does not name the two rules had COCO's."""
    folder = start_run(root)
    curate.evaluate(root, run="first")
    file = folder.path / "evaluation_val.json"
    document = json.loads(file.read_text())
    del document["terms"]["max_detections"], document["terms"]["ignore_difficult"]
    write_json(file, document)
    assert curate.evaluate(root, run="first", against="first").against["run"] == "first"


# ── runs of another dataset ──────────────────────────────────────────────────────────────────────────────────────


def train_elsewhere(tmp_path, classes=CLASSES):
    """A run trained on images 1 to 7 of another dataset; image 8, the only one in val, has no boxes."""
    names = ([*classes] * 4)[:7]
    splits = pd.array(["train"] * 7 + ["val"], dtype="str")
    images = [*([(name, SMALL)] for name in names), []]
    other = save(build_dataset(tmp_path / "other", images, classes, split=splits), pictures=True)
    curate.train(other, model="corner:only", run="away", steps=3)
    return other / "runs" / "away"


def test_classes_of_another_dataset_go_by_name(root, tmp_path):
    """A run of another dataset is scored by class names: there, with_mask is the second class."""
    run = train_elsewhere(tmp_path, ("without_mask", "with_mask", "badly_masked"))
    found = curate.evaluate(root, run=str(run))
    best = {entry.class_: entry.best_f1.score for entry in found.thresholds if entry.best_f1}
    assert best == {"with_mask": 0.75, "without_mask": 0.9}  # the first class of the run is found with 0.9


def test_classes_that_the_dataset_does_not_have(root, tmp_path):
    """Detections of unknown classes are left out, with a note that names them."""
    found = curate.evaluate(root, run=str(train_elsewhere(tmp_path, ("hat", "with_mask"))))
    assert (found.detections, found.notes) == (
        4,
        ("Left out: 4 detections of classes that the dataset does not have (hat).",),
    )


def test_images_of_another_dataset_were_not_trained_on(root, tmp_path):
    """The version of a run's training is not looked up in another dataset."""
    assert curate.evaluate(root, run=str(train_elsewhere(tmp_path)), split="train").notes == ()


def test_images_that_were_trained_on(root, tmp_path):
    """A note has the number of evaluated images that were trained on, also after dataset and run were moved."""
    curate.train(root, model="corner:only", run="new", steps=3)
    curate.rename_class(root, "with_mask", "masked")
    os.rename(root / "runs" / "new", tmp_path / "moved")
    os.rename(root, tmp_path / "faces2")
    found = curate.evaluate(tmp_path / "faces2", run=f"{tmp_path}/moved", split="train")
    assert (found.detections, found.notes) == (9, ("3 of the 3 evaluated images were trained on.",))


def test_evaluated_copies_of_training_images(root):
    """A note has the number of evaluated images with the content of a training image, and of their boxes."""
    curate.train(root, model="corner:only", run="new", steps=3)
    assert curate.evaluate(root, run="new").notes == ()
    now = Store(root).load()
    in_val = now.select("val").images["image_id"]
    trained = now.select("train").images["sha256"].iloc[0]
    content = now.images["sha256"].where(now.images["image_id"] != in_val.iloc[0], trained)
    Store(root).commit("set", {}, lambda now: now.replace(images=now.images.assign(sha256=content)))
    boxes = int((now.boxes["image_id"] == in_val.iloc[0]).sum())
    # the run was trained before, so its images are those of the older version
    (note,) = curate.evaluate(root, run="new").notes
    assert note.startswith(f"1 of the {len(in_val)} evaluated images, with {boxes} box")
    assert "the same content as training images" in note


def test_older_run_in_the_folder_of_the_dataset(root):
    """A run without the mark of its dataset belongs to the dataset in whose folder it is."""
    start_run(root)
    assert curate.evaluate(root, run="first", split="train").notes == ("3 of the 3 evaluated images were trained on.",)


def test_own_evaluation_is_not_overwritten(root, tmp_path):
    """An evaluation on another dataset is kept in files of its own."""
    run = train_elsewhere(tmp_path)
    own = {file: file.read_bytes() for file in run.glob("*_val.*")}
    assert {file.name for file in own} == {
        *("evaluation_val.json", "errors_val.csv", "predictions_val.json", "predictions_val.sha256")
    }
    found = curate.evaluate(root, run=str(run))
    assert {file: file.read_bytes() for file in own} == own
    shown = CornerDetector.shown
    assert curate.evaluate(root, run=str(run), against=str(run)).against["ap"] == found.ap
    assert CornerDetector.shown == shown


def test_mark_of_a_dataset(root, tmp_path):
    """The mark of a dataset survives new versions and a move, and differs between datasets."""
    mark = Store(root).mark
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    os.rename(root, tmp_path / "moved")
    other = save(build_dataset(tmp_path / "other", [[("with_mask", SMALL)]]))
    assert Store(tmp_path / "moved").mark == mark is not None
    assert Store(other).mark not in (mark, None)
    assert Store(tmp_path / "nothing").mark is None


@pytest.mark.parametrize(
    ("run", "fact"), [("nothing", "there is no run here"), ("..", "not a valid run name"), ("", "not a valid run name")]
)
def test_no_such_run(root, run, fact):
    """An unknown run raises an error."""
    with pytest.raises(UsageError, match=fact):
        curate.evaluate(root, run=run)


def test_run_without_a_checkpoint(root):
    """A run without a checkpoint raises an error."""
    start_run(root).best.unlink()
    with pytest.raises(UsageError, match="the run has no checkpoint yet"):
        curate.evaluate(root, run="first")


def test_run_record_that_is_damaged(root):
    """An unreadable record raises an error with its name."""
    start_run(root).record_file.write_text("{")
    with pytest.raises(CurateError, match=r"run\.json"):
        curate.evaluate(root, run="first")


# ── training, with the corner engine ─────────────────────────────────────────────────────────────────────────────


def test_train_scores_on_val(root):
    """Training returns the contract's keys and the AP on val; `--resume` of a finished run changes nothing."""
    found = curate.train(root, model="corner:only", run="new", steps=3)
    document = found.to_json()
    assert list(document) == ["run", "model", "steps", "best_step", "ap", "rounds"]
    assert list(document["rounds"][0]) == ["round", "steps", "version", "ap", "ap_small", "ap_medium", "ap_large"]
    assert document["ap"] == curate.evaluate(root, run="new").ap
    assert curate.train(root, model="corner:only", run="new", resume=True).to_json() == document


def test_trained_again_is_evaluated_anew(root):
    """After a new training, the old evaluation of a run is not used."""
    curate.train(root, model="corner:only", run="new", steps=3)
    curate.evaluate(root, run="new", split="train")
    start_run(root, "other")
    curate.evaluate(root, run="other", split="train")
    curate.train(root, model="corner:only", run="new", steps=5, resume=True)
    with pytest.raises(UsageError, match="the run was trained after its evaluation on train"):
        curate.evaluate(root, run="other", split="train", against="new")


def test_classes_are_the_contract(root):
    """Classes come in declared order, by name."""
    result = curate.evaluate(root, predictions=own_results(root))
    assert tuple(entry.name for entry in result.classes) == CLASSES


# ── pictures that do not decode ──────────────────────────────────────────────────────────────────────────────────


def test_the_truth_of_a_picture_that_does_not_decode_counts_as_missed(root, monkeypatch, run_main):
    """It is named on every evaluation until it is mended; then the detections are kept again."""
    corner_engine.register(monkeypatch)
    curate.train(root, model="corner:only", run="a", steps=1)
    whole = curate.evaluate(root, run="a", report=False)
    dataset = Store(root).load().select("val")
    file = dataset.image_file(dataset.images["path"].iloc[0])
    picture = file.read_bytes()
    file.unlink()
    file.write_bytes(picture[: len(picture) // 2])
    RunFolder.named(root, "a").predictions_file("val").unlink()
    for _ in range(2):
        told = run_main("evaluate", root, "--run", "a", "--no-report", "--json")
        assert told.returncode == 0
        assert json.loads(told.stdout)["truth"] == whole.truth
        assert json.loads(told.stdout)["images"] == whole.images
        assert json.loads(told.stdout)["unreadable"] == [dataset.images["path"].iloc[0]]
        assert file.name in told.stderr
        assert "count as missed" in told.stderr
    file.write_bytes(picture)
    told = run_main("evaluate", root, "--run", "a", "--no-report", "--json")
    assert "count as missed" not in told.stderr
    assert "unreadable" not in json.loads(told.stdout)
    assert json.loads(told.stdout)["ap"] == whole.ap
