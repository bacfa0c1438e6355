"""RetinaFace: anchors, matching, losses, the network's parts, and published weights."""

import hashlib
import json
import math
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from engine_contract import shapes_dataset, train_shapes
from extras import needs_torch
from repository_paths import SHARED_DATA

from curate.engines.base import engine_for
from curate.errors import DataError, MissingError, UsageError
from curate.run_folder.config import TrainingConfig

pytestmark = [pytest.mark.train, needs_torch]

LIGHT = "retinaface:mobilenet0.25"
SHARED = SHARED_DATA
WEIGHTS, VIDEOS = SHARED / "weights" / "retinaface_mobilenet0.25.pth", SHARED / "videos"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the published weights of ../shared/data are not here")
# of anchors 0, 101, 250 and the last, the first four numbers
PUBLISHED_NUMBERS = {
    "boxes": [
        *(0.67961, 1.38361, -2.23673, -1.34633, -0.4336, -0.4646, -0.20453, -0.31946),
        *(1.99232, 0.03106, -0.04036, 1.20601, 0.22615, 0.20225, -1.51467, -0.72184),
    ],
    "classes": [3.26726, -3.47659, 4.07344, -3.11775, 3.15076, -3.34954, 3.82854, -3.4902],
    "landmarks": [
        *(-0.71021, -0.3916, 2.33134, -0.50687, 0.03397, 0.06608, 0.29204, 0.36738),
        *(-0.86063, -1.55652, 1.60564, -1.07276, -0.70147, 0.03311, 0.62523, -0.1322),
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _torch(one_thread):
    """Torch is imported when the first test here runs: collecting tests takes no seconds for it."""
    global torch, gradcheck, origin, anchors_on, decode_boxes, decode_landmarks, encode_boxes, encode_landmarks
    global to_corners, synthetic_face, write_topology, build_model, box_loss, classification_loss
    global focal_classification_loss, landmark_loss, Context, DeformableConv, RetinaFace, convert_tensors, convert_name
    global published_model, PAPER, RetinaFaceSettings, BACKGROUND, IGNORED, assign_targets, match_anchors, load_weights
    import torch
    from torch.autograd import gradcheck

    from curate.engines.retinaface import download as origin
    from curate.engines.retinaface.anchors import (
        anchors_on,
        decode_boxes,
        decode_landmarks,
        encode_boxes,
        encode_landmarks,
        to_corners,
    )
    from curate.engines.retinaface.dense.synthetic import synthetic_face
    from curate.engines.retinaface.dense.topology_file import write_topology
    from curate.engines.retinaface.engine import build_model
    from curate.engines.retinaface.losses import box_loss, classification_loss, focal_classification_loss, landmark_loss
    from curate.engines.retinaface.network import Context, DeformableConv, RetinaFace
    from curate.engines.retinaface.published_weights import convert_name, convert_tensors, published_model
    from curate.engines.retinaface.settings import PAPER, RetinaFaceSettings
    from curate.engines.retinaface.targets import BACKGROUND, IGNORED, assign_targets, match_anchors
    from curate.engines.training.weights import load_weights


def _double(*values):
    return torch.tensor(values, dtype=torch.float64)


# Anchors ---------------------------------------------------------------------------------------------------------


def test_anchors_stand_at_the_cells_centres():
    """On 20×9 pixels, stride 8 has 3×2 cells with two anchors each; ordered by row, cell and size."""
    anchors = anchors_on(20, 9, (8, 16), ((10, 20), (32, 64)), torch.device("cpu"))
    assert len(anchors) == 3 * 2 * 2 + 2 * 1 * 2
    assert anchors[:3].tolist() == [[4, 4, 10, 10], [4, 4, 20, 20], [12, 4, 10, 10]]
    assert anchors[6].tolist() == [4, 12, 10, 10]
    assert anchors[12:14].tolist() == [[8, 8, 32, 32], [8, 8, 64, 64]]
    assert to_corners(anchors[1:2]).tolist() == [[-6, -6, 14, 14]]


def test_the_papers_anchors_span_16_to_406_pixels():
    """Three sizes per cell, each 2^(1/3) times the one before, from stride 4 to 64 (paper, table 1)."""
    sizes = [size for level in PAPER.anchor_sizes for size in level]
    assert sizes[0] == 16
    assert sizes[-1] == pytest.approx(406.37, abs=0.01)
    assert np.divide(sizes[1:], sizes[:-1]) == pytest.approx(2 ** (1 / 3), rel=1e-3)
    assert PAPER.strides == (4, 8, 16, 32, 64)
    # at 640 × 640 the paper counts 102,300 anchors, three quarters of them at P2
    anchors = anchors_on(640, 640, PAPER.strides, PAPER.anchor_sizes, torch.device("cpu"))
    assert len(anchors) == 102_300


def test_the_papers_numbers():
    """Section 4.2 and equation 1 of the paper."""
    assert (PAPER.positive_iou, PAPER.negative_iou, PAPER.negatives) == (0.5, 0.3, 3)
    assert (PAPER.box_weight, PAPER.landmark_weight, PAPER.dense_weight) == (0.25, 0.1, 0.01)
    assert (PAPER.channels, PAPER.deformable, PAPER.shared_head) == (256, True, True)


def test_a_box_is_encoded_relative_to_its_anchor():
    """Anchor centre (20, 20), side 10; box centre (25, 18), 20 wide, 5 high."""
    anchor = torch.tensor([[20.0, 20, 10, 10]])
    box = torch.tensor([[15.0, 15.5, 35, 20.5]])
    plain = encode_boxes(box, anchor, (1.0, 1.0))[0].tolist()
    assert plain == pytest.approx([0.5, -0.2, math.log(2), math.log(0.5)])
    divided = encode_boxes(box, anchor, (0.1, 0.2))[0].tolist()
    assert divided == pytest.approx([5, -2, math.log(2) / 0.2, math.log(0.5) / 0.2])
    assert decode_boxes(encode_boxes(box, anchor, (0.1, 0.2)), anchor, (0.1, 0.2))[0].tolist() == pytest.approx(
        box[0].tolist(), abs=1e-5
    )


def test_landmarks_are_encoded_relative_to_their_anchor():
    """Five points; x in units of the anchor's width, y of its height."""
    anchor = torch.tensor([[20.0, 20, 10, 20]])
    points = torch.tensor([[20.0, 20, 25, 20, 20, 40, 10, 0, 22, 26]])
    encoded = encode_landmarks(points, anchor, (0.1, 0.2))
    assert encoded[0].tolist() == pytest.approx([0, 0, 5, 0, 0, 10, -10, -10, 2, 3])
    assert decode_landmarks(encoded, anchor, (0.1, 0.2))[0].tolist() == pytest.approx(points[0].tolist())


def test_no_box_becomes_infinite():
    """Decoded sides are finite for any output of the network."""
    wild = torch.tensor([[1e4, -1e4, 1e4, 1e4]])
    assert decode_boxes(wild, torch.tensor([[0.0, 0, 10, 10]]), (0.1, 0.2)).isfinite().all()


# Matching --------------------------------------------------------------------------------------------------------


def _match(anchors, truth, **changes):
    settings = {"positive_iou": 0.5, "negative_iou": 0.3, "keep_every_truth": False} | changes
    return match_anchors(torch.tensor(anchors).float(), torch.tensor(truth).float().reshape(-1, 4), **settings).tolist()


def test_anchors_are_matched_by_their_iou():
    """IoU 1 and 0.5 are positive, 0.4 is ignored, 0.2 and 0 are background."""
    truth = [[0, 0, 10, 10]]
    anchors = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4], [0, 0, 10, 2], [50, 50, 60, 60]]
    assert _match(anchors, truth) == [0, 0, IGNORED, BACKGROUND, BACKGROUND]


def test_an_anchor_is_matched_with_the_box_of_the_highest_iou():
    """Of two boxes, the one with the higher IoU."""
    assert _match([[0, 0, 10, 10]], [[0, 0, 10, 6], [0, 0, 10, 9]]) == [1]


def test_a_box_may_keep_its_best_anchor():
    """With `keep_every_truth` a tiny box gets its best anchor; a box that no anchor overlaps gets none."""
    anchors, truth = [[0, 0, 10, 10], [20, 0, 30, 10]], [[1, 1, 3, 3], [80, 80, 90, 90]]
    assert _match(anchors, truth) == [BACKGROUND, BACKGROUND]
    assert _match(anchors, truth, keep_every_truth=True) == [0, BACKGROUND]


def test_without_boxes_all_anchors_are_background():
    """Images without boxes train the background."""
    assert _match([[0, 0, 10, 10]], []) == [BACKGROUND]


# Losses ----------------------------------------------------------------------------------------------------------


def test_classification_by_hand():
    """One positive anchor, the hardest background anchors, and one ignored anchor."""
    logits = torch.log(_double([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.1, 0.9]]))[0][None]
    logits = torch.cat([logits, torch.log(_double([0.999, 0.001])).expand(1, 20, 2)], dim=1)
    targets = torch.tensor([[1, 0, 0, 0, -1, *[0] * 20]])
    # at least sixteen negatives: these three and thirteen of the easy ones
    easy = -13 * math.log(0.999)
    expected = -math.log(0.8) - math.log(0.5) - math.log(0.9) - math.log(0.6) + easy
    assert classification_loss(logits, targets, negatives=2).item() == pytest.approx(expected)
    assert classification_loss(logits, targets, negatives=17).item() == pytest.approx(expected - math.log(0.999))


def test_classes_can_be_weighted():
    """Of two positive anchors, one of class 2 with weight 4; the background has weight 1."""
    logits = torch.log(_double([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]]))
    targets, weights = torch.tensor([[1, 2, 0]]), _double(1.0, 1, 4)
    expected = (-math.log(0.5) - 4 * math.log(0.8) - math.log(0.9)) / 2
    assert classification_loss(logits, targets, 7, weights).item() == pytest.approx(expected)
    focal = (0.25 * -math.log(0.5) + 4 * 0.04 * -math.log(0.8) + 0.01 * -math.log(0.9)) / 2
    assert focal_classification_loss(logits, targets, weights).item() == pytest.approx(focal)


def test_hard_negatives_are_mined_in_each_image():
    """Hard background in one image does not change the selection in another."""
    truth = [1] * 10
    logits = torch.zeros(2, 40, 2, dtype=torch.float64)
    logits[0, 10:, 1] = 5.0  # thirty mistakes
    targets = torch.tensor([[*truth, *[0] * 30], [*truth, *[0] * 30]])
    mistakes, doubt = math.log(1 + math.exp(5)), math.log(2)
    assert classification_loss(logits, targets, negatives=2).item() == pytest.approx(
        (20 * doubt + 20 * mistakes + 20 * doubt) / 20
    )


def test_focal_loss_by_hand():
    """(1 − p)² · −log p, over the anchors that are not ignored."""
    logits = torch.log(_double([[0.2, 0.8], [0.5, 0.5], [0.1, 0.9]]))
    expected = 0.2**2 * -math.log(0.8) + 0.5**2 * -math.log(0.5)
    assert focal_classification_loss(logits, torch.tensor([[1, 0, -1]])).item() == pytest.approx(expected)


def test_box_loss_by_hand():
    """Smooth L1: half the square below 1, the distance minus a half above; the sum divided by the anchors."""
    assert box_loss(_double([0.0, 0, 0, 0], [0, 0, 0, 0]), _double([0.5, 2, 0, 0], [0, 0, 1, 0])).item() == (
        pytest.approx((0.125 + 1.5 + 0.5) / 2)
    )


def test_unknown_landmarks_are_ignored():
    """One face has no points, the other has one unknown point."""
    nan = math.nan
    targets = _double([2.0, 0, nan, nan, 0, 0, 0, 0, 0, 0], [nan] * 10)
    assert landmark_loss(torch.zeros(2, 10, dtype=torch.float64), targets).item() == pytest.approx(1.5)
    assert landmark_loss(torch.zeros(0, 10), torch.zeros(0, 10)).item() == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_of_the_classification(classes):
    """Compared with finite differences, including hard-negative mining."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 60, classes + 1, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(-1, classes + 1, (2, 60), generator=generator)
    assert gradcheck(lambda logits: classification_loss(logits, targets, 1), logits)
    assert gradcheck(lambda logits: focal_classification_loss(logits, targets), logits)


def test_gradient_of_the_box_term():
    """Compared with finite differences, below and above 1."""
    generator = torch.Generator().manual_seed(2)
    encoded = (3 * torch.randn(6, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    assert gradcheck(lambda encoded: box_loss(encoded, torch.zeros_like(encoded)), encoded)


def test_gradient_of_the_landmark_term():
    """Compared with finite differences; unknown points have no gradient."""
    generator = torch.Generator().manual_seed(3)
    encoded = (3 * torch.randn(5, 10, generator=generator, dtype=torch.float64)).requires_grad_()
    targets = torch.zeros(5, 10, dtype=torch.float64)
    targets[1, 2:4], targets[4] = math.nan, math.nan
    assert gradcheck(lambda encoded: landmark_loss(encoded, targets), encoded)
    (gradient,) = torch.autograd.grad(landmark_loss(encoded, targets), encoded)
    assert (gradient[4] == 0).all()
    assert gradient.isfinite().all()


# The network -----------------------------------------------------------------------------------------------------


def _targets(landmarks=None):
    target = {"boxes": torch.tensor([[10.0, 10, 40, 50]]), "labels": torch.tensor([1])}
    return [target if landmarks is None else target | {"landmarks": landmarks}]


def _network(**settings):
    torch.manual_seed(0)
    return build_model("mobilenet0.25", 2, None, settings).network


def test_the_light_model_has_as_many_parameters_as_published():
    """426,608 for one class."""
    network = build_model("mobilenet0.25", 1, None, {}).network
    assert sum(parameter.numel() for parameter in network.parameters()) == 426_608


def test_terms_of_the_loss_are_weighted():
    """Doubling a weight doubles its term and no other."""
    images = [torch.rand(3, 64, 64)]
    once, twice = (_network(box_weight=weight).train()(images, _targets()) for weight in (1.0, 2.0))
    assert set(once) == {"loss_classes", "loss_boxes"}
    assert twice["loss_boxes"].item() == pytest.approx(2 * once["loss_boxes"].item(), rel=1e-5)
    assert twice["loss_classes"].item() == pytest.approx(once["loss_classes"].item(), rel=1e-5)


def test_landmarks_are_trained_if_known():
    """With landmarks there is a third term, with gradients in its head."""
    network = _network().train()
    losses = network([torch.rand(3, 64, 64)], _targets(torch.full((1, 10), 30.0)))
    losses["loss_landmarks"].backward()
    assert sum(level.weight.grad.abs().sum().item() for level in network.head.landmarks) > 0


@pytest.mark.parametrize("sizes", [((40, 56), (128, 160)), ((64, 64), (64, 64))])
def test_images_of_a_batch_are_independent(sizes):
    """Each image gets the same result as alone, whatever the sizes of the others."""
    network = _network(score=0.0).eval()
    images = [torch.rand(3, *size) for size in sizes]
    with torch.inference_mode():
        together, alone = network(images), [network([image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one["scores"], other["scores"], atol=1e-6)
        assert torch.allclose(one["boxes"], other["boxes"], atol=1e-3)


def test_each_image_of_a_batch_has_its_own_targets():
    """The second image's only box has another class and place than the first box of the first image."""
    anchors = torch.tensor([[20.0, 20, 20, 20], [50, 50, 20, 20]])
    boxes = torch.tensor([[10.0, 10, 30, 30], [40, 40, 60, 60]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2])},
        {"boxes": boxes[1:], "labels": torch.tensor([3])},
    ]
    assigned = assign_targets(anchors, targets, RetinaFaceSettings())
    assert assigned.classes.tolist() == [[1, 2], [0, 3]]
    assert assigned.gather("boxes").tolist() == [*boxes.tolist(), boxes[1].tolist()]
    assert assigned.gather("labels").tolist() == [1, 2, 3]


def test_settings_reach_the_loss():
    """A class weight changes only anchors of its class; the focal loss differs from the default."""
    images, targets = [torch.rand(3, 64, 64)], [_targets()[0] | {"labels": torch.tensor([2])}]

    def loss(loss="default", **settings):
        torch.manual_seed(0)
        network = build_model("mobilenet0.25", 2, None, settings | {"negatives": 0}, loss).network.train()
        return network(images, targets)["loss_classes"].item()

    assert loss(class_weights=[9, 1]) == pytest.approx(loss(), rel=1e-6)
    assert loss(class_weights=[1, 9]) > 1.5 * loss()
    assert loss("focal") != pytest.approx(loss(), rel=0.05)


def test_settings_reach_the_output():
    """Lowest score, number of detections, and IoU of non-maximum suppression."""

    def found(**settings):
        torch.manual_seed(0)
        with torch.inference_mode():
            return _network(**settings).eval()([torch.rand(3, 96, 96)])[0]

    everything = found(score=0.0, nms_iou=1.0, detections=10_000)
    assert len(everything["scores"]) > 300
    assert len(found(score=0.0, detections=7)["scores"]) == 7
    middle = everything["scores"].median().item()
    assert found(score=middle, nms_iou=1.0)["scores"].min() > middle
    assert len(found(score=0.0, nms_iou=0.1, detections=10_000)["scores"]) < len(everything["scores"]) / 2


def test_one_class_does_not_silence_another():
    """Two equally probable classes of one anchor are both returned."""
    network = _network(score=0.2).eval()
    for level in network.head.classes:
        torch.nn.init.zeros_(level.weight)
        torch.nn.init.zeros_(level.bias)
    with torch.inference_mode():
        (found,) = network([torch.rand(3, 64, 64)])
    assert set(found["labels"].tolist()) == {1, 2}
    assert found["scores"].tolist() == pytest.approx([1 / 3] * len(found["scores"]))


def test_five_levels_reach_from_stride_4_to_64():
    """The paper's pyramid on the light backbone: shapes of the feature maps and number of anchors."""
    network = RetinaFace("mobilenet0.25", RetinaFaceSettings(channels=16, anchor_sizes=PAPER.anchor_sizes), 1).train()
    maps = network.backbone(torch.rand(1, 3, 128, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (16, 32, 24),
        (16, 16, 12),
        (16, 8, 6),
        (16, 4, 3),
        (16, 2, 2),
    ]
    assert network.head(maps)["boxes"].shape == (1, 3 * (32 * 24 + 16 * 12 + 8 * 6 + 4 * 3 + 2 * 2), 4)
    losses = network([torch.rand(3, 128, 96)], _targets())
    assert all(term.isfinite() for term in losses.values())


def test_a_deformable_convolution_begins_as_a_plain_one():
    """Its initial offsets are 0 and its weights 1."""
    torch.manual_seed(0)
    convolution, features = DeformableConv(4, 6), torch.rand(2, 4, 9, 7)
    plain = torch.nn.functional.conv2d(features, convolution.weight, padding=1)
    assert torch.allclose(convolution(features), plain, atol=1e-5)


def test_deformable_convolutions_train_on_a_cpu():
    """Forward and backward pass through pyramid and context modules; offsets and weights get gradients."""
    network = _network(deformable=True).train()
    losses = network([torch.rand(3, 64, 64)], _targets())
    sum(losses.values()).backward()
    deformable = [module for module in network.modules() if isinstance(module, DeformableConv)]
    assert len(deformable) == 2 + 3 * 5
    shifted = [module.sampling.weight.grad.abs().sum().item() for module in deformable]
    assert all(math.isfinite(value) for value in shifted)
    assert sum(value > 0 for value in shifted) > len(deformable) / 2


def test_gradient_of_a_deformable_context_module():
    """Compared with finite differences, in double precision, with fractional offsets."""
    torch.manual_seed(0)
    module = Context(4, leak=0.1, deformable=True).double().eval()
    for part in module.modules():
        if isinstance(part, DeformableConv):
            torch.nn.init.normal_(part.sampling.weight, std=0.05)
            torch.nn.init.uniform_(part.sampling.bias, 0.1, 0.4)
    features = torch.rand(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(module, features, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet50", "resnet152"])
def test_the_papers_backbones_train_on_a_cpu(name):
    """ResNet with P2 to P6, 256 channels, deformable convolutions, three anchors per cell."""
    network = build_model(name, 1, None, {}).network.train()
    losses = network([torch.rand(3, 128, 128)] * 2, _targets() * 2)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.head.boxes.parameters())


# The dense branch ------------------------------------------------------------------------------------------------


@pytest.fixture
def mesh(tmp_path):
    """A mesh file with few triangles."""
    write_topology(synthetic_face(levels=3), tmp_path / "mesh.npz")
    return tmp_path / "mesh.npz"


def test_the_dense_term_trains_head_decoder_and_backbone(mesh):
    """It is weighted, and its gradient reaches everything that contributed to the image."""
    images = [torch.rand(3, 64, 64)]
    terms = [_network(mesh=str(mesh), dense_weight=weight).train()(images, _targets()) for weight in (0.01, 1.0)]
    assert terms[1]["loss_dense"].item() == pytest.approx(100 * terms[0]["loss_dense"].item(), rel=1e-4)
    network = _network(mesh=str(mesh)).train()
    network(images, _targets())["loss_dense"].backward()
    moved = {
        name for name, value in network.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert {name.split(".")[0] for name in moved} == {"backbone", "dense"}
    assert {name.split(".")[1] for name in moved if name.startswith("dense")} == {"heads", "branch"}


def test_inference_needs_no_mesh(mesh, tmp_path):
    """Without the mesh file, a checkpoint can be loaded, and used as initial weights."""
    dataset = shapes_dataset(tmp_path / "shapes")
    run = train_shapes(dataset, tmp_path / "run", model=LIGHT, settings={"mesh": str(mesh)}, steps=2)
    assert run.read_metrics()[-1]["loss_dense"] > 0
    mesh.unlink()
    network = engine_for(LIGHT).load(run.best, "cpu")._network
    assert network.dense is None
    again = train_shapes(dataset, tmp_path / "again", model=LIGHT, weights=str(run.best), steps=1)
    assert again.read_record().weights.not_loaded == ()


def test_a_missing_mesh_file_is_named(tmp_path):
    """The error comes before training."""
    with pytest.raises(UsageError, match=r"no\.npz"):
        _network(mesh=str(tmp_path / "no.npz"))


# Settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"anchor_sizes": [[10], [20]]}, "three or five levels"),
        ({"anchor_sizes": [[10], [20, 30], [40]]}, "equally many"),
        ({"anchor_sizes": [[0], [20], [30]]}, "anchor_sizes"),
        ({"anchor_sizes": [[], [], []]}, "equally many"),
        ({"leak": -1}, "leak"),
        ({"detections": 0}, "detections"),
        ({"score": math.nan}, "score"),
        ({"nms_iou": 5}, "nms_iou"),
        ({"box_weight": -1}, "box_weight"),
        ({"negatives": 10**20}, "negatives"),
        ({"variances": [0, 1]}, "variances"),
        ({"positive_iou": 0.3, "negative_iou": 0.4}, "negative_iou ≤ positive_iou"),
        ({"channels": 30}, "multiple of 4"),
        ({"class_weights": [1, 2]}, "1 numbers over 0"),
        ({"pixels": "grey"}, "pixels"),
        ({"colour": 1}, "unknown setting"),
    ],
)
def test_invalid_settings_are_named(settings, words):
    """The error comes before training."""
    with pytest.raises(UsageError, match=words):
        build_model("mobilenet0.25", 1, None, settings)


def test_an_unknown_backbone_is_named():
    """The error lists the known ones."""
    with pytest.raises(UsageError, match=r"mobilenet0\.5.*mobilenet0\.25, resnet50, resnet152"):
        build_model("mobilenet0.5", 1, None, {})


# Published weights -----------------------------------------------------------------------------------------------


def _published_names(network):
    """The network's own tensors under the names of the published files."""
    context = {
        "see3": "conv3X3",
        "narrow5": "conv5X5_1",
        "see5": "conv5X5_2",
        "narrow7": "conv7X7_2",
        "see7": "conv7x7_3",
    }
    tensors = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        if name.startswith("backbone.body."):
            other = name.removeprefix("backbone.")
        elif parts[1] == "pyramid":
            side = {"lateral": "output", "merge": "merge"}[parts[2]]
            other = f"fpn.{side}{int(parts[3]) + 1}." + ".".join(parts[4:])
        elif parts[1] == "context":
            other = f"ssh{int(parts[2]) + 1}.{context[parts[3]]}." + ".".join(parts[4:])
        else:
            head = {"classes": "ClassHead", "boxes": "BboxHead", "landmarks": "LandmarkHead"}[parts[1]]
            other = f"{head}.{parts[2]}.conv1x1.{parts[3]}"
        assert convert_name(f"module.{other}") == name
        tensors[f"module.{other}"] = value
    return tensors


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file in the published layout, with random weights."""
    file = tmp_path_factory.mktemp("weights") / "face.pth"
    torch.manual_seed(0)
    torch.save(_published_names(build_model("mobilenet0.25", 1, None, {}).network), file)
    return file


def test_a_published_file_is_loaded_as_it_is(published):
    """All its tensors, under their published names; it has one class."""
    engine = engine_for(LIGHT)
    assert engine.model_in(published) == LIGHT
    assert [tuple(entry) for entry in engine.load(published, "cpu").classes] == [(1, "face")]


def test_a_published_file_that_lacks_a_tensor_is_refused(published, tmp_path):
    """The one-line error names the first missing tensor."""
    tensors = torch.load(published)
    del tensors["module.fpn.merge1.0.weight"]
    torch.save(tensors, tmp_path / "part.pth")
    with pytest.raises(DataError, match=r"not the published weights of mobilenet0\.25 .*pyramid\.merge\.0\.0\.weight"):
        engine_for(LIGHT).load(tmp_path / "part.pth", "cpu")


def test_other_files_are_no_published_weights(tmp_path):
    """Other files are refused as checkpoints."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    assert engine_for(LIGHT).model_in(tmp_path / "other.pth") is None
    with pytest.raises(DataError, match="not a checkpoint"):
        engine_for(LIGHT).load(tmp_path / "other.pth", "cpu")


def test_a_one_class_head_is_extended_to_all_classes(published):
    """Three classes start with equal probabilities, whose sum is that of the one class."""
    tensors = torch.load(published)
    one, three = (build_model("mobilenet0.25", classes, None, {}).network.eval() for classes in (1, 3))
    one.load_state_dict(convert_tensors(tensors, RetinaFaceSettings(), 1))
    three.load_state_dict(convert_tensors(tensors, RetinaFaceSettings(), 3))
    canvas = one._canvas([torch.rand(3, 64, 96)])
    face = one.head(one.backbone(canvas))["classes"].softmax(-1)[..., 1]
    classes = three.head(three.backbone(canvas))["classes"].softmax(-1)
    assert torch.allclose(classes[..., 1:].sum(-1), face, atol=1e-6)
    assert torch.allclose(classes[..., 1], classes[..., 3])


def test_published_weights_do_not_fit_other_levels(published):
    """A network with five levels, or with another normalisation, is refused."""
    for settings in ({"pixels": "standardised"}, {"anchor_sizes": [[8], [16], [32], [64], [128]]}):
        model = build_model("mobilenet0.25", 1, None, settings)
        with pytest.raises(UsageError, match=r"other levels .*Leave out --set anchor_sizes and --set pixels\."):
            load_weights(model, "mobilenet0.25", str(published))


def test_a_published_resnet_is_loaded_and_names_the_settings_to_train_from_it(tmp_path):
    """It has three levels and centred pixels; a network with the paper's settings is refused."""
    name, settings = published_model({"body.layer1.0.conv1.weight": torch.zeros(1)})
    assert (name, settings["pixels"], len(settings["anchor_sizes"])) == ("resnet50", "centred", 3)
    torch.manual_seed(0)
    network = build_model(name, 1, None, settings).network
    torch.save(_published_names(network), tmp_path / "resnet.pth")
    engine = engine_for("retinaface:resnet50")
    assert engine.model_in(tmp_path / "resnet.pth") == "retinaface:resnet50"
    loaded = engine.load(tmp_path / "resnet.pth", "cpu")._network
    first = network.backbone.body.conv1.weight.flip(1)  # published files see blue first
    scale = network.backbone.body.bn1.weight / torch.sqrt(network.backbone.body.bn1.running_var + 1e-5)
    assert loaded._settings.anchor_sizes == ((16, 32), (64, 128), (256, 512))
    assert torch.allclose(loaded.backbone.body.conv1.weight, first) or torch.allclose(
        loaded.backbone.body.conv1.weight, first * scale[:, None, None, None]
    )
    model = build_model(name, 2, None, {})
    with pytest.raises(UsageError, match=r"other levels .*--set pixels=") as caught:
        load_weights(model, name, str(tmp_path / "resnet.pth"))
    words = re.findall(r"--set (\w+)=(\S+?)\.?(?= --set|$)", str(caught.value))
    wanted = {key: json.loads(value) for key, value in words}
    assert load_weights(build_model(name, 2, None, wanted), name, str(tmp_path / "resnet.pth")).not_loaded == ()


@pytest.mark.parametrize("content", [b"", b"x" * 10])
def test_an_incomplete_download_is_refused(content, tmp_path):
    """An empty file, or one of a few bytes, is not a file of tensors."""
    (tmp_path / "e.pth").write_bytes(content)
    with pytest.raises(DataError, match=r"e\.pth"):
        engine_for(LIGHT).load(tmp_path / "e.pth", "cpu")
    with pytest.raises(DataError, match="not a file of tensors"):
        load_weights(build_model("mobilenet0.25", 1, None, {}), "mobilenet0.25", str(tmp_path / "e.pth"))


def test_a_broken_file_in_the_cache_is_fetched_again(served, monkeypatch):
    """`doctor` and trainings check the file in the cache, which may be left from an interrupted download."""
    from curate.commands.doctor import doctor

    monkeypatch.setattr(origin, "LIGHT_SHA256", hashlib.sha256(served.read_bytes()).hexdigest())
    origin.light_file().parent.mkdir(parents=True)
    origin.light_file().write_bytes(b"")
    (check,) = (check for check in doctor().checks if check.name == "RetinaFace weights")
    assert not check.ok
    assert load_weights(build_model("mobilenet0.25", 2, None, {}), "mobilenet0.25", "default").not_loaded == ()


def test_training_starts_from_published_weights(published, tmp_path):
    """Every tensor is filled, also for other classes."""
    run = train_shapes(
        shapes_dataset(tmp_path / "shapes"), tmp_path / "run", model=LIGHT, weights=str(published), steps=1
    )
    report = run.read_record().weights
    assert (report.how, report.loaded, report.not_loaded) == ("by name", report.total, ())


def test_settings_of_a_run_are_kept_in_its_checkpoint(tmp_path):
    """`load` uses the anchors and levels that `--set` gave the training."""
    settings = {"anchor_sizes": [[8], [16], [32], [64], [128]], "channels": 16, "deformable": True}
    run = train_shapes(shapes_dataset(tmp_path / "shapes"), tmp_path / "run", model=LIGHT, settings=settings, steps=1)
    network = engine_for(LIGHT).load(run.best, "cpu")._network
    assert len(network.head.boxes) == 5
    assert TrainingConfig(**run.read_config()).settings["channels"] == 16


def _drawn_picture():
    """Waves of three frequencies, identical on every machine. 3×96×128 in 0..1, multiples of 1/255."""
    y, x = np.mgrid[:96, :128]
    waves = [(x * 3 + y * 5) % 256, (x * x // 16 + y) % 256, (x * y // 8) % 256]
    return torch.from_numpy(np.stack(waves).astype(np.float32) / 255)


@needs_weights
def test_the_published_light_detector_gives_its_numbers():
    """Equal to 1e-4 to the output of the authors' code for the same image (their commit 2b075657, torch 2.15)."""
    network = engine_for(LIGHT).load(WEIGHTS, "cpu")._network
    with torch.inference_mode():
        found = network.head(network.backbone(network._canvas([_drawn_picture()])))
    seen = {name: value[0, [0, 101, 250, -1], :4].flatten().tolist() for name, value in found.items()}
    for name, numbers in PUBLISHED_NUMBERS.items():
        assert seen[name] == pytest.approx(numbers, abs=1e-4)


@needs_weights
@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the videos of ../shared/data are not here")
@pytest.mark.parametrize(
    "sign", ["hungry", *(pytest.param(sign, marks=pytest.mark.long) for sign in ("please", "thanks", "yes"))]
)
def test_watch_finds_the_signing_persons_face(sign, tmp_path):
    """In at least 95 % of the frames, with few others: one person has a skull on the shirt."""
    from curate.commands.watch import watch

    table = tmp_path / "found.parquet"
    result = watch(LIGHT, str(VIDEOS / f"asl_{sign}.mkv"), weights=str(WEIGHTS), detections=str(table))
    found = pd.read_parquet(table)
    assert found["frame_index"].nunique() >= 0.95 * result.frames
    assert len(found) <= 2.1 * result.frames
    assert set(found["class"]) == {"face"}


@pytest.fixture
def served(published, tmp_path, monkeypatch):
    """The published file on a local server, and an empty cache."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(published.parent))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(origin, "LIGHT_URL", f"http://127.0.0.1:{server.server_port}/{published.name}")
        yield published
        server.shutdown()
        thread.join()


def test_default_weights_are_downloaded_once_and_checked(served, monkeypatch):
    """They are in torch's cache, where `doctor` finds them, and are not downloaded a second time."""
    from curate.commands.doctor import doctor

    digest = hashlib.sha256(served.read_bytes()).hexdigest()
    monkeypatch.setattr(origin, "LIGHT_SHA256", digest)
    model = build_model("mobilenet0.25", 2, None, {})
    assert load_weights(model, "mobilenet0.25", "default").not_loaded == ()
    monkeypatch.setattr(origin, "LIGHT_URL", "http://127.0.0.1:9/nothing")
    assert load_weights(model, "mobilenet0.25", "default").not_loaded == ()
    (check,) = (check for check in doctor().checks if check.name == "RetinaFace weights")
    assert check.ok


def test_a_download_with_another_checksum_is_refused(served):
    """The file is not kept."""
    with pytest.raises(MissingError, match=r"cannot be downloaded.*invalid hash"):
        load_weights(build_model("mobilenet0.25", 2, None, {}), "mobilenet0.25", "default")
    assert not origin.light_file().exists()


def test_an_imagenet_backbone_fills_the_body(tmp_path):
    """A classifier's weights, with the name prefix of data-parallel training, fill the whole backbone."""
    body = build_model("mobilenet0.25", 2, None, {}).body.state_dict()
    classifier = {f"module.{name}": value + 1 for name, value in body.items()} | {
        "module.fc.weight": torch.zeros(9, 256)
    }
    torch.save({"state_dict": classifier}, tmp_path / "imagenet.tar")
    model = build_model("mobilenet0.25", 2, None, {})
    report = load_weights(model, "mobilenet0.25", str(tmp_path / "imagenet.tar"))
    assert report.not_used == ("fc.weight",)
    assert not [name for name in report.not_loaded if name.startswith("backbone.body.")]
    weight = "stage1.0.0.weight"
    assert torch.equal(model.body.state_dict()[weight], body[weight] + 1)


def test_a_checkpoint_that_lacks_a_tensor_is_one_line(published, tmp_path):
    """The error names file and tensor."""
    run = train_shapes(
        shapes_dataset(tmp_path / "shapes"), tmp_path / "run", model=LIGHT, weights=str(published), steps=1
    )
    document = torch.load(run.best, weights_only=True)
    del document["weights"]["head.boxes.0.weight"]
    torch.save(document, run.best)
    with pytest.raises(DataError, match=r"do not fit its model .*head\.boxes\.0\.weight"):
        engine_for(LIGHT).load(run.best, "cpu")


def test_a_run_needs_no_other_file(published, tmp_path):
    """The initial weights can be removed after the training."""
    file = shutil.copy(published, tmp_path / "face.pth")
    run = train_shapes(shapes_dataset(tmp_path / "shapes"), tmp_path / "run", model=LIGHT, weights=str(file), steps=1)
    (tmp_path / "face.pth").unlink()
    assert len(engine_for(LIGHT).load(run.best, "cpu").predict([np.zeros((64, 64, 3), dtype=np.uint8)])) == 1
