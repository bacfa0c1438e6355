"""`runs`: the list of runs, outdated numbers, and the plot."""

import json
import os
import subprocess
import sys

import corner_engine
import pandas as pd
import pytest
from corner_engine import CornerEngine
from sample_datasets import MEDIUM, SMALL, build_dataset, save, set_column, write_text

import curate
from curate.cli.output import print_rich
from curate.cli.runs import runs_tables
from curate.errors import DataError, StoreError, UsageError
from curate.run_folder.folder import RunFolder
from curate.store import Store

MODEL = "corner:only"
KEYS = [
    "run",
    "model",
    "version",
    "images",
    "boxes",
    "steps",
    "steps_done",
    "best_step",
    "ap",
    "ap_small",
    "ap_medium",
    "ap_large",
    "val",
    "seconds",
    "rounds",
    "evaluations",
    "problem",
]


@pytest.fixture(autouse=True)
def _corner_engine(monkeypatch):
    corner_engine.register(monkeypatch)


@pytest.fixture
def root(tmp_path):
    """Two images in train with a face each; two in val, with a small face, which is found, and a medium one."""
    splits = pd.array(["train", "train", "val", "val"], dtype="str")
    images = [[("face", SMALL)], [("face", SMALL)], [("face", SMALL)], [("face", MEDIUM)]]
    return save(build_dataset(tmp_path / "faces", images, ("face",), split=splits), pictures=True)


def train(root, run, **options):
    return curate.train(root, model=MODEL, run=run, **{"steps": 3} | options)


def only_row(root):
    (row,) = curate.runs(root).to_json()["runs"]
    return row


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_row_of_a_training(root):
    """A training has the values of its record and its evaluation, and one round, that of `train`."""
    trained = train(root, "first").to_json()
    row = only_row(root)
    assert list(row) == KEYS
    assert (row["run"], row["model"], row["version"], row["images"], row["boxes"]) == ("first", MODEL, 1, 2, 2)
    assert (row["steps"], row["steps_done"], row["best_step"]) == (3, 3, 3)
    assert [row[key] for key in ("ap", "ap_small", "ap_medium", "ap_large")] == [
        pytest.approx(51 / 101),  # the better half of the recalls is not reached
        pytest.approx(1),
        0,
        None,
    ]
    assert (row["rounds"], row["evaluations"], row["problem"]) == (trained["rounds"], [], None)


def test_row_of_a_loop(root):
    """A loop has one row, with its rounds."""
    found = curate.loop(root, model=MODEL, run="night", steps=3, rounds=2).to_json()
    row = only_row(root)
    assert (row["steps"], row["steps_done"], row["ap"]) == (6, 6, found["ap"])
    assert row["rounds"] == [{key: one[key] for key in row["rounds"][0]} for one in found["rounds"]]
    assert list(row["rounds"][0]) == ["round", "steps", "version", "ap", "ap_small", "ap_medium", "ap_large"]


def test_runs_are_in_the_order_of_names(root):
    """Runs are sorted by name."""
    for run in ("b", "c", "a"):
        train(root, run)
    assert [row.run for row in curate.runs(root).runs] == ["a", "b", "c"]


def test_evaluations_while_it_was_trained(root):
    """Evaluations are the lines of the metrics that have an AP."""
    train(root, "first")
    folder = RunFolder.named(root, "first")
    folder.append_metrics({"step": 1, "loss": 2.5})
    folder.append_metrics({"step": 2, "ap": 0.25, "ap_small": 0.5, "ap_medium": 0.0, "ap_large": None})
    sizes = {"ap_small": 0.5, "ap_medium": 0.0, "ap_large": None}
    assert only_row(root)["evaluations"] == [{"step": 2, "ap": 0.25, **sizes}]


def test_stale_evaluation_is_not_shown(root):
    """Numbers of replaced weights are left out."""
    train(root, "first")
    best = RunFolder.named(root, "first").best
    later = best.stat().st_mtime_ns + 10**12
    os.utime(best, ns=(later, later))
    row = only_row(root)
    assert (row["ap"], row["ap_small"], row["rounds"][0]["ap"], row["problem"]) == (None, None, None, None)


def test_interrupted_run(root, monkeypatch):
    """An interrupted training is listed without AP."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        train(root, "first")
    row = only_row(root)
    assert (row["steps"], row["steps_done"], row["ap"], row["rounds"], row["problem"]) == (3, 0, None, [], None)


def test_loop_in_its_first_round(root, monkeypatch):
    """An interrupted loop is listed without AP."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        curate.loop(root, model=MODEL, run="night", steps=3)
    row = only_row(root)
    assert (row["steps"], row["steps_done"], row["ap"], row["rounds"]) == (9, 0, None, [])


def test_no_runs(root):
    """A dataset without a run has an empty list; other folders are ignored."""
    (root / "runs" / "notes").mkdir(parents=True)
    assert curate.runs(root).to_json() == {"runs": []}


def test_no_dataset(tmp_path):
    """A folder without a dataset raises an error."""
    with pytest.raises(StoreError):
        curate.runs(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", None),
        ("evaluation_val.json", "{"),
        ("evaluation_val.json", '{"ap": 1}'),
        ("metrics.jsonl", '{"ap": 1}\n'),
        ("metrics.jsonl", "{\n{\n"),
        ("rounds.json", "{}"),
    ],
)
def test_broken_run(root, file, content):
    """An unreadable run is listed with its problem in one line; other runs are listed as usual."""
    train(root, "broken")
    train(root, "sound")
    path = RunFolder.named(root, "broken").path / file
    path.unlink() if content is None else path.write_text(content)
    broken, sound = curate.runs(root).runs
    assert (path.parent.name if content is None else file) in broken.problem
    assert "\n" not in broken.problem
    assert (sound.run, sound.problem, sound.ap) == ("sound", None, pytest.approx(51 / 101))


def test_runs_that_were_evaluated_on_other_images(root):
    """Different val images give a note and different marks."""
    train(root, "first")
    set_column(root, "split", pd.array(["train", "train", "train", "val"], dtype="str"))
    train(root, "second")
    found = curate.runs(root)
    assert found.runs[0].val != found.runs[1].val
    assert "not comparable" in found.notes[0]
    curate.evaluate(root, run="first")
    assert curate.runs(root).notes == ()


def test_runs_that_were_evaluated_on_other_boxes(root):
    """A corrected box gives a note and another mark; another class of a box does not."""
    train(root, "first")
    curate.rename_class(root, "face", "head")
    train(root, "second")
    assert curate.runs(root).notes == ()
    Store(root).commit("correct", {}, lambda now: now.replace(boxes=now.boxes.assign(x1=now.boxes["x1"] + 1)))
    curate.evaluate(root, run="first")
    found = curate.runs(root)
    assert found.runs[0].val != found.runs[1].val
    assert "not comparable" in found.notes[0]


def test_nothing_heavy_is_loaded(root):
    """Listing runs imports neither torch nor matplotlib."""
    train(root, "first")
    script = (
        f"import sys, curate; curate.runs({str(root)!r}); print(sorted({{'torch', 'matplotlib'}} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"


# ── picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def curve(run, unit, *aps):
    from curate.plots.runs import ApCurve

    return ApCurve(run, unit, range(1, len(aps) + 1), dict.fromkeys(("all", "small", "medium", "large"), aps))


def test_picture(root, tmp_path):
    """The plot is replaced only with `overwrite`; equal runs give equal bytes."""
    curate.loop(root, model=MODEL, run="night", steps=3, rounds=2)
    curate.runs(root, plot=tmp_path / "ap.png")
    before = (tmp_path / "ap.png").read_bytes()
    with pytest.raises(UsageError, match="the file already exists"):
        curate.runs(root, plot=tmp_path / "ap.png")
    curate.runs(root, plot=tmp_path / "ap.png", overwrite=True)
    assert before[:4] == b"\x89PNG"
    assert (tmp_path / "ap.png").read_bytes() == before


def test_nothing_to_draw(root, tmp_path):
    """Without an evaluated run the plot raises an error."""
    with pytest.raises(DataError, match="no run was evaluated on val yet"):
        curate.runs(root, plot=tmp_path / "ap.png")
    assert not (tmp_path / "ap.png").exists()


def test_what_is_drawn():
    """A loop and a training have a panel each, with AP in points; runs with one evaluation share a panel."""
    curves = [
        curve("loop", "round", 0.1, 0.35),
        curve("training", "step", 0.2, 0.1),
        curve("a", "round", 0.3),
        curve("b", "round", 0.4),
    ]
    from curate.plots.runs import draw_runs

    panels = draw_runs(curves).axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "loop: best 35.0",
        "training: best 20.0",
        "evaluated once",
    ]
    assert [axes.get_xlabel() for axes in panels] == ["round", "step", ""]
    assert list(panels[0].lines[0].get_ydata()) == [pytest.approx(10), pytest.approx(35)]
    assert [label.get_text() for label in panels[2].get_xticklabels()] == ["a", "b"]


def test_sizes_that_are_not_there_are_gaps():
    """An AP that is undefined is not drawn as 0."""
    aps = {"all": [0.1, 0.2], "small": [None, 0.2], "medium": [None, None], "large": [0.1, 0.2]}
    from curate.plots.runs import ApCurve, draw_runs

    lines = draw_runs([ApCurve("x", "round", [1, 2], aps)]).axes[0].lines
    assert [str(value) for value in lines[1].get_ydata()] == ["nan", "20.0"]


# ── terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(root, capsys):
    print_rich(runs_tables(curate.runs(root).to_json()))
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_table(root, capsys, monkeypatch):
    """The table has one row per run, marks the best one, and shows unfinished ones."""
    train(root, "first")
    monkeypatch.setattr(CornerEngine, "offsets_px", {"worse": 4.0})
    train(root, "worse", steps=4)
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        train(root, "half")
    lines = lines_of(root, capsys)
    assert ["first", "*", "1", "2", "3", "1", "50.5", "100.0", "0.0", "–", "0:00:00"] in lines
    assert ["worse", "1", "2", "4", "1", "20.2", "40.0", "0.0", "–", "0:00:00"] in lines
    assert ["half", "1", "2", "0", "of", "3", "0", "–", "–", "–", "–", "0:00:00"] in lines
    assert ["model", "corner:only:", "all", "runs"] in lines


def test_table_with_a_broken_run(root, capsys):
    """Problems are below the table."""
    train(root, "first")
    write_text(RunFolder.named(root, "first").record_file, "{")
    assert lines_of(root, capsys)[0][0] == "first:"


def test_command(root, tmp_path, run_main):
    """The command prints the document, and a hint if there is no run."""
    assert "curate train" in run_main("runs", root).stdout
    train(root, "first")
    found = run_main("runs", root, "--json", "--plot", tmp_path / "ap.svg")
    assert json.loads(found.stdout) == curate.runs(root).to_json()
    assert (tmp_path / "ap.svg").is_file()
    assert Store(root).head() == 1
