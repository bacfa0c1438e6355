"""The tables of an evaluation in the terminal."""

import copy

import pytest
from evaluation_oracle import build_predictions, build_truth
from rich.console import Console
from sample_datasets import face_dataset, results_of, save, write_json

from curate.cli.evaluate import evaluation_tables
from curate.evaluation.judgement import EvaluationOptions, judge
from curate.store import Store

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


def test_two_numbers_of_misses_are_told_apart():
    """The kind "missed" has another name than all misses, and a sentence has the difference; equal, there is none."""
    printed = lines(document([FACE, SMALL, MASK], [(1, 1, *MASK[2:], 0.8)]))
    assert any(line.startswith("not detected 2 ") for line in printed)
    assert "all 3 1" in printed
    assert (
        "Missed: 3 objects. 2 of them not detected; 1 detected with another class or an inaccurate box, and counted as "
        "that." in " ".join(printed)
    )
    assert not any(line.startswith("Missed: ") for line in lines(document([FACE, SMALL], [])))


def test_it_begins_with_the_finding(usual):
    """The first lines are sentences: AP, misses by size, the mistake that costs most, and what to do next."""
    assert lines(usual)[:4] == [
        "AP 25.2 on val; 50.0 in range (shorter side ≥ 24 px).",
        "1 of 2 objects in range is missed at score ≥ 0.5: 0 small, 0 medium, 1 large.",
        "The mistake that costs most AP50, 50.0 points: confused classes, most often mask detected as face (1 time).",
        "Next: look at them (`curate view`, or --errors FILE); label more of mask and face.",
    ]


def test_the_limit_is_in_the_name_of_ar():
    """AR's name has the highest number of detections that was asked for."""
    truth = build_truth([FACE, MASK], classes=((1, "face"), (2, "mask")))
    options = EvaluationOptions.from_command(min_side=24, max_detections=7)
    printed = lines(judge(truth, build_predictions([(*FACE, 0.9)]), options, split="val").result.to_json())
    assert any(line.startswith("AR 7 ") for line in printed)
    assert any(line.startswith("AR 7, shorter side") for line in printed)
    assert not any(line.startswith("AR 100") for line in printed)


def test_full_set_on_request(tmp_path, run_main):
    """Confusion, thresholds and sides are for `--full`; thresholds also for `--precision`; files are named."""
    root = save(face_dataset(tmp_path / "faces"))
    file = write_json(tmp_path / "p.json", results_of(Store(root).load()))
    usual = run_main("evaluate", root, "--predictions", file).stdout
    assert "--full also shows confusion" in usual
    full = run_main("evaluate", root, "--predictions", file, "--full", "--errors", tmp_path / "e.csv").stdout
    for title in ("confusion: class", "best F1  from score", "≥ 64 to 128 px "):
        assert title in full
        assert title not in usual
    assert "--full" not in full
    assert f"mistakes: {tmp_path / 'e.csv'}" in full
    assert "best F1  from score" in run_main("evaluate", root, "--predictions", file, "--precision", 0.9).stdout


def test_plots_are_named(tmp_path, run_main):
    """The folder and files of `--plots` are printed, and those of `stats --plot` and `--csv`."""
    root = save(face_dataset(tmp_path / "faces"))
    file = write_json(tmp_path / "p.json", results_of(Store(root).load()))
    printed = run_main("evaluate", root, "--predictions", file, "--plots", tmp_path / "plots").stdout
    assert f"plots: {tmp_path / 'plots'}: ap_by_min_side.png, confusion.png, " in printed
    printed = run_main("stats", root, "--plot", tmp_path / "s.png", "--csv", tmp_path / "s.csv").stdout
    assert printed.splitlines()[-2:] == [f"plot: {tmp_path / 's.png'}", f"table: {tmp_path / 's.csv'}"]


def test_confusion(usual):
    """The matrix has a row per true class; the last cell of the background is empty."""
    printed = lines(usual)
    assert "truth face mask no match" in printed
    assert {"face 1 0 0", "mask 1 0 0", "background 0 0"} <= set(printed)


def test_thresholds(usual):
    """Score thresholds are shown for the best F1 and for the requested precision; a dash where there is none."""
    printed = lines(usual)
    assert "class best F1 from score precision recall precision ≥ 0.9 from score recall" in printed
    assert {"face 100.0 0.900 100.0 100.0 0.900 100.0", "mask – – – – – –"} <= set(printed)


def test_sides(usual):
    """Sides with the same objects and AP are one line; the range of interest has its own. Distances are a column."""
    assert {"≥ 0 to 16 px 3 25.2 25.2", "≥ 24 px 2 50.0 50.0", "≥ 32 to 96 px 2 50.0 50.0"} <= set(lines(usual))
    next(one for one in usual["by_min_side"] if one["min_side_px"] == 24)["distance_m"] = 12.34
    assert {"≥ 0 to 16 px – 3 25.2 25.2", "≥ 24 px 12.3 m 2 50.0 50.0"} <= set(lines(usual))


def test_beside_an_older_evaluation(usual):
    """Costs that an older evaluation of another run lacks are dashes."""
    other = {**copy.deepcopy(usual), "run": "first"}
    del other["errors"]["ap_cost"]
    assert "class 1 – 1 50.0" in lines({**usual, "against": other})


def test_many_classes():
    """A matrix that does not fit becomes a list of classes."""
    classes = tuple((number, f"class {number}") for number in range(1, 41))
    printed = lines(document([FACE], [(1, 2, *FACE[2:], 0.9)], classes=classes))
    assert "truth correct no match detected as" in printed
    assert {"class 1 0 0 class 2 1", "class 40 0 0", "background"} <= set(printed)


@pytest.mark.parametrize("found", [[], [(*FACE, 0.9)]])
def test_nothing_to_find(found):
    """Without objects the metrics are dashes."""
    printed = lines(document([], found))
    assert {"background 0 –" if not found else "background 1 –", "≥ 0 px 0 – –"} <= set(printed)


def test_no_classes():
    """A dataset without classes has tables too."""
    assert lines(document([], [], classes=()))
