"""Parts of the Detectron2 engine: configurations and weights; and its evaluator agrees with ours."""

import os
import pickle
import socket

import numpy as np
import pandas as pd
import pytest
from engine_contract import DETECTRON2, DETECTRON2_SMALL, shapes_dataset, train_shapes

from curate.dataset import Predictions
from curate.errors import DataError, MissingError, UsageError
from curate.run_folder.config import TrainingConfig

pytest.importorskip("detectron2", reason="needs Detectron2, which is built from its repository")
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from sample_datasets import build_dataset, save

import curate
from curate.engines.detectron2_engine.config import plan_for
from curate.engines.detectron2_engine.data import dataset_dicts
from curate.engines.detectron2_engine.weights import load_initial_weights
from curate.evaluation.scores import score

pytestmark = pytest.mark.train
CPU = torch.device("cpu")
ZOO = "detectron2:COCO-Detection/"


def _plan(model, classes=3, **settings):
    return plan_for(TrainingConfig.checked(**({"model": model, "steps": 100, "batch": 4} | settings)), classes, CPU)


def _no_network(*_, **__):
    raise socket.gaierror("no network in this test")


# Its numbers are ours --------------------------------------------------------------------------------------------


def _instances(rows, classes, width, height):
    found = Instances((height, width))
    found.pred_boxes = Boxes(torch.tensor(rows[["x0", "y0", "x1", "y1"]].to_numpy()))
    found.scores = torch.tensor(rows["score"].to_numpy())
    found.pred_classes = torch.tensor([classes.index(id_) for id_ in rows["class_id"]], dtype=torch.int64)
    return found


def _faces_and_finds(root):
    """Random boxes of all sizes, and detections: shifted, with wrong classes, missing, and false positives."""
    rng = np.random.default_rng(3)

    def corners(count):
        low = rng.uniform(0, 180, (count, 2))
        return np.concatenate([low, low + rng.uniform(8, 120, (count, 2))], axis=1)

    names = ("with_mask", "without_mask", "badly_masked")
    rows = [[(names[rng.integers(3)], tuple(box)) for box in corners(rng.integers(0, 6)).tolist()] for _ in range(60)]
    dataset = build_dataset(root, rows, side_px=300)
    truth = dataset.boxes[["image_id", "class_id", "x0", "y0", "x1", "y1"]]
    invented = truth.sample(30, random_state=1).assign(
        **dict(zip(("x0", "y0", "x1", "y1"), corners(30).T, strict=True))
    )
    found = pd.concat([truth.sample(frac=0.8, random_state=2), invented], ignore_index=True)
    moved = found[["x0", "y0", "x1", "y1"]].to_numpy() + rng.normal(0, 3, (len(found), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 2)
    found[["x0", "y0", "x1", "y1"]] = moved
    ids = np.array([entry.id for entry in dataset.classes], dtype=np.int32)
    mistaken = rng.random(len(found)) < 0.15
    found["class_id"] = np.where(mistaken, rng.choice(ids, len(found)), found["class_id"]).astype(np.int32)
    return dataset, Predictions(found.assign(score=rng.random(len(found))))


def test_its_evaluator_gives_the_same_numbers(tmp_path):
    """COCOEvaluator, given the same detections, agrees with `score` on every AP to 1e-6."""
    dataset, found = _faces_and_finds(tmp_path / "faces")
    save(dataset, pictures=True)
    (file,) = curate.export_coco(dataset.root, tmp_path / "coco").files.values()
    name, ids = "curate-test-faces", [entry.id for entry in dataset.classes]
    MetadataCatalog.get(name).json_file = str(file)
    try:
        evaluator = COCOEvaluator(name, tasks=("bbox",), distributed=False, use_fast_impl=False)
        evaluator._metadata.thing_dataset_id_to_contiguous_id = {id_: place for place, id_ in enumerate(ids)}
        evaluator._metadata.thing_classes = [entry.name for entry in dataset.classes]
        evaluator.reset()
        for row in dataset.images.itertuples():
            rows = found.boxes[found.boxes["image_id"] == row.image_id]
            answer = {"instances": _instances(rows, ids, row.width, row.height)}
            evaluator.process([{"image_id": row.image_id}], [answer])
        told = evaluator.evaluate()["bbox"]
    finally:
        MetadataCatalog.remove(name)
    ours = score(dataset, found)
    keys = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "APs": "ap_small", "APm": "ap_medium", "APl": "ap_large"}
    assert {own: told[theirs] / 100 for theirs, own in keys.items()} == pytest.approx(
        {own: getattr(ours, own) for own in keys.values()}, abs=1e-6
    )
    assert {entry.name: told[f"AP-{entry.name}"] / 100 for entry in ours.classes} == pytest.approx(
        {entry.name: entry.ap for entry in ours.classes}, abs=1e-6
    )
    assert 0.05 < ours.ap < 0.95


# Data ------------------------------------------------------------------------------------------------------------


def test_dataset_dicts_keep_every_image_and_pixel(tmp_path):
    """Images without boxes are included; boxes are unchanged; classes are indices in declared order."""
    shapes = shapes_dataset(tmp_path, images=3, empty=1)
    dicts = dataset_dicts(shapes)
    assert [one["image_id"] for one in dicts] == [1, 2, 3]
    assert dicts[2]["annotations"] == []
    first = shapes.boxes.iloc[0]
    assert dicts[0]["annotations"][0]["bbox"] == first[["x0", "y0", "x1", "y1"]].tolist()
    assert dicts[0]["annotations"][0]["category_id"] == [7, 3].index(first["class_id"])


def test_no_catalog_is_left_behind(tmp_path):
    """A training registers nothing in Detectron2's global catalogs."""
    before = DatasetCatalog.list(), MetadataCatalog.list()
    train_shapes(shapes_dataset(tmp_path / "shapes"), tmp_path / "run", model=DETECTRON2, steps=1)
    assert (DatasetCatalog.list(), MetadataCatalog.list()) == before


# Configurations --------------------------------------------------------------------------------------------------


def test_the_articles_model_fits_our_classes_batch_and_steps():
    """X101-FPN: learning rate by batch size, milestones by steps, number of classes, no masks, the zoo's weights."""
    plan = _plan(ZOO + "faster_rcnn_X_101_32x8d_FPN_3x", steps=1000, batch=4)
    cfg = plan._cfg
    assert pytest.approx(0.02 * 4 / 16) == cfg.SOLVER.BASE_LR
    assert cfg.SOLVER.STEPS == (778, 926)  # 210,000 and 250,000 of 270,000
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.WARMUP_ITERS) == (1000, 4, 50)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.MASK_ON) == (3, False)
    assert plan.initial_weights.endswith("faster_rcnn_X_101_32x8d_FPN_3x/139173657/model_final_68b088.pkl")


@pytest.mark.parametrize(
    "name",
    [
        "faster_rcnn_R_50_C4_1x",
        "faster_rcnn_R_50_DC5_3x",
        "faster_rcnn_R_101_FPN_3x",
        "retinanet_R_50_FPN_3x",
        "retinanet_R_50_FPN_1x.py",
        "fcos_R_50_FPN_1x",
    ],
)
def test_every_kind_of_box_detector_has_a_plan(name):
    """Both configuration systems, all architectures: the network has the dataset's classes."""
    plan = _plan(ZOO + name, classes=5, image_size=320)
    assert plan.test_size.short_px == 320
    model = plan.build_model()
    assert 5 in {getattr(part, "num_classes", None) for part in model.modules()}
    assert plan.build_optimizer(model).param_groups
    assert plan.build_mapper() is not None


@pytest.mark.parametrize("name", ["rpn_R_50_FPN_1x", "fast_rcnn_R_50_FPN_1x"])
def test_models_that_are_not_detectors_are_refused(name):
    """Proposals without classes, and classes without proposals."""
    with pytest.raises(UsageError, match="does not return boxes with classes"):
        _plan(ZOO + name)


def test_a_typing_error_in_the_name_is_reported():
    """The error has the closest name of the zoo."""
    with pytest.raises(UsageError, match="Did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_3x'"):
        _plan(ZOO + "faster_rcnn_R50_FPN_3x")


def test_a_users_own_configuration_file(tmp_path):
    """A YAML file with Detectron2's keys is a model."""
    (tmp_path / "mine.yaml").write_text("MODEL:\n  META_ARCHITECTURE: RetinaNet\n  FPN: {OUT_CHANNELS: 64}\n")
    plan = _plan(f"detectron2:{tmp_path}/mine.yaml")
    assert (plan._cfg.MODEL.META_ARCHITECTURE, plan._cfg.MODEL.FPN.OUT_CHANNELS) == ("RetinaNet", 64)


def test_settings_are_its_own_keys():
    """`--set` overrides the values that curate sets."""
    plan = _plan(DETECTRON2, settings={"SOLVER.BASE_LR": 0.007, "INPUT.MIN_SIZE_TRAIN": [100, 200]})
    assert plan._cfg.SOLVER.BASE_LR == 0.007
    assert tuple(plan._cfg.INPUT.MIN_SIZE_TRAIN) == (100, 200)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SOLVER.BASE_LRR": 0.1}, "BASE_LRR"),
        ({"SOLVER.BASE_LR": "fast"}, "BASE_LR"),
        ({"SOLVER.MAX_ITER": 10}, "--steps"),
        ({"MODEL.DEVICE": "cpu"}, "--device"),
    ],
)
def test_a_setting_that_does_not_fit(settings, told):
    """Unknown keys, wrong types, and keys that have an option of their own."""
    with pytest.raises(UsageError, match=told):
        _plan(DETECTRON2, settings=settings)


def test_focal_loss_where_there_is_one():
    """RetinaNet and FCOS always have one; Faster R-CNN does not support it."""
    _plan(ZOO + "retinanet_R_50_FPN_3x", loss="focal")
    with pytest.raises(UsageError, match="does not support a focal loss"):
        _plan(DETECTRON2, loss="focal")


# Weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return _plan(DETECTRON2, classes=2, settings=DETECTRON2_SMALL).build_model()


def test_frozen_norms_from_random_weights_are_refused():
    """They diverge at once; the error names a model that can be trained from scratch."""
    model = _plan(ZOO + "retinanet_R_50_FPN_3x").build_model()
    with pytest.raises(UsageError, match=r"frozen batch norms.*_gn"):
        load_initial_weights(model, "none", "")


def test_a_zoo_file_is_read_and_reported(small, tmp_path):
    """Arrays match by name; missing tensors and those of another shape are reported."""
    arrays = {name: value.numpy() for name, value in small.state_dict().items()}
    dropped = next(iter(arrays))
    del arrays[dropped]
    arrays["roi_heads.box_predictor.cls_score.weight"] = np.zeros((81, 128), np.float32)
    arrays["extra"] = np.zeros(3, np.float32)
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    report = load_initial_weights(small, str(tmp_path / "zoo.pkl"), "")
    assert set(report.not_loaded) == {dropped, "roi_heads.box_predictor.cls_score.weight"}
    assert "extra" in report.not_used
    assert report.loaded == report.total - 2


def test_a_zoo_file_runs_no_code(small, tmp_path):
    """A pickle that would call a function is refused."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": {"a": Evil()}, "__author__": "x"}))
    with pytest.raises(DataError, match="not a file of tensors"):
        load_initial_weights(small, str(tmp_path / "evil.pkl"), "")
    assert not (tmp_path / "made").exists()


def test_weights_that_fit_nowhere_are_an_error(small, tmp_path):
    """A file without any matching tensor is refused."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="no tensor of the file fits"):
        load_initial_weights(small, str(tmp_path / "w.pth"), "")


def test_a_failed_download_names_the_remedy(small, monkeypatch, tmp_path):
    """Without network, the error has the URL and offers a local file."""
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    address = "https://dl.fbaipublicfiles.com/detectron2/some/model_final.pkl"
    with pytest.raises(MissingError, match=r"model_final\.pkl.*--weights FILE"):
        load_initial_weights(small, "default", address)
