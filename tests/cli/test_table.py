"""Tables at 80, 100 and 160 columns: every value is complete, and no line is wider than the terminal."""

import io
import re
from collections import Counter

import pytest
from rich.console import Console, Group
from rich.text import Text

from curate.cli.classes import classes_table
from curate.cli.doctor import doctor_table
from curate.cli.evaluate import evaluation_summary, evaluation_tables
from curate.cli.export_coco import export_lines
from curate.cli.fetch_youtube import fetch_table
from curate.cli.history import diff_table, log_table
from curate.cli.imports import import_table
from curate.cli.label import label_line
from curate.cli.loop import loop_tables
from curate.cli.predict import predict_lines
from curate.cli.pull_tags import pulled_lines
from curate.cli.report import report_lines
from curate.cli.runs import runs_tables
from curate.cli.sample_frames import sample_table
from curate.cli.split import split_table
from curate.cli.stats import stats_table
from curate.cli.table import SIZE_STYLES, Column, Kind, Table
from curate.cli.train import train_lines
from curate.cli.view import view_lines
from curate.cli.watch import watch_lines
from curate.commands.doctor import doctor
from curate.sizes import SIZES

WIDTHS = (80, 100, 160)
WIDE = 100_000
CLASSES = {
    "3 classes": ["with_mask", "without_mask", "badly_masked"],
    "long names": [f"a_class_with_a_name_of_many_characters_{number}" for number in range(3)],
    "names of several words": [f"a person who wears no mask but has one at hand, case {number}" for number in range(3)],
    "one endless name": ["x" * 200, "y", "口罩" * 60],
    "30 classes": [f"class_{number:02d}" for number in range(30)],
}


class Numbers:
    """Large numbers and shares, all different, so that a missing one is noticed."""

    def __init__(self):
        self.used = 0

    def count(self):
        self.used += 1
        return 10_000_000 + self.used

    def counts(self, names):
        return {name: self.count() for name in names}

    def share(self):
        self.used += 1
        return self.used % 1000 / 1000

    def shares(self, *names):
        return {name: self.share() for name in names}


APS = ("ap", *(f"ap_{size}" for size in SIZES))


def stats_document(names, numbers):
    def balance():
        keys = ("images", "images_without_boxes", "unlabelled", "boxes")
        rows = [
            {"name": name, "share": numbers.share(), **numbers.counts(("boxes", "images", *SIZES))} for name in names
        ]
        return numbers.counts(keys) | {"imbalance": numbers.share(), "classes": rows}

    return balance() | {"version": numbers.count(), "groups": {"train": balance(), "downloads/face-mask": balance()}}


def split_document(names, numbers):
    splits = {
        split: numbers.counts(("images", "boxes", "groups")) | {"classes": numbers.counts(names)}
        for split in ("train", "val", "test")
    }
    return {"version": numbers.count(), "splits": splits}


def log_document(names, numbers):
    arguments = {"source": "downloads/" + "folder/" * 20 + "masks", "classes": names, "strict": False}
    return [
        numbers.counts(("version", "images", "boxes"))
        | {"operation": "import-widerface", "time": "2026-05-04T12:00:01+00:00", "arguments": arguments, "state": state}
        for state in ("left", "current", "past")
    ]


def import_document(names, numbers):
    problems = [
        {"action": action, "kind": kind, "file": f"{name}/{number:05d}.xml", "line": number, "detail": f"box of {name}"}
        for number, name in enumerate(names)
        for action, kind in (("quarantined", "unknown_class"), ("repaired", "box_outside"), ("noted", "no_image"))
    ]
    keys = ("images", "boxes", "added", "updated", "unchanged", "repaired", "quarantined", "version")
    return numbers.counts(keys) | {"dataset": "masks", "classes": numbers.counts(names), "problems": problems}


def fetch_document(names, numbers):
    fetched = [
        {"path": f"media/videos/{number}_{name}.mp4", "duration_s": 12345.67, "height": 2160,
         "title": f"on {name} " * 5, "licence": "Creative Commons Attribution licence (reuse allowed)"}
        for number, name in enumerate(names)
    ]  # fmt: skip
    url = "https://www.youtube.com/watch?v="
    skipped = [{"url": url + name, "reason": "already fetched"} for name in names]
    failed = [{"url": url + name, "reason": "bot_check", "advice": "Wait an hour. " * 10} for name in names]
    return {"fetched": fetched, "skipped": skipped, "failed": failed}


def evaluation_document(names, numbers):
    kinds = ("missed", "class", "duplicate", "localisation", "background")
    return {
        "split": "val", "images": numbers.count(), "truth": numbers.count(), "detections": numbers.count(),
        **numbers.shares(*APS, "ap50", "ap75", "ar_100"),
        "classes": [{"name": name, "truth": numbers.count(), **numbers.shares(*APS, "ap50")} for name in names],
        "range_of_interest": {"min_side_px": 24.0, "truth": 3, **numbers.shares("ap", "ap50", "ar_100")},
        "operating_point": {"iou": 0.5, "score": 0.5},
        "errors": {
            "missed": numbers.counts(SIZES), "false_positives": numbers.counts(SIZES),
            "kinds": numbers.counts(kinds), "ap_cost": numbers.shares(*kinds),
        },
        "confusion": {
            "classes": [*names, "background"], "matrix": [[numbers.count() for _ in (*names, 0)] for _ in (*names, 0)],
        },
        "wished_precision": 0.9,
        "thresholds": [
            {"class": name, "best_f1": numbers.shares("f1", "score", "precision", "recall"),
             **numbers.shares("score", "recall")}
            for name in names
        ],
        "by_min_side": [
            {"min_side_px": side, "distance_m": 1234.5, "truth": numbers.count(), **numbers.shares("ap", "ap50")}
            for side in (0.0, 24.0)
        ],
        "report": "masks/runs/first/report.html",
    }  # fmt: skip


def compared_document(names, numbers):
    other = evaluation_document(names, numbers) | {"run": "retinaface-mobilenet0.25-at-640-pixels"}
    return evaluation_document(names, numbers) | {"against": other}


def runs_document(names, numbers):
    runs = [
        {"run": name, "model": "torchvision:fasterrcnn_resnet50_fpn_v2", "steps_done": numbers.count(),
         "steps": numbers.count(), "rounds": [1] * 3, "seconds": 1e6, "problem": "no checkpoint is readable",
         **numbers.counts(("version", "boxes")), **numbers.shares(*APS)}
        for name in names
    ]  # fmt: skip
    return {"runs": runs}


def loop_document(names, numbers):
    def report(number, before):
        classes = [{"name": name, "ap": numbers.share()} for name in names]
        return {"round": number, "before": before, "version": numbers.count(), "classes": classes,
                "boxes": numbers.counts(names), **numbers.shares(*APS), "missed": numbers.counts(SIZES),
                "false_positives": numbers.counts(SIZES)}  # fmt: skip

    rounds = [report(1, None)]
    for number in range(2, 13):
        rounds.append(report(number, rounds[-1]))
    run = {"run": "night", "model": "torchvision:fasterrcnn_resnet50_fpn_v2", "stopped": "patience", "best_round": 7}
    return run | {"rounds": rounds, "steps": numbers.count(), "ap": numbers.share()}


def view_document(names, numbers):
    views = [
        {"name": f"missed {name}", "patches": False, "link": f"http://127.0.0.1:5151/?view={name}",
         **numbers.counts(("images", "objects"))}
        for name in names
    ]  # fmt: skip
    link = "http://0123456789abcdef.localhost:5151/datasets/masks?view=missed-small&workspace=w&token=" + "t" * 43
    return {"views": views, "runs": list(names), "split": "val", "min_side_px": 24.0, "score": 0.5, "link": link,
            **numbers.counts(("images", "version"))}  # fmt: skip


def train_document(names, numbers):
    return {"run": names[0], "model": "torchvision:fasterrcnn_resnet50_fpn_v2", "rounds": [numbers.shares(*APS)],
            **numbers.counts(("steps", "best_step"))}  # fmt: skip


def predict_document(names, numbers):
    problems = [{"file": f"{name}.jpg", "detail": "not a readable image"} for name in names]
    return {"form": None, "out": None, "problems": problems, **numbers.counts(("version", "boxes", "images"))}


TABLES = {
    "stats": (stats_table, stats_document),
    "split": (split_table, split_document),
    "merge-classes": (
        classes_table,
        lambda names, numbers: {"version": 1, "before": numbers.counts(names), "after": numbers.counts(names[:-1])},
    ),
    "log": (log_table, log_document),
    "diff": (
        diff_table,
        lambda names, numbers: {
            "classes": {name: (numbers.count(), numbers.count()) for name in names},
            **numbers.counts(("from", "to", "images_added", "images_removed")),
            **numbers.counts(("boxes_added", "boxes_removed", "boxes_changed")),
        },
    ),
    "import-voc": (import_table, import_document),
    "fetch-youtube": (fetch_table, fetch_document),
    "sample-frames": (
        sample_table,
        lambda names, numbers: {
            "videos": [
                {"video_id": name, "frames": numbers.count(), "first_s": 12345.678, "last_s": None} for name in names
            ],
            **numbers.counts(("version", "frames", "dropped_duplicates", "dropped_blurred")),
        },
    ),
    "label": (
        label_line,
        lambda names, numbers: (
            {"folder": "masks/label", "classes": names} | numbers.counts(("images", "added", "waiting"))
        ),
    ),
    "export-coco": (
        export_lines,
        lambda names, numbers: {
            "out": "out", "self_check_ap": 1.0, "files": {"val": f"out/{names[0]}.json"},
            **numbers.counts(("images", "boxes")),
        },
    ),
    "train": (train_lines, train_document),
    "predict": (predict_lines, predict_document),
    "evaluate": (evaluation_tables, evaluation_document),
    "evaluate --against": (evaluation_tables, compared_document),
    "run": (evaluation_summary, compared_document),
    "runs": (runs_tables, runs_document),
    "loop": (loop_tables, loop_document),
    "view": (view_lines, view_document),
    "pull-tags": (
        pulled_lines,
        lambda names, numbers: {
            "relabel": [f"{name}.jpg" for name in names], "dropped": ["a.jpg"], "folder": "masks/relabel", "version": 7,
        },
    ),
    "report": (
        report_lines,
        lambda names, numbers: (
            {"report": f"masks/runs/{names[0]}/report.html", "bytes": 123456789}
            | numbers.counts(("missed", "false_positives", "shown"))
        ),
    ),
    "watch": (
        watch_lines,
        lambda names, numbers: {
            "frames_per_s": 1234.5, "latency_ms": {"p50": 12345.0, "p95": 123456.0, "p99": None},
            **numbers.counts(("frames", "detections", "events")),
        },
    ),
    "doctor": (doctor_table, lambda names, numbers: doctor().to_json()),
}  # fmt: skip


# words of the headers of details, which are not shown where the details are below their rows
DETAILS = {*["arguments", "title", "for", "example", "detected", "as", "found", "or", "how", "to", "get", "it"]}


def print_at(width, *renderables):
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False, soft_wrap=width == WIDE)
    console.print(*renderables)
    return console.file.getvalue()


def words(text):
    return Counter(word.strip(",:;") for word in re.sub("[█─]", " ", text).split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("names", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize(("render", "build"), TABLES.values(), ids=TABLES)
def test_no_value_is_lost(render, build, names, width):
    """The narrow table has every word of the one without a limit; only a word longer than the line is folded."""
    document = build(names, Numbers())
    narrow, wide = print_at(width, render(document)), print_at(WIDE, render(document))
    assert "…" not in narrow + wide
    assert max(Text(line).cell_len for line in narrow.splitlines()) <= width
    squeezed = re.sub(r"\s", "", narrow)
    found, expected = words(narrow), words(wide)
    lost = {word for word in expected - found if word[0].isdigit() or not found[word]} - DETAILS
    assert not {word for word in lost if Text(word).cell_len <= width - 2 or word not in squeezed}


@pytest.mark.parametrize("names", [CLASSES["3 classes"], CLASSES["30 classes"]], ids=len)
def test_stats_at_80_columns_is_still_a_table(names):
    """The bars are left out; each class keeps its row with all numbers."""
    document = stats_document(names, Numbers())
    text = print_at(80, stats_table(document))
    assert "█" not in text
    assert "█" in print_at(WIDE, stats_table(document))
    row = document["classes"][-1]
    numbers = [row["boxes"], f"{100 * row['share']:.1f}", "%", row["images"], *(row[size] for size in SIZES)]
    assert [row["name"], *map(str, numbers)] in [line.split() for line in text.splitlines()]


def test_classes_of_a_split_go_down():
    """Thirty classes are thirty rows, with a column per split."""
    document = split_document(CLASSES["30 classes"], Numbers())
    rows = [line.split()[0] for line in print_at(80, split_table(document)).splitlines() if line.startswith("class_")]
    assert rows == CLASSES["30 classes"]


def test_confusion_of_many_classes_goes_down():
    """A matrix that does not fit becomes a row per class, without the zeros."""
    document = evaluation_document(CLASSES["30 classes"], Numbers())
    matrix = [[0] * 31 for _ in range(31)]
    matrix[0][0], matrix[0][2], matrix[0][30], matrix[30][1] = 7, 3, 2, 5
    document["confusion"]["matrix"] = matrix
    lines = [line.split() for line in print_at(80, evaluation_tables(document)).splitlines()]
    assert ["truth", "correct", "no", "match", "detected", "as"] in lines
    assert ["class_00", "7", "2", "class_02", "3"] in lines
    assert ["background", "class_01", "5"] in lines
    assert ["class_01", "0", "0"] in lines


# ── one table ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def table():
    """A table with a column of each kind, and one row."""
    columns = (Column("bar", Kind.BAR), Column("some words", Kind.TEXT), Column("more", Kind.DETAIL))
    table = Table("title", "name", "count of boxes", *columns)
    table.add_row("first", "12 345", "████", "two words", "a detail of some length")
    return table


def test_wide_enough(table):
    """At its natural width each row is one line; numbers are flush right."""
    assert print_at(64, table).splitlines() == [
        "title",
        "name   count of boxes  bar   some words  more",
        "─" * 64,
        "first          12 345  ████  two words   a detail of some length",
        "",
    ]


def test_bar_is_left_out_first(table):
    """One character too few, and the bar is left out."""
    assert print_at(63, table).splitlines()[1:4] == [
        "name   count of boxes  some words  more",
        "─" * 58,
        "first          12 345  two words   a detail of some length",
    ]


def test_headers_and_text_wrap_between_words_but_numbers_do_not(table):
    """Text becomes as narrow as its longest word; a number stays on one line."""
    assert print_at(20, table).splitlines()[1:] == [
        "       count",
        "          of   some",
        "name    boxes  words",
        "─" * 20,
        "first  12 345  two",
        "               words",
        "  a detail of some",
        "  length",
        "",
    ]


def test_details_below_their_row(table):
    """A detail that does not fit into its row moves below it, without a header."""
    lines = print_at(40, table).splitlines()
    assert "more" not in lines[1]
    assert lines[-2] == "  a detail of some length"


def test_one_long_detail_goes_below_and_the_others_stay():
    """Only the detail of more than two lines, and the one with a long word, move below their rows."""
    table = Table("", "name", Column("detail", Kind.DETAIL))
    for name, detail in (("a", "short"), ("b", "word " * 30), ("c", "x" * 70)):
        table.add_row(name, detail)
    lines = print_at(60, table).splitlines()
    assert lines[2:4] == ["a     short", "b"]
    assert lines[-3:] == ["  " + "x" * 58, "  " + "x" * 12, ""]


def test_records_where_nothing_else_fits(table):
    """Each row becomes a record: its name, then its values with their headers."""
    assert print_at(16, table).splitlines() == [
        "title",
        "name: first",
        "  count of",
        "  boxes: 12 345",
        "  some words:",
        "  two words",
        "  more: a detail",
        "  of some length",
        "",
    ]


def test_another_table_where_this_one_does_not_fit(table):
    """The narrow substitute of a table is printed instead of records."""
    wide = Table("wide", "name", *map(str, range(100)), narrow=table)
    wide.add_row("first", *["1"] * 100)
    assert print_at(80, wide) == print_at(80, table)
    assert print_at(WIDE, wide).startswith("wide")


def test_row_needs_a_cell_for_each_column(table):
    """A row with too few cells raises an error."""
    with pytest.raises(ValueError, match="zip"):
        table.add_row("first")


def test_table_without_rows():
    """A table without rows has its headers."""
    assert print_at(80, Group(Table("", "name", "count"))).splitlines() == ["name  count", "─" * 11, ""]


def test_size_styles():
    """The styles name exactly the sizes, in order."""
    assert tuple(SIZE_STYLES) == SIZES
