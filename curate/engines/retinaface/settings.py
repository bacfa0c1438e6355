"""The shape of a RetinaFace, and how it matches, learns and answers: what `--set` may change beside the recipe."""

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
class Shape:
    """The defaults are those of the published light model, whose weights then fit.

    Attributes:
        channels: of the pyramid's maps and the context modules.
        anchor_sizes: sides of the square anchors in pixels at the model's scale, for each level; the number of levels,
            three or five, is that of the pyramid: strides 8, 16, 32, or 4 (P2) to 64 (P6).
        variances: by which the targets of centres and of sides are divided.
        pixels: how the network sees them: "centred": red, green, blue from 0 to 255 minus (123, 117, 104), as in the
            published light detector; "standardised": as torchvision's backbones expect.
        leak: slope of the rectifiers below 0. The published light detector has 0; an ImageNet backbone of the same
            shape that others published has 0.1, and standardised pixels.
        deformable: whether the 3×3 convolutions of pyramid and context modules sample where they choose.
        shared_head: whether one head serves all levels.
        positive_iou: an anchor with this IoU or more with a truth learns it.
        negative_iou: an anchor below this IoU with every truth learns background; those between learn nothing.
        keep_every_truth: whether a truth that no anchor meets by `positive_iou` gets the anchor that meets it best.
        negatives: background anchors that learn for each one that learns a truth; the hardest ones.
        box_weight, landmark_weight, dense_weight: of the terms of the loss; that of the classes is 1.
        class_weights: of the classes in their order, in the term of the classes; empty: 1 each.
        mesh: file of the mesh of the dense branch; empty: no such branch.
        score: detections below it are not told.
        nms_iou: of two detections of one class that overlap by more, the better one is told.
        detections: at most so many in an image.
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
        """Of the pyramid."""
        return len(self.anchor_sizes)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels, in pixels."""
        return (8, 16, 32) if self.levels == 3 else (4, 8, 16, 32, 64)

    @property
    def anchors_a_cell(self) -> int:
        """The same at every level."""
        return len(self.anchor_sizes[0])


# "an anchor scale step of 2^(1/3)": 16, 20, 25 at P2 to 256, 323, 406 at P6 (paper, table 1)
_PAPER_ANCHORS = tuple(tuple(round(16 * 2 ** (level + part / 3), 2) for part in range(3)) for level in range(5))
PAPER = Shape(
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
# what others published for ResNet-50 has three levels, with wider maps than the light model
PUBLISHED_RESNET = Shape(channels=256, anchor_sizes=((16, 32), (64, 128), (256, 512)))
SHAPES: Mapping[str, Shape] = MappingProxyType({"mobilenet0.25": Shape(), "resnet50": PAPER, "resnet152": PAPER})


def check_shape(shape: Shape, class_count: int) -> Shape:
    """Refuse numbers that do not go together.

    Raises:
        UsageError: it names the setting.
    """
    counts = {len(sizes) for sizes in shape.anchor_sizes}
    if shape.levels not in (3, 5) or len(counts) != 1 or 0 in counts:
        raise UsageError(
            "not anchors for a pyramid",
            place="--set anchor_sizes",
            got=shape.anchor_sizes,
            expected="three or five levels of equally many sizes, such as [[10,20],[32,64],[128,256]]",
        )
    if not 0 < shape.negative_iou <= shape.positive_iou <= 1:
        got = f"{shape.negative_iou} and {shape.positive_iou}"
        raise UsageError(
            "bounds that do not go together",
            place="--set negative_iou, positive_iou",
            got=got,
            expected="0 < negative_iou ≤ positive_iou ≤ 1",
        )
    if shape.class_weights and len(shape.class_weights) != class_count:
        expected = f"{class_count} numbers over 0, or none"
        raise UsageError(
            "not a weight for each class", place="--set class_weights", got=shape.class_weights, expected=expected
        )
    if shape.channels % 4:
        raise UsageError(
            "not a width for context modules", place="--set channels", got=shape.channels, expected="a multiple of 4"
        )
    return shape
