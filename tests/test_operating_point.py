"""The operating point: its range, its name of AP, and the same IoU over all scores."""

import math

import pytest

from curate.errors import UsageError
from curate.operating_point import DEFAULT_POINT, OperatingPoint


def test_defaults():
    """A detection counts from score 0.5 on and finds an object at IoU 0.5, as COCO's AP50 does."""
    assert (DEFAULT_POINT.iou, DEFAULT_POINT.score, DEFAULT_POINT.ap_name) == (0.5, 0.5, "AP50")


@pytest.mark.parametrize("iou", [0, -0.5, 1.1, float("nan")])
def test_iou_out_of_range(iou):
    """An IoU that is not in (0, 1] raises an error."""
    with pytest.raises(UsageError, match=r"not an IoU threshold \(got .*; expected over 0, up to 1\)"):
        OperatingPoint(iou, 0.5)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), math.inf])
def test_score_out_of_range(score):
    """A score that is not in [0, 1] raises an error."""
    with pytest.raises(UsageError, match=r"--score: not a score \(got .*; expected 0 to 1\)"):
        OperatingPoint(0.5, score)


def test_over_all_scores():
    """Curves use all detections at the same IoU."""
    point = OperatingPoint(0.75, 0.4).over_all_scores()
    assert (point.iou, point.score, point.ap_name) == (0.75, -math.inf, "AP75")
