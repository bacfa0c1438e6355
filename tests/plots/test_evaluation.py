"""Plots of an evaluation: drawn for every case, and deterministic."""

from itertools import pairwise

import numpy as np
import pytest
from evaluation_oracle import awkward_case, build_predictions, build_truth, jittered
from PIL import Image

from curate.evaluation.confusion import Confusion
from curate.evaluation.curves import PrecisionRecall
from curate.evaluation.judgement import judge
from curate.evaluation.scores import SideScores
from curate.operating_point import DEFAULT_POINT


@pytest.fixture(scope="module", autouse=True)
def _matplotlib():
    """Matplotlib is imported when the first test here runs."""
    global draw_ap_by_min_side, draw_confusion, draw_errors, draw_precision_recall, draw_scores, save_plot
    from curate.plots.evaluation import (
        draw_ap_by_min_side,
        draw_confusion,
        draw_errors,
        draw_precision_recall,
        draw_scores,
    )
    from curate.plots.style import save_plot


def draw_all(truth, predictions):
    """The five figures, by name."""
    result = judge(truth, predictions).result
    return {
        "side": draw_ap_by_min_side(result.by_min_side, 24),
        "confusion": draw_confusion(result.confusion),
        "curve": draw_precision_recall(result.precision_recall, DEFAULT_POINT),
        "scores": draw_scores(result.score_histogram, 0.5),
        "errors": draw_errors(result.errors, DEFAULT_POINT),
    }


def many_classes(count):
    """A case with a number of classes, whose long names look like formulas."""
    random = np.random.default_rng(0)
    corners = random.integers(0, 700, (150, 2))
    far = corners + random.integers(10, 250, (150, 2))
    rows = [(1 + i % 5, 1 + i % count, *corners[i], *far[i]) for i in range(150)]
    classes = tuple((number, f"a rather long class name ${number}$ größe") for number in range(1, count + 1))
    truth = build_truth(rows, images=range(1, 6), classes=classes)
    return truth, jittered(truth)


CASES = {
    "usual": awkward_case(1),
    "one class": many_classes(1),
    "twelve classes": many_classes(12),
    "many classes": many_classes(26),
    "no truth": (build_truth([]), build_predictions([(1, 1, 0, 0, 50, 50, 0.9)])),
    "no detections": (build_truth([(1, 1, 0, 0, 50, 50)]), build_predictions([])),
    "nothing": (build_truth([], images=(), classes=()), build_predictions([])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_everything_can_be_drawn(tmp_path, case):
    """Each plot is drawn without a warning, and is not empty."""
    for name, figure in draw_all(*CASES[case]).items():
        save_plot(figure, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 300
            assert len(image.convert("L").getcolors()) > 10


def test_same_bytes(tmp_path):
    """Equal evaluations give equal files, byte for byte."""
    for folder in ("a", "b"):
        for name, figure in draw_all(*awkward_case(1)).items():
            save_plot(figure, tmp_path / folder / f"{name}.png")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_ap_by_min_side_tells_numbers():
    """The lines have AP and AP50 in points, the bars the numbers of objects; undefined AP is a gap."""
    entries = [SideScores(0, 10, 0.5, 0.7), SideScores(8, 4, 0.6, 0.8), SideScores(500, 0, None, None)]
    above, below = draw_ap_by_min_side(entries).axes
    points = {line.get_label(): line.get_ydata().tolist() for line in above.lines}
    np.testing.assert_array_equal(points["AP"], [50, 60, np.nan])
    np.testing.assert_array_equal(points["AP50"], [70, 80, np.nan])
    assert [bar.get_height() for bar in below.patches] == [10, 4, 0]
    assert [label.get_text() for label in below.get_xticklabels()] == ["0", "8", "500"]


def test_distances_are_above():
    """With a camera, the distances are on the upper axis."""
    entries = [SideScores(0, 10, 0.5, 0.7), SideScores(8, 4, 0.6, 0.8, 12.5)]
    (axis,) = draw_ap_by_min_side(entries).axes[0].child_axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["∞", "12.5"]


def test_confusion_shows_counts():
    """Every cell has its count, except background detected as background."""
    truth = build_truth([(1, 1, 0, 0, 100, 100), (1, 2, 500, 500, 600, 600)])
    result = judge(truth, build_predictions([(1, 1, 0, 0, 100, 100, 0.9)])).result
    (axes,) = draw_confusion(result.confusion).axes
    assert [text.get_text() for text in axes.texts] == ["1", "0", "0", "0", "0", "1", "0", "0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["face", "mask", "missed"]


@pytest.mark.parametrize("name", ["_mask", "W" * 24])
def test_legend_of_precision_and_recall(name):
    """The legend has every class, also with a leading underscore, and long names fit into the figure."""
    classes = {name: (1.0,) * 101, "W" * 23: (0.5,) * 101, "face": None}
    figure = draw_precision_recall(
        PrecisionRecall(tuple(np.linspace(0, 1, 101)), classes, (0.75,) * 101), DEFAULT_POINT
    )
    figure.draw_without_rendering()
    texts = figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == [
        *(f"{name}, AP50 100.0", f"{'W' * 23}, AP50 50.0", "mean of 2 classes, AP50 75.0")
    ]
    assert max(text.get_window_extent().x1 for text in texts) <= figure.bbox.x1
    assert [line.get_color() for line in figure.legends[0].get_lines()] == [
        line.get_color() for line in figure.axes[0].lines
    ]


@pytest.mark.parametrize(("classes", "least_points"), [(40, 14), (150, 9)])
def test_names_of_many_classes_can_be_read(classes, least_points):
    """With many classes the figure grows; names are legible and do not overlap."""
    names = tuple(f"class {number}" for number in range(classes))
    figure = draw_confusion(Confusion((*names, "background"), ((0,) * (classes + 1),) * (classes + 1)))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    assert labels[0].get_fontsize() >= least_points
    edges = sorted((label.get_window_extent().y0, label.get_window_extent().y1) for label in labels)
    assert all(top <= bottom for (_, top), (bottom, _) in pairwise(edges))


def test_what_is_undefined_is_no_zero():
    """An undefined cost is drawn as a dash."""
    figure = draw_errors(judge(build_truth([(1, 1, 0, 0, 50, 50)]), build_predictions([])).result.errors, DEFAULT_POINT)
    assert [text.get_text() for text in figure.axes[2].texts][:2] == ["–", "0.0"]
