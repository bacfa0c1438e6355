"""Settings of RetinaFace that `--set` can change, besides the training recipe: network, matching, loss, output."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from curate.errors import UsageError

_Share = Annotated[float, Field(ge=0, le=1)]
_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Size = Annotated[float, Field(ge=1, le=1e5)]
_Positive = Annotated[float, Field(gt=0, le=1e3)]


@dataclass(frozen=True)
class RetinaFaceSettings:
    """The defaults are those of the published light model, and fit its weights.

    Attributes:
        channels: Channels of the pyramid's feature maps and the context modules.
        anchor_sizes: Sides of the square anchors in pixels at the model's scale, for each level of the pyramid. Three
            levels have strides 8, 16, 32; five have strides 4 (P2) to 64 (P6).
        variances: Divisors of the encoded centres and sides.
        pixels: Normalisation of the input. "centred": red, green, blue from 0 to 255 minus (123, 117, 104), as in the
            published light detector; "standardised": as torchvision's backbones expect.
        leak: Slope of the leaky ReLUs below 0. The published light detector has 0; a published ImageNet backbone of the
            same architecture has 0.1, and standardised pixels.
        deformable: Whether the 3×3 convolutions of pyramid and context modules are deformable.
        shared_head: Whether all levels share one head.
        positive_iou: An anchor with at least this IoU with a box is positive.
        negative_iou: An anchor with a lower IoU with every box is background; those in between are ignored.
        keep_every_truth: Whether a box without a positive anchor is matched with the anchor of its highest IoU.
        negatives: Background anchors per positive anchor in the loss; the hardest ones.
        box_weight, landmark_weight, dense_weight: Weights of these terms of the loss; that of the classes is 1.
        class_weights: Weights of the classes, in their order, in the classification loss; empty means 1 each.
        mesh: Mesh file of the dense branch; empty means no dense branch.
        score: Detections with a lower score are left out.
        nms_iou: Of two detections of one class with a higher IoU, the one with the lower score is left out.
        detections: Largest number of detections per image.
    """

    channels: Annotated[int, Field(ge=4, le=4096)] = 64
    anchor_sizes: tuple[tuple[_Size, ...], ...] = ((10, 20), (32, 64), (128, 256))
    variances: tuple[_Positive, _Positive] = (0.1, 0.2)
    pixels: Literal["centred", "standardised"] = "centred"
    leak: _Share = 0.0
    deformable: bool = False
    shared_head: bool = False
    positive_iou: _Share = 0.35
    negative_iou: _Share = 0.35
    keep_every_truth: bool = True
    negatives: Annotated[int, Field(ge=0, le=10_000)] = 7
    box_weight: _Weight = 2.0
    landmark_weight: _Weight = 1.0
    dense_weight: _Weight = 0.01
    class_weights: tuple[_Positive, ...] = ()
    mesh: str = ""
    score: _Share = 0.02
    nms_iou: _Share = 0.5
    detections: Annotated[int, Field(ge=1, le=10_000)] = 200

    @property
    def levels(self) -> int:
        """Number of the pyramid's levels."""
        return len(self.anchor_sizes)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the levels, in pixels."""
        return (8, 16, 32) if self.levels == 3 else (4, 8, 16, 32, 64)

    @property
    def anchors_per_cell(self) -> int:
        """Number of anchors per cell, the same at every level."""
        return len(self.anchor_sizes[0])


# "an anchor scale step of 2^(1/3)": 16, 20, 25 at P2 to 256, 323, 406 at P6 (paper, table 1)
_PAPER_ANCHORS = tuple(tuple(round(16 * 2 ** (level + part / 3), 2) for part in range(3)) for level in range(5))
PAPER = RetinaFaceSettings(
    channels=256,
    anchor_sizes=_PAPER_ANCHORS,
    variances=(1.0, 1.0),
    pixels="standardised",
    deformable=True,
    shared_head=True,
    positive_iou=0.5,
    negative_iou=0.3,
    keep_every_truth=False,
    negatives=3,
    box_weight=0.25,
    landmark_weight=0.1,
)
# of published weights for ResNet-50: three levels, with more channels than the light model
PUBLISHED_RESNET = RetinaFaceSettings(channels=256, anchor_sizes=((16, 32), (64, 128), (256, 512)))
DEFAULTS: Mapping[str, RetinaFaceSettings] = MappingProxyType(
    {"mobilenet0.25": RetinaFaceSettings(), "resnet50": PAPER, "resnet152": PAPER}
)


def check_consistent(settings: RetinaFaceSettings, class_count: int) -> None:
    """Refuse settings that contradict one another.

    Raises:
        UsageError: The message names the setting.
    """
    counts = {len(sizes) for sizes in settings.anchor_sizes}
    if settings.levels not in (3, 5) or len(counts) != 1 or 0 in counts:
        raise UsageError(
            "wrong number of anchor sizes",
            place="--set anchor_sizes",
            got=settings.anchor_sizes,
            expected="three or five levels with equally many sizes, such as [[10,20],[32,64],[128,256]]",
        )
    if not 0 < settings.negative_iou <= settings.positive_iou <= 1:
        raise UsageError(
            "the IoU limits contradict each other",
            place="--set negative_iou, positive_iou",
            got=f"{settings.negative_iou} and {settings.positive_iou}",
            expected="0 < negative_iou ≤ positive_iou ≤ 1",
        )
    if settings.class_weights and len(settings.class_weights) != class_count:
        raise UsageError(
            "wrong number of class weights",
            place="--set class_weights",
            got=settings.class_weights,
            expected=f"{class_count} numbers over 0",
        )
    if settings.channels % 4:
        raise UsageError(
            "invalid number of channels", place="--set channels", got=settings.channels, expected="a multiple of 4"
        )
