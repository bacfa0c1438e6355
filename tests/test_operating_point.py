"""The operating point: its range, its name of AP, and the same IoU over all scores."""

import json
import math

import pytest
from app_scene import keep_run
from lxml import html as lxml_html
from report_page import page_of, section, table
from rich.console import Console
from sample_datasets import LARGE, build_dataset, save

import curate
from curate.cli.evaluate import evaluation_tables
from curate.commands import view
from curate.errors import UsageError
from curate.evaluation import judgement
from curate.operating_point import DEFAULT_POINT, OperatingPoint
from curate.progress import silent
from curate.store import Store


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


# ── another IoU, and all that follows it ─────────────────────────────────────────────────────────────────────────

OFF = (20, 20, 180, 116)  # IoU 0.6 with the object


@pytest.fixture
def root(tmp_path):
    """One object in val, found by two runs at IoU 0.6 with score 0.9."""
    dataset = build_dataset(
        tmp_path / "faces", [[("with_mask", LARGE)], [("with_mask", LARGE)]], split=["train", "val"]
    )
    save(dataset, pictures=True)
    for run in ("first", "second"):
        keep_run(tmp_path / "faces", run, [(2, 1, OFF, 0.9)])
    return tmp_path / "faces"


@pytest.fixture
def strict(monkeypatch):
    """IoU 0.75 in place of the default."""
    monkeypatch.setattr(judgement, "DEFAULT_POINT", OperatingPoint(iou=0.75, score=0.5))


def test_matches_follow(root, strict):
    """An object that is found at IoU 0.5 is missed at 0.75, because of its box; AP of COCO stays the same."""
    result = curate.evaluate(root, run="first", report=False)
    assert result.operating_point == OperatingPoint(0.75, 0.5)
    assert (sum(result.errors.missed.values()), result.errors.kinds["localisation"]) == (1, 1)
    assert result.confusion.matrix[0][0] == 0
    assert result.precision_recall.mean[0] == 0
    assert result.ap50 == pytest.approx(1)


def test_default_is_as_before(root):
    """Without a change the same detection is correct."""
    result = curate.evaluate(root, run="first", report=False)
    assert (sum(result.errors.missed.values()), result.confusion.matrix[0][0]) == (0, 1)


def test_tables_and_plots_follow(root, strict):
    """Tables of the terminal and titles of plots name the IoU, and AP at it."""
    from curate.plots.evaluation import draw_errors, draw_precision_recall

    result = curate.evaluate(root, run="first", report=False)
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(evaluation_tables(result.to_json()))
    assert "IoU ≥ 0.75" in capture.get()
    assert "AP75" in next(line for line in capture.get().splitlines() if "kind" in line and "count" in line)
    curve = draw_precision_recall(result.precision_recall, result.operating_point)
    assert curve.axes[0].get_title(loc="left") == "at IoU 0.75"
    assert curve.legends[0].get_texts()[0].get_text() == "with_mask, AP75 0.0"
    costs = draw_errors(result.errors, result.operating_point).axes[2]
    assert costs.get_title(loc="left") == "cost in AP75, over all scores"


def test_report_follows(root, strict, monkeypatch):
    """Sentences, charts and tables of the report name the IoU, and a later report takes that of the evaluation."""
    page = lxml_html.fromstring(curate.evaluate(root, run="first").report.read_bytes().decode())
    assert "finds an object of its class from IoU 0.75 on" in section(page, "summary")
    assert "from score 0.5 and IoU 0.75 on" in section(page, "confusion")
    assert "All curves are at IoU 0.75" in section(page, "curves")
    assert table(page, "Precision by recall, at IoU 0.75")[1][:2] == ["with_mask", "0.0"]
    assert "At IoU 0.75, all objects." in section(page, "curves")
    assert table(page, "Mistakes by kind")[0][2] == "cost in AP75"
    labels = [one.get("aria-label") for one in page.iter("svg") if one.get("role") == "img"]
    assert any("Precision by recall at IoU 0.75" in label for label in labels)
    assert "with_mask, AP75 0.0" in section(page, "curves")
    assert "IoU 0.5 " not in page.text_content()
    monkeypatch.undo()
    assert "from IoU 0.75 on" in section(page_of(root), "summary")


def test_comparison_follows(root, monkeypatch):
    """Evaluations at different IoUs are not compared; one of an older version has the IoU of its operating point."""
    curate.evaluate(root, run="first", report=False)
    file = root / "runs/first/evaluation_val.json"
    document = json.loads(file.read_text())
    assert document["terms"].pop("iou") == document["operating_point"]["iou"] == 0.5
    file.write_text(json.dumps(document))
    assert curate.evaluate(root, run="second", against="first", report=False).against["run"] == "first"
    monkeypatch.setattr(judgement, "DEFAULT_POINT", OperatingPoint(iou=0.75, score=0.5))
    with pytest.raises(UsageError, match=r"evaluated with different IoU\."):
        curate.evaluate(root, run="second", against="first", report=False)


def test_content_of_the_app_follows(root, monkeypatch):
    """The app's dataset has another name at another IoU, and shows the misses at it."""
    contents = []
    for iou in (0.5, 0.75):
        monkeypatch.setattr(judgement, "DEFAULT_POINT", OperatingPoint(iou, score=0.5))
        contents.append(view._read(Store(root), ["first"], "val", None, None, silent))
    assert [len(content.runs[0].mistakes.missed) for content in contents] == [0, 1]
    assert view._hash(contents[0], "me") != view._hash(contents[1], "me")
