"""The whole line on real data: the face-mask set, 853 images with 4,072 boxes."""

import json
import math
from pathlib import Path

import pytest
from builders import kinds, load
from evaluation_oracle import STATS, jittered, oracle, oracle_numbers
from repository_paths import REPOSITORY, SHARED_DATA

from curate.card import read_card
from curate.commands.classes import merge_classes
from curate.commands.evaluate import evaluate
from curate.commands.export_coco import export_coco
from curate.commands.history import undo
from curate.commands.imports import import_voc
from curate.commands.split import split
from curate.evaluation.coco_results import write_results
from curate.store import Store

SOURCE = SHARED_DATA / "face-mask"
CARD = REPOSITORY / "datasets" / "face-mask" / "card.yaml"
COUNTS = {"with_mask": 3232, "without_mask": 717, "mask_weared_incorrect": 123}
MIN_SIDE_PX = 24

pytestmark = pytest.mark.skipif(not SOURCE.is_dir(), reason=f"the face-mask data are not in {SOURCE}")
needs_card = pytest.mark.skipif(not CARD.is_file(), reason="datasets/face-mask has no card")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The imported set; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("face-mask") / "dataset"
    import_voc(folder, SOURCE)
    return folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The answer of an import."""
    return import_voc(tmp_path_factory.mktemp("imported") / "dataset", SOURCE)


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """The set with two classes and splits, and the answers of merge and split."""
    folder = tmp_path_factory.mktemp("merged") / "dataset"
    import_voc(folder, SOURCE)
    return folder, merge_classes(folder, ["mask_weared_incorrect"], "without_mask"), split(folder, val=0.25)


@pytest.fixture(scope="module")
def exported(merged):
    """The export of the merged set."""
    return export_coco(merged[0], merged[0].parent / "export")


@pytest.fixture(scope="module")
def evaluated(merged):
    """Jittered truth evaluated as predictions of the whole set: truth, predictions and the answer."""
    truth = load(merged[0])
    predictions = jittered(truth)
    file = merged[0].parent / "predictions.json"
    write_results(predictions, file)
    return truth, predictions, evaluate(merged[0], predictions=file, split="all", min_side=MIN_SIDE_PX)


def test_import_counts(imported):
    """853 images, 4,072 boxes, 3232 / 717 / 123; 12 repaired, none quarantined."""
    assert (imported.images, imported.boxes, imported.classes) == (853, 4072, COUNTS)
    assert (imported.repaired, imported.quarantined) == (12, 0)


def test_import_problems(imported):
    """Repaired are the boxes that end one pixel outside; noted, the names that still say .png."""
    found = kinds(imported)
    assert (found.count("outside_image"), found.count("filename_mismatch"), len(found)) == (12, 853, 865)


def test_second_import(dataset):
    """Coming again changes nothing."""
    again = import_voc(dataset, SOURCE)
    assert (again.version, again.added, again.updated, again.unchanged) == (1, 0, 0, 853)


def test_source_is_linked(dataset):
    """Images are linked, not copied, where the folders are on one disk."""
    image = load(dataset).images.iloc[0]["path"]
    origin = SOURCE / "images" / Path(image).name
    if origin.stat().st_dev != dataset.stat().st_dev:
        pytest.skip("the data lie on another disk")
    assert (dataset / image).samefile(origin)


def test_merge(merged):
    """Merging the rare class gives 3232 / 840."""
    assert merged[1].after == {"with_mask": 3232, "without_mask": 840}


def test_undo(tmp_path):
    """`undo` brings the three classes back."""
    import_voc(tmp_path, SOURCE)
    merge_classes(tmp_path, ["mask_weared_incorrect"], "without_mask")
    undo(tmp_path)
    assert load(tmp_path).class_counts() == COUNTS


@pytest.mark.parametrize("is_merged", [False, True])
def test_split_shares(tmp_path, merged, is_merged):
    """Every class's share of val is within two percentage points of a quarter."""
    if is_merged:
        answer, counts = merged[2], merged[1].after
    else:
        import_voc(tmp_path, SOURCE)
        answer, counts = split(tmp_path, val=0.25), COUNTS
    shares = {name: answer.splits["val"].classes[name] / count for name, count in counts.items()}
    assert [name for name, share in shares.items() if abs(share - 0.25) > 0.02] == []


def test_export_counts(exported):
    """All images and boxes are exported, and the truth scores 1 against itself."""
    assert (exported.images, exported.boxes, set(exported.files)) == (853, 4072, {"train", "val"})
    assert exported.self_check_ap == pytest.approx(1, abs=1e-9)


def test_same_bytes(merged, exported, tmp_path):
    """A second export has the same bytes."""
    again = export_coco(merged[0], tmp_path / "again")
    assert [Path(file).read_bytes() for file in again.files.values()] == [
        Path(file).read_bytes() for file in exported.files.values()
    ]


def test_pycocotools_loads(exported):
    """pycocotools finds all images, boxes and both classes in the exported files."""
    from pycocotools.coco import COCO

    loaded = [COCO(file) for file in exported.files.values()]
    assert (sum(len(one.imgs) for one in loaded), sum(len(one.anns) for one in loaded)) == (853, 4072)
    assert [[entry["name"] for entry in one.dataset["categories"]] for one in loaded] == [
        ["with_mask", "without_mask"]
    ] * 2


def test_supervision_loads(exported):
    """supervision finds all images, boxes and both classes in the exported files."""
    supervision = pytest.importorskip("supervision")
    loaded = [
        supervision.DetectionDataset.from_coco(images_directory_path=f"{exported.out}/images", annotations_path=file)
        for file in exported.files.values()
    ]
    boxes = sum(len(one.annotations[path].xyxy) for one in loaded for path in one.image_paths)
    assert (sum(map(len, loaded)), boxes) == (853, 4072)
    assert loaded[0].classes == ["with_mask", "without_mask"]


def test_detectron2_loads(exported):
    """Detectron2's COCO reader finds all images and boxes in the exported files."""
    coco = pytest.importorskip("detectron2.data.datasets.coco", reason="Detectron2 is not installed")
    loaded = [row for file in exported.files.values() for row in coco.load_coco_json(file, f"{exported.out}/images")]
    assert (len(loaded), sum(len(row["annotations"]) for row in loaded)) == (853, 4072)


def test_images_are_where_the_files_say(exported):
    """Every `file_name` is an image below `images/`."""
    for file in exported.files.values():
        names = [image["file_name"] for image in json.loads(Path(file).read_text())["images"]]
        assert [name for name in names if not (Path(exported.out) / "images" / name).is_file()] == []


def differing(ours, expected, names):
    def value_of(name):
        return math.nan if getattr(ours, name) is None else getattr(ours, name)

    wanted = {name: math.nan if expected[name] is None else expected[name] for name in names}
    return {
        name: (value_of(name), wanted[name])
        for name in names
        if value_of(name) != pytest.approx(wanted[name], rel=0, abs=1e-9, nan_ok=True)
    }


def test_evaluate_equals_pycocotools(evaluated):
    """All twelve numbers of jittered truth equal pycocotools' to 1e-9."""
    truth, predictions, answer = evaluated
    assert differing(answer, oracle_numbers(oracle(truth, predictions)), STATS) == {}


def test_evaluate_by_class_equals_pycocotools(evaluated):
    """Each class's numbers equal pycocotools' for that class alone."""
    truth, predictions, answer = evaluated
    names = ["ap", "ap50", "ap_small", "ap_medium", "ap_large"]
    for scores in answer.classes:
        expected = oracle_numbers(oracle(truth, predictions, class_id=truth.find_class(scores.name).id))
        assert differing(scores, expected, names) == {}


def test_range_of_interest_equals_pycocotools(evaluated):
    """The range of interest's numbers equal pycocotools' with the shorter side in the place of the area."""
    truth, predictions, answer = evaluated
    expected = oracle_numbers(oracle(truth, predictions, by_side=True, area_ranges=[[MIN_SIDE_PX, 1e10]] * 4))
    assert differing(answer.range_of_interest, expected, ["ap", "ap50", "ap75", "ar_100"]) == {}


def test_evaluate_counts(evaluated):
    """Images, truth and detections are counted."""
    truth, predictions, answer = evaluated
    assert (answer.images, answer.truth, answer.detections) == (853, len(truth.boxes), len(predictions.boxes))


@needs_card
def test_card_counts():
    """The card has the published counts."""
    expected = read_card(CARD).expected
    assert (expected.images, expected.boxes, dict(expected.classes)) == (853, 4072, COUNTS)
    assert (expected.repaired, expected.quarantined) == (12, 0)


@needs_card
def test_card_classes():
    """The card has the classes in order, most frequent first."""
    assert read_card(CARD).classes == tuple(COUNTS)


@needs_card
def test_import_with_the_card(tmp_path):
    """Importing with the card checks the counts, and they fit; the classes come in the card's order."""
    result = import_voc(tmp_path, SOURCE, card=CARD)
    assert (kinds(result).count("card_count"), result.notes) == (0, ())
    assert list(Store(tmp_path).load().class_names.values()) == list(COUNTS)
