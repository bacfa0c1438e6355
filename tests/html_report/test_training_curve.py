"""The curve of a training in the report: from metrics of a run or of a loop's rounds, thinned."""

import json
import re
from types import SimpleNamespace

import pytest
from app_scene import save_scene
from report_page import page_of, section, table

from curate.html_report import training_curve
from curate.html_report.charts import chart_loss, chart_training_ap
from curate.html_report.content import TrainingCurve
from curate.html_report.training_curve import curve_table, read_curve, thin
from curate.run_folder.folder import RunFolder
from curate.run_folder.rounds import round_folder


def metrics(*lines):
    """Lines of a metrics file."""
    return "".join(f"{json.dumps(line)}\n" for line in lines)


LINES = (
    {"step": 10, "loss": 2.0, "lr": 0.1},
    {"step": 20, "loss": 1.0, "lr": 0.1},
    {"step": 20, "ap": 0.25, "ap_small": None},
    {"step": 30, "loss": 0.5, "lr": 0.1},
    {"step": 30, "ap": 0.5, "ap_small": None},
)


@pytest.fixture
def folder(tmp_path):
    """An empty folder of a run."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    return run


def test_loss_and_ap(folder):
    """Lines with a loss and lines with an AP are two curves over the steps."""
    folder.metrics_file.write_text(metrics(*LINES))
    curve = read_curve(folder, 20)
    assert curve == TrainingCurve([(10, 2.0), (20, 1.0), (30, 0.5)], [(20, 0.25), (30, 0.5)], 20)


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n", "[]\n", metrics({"step": 1, "loss": None, "ap": None})])
def test_nothing_to_draw(folder, text):
    """Without values, or with a file that cannot be read, there is no curve."""
    folder.metrics_file.write_text(text)
    assert read_curve(folder, None) is None


def test_no_metrics(folder):
    """Without a file there is no curve."""
    assert read_curve(folder, None) is None


def test_infinite_loss_is_left_out(folder):
    """A loss that is not finite is no point."""
    folder.metrics_file.write_text(metrics(LINES[0], {"step": 11, "loss": float("nan")}))
    assert read_curve(folder, None).losses == [(10, 2.0)]


def test_rounds_of_a_loop(folder, monkeypatch):
    """A loop has no metrics of its own: those of its rounds follow one another."""
    done = [SimpleNamespace(round=1, steps=30), SimpleNamespace(round=2, steps=30)]
    monkeypatch.setattr(training_curve, "read_state", lambda _: SimpleNamespace(done=done))
    for report in done:
        run = round_folder(folder, report.round)
        run.path.mkdir(parents=True)
        run.metrics_file.write_text(metrics(LINES[0], LINES[4]))
    assert read_curve(folder, 60) == TrainingCurve([(10, 2.0), (40, 2.0)], [(30, 0.5), (60, 0.5)], 60)


def test_thin():
    """Many values become means of equal parts, each at its last step; few stay."""
    assert thin([(1, 4.0), (2, 2.0), (3, 1.0), (4, 3.0)], 2) == [(2, 3.0), (4, 2.0)]
    assert thin([(1, 4.0), (2, 2.0)], 5) == [(1, 4.0), (2, 2.0)]
    assert thin([], 5) == []


def test_charts():
    """The loss ends at the right edge, its axis at a round number, and AP has a dot for each evaluation."""
    curve = TrainingCurve([(10, 0.7), (100, 0.35)], [(50, 0.5), (100, 1.0)], 50)
    loss = chart_loss(curve).marks
    assert re.findall(r'text-anchor="end">([\d.]+)<', loss)[:5] == ["0", "0.2", "0.4", "0.6", "0.8"]
    assert re.search(r'points="69\.4,[\d.]+ 352\.0,114\.6"', loss)  # 0.35 of 0.8 between 196 and 10
    ap = chart_training_ap(curve).marks
    assert 'cx="352.0" cy="10.0" r="3"><title>step 100: AP 100.0</title>' in ap
    assert 'x1="195.0"' in ap  # the best step, in the middle


def test_negative_loss():
    """A loss that is negative, as a person's own one may be, leaves a chart."""
    assert "polyline" in chart_loss(TrainingCurve([(1, -1.0), (2, -2.0)], [])).marks


def test_loss_of_zero():
    """A loss of 0 throughout can be drawn."""
    assert "polyline" in chart_loss(TrainingCurve([(0, 0.0), (1, 0.0)], [])).marks


def test_table():
    """The table has the steps of both, with an empty cell where one is missing; the best step stands out."""
    rows = curve_table(TrainingCurve([(10, 2.0), (20, 1.0)], [(20, 0.5), (25, 0.6)], 25)).rows
    assert [(row.name, *(cell.text for cell in row.cells), row.strong) for row in rows] == [
        ("10", "2.000", "", False),
        ("20", "1.000", "50.0", False),
        ("25", "", "60.0", True),
    ]


def test_page(tmp_path):
    """The section of the run shows both charts and their numbers; without metrics neither."""
    root = save_scene(tmp_path / "faces")
    assert "Loss" not in section(page_of(root), "run")
    (root / "runs/first/metrics.jsonl").write_text(metrics(*LINES))
    page = page_of(root)
    labels = [one.get("aria-label") for one in page.get_element_by_id("run").iter("svg") if one.get("aria-label")]
    assert [label.partition(" by step")[0] for label in labels] == ["Loss", "AP on the val split"]
    rows = table(page, "Loss and AP by step")[1:]
    assert rows == [["10", "2.000", ""], ["20", "1.000", "25.0"], ["30", "0.500", "50.0"]]
