"""Documents and saved views of the app, without FiftyOne."""

import pandas as pd
import pytest
from app_scene import DETECTIONS, FALSE_POSITIVES, MISSED, save_scene
from extras import needs_pymongo
from sample_datasets import build_dataset

import curate
from curate.dataset import Predictions
from curate.evaluation.mistakes import find_mistakes
from curate.fiftyone_app.documents import JudgedRun, make_documents, run_fields
from curate.fiftyone_app.views import list_views
from curate.sizes import RangeOfInterest
from curate.store import Store

pytestmark = needs_pymongo


@pytest.fixture
def scene(tmp_path):
    """The dataset of `app_scene`."""
    return Store(save_scene(tmp_path / "faces")).load()


def judged(dataset, name="first", detections=DETECTIONS, interest=None):
    """A run with these detections on the val split."""
    truth = dataset.select("val")
    rows = [(image_id, class_id, *map(float, box), score) for image_id, class_id, box, score in detections]
    found = Predictions(pd.DataFrame(rows, columns=["image_id", "class_id", "x0", "y0", "x1", "y1", "score"]))
    return JudgedRun(name, run_fields([name])[0], truth, found, find_mistakes(truth, found, range_of_interest=interest))


def documents_of(dataset, runs=(), interest=None, **options):
    return {one["image_id"]: one for one in make_documents(dataset, runs, interest, **options)}


def test_one_document_an_image(scene):
    """All images have a document, labelled or not; unknown values are left out."""
    documents = documents_of(scene)
    assert list(documents) == list(range(1, 12))
    assert documents[10]["source"] == "street"
    assert documents[10]["label_state"] == "unlabelled"
    assert "split" not in documents[10]
    assert documents[2]["split"] == "val"
    assert documents[2]["filepath"] == str(scene.root / "media/images/faces/002.png")
    assert documents[2]["metadata"] == {"_cls": "ImageMetadata", "width": 200, "height": 200}


def test_boxes_are_shares_of_the_image(scene):
    """Boxes are relative left, top, width and height; area and side are in pixels."""
    (box,) = documents_of(scene)[4]["ground_truth"]["detections"]
    assert box["bounding_box"] == [0.05, 0.05, 0.25, 0.25]
    assert (box["label"], box["size"], box["area_px"], box["side_px"]) == ("with_mask", "medium", 2500.0, 50.0)
    assert box["in_range"] is True


def test_each_object_is_found_or_missed(scene):
    """The run's field of an object has its outcome, and the kind of a miss."""
    documents = documents_of(scene, [judged(scene)])
    states = {id_: [one.get("run_first") for one in document["ground_truth"]["detections"]]
              for id_, document in documents.items()}  # fmt: skip
    assert states == {
        1: [None], 2: ["missed"], 3: ["missed"], 4: ["missed"], 5: ["found"], 6: ["missed"], 7: ["missed"],
        8: [], 9: [], 10: [], 11: [],
    }  # fmt: skip
    (box,) = documents[6]["ground_truth"]["detections"]
    assert (box["run_first_kind"], box["run_first_iou"]) == ("class", 1.0)


def test_each_detection_is_right_or_wrong(scene):
    """Detections from the operating point on have their outcome, and the kind of a false positive."""
    documents = documents_of(scene, [judged(scene)])
    told = {
        id_: [(one["confidence"], one["outcome"], one.get("kind"), one.get("confused_with"))
              for one in document["run_first"]["detections"]]
        for id_, document in documents.items() if document["run_first"]["detections"]
    }  # fmt: skip
    assert told == {
        3: [(0.7, "false positive", "background", None)],
        5: [(0.9, "right", None, None), (0.8, "false positive", "duplicate", None)],
        6: [(0.75, "false positive", "class", "without_mask")],
        7: [(0.65, "false positive", "localisation", None)],
    }


def test_mistakes_are_counted_by_image(scene):
    """Evaluated images have counts, including 0; other images have none."""
    documents = documents_of(scene, [judged(scene)])
    fields = ("run_first_missed", "run_first_false_positives", "run_first_mistakes")
    assert [documents[3][field] for field in fields] == [1, 1, 2]
    assert [documents[8][field] for field in fields] == [0, 0, 0]
    assert not set(fields) & documents[1].keys()
    sizes = ("object_sizes", "run_first_missed_sizes", "run_first_false_positive_sizes")
    assert [documents[7][field] for field in sizes] == [["large"], ["large"], ["large"]]
    assert [documents[8][field] for field in sizes] == [[], [], []]


def test_out_of_the_range_of_interest(scene):
    """Objects out of range are ignored."""
    interest = RangeOfInterest(24)
    documents = documents_of(scene, [judged(scene, interest=interest)], interest)
    (box,) = documents[2]["ground_truth"]["detections"]
    assert (box["run_first"], box["in_range"]) == ("ignored", False)
    (detection,) = documents[3]["run_first"]["detections"]
    assert detection["outcome"] == "ignored"


def test_proposals_are_no_truth(scene):
    """Proposals have a field of their own."""
    state = scene.images["label_state"].where(scene.images["image_id"] != 4, "proposed")
    documents = documents_of(scene.replace(images=scene.images.assign(label_state=state)))
    assert documents[4]["ground_truth"]["detections"] == []
    assert len(documents[4]["proposals"]["detections"]) == 1


def test_tags_come_along(scene):
    """Documents have the earlier tags."""
    assert documents_of(scene, tags={3: ["drop"]})[3]["tags"] == ["drop"]


def test_views_count_what_evaluate_counts(scene):
    """The views of missed objects and false positives have the counts of `evaluate`."""
    views = {view.name: view for view in list_views(scene, [judged(scene)], None)}
    told = curate.evaluate(scene.root, run="first", report=False).errors
    assert told.missed == MISSED == {size: views[f"missed {size}"].objects for size in MISSED}
    false_positives = {size: views[f"false positives {size} patches"].objects for size in MISSED}
    assert told.false_positives == FALSE_POSITIVES == false_positives
    kinds = [views[name].objects for name in ("confused classes", "duplicates", "poor boxes", "nothing there")]
    assert kinds == [told.kinds[kind] for kind in ("class", "duplicate", "localisation", "background")] == [1, 1, 1, 1]
    assert views["worst images"].images == 6


def test_unlabelled_by_source(scene):
    """Unlabelled images have a view, and one for each source."""
    views = {view.name: view.images for view in list_views(scene, [], None) if view.name.startswith("unlabelled")}
    assert views == {"unlabelled": 3, "unlabelled of street": 2, "unlabelled of faces": 1}


def test_views_without_a_run(scene):
    """Without a run, there are views by size and class."""
    views = {view.name: view.objects for view in list_views(scene, [], RangeOfInterest(24))}
    assert {size: views[size] for size in ("small", "medium", "large")} == {"small": 2, "medium": 2, "large": 3}
    assert views["class without_mask"] == 2
    assert views["out of the range of interest"] == 2


def test_names_that_would_have_one_link(tmp_path):
    """Classes whose names have the same link have views with numbered names."""
    images = [[(name, (10, 10, 30, 30))] for name in ("маска", "лицо", "a b", "a-b")]
    dataset = build_dataset(tmp_path, images, classes=("маска", "лицо", "a b", "a-b"))
    names = [view.name for view in list_views(dataset, [], None) if view.name.startswith("class")]
    assert [name for name in names if "patches" not in name] == [
        *("class маска", "class лицо (2)", "class a b", "class a-b (2)"),
    ]


def test_views_of_several_runs_bear_their_names(scene):
    """With two runs, each has views of its own."""
    names = [view.name for view in list_views(scene, [judged(scene), judged(scene, "second", [])], None)]
    assert {"first: missed small", "second: missed small"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (["first"], ["run_first"]),
        (["runs/First One/"], ["run_runs_first_one"]),
        (["a b", "a-b", "a_b"], ["run_a_b", "run_a_b_2", "run_a_b_3"]),
        (["a-2", "a", "a"], ["run_a_2", "run_a", "run_a_3"]),
        (["é"], ["run_other"]),
    ],
)
def test_names_of_fields(names, fields):
    """Fields of runs have valid characters and are unique."""
    assert run_fields(names) == fields
