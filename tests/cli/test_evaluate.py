"""The tables of an evaluation in the terminal."""

import copy

import pytest
from evaluation_oracle import build_predictions, build_truth
from rich.console import Console

from curate.cli.evaluate import evaluation_tables
from curate.evaluation.judgement import EvaluationOptions, judge

FACE, SMALL, MASK = (1, 1, 0, 0, 100, 100), (1, 1, 300, 0, 320, 20), (1, 2, 500, 500, 600, 600)


def document(truth_rows, detection_rows, *, classes=((1, "face"), (2, "mask")), min_side=None, precision=None):
    """The JSON document of an evaluation of a few boxes."""
    truth, found = build_truth(truth_rows, classes=classes), build_predictions(detection_rows)
    options = EvaluationOptions.from_command(min_side=min_side, precision=precision)
    return judge(truth, found, options, split="val").result.to_json()


def lines(content):
    """The printed lines, with single spaces and without empty lines."""
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(evaluation_tables(content))
    return [" ".join(line.split()) for line in capture.get().splitlines() if line.strip()]


@pytest.fixture
def usual():
    """Of two faces and a mask, the large face is found and the mask is detected as a face."""
    return document([FACE, SMALL, MASK], [(*FACE, 0.9), (1, 1, *MASK[2:], 0.8)], min_side=24, precision=0.9)


def test_kinds_and_costs(usual):
    """Each kind has its count and its cost in points."""
    assert "class 1 50.0" in lines(usual)
    assert "kind count costs AP50" in lines(usual)


def test_confusion(usual):
    """The matrix has a row per true class; the last cell of the background is empty."""
    printed = lines(usual)
    assert "truth face mask missed" in printed
    assert {"face 1 0 0", "mask 1 0 0", "background 0 0"} <= set(printed)


def test_thresholds(usual):
    """Score thresholds are shown for the best F1 and for the requested precision; a dash where there is none."""
    printed = lines(usual)
    assert "class best F1 from score precision recall precision ≥ 0.9 from score recall" in printed
    assert {"face 100.0 0.900 100.0 100.0 0.900 100.0", "mask – – – – – –"} <= set(printed)


def test_sides(usual):
    """AP by the smallest side is a line each; distances are a column where they are known."""
    assert "≥ 24 px 2 50.0 50.0" in lines(usual)
    next(one for one in usual["by_min_side"] if one["min_side_px"] == 24)["distance_m"] = 12.34
    assert {"≥ 0 px – 3 25.2 25.2", "≥ 24 px 12.3 m 2 50.0 50.0"} <= set(lines(usual))


def test_beside_an_older_evaluation(usual):
    """Costs that an older evaluation of another run lacks are dashes."""
    other = {**copy.deepcopy(usual), "run": "first"}
    del other["errors"]["ap_cost"]
    assert "class 1 – 1 50.0" in lines({**usual, "against": other})


def test_report_is_named(usual):
    """The last line names the report, if one was written."""
    assert not any("report" in line for line in lines(usual))
    assert lines(usual | {"report": "d/runs/first/report.html"})[-1] == "report: d/runs/first/report.html"


def test_many_classes():
    """A matrix that does not fit becomes a list of classes."""
    classes = tuple((number, f"class {number}") for number in range(1, 41))
    printed = lines(document([FACE], [(1, 2, *FACE[2:], 0.9)], classes=classes))
    assert "truth correct missed detected as" in printed
    assert {"class 1 0 0 class 2 1", "class 40 0 0", "background"} <= set(printed)


@pytest.mark.parametrize("found", [[], [(*FACE, 0.9)]])
def test_nothing_to_find(found):
    """Without objects the metrics are dashes."""
    printed = lines(document([], found))
    assert {"background 0 –" if not found else "background 1 –", "≥ 0 px 0 – –"} <= set(printed)


def test_no_classes():
    """A dataset without classes has tables too."""
    assert lines(document([], [], classes=()))
