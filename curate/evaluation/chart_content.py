"""Labels, series and colours of the charts of an evaluation.

`html_report.charts` draws them as SVG and `plots.evaluation` with matplotlib, so both show the same (decision 0023).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from curate.evaluation.curves import PrecisionRecall
from curate.evaluation.scores import SideScores
from curate.formatting import points
from curate.operating_point import OperatingPoint

# on a white page; the report has its own colours for a dark one
LINE_COLOURS = ("#0b7285", "#c2410c", "#7048e8", "#2b8a3e", "#b02a5b", "#946200", "#1c6fc2", "#5c636a")
TRUE_POSITIVE_COLOUR, FALSE_POSITIVE_COLOUR = LINE_COLOURS[:2]

AP_SERIES = (("AP", "ap"), ("AP50", "ap50"))  # label, field of SideScores
TRUE_POSITIVES, FALSE_POSITIVES = "true positives", "false positives"

SIDE_AXIS = "smallest side that counts, in pixels"
RECALL_AXIS, PRECISION_AXIS = "recall, in percent", "precision, in percent"
SCORE_AXIS = "score"
STEP_AXIS = "optimizer steps"


@dataclass(frozen=True)
class Curve:
    """Precision at the recalls 0, 0.01, … 1 of a class, or of the mean over classes."""

    name: str
    precision: Sequence[float]

    def label(self, point: OperatingPoint) -> str:
        """Name and AP, such as "face, AP50 51.3"."""
        return f"{self.name}, {point.ap_name} {points(sum(self.precision) / len(self.precision))}"


def class_curves(curves: PrecisionRecall) -> list[Curve]:
    """Curves of the classes that have objects, in declared order."""
    return [Curve(name, precision) for name, precision in curves.classes.items() if precision is not None]


def mean_curve(curves: PrecisionRecall) -> Curve | None:
    """The mean over the classes that have objects, if there are several."""
    classes = class_curves(curves)
    if curves.mean is None or len(classes) < 2:
        return None
    return Curve(f"mean of {len(classes)} classes", curves.mean)


def at_iou(point: OperatingPoint) -> str:
    """The condition of a curve over all scores."""
    return f"at IoU {point.iou:g}"


def kind_label(kind: str) -> str:
    """Name of a kind of mistakes. "missed" is every object without a correct detection; the kind is a part of these."""
    return "not detected" if kind == "missed" else kind


def cost_title(point: OperatingPoint) -> str:
    """Title of the costs of mistakes."""
    return f"cost in {point.ap_name}, over all scores"


@dataclass(frozen=True)
class SideRow:
    """Smallest sides with the same objects and scores: no object has a side between them.

    Attributes:
        label: The sides, such as "≥ 24 px" or "≥ 0 to 24 px".
        scores: Those of the largest side.
    """

    label: str
    scores: SideScores


def fold_sides(entries: Sequence[SideScores], chosen: float | None) -> list[SideRow]:
    """Fold neighbouring sides with the same objects and scores into one row; the `chosen` side keeps its own."""
    rows = []
    for _, group in groupby(
        entries, key=lambda entry: (entry.truth, entry.ap, entry.ap50, entry.min_side_px == chosen)
    ):
        first, *others = group
        last = others[-1] if others else first
        to = f" to {last.min_side_px:g}" if others else ""
        rows.append(SideRow(f"≥ {first.min_side_px:g}{to} px", last))
    return rows
