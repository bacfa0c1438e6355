"""The two-stage engine: crops, balanced batches, both stages as one detector, and `train-classifier`."""

import json
import os
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from colour_engine import ColourDetector, write_weights
from engine_contract import DISC, SQUARE, TINY, draw_shapes, shapes_dataset
from extras import needs_torch

from curate.boxes import iou_matrix
from curate.commands.run_inputs import fingerprints
from curate.dataset import ClassEntry
from curate.engines import base
from curate.engines.base import Detections, engine_for, predict_dataset
from curate.engines.training.augment import Augmentation, Sizing
from curate.engines.training.journal import Journal
from curate.engines.two_stage.crops import GREY, crop_square, squares_around
from curate.engines.two_stage.settings import TwoStageSettings
from curate.errors import CurateError, DataError, TrainingError, UsageError
from curate.evaluation.scores import score
from curate.images import decode_rgb
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

pytestmark = [pytest.mark.train, needs_torch]

MODEL, COLOUR = "two-stage:resnet18", "colour:squares"
RED, GREEN, BLUE = ClassEntry(5, "red"), ClassEntry(2, "green"), ClassEntry(9, "blue")
NOTHING_VARIES = TwoStageSettings(shift=0.0, scale=0.0, margin=0.0)
PLAIN = Augmentation(zoom_out=1.0, zoom_in=1.0, flip=0.0, brightness=0.0, contrast=0.0)


@pytest.fixture(scope="module", autouse=True)
def _torch(one_thread):
    """Torch is imported when the first test here runs: collecting tests takes no seconds for it."""
    global torch, nn, train_classifier, load_weights, batches_module, CropBatches, TrainingBoxes, jitter
    global CachedDetector, TwoStageDetector, FirstStage, ProcessGroup, find_first_stage, read_embedded, read_first_stage
    import torch
    from torch import nn

    from curate.commands.train_classifier import train_classifier
    from curate.engines.training.processes import ProcessGroup
    from curate.engines.training.weights import load_weights
    from curate.engines.two_stage import batches as batches_module
    from curate.engines.two_stage.batches import CropBatches, TrainingBoxes, jitter
    from curate.engines.two_stage.detector import CachedDetector, TwoStageDetector
    from curate.engines.two_stage.first_stage import FirstStage, find_first_stage, read_embedded, read_first_stage


@pytest.fixture(scope="module", autouse=True)
def _colour_engine():
    """Register `colour:squares`, which detects the shapes without training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            base, "ENGINES", {**base.ENGINES, "colour": base.EngineEntry("colour_engine", "ColourEngine", ())}
        )
        yield


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return shapes_dataset(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights file of the colour engine; not a checkpoint of curate."""
    return str(write_weights(tmp_path_factory.mktemp("weights")))


def train(dataset, folder, weights, *, resume=False, validate=None, settings=None, **values):
    """Train a classifier for the boxes of the colour engine's detector."""
    usual = {"model": MODEL, "weights": "none", "steps": 3, "batch": 8, "image_size": 32, "workers": 0, "device": "cpu"}
    own = {"detector": COLOUR, "detector_weights": weights, **(settings or {})}
    config = TrainingConfig.checked(**(usual | values), settings=own)
    run = RunFolder(folder)
    run.start(config, dataset, resume=resume)
    engine_for(config.model).train(dataset, run, config, validate=validate)
    return run


@pytest.fixture(scope="module")
def whole(shapes, weights, tmp_path_factory):
    """Four uninterrupted steps."""
    return train(shapes, tmp_path_factory.mktemp("runs") / "whole", weights, steps=4)


def weights_of(run):
    return torch.load(run.best, weights_only=True)["weights"]


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Crops -----------------------------------------------------------------------------------------------------------


def test_a_square_has_the_longer_side_and_a_margin_at_each_end():
    """A box of 20×40 px with a margin of a quarter becomes a square of 60 px around its middle."""
    assert squares_around([[10, 10, 30, 50]], 0.25).tolist() == [[-10, 0, 50, 60]]


def test_no_boxes_have_no_squares():
    """Without boxes there are no squares."""
    assert squares_around(np.empty((0, 4)), 0.3).shape == (0, 4)


def test_a_crop_of_the_same_size_is_the_pixels_themselves():
    """Without scaling, pixels are copied unchanged."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert (crop_square(pixels, [4, 6, 12, 14], 8) == pixels[6:14, 4:12]).all()


def test_beyond_the_edge_a_crop_is_grey():
    """Two columns left of the image and three rows above it are grey; the rest is unchanged."""
    pixels = np.random.default_rng(0).integers(0, 100, (20, 30, 3), dtype=np.uint8)
    crop = crop_square(pixels, [-2, -3, 6, 5], 8)
    assert (crop[:3] == GREY).all()
    assert (crop[:, :2] == GREY).all()
    assert (crop[3:, 2:] == pixels[:5, :6]).all()


def test_beyond_the_right_and_lower_edge_a_scaled_crop_is_grey():
    """An image of 6×6 px in the upper left quarter of a square, scaled by 2."""
    pixels = np.full((6, 6, 3), 200, dtype=np.uint8)
    crop = crop_square(pixels, [0, 0, 12, 12], 24)
    assert (crop[:12, :12] == 200).all()
    assert (crop[12:] == GREY).all()
    assert (crop[:, 12:] == GREY).all()


def test_a_smaller_crop_averages():
    """A chessboard of single pixels becomes uniform grey, without aliasing."""
    board = (np.indices((16, 16)).sum(axis=0) % 2 * 200).astype(np.uint8)
    assert (crop_square(np.stack([board] * 3, axis=2), [0, 0, 16, 16], 4) == 100).all()


def test_a_square_that_misses_the_image_is_all_grey():
    """A square outside of the image gives a grey crop."""
    assert (crop_square(np.zeros((10, 10, 3), np.uint8), [50, 50, 60, 60], 8) == GREY).all()


def test_a_square_of_any_size_costs_no_memory():
    """A square with sides of a billion pixels shows the image as at least one pixel."""
    crop = crop_square(np.full((1, 300, 3), 7, np.uint8), [-5e8, -5e8, 5e8, 5e8], 32)
    assert (crop == 7).all(axis=2).sum() == 1


# Batches ---------------------------------------------------------------------------------------------------------


def crop_batches(dataset, batch=8, side_px=32, augmentation=PLAIN, settings=NOTHING_VARIES, **options):
    sizing = Sizing(side_px, side_px, square=True)
    return CropBatches(dataset, batch, sizing, augmentation, settings, **{"seed": 0, **options})


def labels_of(batch):
    return torch.cat([target["labels"] for target in batch.targets]).tolist()


def with_classes(dataset, class_ids):
    """The dataset with other classes for its boxes; all further boxes get the last of these ids."""
    ids = list(class_ids) + [class_ids[-1]] * (len(dataset.boxes) - len(class_ids))
    return dataset.replace(boxes=dataset.boxes.assign(class_id=np.array(ids, dtype=np.int32)))


def test_each_class_comes_equally_often(shapes):
    """One disc among nineteen squares: over 9 batches of 8, each class comes 36 times."""
    batches = crop_batches(with_classes(shapes, [DISC.id, SQUARE.id]))
    seen = [label for step in range(9) for label in labels_of(batches[step])]
    assert (seen.count(1), seen.count(2)) == (36, 36)


def test_each_box_of_a_class_is_shown(shapes):
    """Boxes of a class are picked at random: 60 batches show all of them."""
    batches = crop_batches(shapes, settings=TwoStageSettings(shift=0.0, scale=0.0))
    seen = {image.numpy().tobytes() for step in range(60) for image in batches[step].images}
    assert len(seen) == len(shapes.boxes)


def test_a_batch_follows_from_seed_and_step(shapes):
    """Seed and step determine the crops, whatever was loaded before; another seed or step gives others."""
    settings, augmentation = TwoStageSettings(), Augmentation(zoom_out=1.0, zoom_in=1.0)
    first, second = (crop_batches(shapes, settings=settings, augmentation=augmentation) for _ in range(2))
    fifth = first[5]
    second[2]
    again = second[5]
    assert all(torch.equal(a, b) for a, b in zip(fifth.images, again.images, strict=True))
    assert labels_of(fifth) == labels_of(again)
    other = crop_batches(shapes, settings=settings, augmentation=augmentation, seed=1)[5]
    assert not all(torch.equal(a, b) for a, b in zip(fifth.images, other.images, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(fifth.images, first[6].images, strict=True))


def test_processes_share_a_batch(shapes):
    """Two processes together get the batch of one."""
    whole = crop_batches(shapes)[3]
    even, odd = (crop_batches(shapes, group=ProcessGroup(rank, 2))[3] for rank in (0, 1))
    shared = [image for pair in zip(even.images, odd.images, strict=True) for image in pair]
    assert all(torch.equal(a, b) for a, b in zip(whole.images, shared, strict=True))


def test_each_process_gets_all_classes(shapes):
    """With two classes and two processes, each process gets both."""
    for rank in (0, 1):
        batches = crop_batches(shapes, group=ProcessGroup(rank, 2))
        assert {label for step in range(4) for label in labels_of(batches[step])} == {1, 2}


def test_a_crop_shows_its_box(shapes):
    """Without margin and jitter, a square's crop is red from edge to edge and has the label of its class."""
    batches = crop_batches(shapes)
    for step in range(4):
        batch = batches[step]
        for image, label in zip(batch.images, labels_of(batch), strict=True):
            middle = image[:, 16, 16].tolist()
            assert middle == ([220, 40, 40], [40, 40, 220])[label - 1]
            assert label == 2 or (image == image[:, 16:17, 16:17]).all()


def test_crops_from_the_cache_equal_those_from_the_image(shapes, monkeypatch):
    """At any jitter, cached or not, a crop equals that from the whole image."""
    settings = TwoStageSettings(shift=0.4, scale=1.0, margin=2.0)
    monkeypatch.setattr(batches_module, "_CACHE_BYTES", 1)
    batches = crop_batches(shapes, settings=settings)
    objects = TrainingBoxes(shapes, 0)
    rng_of = [np.random.default_rng(number) for number in range(100)]
    for number, rng in enumerate(rng_of):
        row = number % len(objects.boxes)
        pixels = decode_rgb(objects.files[objects.images[row]])
        box = jitter(objects.boxes[row], settings, np.random.default_rng(number))
        height, width = pixels.shape[:2]
        visible = np.clip(box, 0, [width, height, width, height])
        expected = crop_square(pixels, squares_around(visible, 2.0)[0], 32)
        assert (batches._crop(row, rng) == expected).all()


def test_jitter_keeps_its_limits():
    """The centre moves by at most the shift, the sides change by at most the scale."""
    box, settings = np.array([10.0, 20, 50, 40]), TwoStageSettings(shift=0.1, scale=0.25)
    varied = np.array([jitter(box, settings, np.random.default_rng(seed)) for seed in range(300)])
    moved = np.abs((varied[:, :2] + varied[:, 2:]) / 2 - [30, 30])
    sides = (varied[:, 2:] - varied[:, :2]) / [40, 20]
    assert (moved <= [4, 2]).all()
    assert moved.max(axis=0) == pytest.approx([4, 2], rel=0.05)
    assert sides.min() == pytest.approx(0.8, rel=0.01)
    assert sides.max() == pytest.approx(1.25, rel=0.01)


def test_crowds_and_small_boxes_are_left_out(shapes):
    """Crowd boxes, and boxes below `min_side_px`, are not trained on."""
    sides = (shapes.boxes["x1"] - shapes.boxes["x0"]).to_numpy()
    crowd = np.arange(len(sides)) < 3
    dataset = shapes.replace(boxes=shapes.boxes.assign(crowd=crowd))
    assert len(TrainingBoxes(dataset, 0).boxes) == len(sides) - 3
    assert len(TrainingBoxes(dataset, 25).boxes) == (sides[~crowd] >= 25).sum() < len(sides) - 3


def test_one_class_is_refused(shapes):
    """The error names the only class."""
    with pytest.raises(TrainingError, match=r"needs at least two classes .*boxes of disc only"):
        TrainingBoxes(with_classes(shapes, [DISC.id]), 0)


def test_no_boxes_are_refused(shapes):
    """Without boxes, or without images, there is nothing to train on."""
    with pytest.raises(TrainingError, match=r"needs at least two classes \(got no boxes"):
        TrainingBoxes(shapes.replace(boxes=shapes.boxes[:0]), 0)
    with pytest.raises(TrainingError, match="no images to train on"):
        TrainingBoxes(shapes.keep_images(shapes.images["image_id"] > 99), 0)


def test_an_unreadable_image_is_reported(shapes, tmp_path):
    """Other boxes stand for its boxes, and the file is named."""
    shutil.copytree(shapes.root / "media", tmp_path / "media")
    (tmp_path / "media/001.png").write_bytes(b"nothing")
    loaded = crop_batches(shapes.replace(root=tmp_path), batch=64).load(0)
    assert len(loaded.batch.images) == 64
    assert "media/001.png" not in loaded.batch.paths
    assert [file.rpartition("/")[2] for file in loaded.unreadable] == ["001.png"]


# Both stages as one ----------------------------------------------------------------------------------------------


class FixedDetector:
    """Returns the given detections, image by image, and counts the images."""

    classes = (ClassEntry(1, "face"), ClassEntry(2, "head"))

    def __init__(self, *answers):
        self.answers, self.image_count = list(answers), 0

    def predict(self, images):
        first, self.image_count = self.image_count, self.image_count + len(images)
        return [self.answers[(first + place) % len(self.answers)] for place in range(len(images))]


def colour_shares():
    """A classifier whose answers can be worked out by hand: how red, green and blue a crop is."""

    class ColourShares(nn.Module):
        def forward(self, crops):
            means = crops.mean(dim=(2, 3))
            return means / means.sum(dim=1, keepdim=True)

    return ColourShares()


def found(*rows):
    """Detections of (score, class index, x0, y0, x1, y1)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 0], table[:, 1].astype(np.int64))


def joined(*answers, **settings):
    settings = TwoStageSettings(**{"margin": 0.0, "classes_per_box": 1, **settings})
    first = FixedDetector(*answers)
    return TwoStageDetector(first, colour_shares(), settings, 16, (RED, GREEN, BLUE), torch.device("cpu"))


def patches(*colours):
    """An image of patches with sides of 20 px, from left to right."""
    return np.concatenate([np.full((20, 20, 3), colour, dtype=np.uint8) for colour in colours], axis=1)


def patch_box(number):
    return number * 20, 0, number * 20 + 20, 20


def test_the_score_is_the_product_and_the_best_comes_first():
    """The score is detector score times class probability; detections are sorted by it."""
    image = patches((120, 80, 0), (0, 0, 200))  # 0.6 red, 0.4 green; wholly blue
    (answer,) = joined(found((0.9, 0, *patch_box(0)), (0.8, 1, *patch_box(1)))).predict([image])
    assert answer.scores.tolist() == pytest.approx([0.8, 0.54])
    assert answer.class_indices.tolist() == [2, 0]
    assert answer.boxes_xyxy.tolist() == [list(patch_box(1)), list(patch_box(0))]
    assert answer.class_indices.dtype == np.int64


def test_a_box_can_have_several_classes():
    """With `classes_per_box` 2, the second class has its own probability."""
    image = patches((120, 80, 0), (0, 0, 200))
    first = found((0.9, 0, *patch_box(0)), (0.8, 1, *patch_box(1)))
    (answer,) = joined(first, classes_per_box=2).predict([image])
    assert answer.scores.tolist() == pytest.approx([0.8, 0.54, 0.36])
    assert answer.class_indices.tolist() == [2, 0, 1]
    (answer,) = joined(first, classes_per_box=9, score=0.0).predict([image])
    assert answer.scores.tolist() == pytest.approx([0.8, 0.54, 0.36, 0, 0, 0])


def test_above_half_a_box_has_one_class():
    """With any `classes_per_box`, no box has two classes with a score of 0.5 or more."""
    image = patches((120, 80, 0), (0, 0, 200))
    first = found((1.0, 0, *patch_box(0)), (1.0, 1, *patch_box(1)))
    (answer,) = joined(first, classes_per_box=3).predict([image])
    assert (answer.scores >= 0.5).sum() == 2


def test_one_object_under_two_classes_of_the_detector_is_one():
    """Of overlapping boxes with different classes, the one with the highest score is kept."""
    first = found((0.9, 0, 0, 0, 20, 20), (0.7, 1, 0, 0, 20, 19), (0.6, 0, 20, 0, 40, 20))
    (answer,) = joined(first).predict([patches((200, 0, 0), (0, 200, 0))])
    assert answer.scores.tolist() == pytest.approx([0.9, 0.6])
    assert answer.class_indices.tolist() == [0, 1]


def test_low_scores_are_left_out():
    """Boxes with a lower score than `score` are not classified, and detections with a lower one are left out."""
    first = found((0.3, 0, *patch_box(0)), (0.29, 0, *patch_box(1)))
    (answer,) = joined(first, score=0.2, classes_per_box=2).predict([patches((9, 3, 0), (9, 3, 0))])
    assert answer.scores.tolist() == pytest.approx([0.225, 0.2175])
    (answer,) = joined(first, score=0.3).predict([patches((9, 0, 0), (9, 0, 0))])
    assert answer.scores.tolist() == [pytest.approx(0.3)]


def test_boxes_without_pixels_are_left_out():
    """Boxes without area, outside of the image, or with NaN are not classified."""
    nan = float("nan")
    first = found((0.9, 0, 5, 5, 5, 9), (0.9, 0, 50, 0, 60, 9), (0.9, 0, nan, 0, 9, 9), (0.5, 0, 0, 0, 9, 9))
    (answer,) = joined(first).predict([patches((9, 0, 0))])
    assert answer.boxes_xyxy.tolist() == [[0, 0, 9, 9]]


def test_a_box_that_leaves_the_image_is_not_changed():
    """Only its crop is clipped to the image."""
    (answer,) = joined(found((1.0, 0, -20, 0, 20, 20))).predict([patches((200, 0, 0))])
    assert answer.boxes_xyxy.tolist() == [[-20, 0, 20, 20]]
    assert answer.scores.tolist() == pytest.approx([1.0])


def test_images_go_together_and_keep_their_order():
    """Each image gets its own boxes; one without boxes gets empty arrays of the right shape."""
    images = [patches((9, 0, 0)), patches((0, 9, 0)), patches((0, 0, 9), (9, 0, 0))]
    detector = joined(found((0.9, 0, *patch_box(0))), found(), found((0.8, 0, *patch_box(0)), (0.7, 0, *patch_box(1))))
    answers = detector.predict(images)
    assert [answer.class_indices.tolist() for answer in answers] == [[0], [], [2, 0]]
    assert answers[1].boxes_xyxy.shape == (0, 4)
    assert joined(found()).predict([]) == []


def test_other_arrays_are_refused():
    """The error names the index."""
    good = patches((9, 0, 0))
    with pytest.raises(DataError, match=r"images\[1\]"):
        joined(found()).predict([good, good[:, :, 0]])


def test_a_cached_detector_runs_once_per_image():
    """A repeated image is not given to the detector again, and gets its own detections."""
    first = FixedDetector(found((0.9, 0, 0, 0, 5, 5)), found((0.8, 0, 0, 0, 6, 6)))
    remembered = CachedDetector(first)
    a, b = patches((1, 2, 3)), patches((3, 2, 1))
    assert [answer.scores[0] for answer in remembered.predict([a, b])] == [0.9, 0.8]
    assert [answer.scores[0] for answer in remembered.predict([b, a, b])] == [0.8, 0.9, 0.8]
    assert first.image_count == 2


# The first stage -------------------------------------------------------------------------------------------------


def test_a_first_stage_comes_back_from_its_bytes():
    """Model, file name and content are unchanged."""
    first = FirstStage("retinaface:mobilenet0.25", "faces.pth", bytes(range(256)) * 3)
    assert FirstStage.from_bytes(first.to_bytes()) == first


@pytest.mark.parametrize("document", [b"", b"\n", b"{}\n", b"[1]\nx", b"\xff\n", b"1\n"])
def test_other_bytes_are_refused(document):
    """Anything but the bytes of `to_bytes` is a DataError."""
    with pytest.raises(DataError, match="holds no detector for the first stage"):
        FirstStage.from_bytes(document)


def test_a_file_name_cannot_be_a_path():
    """Folders in a checkpoint's file name are removed."""
    assert FirstStage.from_bytes(FirstStage("a:b", "../../x.pt", b"").to_bytes()).file_name == "x.pt"


def test_an_invalid_detector_is_refused(tmp_path, shapes, weights):
    """The error names the option to use."""
    (tmp_path / "empty").mkdir()
    run = RunFolder(tmp_path / "begun")
    run.start(TrainingConfig(model=TINY), shapes)
    cases = [
        ("", "", "no detector is given for the first stage"),
        (str(tmp_path / "nowhere"), "", "there is no run here"),
        (str(run.path), "", "the run has no checkpoint yet"),
        (str(run.path), weights, "cannot be combined with a run"),
        (COLOUR, "", "ENGINE:NAME needs --detector-weights FILE"),
        (COLOUR, str(tmp_path / "none.pth"), "there is no such file"),
    ]
    for detector, file, message in cases:
        with pytest.raises(UsageError, match=message):
            find_first_stage(detector, file)


def test_weights_of_another_model_are_refused(whole):
    """A checkpoint holds the name of its model."""
    with pytest.raises(UsageError, match=f"belong to the model {MODEL} .*expected weights of {re.escape(TINY)}"):
        read_first_stage(TINY, str(whole.best))


# The engine ------------------------------------------------------------------------------------------------------


def test_the_checkpoint_needs_no_other_file(shapes, tmp_path):
    """After the training the detector's weights can be removed."""
    weights = write_weights(tmp_path)
    run = train(shapes, tmp_path / "run", str(weights))
    pixels, drawn = draw_shapes(np.random.default_rng(3))
    weights.unlink()
    moved = run.best.rename(tmp_path / "alone.pt")
    (answer,) = engine_for(MODEL).load(moved, "cpu").predict([pixels])
    truth = np.array([shape[1:] for shape in drawn])
    assert (iou_matrix(truth, answer.boxes_xyxy).max(axis=1) > 0.8).all()


def test_the_detector_is_not_trained(whole):
    """The checkpoint has its file, byte by byte; the optimizer has only the classifier's parameters."""
    tensors = weights_of(whole)
    assert read_embedded(whole.best) == FirstStage(COLOUR, "weights.json", b"{}")
    assert [name for name in tensors if name.startswith("detector.")] == ["detector._extra_state"]
    optimizer = torch.load(whole.last, weights_only=True)["optimizer"]
    assert len(optimizer["state"]) == sum(1 for name in tensors if name.endswith((".weight", ".bias")))


def test_resume_equals_uninterrupted(shapes, weights, whole, tmp_path, monkeypatch):
    """Killed in step 3 and resumed without the detector's file, a run ends with identical weights."""
    own = tmp_path / "weights.json"
    shutil.copy(weights, own)
    record = Journal.record

    def die(self, report):
        if self.step == 2:
            raise OSError("killed")
        record(self, report)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "record", die)
        with pytest.raises(OSError, match="killed"):
            train(shapes, tmp_path / "run", str(own), steps=4, checkpoint_every=2)
    own.unlink()
    run = train(shapes, tmp_path / "run", str(own), steps=4, checkpoint_every=2, resume=True)
    assert [line["step"] for line in run.read_metrics()] == [4]
    assert same_tensors(weights_of(run), weights_of(whole))


def test_workers_change_nothing(shapes, weights, whole, tmp_path):
    """With worker processes the weights are identical."""
    run = train(shapes, tmp_path / "run", weights, steps=4, workers=2)
    assert same_tensors(weights_of(run), weights_of(whole))


def test_the_first_stage_of_a_two_stage_run_is_used(shapes, weights, whole, tmp_path):
    """With a two-stage run as the detector, that run's own first stage is used."""
    settings = {"detector": str(whole.path), "detector_weights": ""}
    run = train(shapes, tmp_path / "run", weights, steps=1, settings=settings)
    assert read_embedded(run.best) == FirstStage(COLOUR, "weights.json", b"{}")


def test_weights_of_another_pipeline_bring_no_detector(shapes, whole, tmp_path):
    """All tensors of its classifier are used, but not its detector."""
    other = tmp_path / "other.json"
    other.write_text("{ }")
    run = RunFolder(tmp_path / "run")
    config = TrainingConfig.checked(
        model=MODEL,
        weights=str(whole.best),
        steps=1,
        batch=8,
        image_size=32,
        workers=0,
        device="cpu",
        settings={"detector": COLOUR, "detector_weights": str(other)},
    )
    run.start(config, shapes)
    engine_for(MODEL).train(shapes, run, config)
    report = run.read_record().weights
    assert set(report.not_loaded) <= {"detector._extra_state"}
    assert read_embedded(run.best).content == b"{ }"


def test_weights_of_a_classification_network_fill_the_backbone(tmp_path):
    """torchvision's ResNet for 1000 classes fills everything but the last layer."""
    from torchvision.models import resnet18

    given = resnet18().state_dict()
    torch.save(given, tmp_path / "imagenet.pth")
    model = engine_for(MODEL).build("resnet18", 2, None, {})
    report = load_weights(model, "resnet18", str(tmp_path / "imagenet.pth"))
    assert report.not_used == ("fc.weight", "fc.bias")
    assert {name for name in report.not_loaded if "_extra_state" not in name} == {"head.weight", "head.bias"}
    assert torch.equal(model.network.state_dict()["backbone.layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])


def test_imagenet_normalisation_is_inside():
    """Crops of ImageNet's mean colour, and one standard deviation above it, reach the backbone as zeros and ones."""
    network = engine_for(MODEL).build("resnet18", 2, None, {}).network.eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for colour in ([0.485, 0.456, 0.406], [0.714, 0.68, 0.631]):
        network(torch.tensor(colour).view(1, 3, 1, 1).expand(2, 3, 32, 32))
    assert torch.allclose(seen[0], torch.zeros(2, 3, 32, 32), atol=1e-6)
    assert torch.allclose(seen[1], torch.ones(2, 3, 32, 32), atol=1e-5)


def test_the_loss_is_the_cross_entropy():
    """In training the network returns it, for labels from 1; otherwise probabilities that sum to 1."""
    network = engine_for(MODEL).build("resnet18", 3, None, {}).network
    network.head.weight.data.zero_()
    network.head.bias.data = torch.tensor([0.0, 1.0, 2.0])
    crops = [torch.rand(3, 32, 32) for _ in range(2)]
    losses = network(crops, [{"labels": torch.tensor([1])}, {"labels": torch.tensor([3])}])
    exponentials = np.exp([0, 1, 2])
    expected = np.log(exponentials.sum()) - 1  # of the first class log Σ − 0, of the third log Σ − 2
    assert {name: value.item() for name, value in losses.items()} == {"loss_classifier": pytest.approx(expected)}
    assert network.eval()(crops)[0].tolist() == pytest.approx((exponentials / exponentials.sum()).tolist())


@pytest.mark.long
def test_two_processes_train_one_classifier(shapes, weights, tmp_path):
    """Two processes train one run, with all its steps and both stages in its checkpoint."""
    run = train(shapes, tmp_path / "run", weights, steps=4, processes=2)
    assert run.read_record().steps_done == 4
    assert read_embedded(run.best).model == COLOUR


def test_in_training_the_detector_runs_once_per_image(shapes, weights, tmp_path, monkeypatch):
    """Later evaluations use the boxes of the first one."""
    shown, judged = [], []
    monkeypatch.setattr(ColourDetector, "before", staticmethod(lambda images: shown.append(len(images))))

    def validate(detector):
        judged.append(score(shapes, predict_dataset(detector, shapes)).ap)
        return {"ap": judged[-1], "ap_small": None, "ap_medium": None, "ap_large": None}

    train(shapes, tmp_path / "run", weights, steps=2, eval_every=1, validate=validate)
    assert len(judged) == 2
    assert sum(shown) == len(shapes.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "focal"}, "has one loss"),
        ({"balance": "repeat-factor"}, "class-balanced already"),
        ({"batch": 1}, "batch is too small .got 1; expected 2 or more"),
        ({"model": "two-stage:resnet19"}, "unknown ResNet of torchvision .*Did you mean 'resnet1"),
        ({"settings": {"margin": -1}}, "invalid value for margin"),
        ({"settings": {"margins": 1}}, "unknown setting .*Did you mean 'margin'"),
        ({"settings": {"shift": float("nan")}}, "invalid value for shift"),
    ],
)
def test_invalid_settings_are_refused(changes, message, shapes, weights, tmp_path):
    """The error has the valid values."""
    with pytest.raises(UsageError, match=message):
        train(shapes, tmp_path / "run", weights, **changes)


def test_any_image_size_is_answered(whole):
    """Images from 1×1 to 1500×2000 pixels, also with boxes that fill the image."""
    detector = engine_for(MODEL).load(whole.best, "cpu")
    for height, width in [(1, 1), (1, 300), (9, 300), (1500, 2000)]:
        picture = np.full((height, width, 3), (255, 0, 0), dtype=np.uint8)
        (answer,) = detector.predict([picture])
        seen = np.unique(answer.boxes_xyxy, axis=0).tolist()
        assert seen == ([[0, 0, width, height]] if min(height, width) >= 8 else [])
        assert np.isfinite(answer.scores).all()


# The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A saved dataset of shapes, half of it in val."""
    dataset = shapes_dataset(tmp_path / "shapes", images=8, empty=0)
    splits = pd.array(["train", "val"] * 4, dtype="str")
    digests = pd.array([f"{number:064d}" for number in range(8)], dtype="str")
    images = dataset.images.assign(split=splits, sha256=digests)
    Store(dataset.root).commit("build", {}, lambda before: dataset.replace(images=images, next_ids=before.next_ids))
    return dataset.root


QUICK = {"weights": "none", "batch": 8, "image_size": 32, "workers": 0, "device": "cpu"}


def test_a_run_of_the_dataset_is_the_first_stage(root, capsys, monkeypatch):
    """`train-classifier` from the shell, after a small detector; the result is a run like any other."""
    from curate.cli import main
    from curate.commands.train import train as train_detector

    train_detector(root, model=TINY, run="boxes", steps=2, **(QUICK | {"batch": 2, "image_size": 64}))
    options = "--run both --detector boxes --weights none --steps 2 --batch 8 --image-size 32 --margin 0.2 --workers 0"
    monkeypatch.setattr(sys, "argv", ["curate", "train-classifier", str(root), *options.split(), "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    document = json.loads(capsys.readouterr().out)
    assert not caught.value.code
    assert {name: document[name] for name in ("run", "model", "steps")} == {"run": "both", "model": MODEL, "steps": 2}
    assert document["ap"] is not None
    run = RunFolder.named(root, "both")
    assert run.read_config()["settings"] == {"detector": f"{root}/runs/boxes", "margin": 0.2}
    shutil.rmtree(root / "runs/boxes")
    assert engine_for(MODEL).load(run.best, "cpu").classes == (SQUARE, DISC)


def test_a_few_steps_tell_discs_from_squares(root, weights):
    """With a detector that finds every box, AP50 measures the classifier.

    Twenty epochs of eight boxes are twenty steps of eight crops.
    """
    from curate.commands.evaluate import evaluate

    options = {**QUICK, "detector": COLOUR, "detector_weights": weights}
    result = train_classifier(root, run="both", epochs=20, lr=1e-3, **options)
    assert (result.model, result.steps) == (MODEL, 20)
    assert evaluate(root, run="both", report=False).ap50 >= 0.95


def test_resuming_needs_no_detector(root, weights):
    """Settings other than the steps must be those that the run started with."""
    train_classifier(root, run="both", steps=1, detector=COLOUR, detector_weights=weights, **QUICK)
    with pytest.raises(UsageError, match="the run was started with other settings: settings"):
        train_classifier(root, run="both", steps=2, margin=0.9, resume=True)
    result = train_classifier(root, run="both", steps=2, resume=True)
    assert (result.steps, result.model) == (2, MODEL)


def test_a_run_is_not_its_own_first_stage(root, weights):
    """--overwrite would remove the detector before it is read; it is refused and nothing is removed."""
    train_classifier(root, run="both", steps=1, detector=COLOUR, detector_weights=weights, **QUICK)
    with pytest.raises(UsageError, match="its own first stage"):
        train_classifier(root, run="both", steps=1, detector="both", overwrite=True, **QUICK)
    assert RunFolder.named(root, "both").best.is_file()


def test_invalid_options_are_refused_before_the_run_is_started(root, weights):
    """No run folder is left behind."""
    for options, message in [
        ({}, "no detector is given for the first stage"),
        ({"detector": "none"}, r"runs/none: there is no run here"),
        ({"detector": COLOUR}, "needs --detector-weights FILE"),
        ({"detector": COLOUR, "detector_weights": weights, "epochs": 1, "steps": 1}, "mutually exclusive"),
        ({"detector": COLOUR, "detector_weights": weights, "epochs": float("nan")}, "invalid number of epochs"),
        ({"detector": COLOUR, "detector_weights": weights, "epochs": float("inf")}, "invalid number of epochs"),
        ({"detector": COLOUR, "detector_weights": weights, "epochs": 1, "batch": 0}, "batch = 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            train_classifier(root, run="both", **options)
    assert not (root / "runs/both").exists()


def test_nothing_is_overwritten_for_a_detector_that_cannot_be_read(root, weights, tmp_path):
    """The existing run of that name is not changed."""
    train_classifier(root, run="both", steps=1, detector=COLOUR, detector_weights=weights, **QUICK)
    before = RunFolder.named(root, "both").best.read_bytes()
    (tmp_path / "no.json").write_text("no JSON")
    wrong = {"detector": COLOUR, "detector_weights": str(tmp_path / "no.json")}
    for options in (wrong, {"detector": COLOUR, "detector_weights": weights, "model": "resnet19"}):
        with pytest.raises((CurateError, ValueError)):
            train_classifier(root, run="both", steps=1, overwrite=True, **QUICK, **options)
        assert RunFolder.named(root, "both").best.read_bytes() == before


def test_it_resumes_only_its_own_runs(root, weights, monkeypatch):
    """A detector's run is refused; the same run may be named from another folder."""
    train_classifier(root, run="both", steps=1, detector=COLOUR, detector_weights=weights, **QUICK)
    train_classifier(root, run="again", steps=1, detector="both", **QUICK)
    folder = root / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert train_classifier("..", run="again", steps=2, detector="both", resume=True).steps == 2
    run = RunFolder.named(root, "both")
    run.write_config(TrainingConfig(**run.read_config() | {"model": "torchvision:fcos_resnet50_fpn"}))
    with pytest.raises(UsageError, match="does not train a classifier"):
        train_classifier(root, run="both", resume=True)


def test_a_pipeline_trains_again_if_the_first_stage_changed(root, weights):
    """The detector's weights are inputs of the command, whether they are a file or a run's."""
    of_file = {"detector": COLOUR, "detector_weights": weights}
    before = fingerprints("train-classifier", of_file, root)
    os.utime(weights, ns=(1, 1))
    assert fingerprints("train-classifier", of_file, root) != before
    train_classifier(root, run="faces", steps=1, detector=COLOUR, detector_weights=weights, **QUICK)
    in_settings = {"settings": {"detector": str(RunFolder.named(root, "faces").path)}}
    loop = {"training": in_settings}
    of_loop = fingerprints("loop", loop, root), fingerprints("train", in_settings, root)
    of_run = {"detector": "faces"}
    before = fingerprints("train-classifier", of_run, root)
    os.utime(RunFolder.named(root, "faces").best, ns=(1, 1))
    assert fingerprints("train-classifier", of_run, root) != before
    after = fingerprints("loop", loop, root), fingerprints("train", in_settings, root)
    assert all(new != old for new, old in zip(after, of_loop, strict=True))
