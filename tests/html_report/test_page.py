"""`report`: content of the page, equal bytes, size, and safety against any name."""

import base64
import html
import json
import re
from pathlib import Path

import corner_engine
import cv2
import numpy as np
import pandas as pd
import pytest
from corner_engine import CornerEngine
from evaluation_oracle import build_predictions, build_truth
from lxml import html as lxml_html
from report_page import page_of, section, table, tiles, words
from sample_datasets import CLASSES, LARGE, MEDIUM, SMALL, build_dataset, face_dataset, run_curate, save

import curate
from curate.commands import evaluate as evaluating
from curate.errors import DataError, UsageError
from curate.evaluation.mistakes import find_mistakes
from curate.evaluation.scores import SideScores
from curate.html_report import gallery as gallery_module
from curate.html_report.charts import chart_ap_by_min_side
from curate.html_report.gallery import crop_window, make_gallery
from curate.html_report.wording import count_difference, duration, miss_sentence, points_difference
from curate.images import decode_rgb
from curate.plain_text import is_clean, shown
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

SPLITS = pd.array(["train"] * 3 + ["val"] * 3 + [None, "val"], dtype="str")
NASTY = ('<script>alert("1")</script>', "$x_{1}$ & 'quotes'", "كمامة", "w" * 300)


@pytest.fixture(autouse=True)
def _corner_engine(monkeypatch):
    corner_engine.register(monkeypatch)


@pytest.fixture
def root(tmp_path):
    """A saved dataset: val has images 4, 5, 6 and 8 with 4 boxes, two small, one medium, one large."""
    return save(face_dataset(tmp_path / "faces", split=SPLITS), pictures=True)


def start_run(root, name="first", **config):
    """A finished run of the corner engine without predictions: it finds three boxes of 20² at (10, 10) per image."""
    dataset = Store(root).load()
    images = dataset.select("train") if dataset.images["split"].notna().any() else dataset.select()
    settings = TrainingConfig(**({"model": "corner:only", "steps": 3} | config))
    folder = RunFolder.named(root, name)
    folder.start(settings, images, dataset_version=Store(root).head(), dataset_mark=Store(root).mark)
    CornerEngine().train(images, folder, settings)
    return folder


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_answer(root):
    """The numbers are those of `evaluate`: 2 of 4 objects are found, both small."""
    start_run(root)
    found, page = curate.evaluate(root, run="first"), page_of(root)
    assert (sum(found.errors.missed.values()), sum(found.errors.false_positives.values())) == (2, 10)
    assert tiles(page) == {
        **{"AP": f"{100 * found.ap:.1f}", "AP50": f"{100 * found.ap50:.1f}", "missed": "2", "false positives": "10"},
        **{f"AP {size}": f"{100 * getattr(found, f'ap_{size}'):.1f}" for size in ("large", "medium", "small")},
    }
    assert "Of 4 objects (all objects), 2 are missed: 1 large, 1 medium, 0 small." in section(page, "summary")
    assert "With a score of 0.5 or more, 10 detections are false positives: " in section(page, "summary")


def test_sizes(root):
    """The table by size has objects, misses and their share."""
    start_run(root)
    rows = {row[0].split()[0]: row[1:5] for row in table(page_of(root), "By size, all objects")[1:]}
    assert rows == {
        "large": ["1", "1", "100.0 %", "0"],
        "medium": ["1", "1", "100.0 %", "0"],
        "small": ["2", "0", "0.0 %", "10"],
        "all": ["4", "2", "50.0 %", "10"],
    }


def test_range(root):
    """With a range of interest, misses are those in the range, and AP in the range is shown."""
    start_run(root)
    page = page_of(root, min_side=24)
    assert "AP in range" in tiles(page)
    assert "Of 2 objects (shorter side ≥ 24 px), 2 are missed: 1 large, 1 medium, 0 small." in section(page, "summary")


def test_the_costliest_mistake_comes_first(root):
    """The summary begins with the kind of mistake that costs most AP, not with the size that is missed most."""
    start_run(root)
    first = words(page_of(root).find_class("lead")[0])
    assert first.startswith("The mistake that costs most AP50, ")
    assert "Next: look " in first
    assert "`" not in first


def test_sizes_in_a_range(root):
    """In a range of interest, counts of the range and AP of all objects are in tables of their own."""
    start_run(root)
    page = page_of(root, min_side=24)
    mistakes = table(page, "Mistakes by size, shorter side ≥ 24 px")
    assert mistakes[0] == ["size", "objects", "missed", "share", "false positives"]
    assert mistakes[-1] == ["all", "2", "2", "100.0 %", "0"]
    aps = table(page, "AP by size, all objects")
    assert aps[0] == ["size", "AP", "AR 100"]
    assert aps[-1][1] == tiles(page)["AP"]


def test_the_limit_is_in_the_name_of_ar(root):
    """AR's name has the highest number of detections of the evaluation, also beside another run."""
    start_run(root)
    curate.evaluate(root, run="first", max_detections=7, report=False)
    page = page_of(root, against="first")
    assert table(page, "By size, all objects")[0][-1] == "AR 7"
    assert "AR 7" in [row[0] for row in table(page, "AP")]


def test_equal_smallest_sides_are_one_row(root):
    """Smallest sides with the same objects and AP are one row; the range of interest has its own."""
    start_run(root)
    rows = table(page_of(root, min_side=24), "AP by the smallest side that counts")[1:]
    assert [row[:2] for row in rows] == [
        *(["≥ 0 to 16 px", "4"], ["≥ 24 px", "2"], ["≥ 32 to 48 px", "2"], ["≥ 64 to 128 px", "1"])
    ]


def test_balance_before_and_after_merging(root):
    """Each change of classes is shown with the boxes before and after, beginning with the first one."""
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    curate.rename_class(root, "without_mask", "bare")
    start_run(root)
    page = page_of(root)
    assert table(page, "merge-classes, version 2")[1:] == [
        ["with_mask", "7", "63.6 %", "7", "63.6 %"],
        ["without_mask", "3", "27.3 %", "4", "36.4 %"],
        ["badly_masked", "1", "9.1 %", "–", "–"],
    ]
    assert table(page, "rename-class, version 3")[2:] == [
        ["without_mask", "4", "36.4 %", "–", "–"],
        ["bare", "–", "–", "4", "36.4 %"],
    ]
    assert table(page, "Version 3, labelled images")[1:] == [
        ["with_mask", "7", "63.6 %", "5", "2", "2", "3"],
        ["bare", "4", "36.4 %", "4", "1", "1", "2"],
    ]


def test_changes_that_were_undone(root):
    """A change that was undone is not shown."""
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    curate.undo(root)
    start_run(root)
    assert "No classes were merged" in section(page_of(root), "balance")


def test_confusion(root):
    """The matrix has the counts of true and detected classes; background on background is empty."""
    start_run(root)
    rows = table(page_of(root), "Rows: true class. Columns: detected class.")
    assert rows[0] == ["truth", *CLASSES, "missed"]
    assert rows[1:] == [
        ["with_mask", "1", "0", "0", "1"],
        ["without_mask", "1", "0", "0", "1"],
        ["badly_masked", "0", "0", "0", "0"],
        ["background", "2", "4", "4", ""],
    ]


def test_data_and_run(root):
    """Version, splits, settings and packages are shown, folders of the machine are not."""
    start_run(root, weights=str(root / "away" / "best.pt"))
    page = page_of(root)
    assert table(page, "Splits")[1:] == [
        ["train", "3", "0", "5", "2", "1", "2"],
        ["val", "4", "1", "4", "1", "1", "2"],
        ["(none)", "1", "0", "2", "0", "1", "1"],
    ]
    assert [row[:2] for row in table(page, "History, newest first")[1:]] == [["1", "build"]]
    settings = dict(row for row in table(page, "Settings (config.yaml)"))
    assert (settings["steps"], settings["weights"], settings["lr"]) == ("3", "…/best.pt", "null")
    assert dict(row for row in table(page, "Versions"))["curate"] == curate.__version__
    assert str(root.parent) not in lxml_html.tostring(page, encoding="unicode")


def test_settings_that_are_lost(root):
    """A run without its settings has a report, with a note that they are missing."""
    start_run(root).config_file.unlink()
    assert "The run's settings cannot be read" in section(page_of(root), "summary")


def test_trained_images_are_told(root):
    """The page has the notes of the evaluation."""
    start_run(root)
    assert "3 of the 3 evaluated images were trained on." in section(page_of(root, split="train"), "summary")


# ── words and numbers ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("missed", "objects", "sentence"),
    [
        ((8, 14, 0), (117, 275, 71), "Of 463 objects (all), 22 are missed: 0 large, 14 medium, 8 small. "
         "No large object was missed."),
        ((2, 2, 0), (2, 2, 0), "Of 4 objects (all), 4 are missed: 0 large, 2 medium, 2 small."),
        ((0, 0, 1), (5, 0, 1), "Of 6 objects (all), 1 is missed: 1 large, 0 medium, 0 small. "
         "No small object was missed."),
        ((0, 0, 0), (3, 0, 0), "All 3 objects were found (all)."),
        ((0, 0, 0), (0, 1, 0), "The only object was found (all)."),
        ((1, 0, 0), (1, 0, 0), "Of 1 object (all), 1 is missed: 0 large, 0 medium, 1 small."),
        ((0, 0, 0), (0, 0, 0), "There is no object to find (all)."),
    ],
)  # fmt: skip
def test_miss_sentence(missed, objects, sentence):
    """The sentence has the misses by size."""
    sizes = ("small", "medium", "large")
    found = miss_sentence(dict(zip(sizes, missed, strict=True)), dict(zip(sizes, objects, strict=True)), "all")
    assert found == sentence


def test_differences():
    """A difference is that of the printed numbers, with a sign."""
    assert points_difference(0.4793, 0.4221) == "+5.7"
    assert points_difference(0.42209, 0.42211) == "0.0"
    assert points_difference(0.1, 0.2) == "−10.0"
    assert points_difference(None, 0.2) == "–"
    assert [count_difference(*pair) for pair in ((1200, 1), (1, 3), (2, 2))] == ["+1,199", "−2", "0"]


def test_duration():
    """A duration is in seconds, minutes or hours."""
    assert [duration(seconds) for seconds in (4.21, 2833.5, 9000)] == ["4.2 s", "47 min", "2 h 30 min"]


def test_side_chart():
    """An AP of 1 is at 100, and the range of interest keeps its label where labels would overlap."""
    entries = [
        SideScores(min_side_px=float(side), truth=30 - place, ap=1.0, ap50=1.0)
        for place, side in enumerate([*range(0, 2000, 80), 2024])
    ]
    chart = chart_ap_by_min_side(entries, 80.0)
    assert 'cy="10.0"' in chart.marks
    assert ">80</text>" in chart.marks
    assert "≥ 80 px: AP 100.0, AP50 100.0, 29 objects" in chart.marks
    shown = re.findall(r'text-anchor="middle">(\d+)<', chart.marks)
    assert 5 < len(shown) < len(entries)


# ── the gallery ──────────────────────────────────────────────────────────────────────────────────────────────────


def picture_pixels(uri):
    """The decoded picture of a data URI, as RGB."""
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_order(root):
    """Misses come before false positives and large ones before small ones; false positives by falling score."""
    start_run(root)
    page = page_of(root)
    assert [words(one) for one in page.get_element_by_id("gallery").iter("h4")] == [
        *("1 large", "1 medium", "0 small"),
        *("0 large", "0 medium", "10 small"),
    ]
    alts = [one.get("alt") for one in page.iter("img")]
    assert alts[:2] == [
        "Missed with_mask, large, 160 × 160 pixels, in media/images/faces/004.png",
        "Missed without_mask, medium, 50 × 50 pixels, inaccurate box, in media/images/faces/005.png",
    ]
    scores = [float(re.search(r"score ([\d.]+)", alt)[1]) for alt in alts[2:]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 0.9


def test_alternative_text_tells_what_it_was_taken_for(root):
    """The text of a false positive on another class names that class."""
    start_run(root)
    alts = [one.get("alt") for one in page_of(root).iter("img")]
    assert (
        "False positive with_mask, score 0.900, small, 20 × 20 pixels, is without_mask, in media/images/faces/006.png"
        in alts
    )


@pytest.mark.parametrize(
    ("box", "size", "window"),
    [
        ((100, 100, 120, 110), (1000, 800), (52, 47, 168, 163)),  # 48 pixels around the longer side of 20
        ((400, 300, 500, 400), (1000, 800), (300, 200, 600, 500)),  # its own side around
        ((0, 0, 20, 20), (1000, 800), (0, 0, 116, 116)),  # moved into the image
        ((980, 780, 1000, 800), (1000, 800), (884, 684, 1000, 800)),
        ((0, 0, 300, 90), (320, 100), (0, 0, 320, 100)),  # the image is smaller
        ((-1e100, 50, 1e100, 60), (320, 100), (0, 0, 320, 100)),
        ((500, 500, 520, 520), (100, 100), (4, 4, 100, 100)),  # beyond the image
        ((0, 0, 1, 1), (1, 1), (0, 0, 1, 1)),
    ],
)
def test_window(box, size, window):
    """A crop is square, has the box with a margin, and stays inside the image."""
    assert crop_window(np.array(box, dtype=float), *size) == window


def small_case(tmp_path, pixels):
    """An image with a missed object and a false positive of 40², the latter next to a found object."""
    cv2.imwrite(str(tmp_path / "1.jpg"), pixels)
    truth = build_truth([(1, 1, 100, 100, 140, 140), (1, 1, 300, 300, 340, 340)], side_px=len(pixels))
    truth = truth.replace(root=tmp_path)
    found = build_predictions(
        [(1, 1, 300, 300, 340, 340, 0.9), (1, 2, 300, 100, 340, 140, 0.8), (1, 1, 90, 90, 110, 110, 0.1)]
    )
    return truth, found, find_mistakes(truth, found)


def test_crop(tmp_path):
    """The box is drawn in its place on the image: red for a miss, orange for a false positive."""
    made = make_gallery(*small_case(tmp_path, np.full((400, 400, 3), 128, np.uint8)))
    (missed,), (wrong,) = (group.crops for group in made.groups if group.total)
    assert (missed.width_px, missed.score, wrong.class_name, wrong.score) == (40, None, "mask", 0.8)
    # the window is 136 wide from 52 (252) on, drawn 288 wide: the box begins at 48 · 288 / 136 = 101.6
    for crop, colour in ((missed, (232, 62, 76)), (wrong, (255, 149, 0))):
        pixels = picture_pixels(crop.picture)
        assert pixels.shape == (288, 288, 3)
        assert np.abs(pixels[102, 120:165].mean(axis=0) - colour).max() < 40
        assert np.abs(pixels[120:165, 144].astype(int) - 128).max() < 20
        assert np.abs(pixels[5, 5].astype(int) - 128).max() < 10


def test_beside_a_mistake(tmp_path):
    """Labelled objects near a false positive are drawn with thin green lines."""
    truth, _, _ = small_case(tmp_path, np.full((400, 400, 3), 128, np.uint8))
    wrong = build_predictions([(1, 2, 300, 250, 340, 290, 0.8), (1, 1, 300, 300, 340, 340, 0.9)])
    made = make_gallery(truth, wrong, find_mistakes(truth, wrong))
    crop = next(group.crops[0] for group in made.groups if group.total and group.mistake == "false positive")
    pixels = picture_pixels(crop.picture)
    top = round((300 - 202) * 288 / 136)  # of the true box in the window from 202 on
    green = pixels[top - 1 : top + 2, 120:165].reshape(-1, 3).astype(int)
    assert (green[:, 1] - green[:, 0]).max() > 60


def test_each_image_is_decoded_once(tmp_path, monkeypatch):
    """An image with several mistakes is decoded once."""
    read = []
    monkeypatch.setattr(gallery_module, "decode_rgb", lambda path: read.append(path) or decode_rgb(path))
    make_gallery(*small_case(tmp_path, np.zeros((400, 400, 3), np.uint8)))
    assert read == [tmp_path / "1.jpg"]


def test_broken_images(root):
    """Mistakes in missing or damaged images have no picture, and a note says so."""
    start_run(root)
    curate.evaluate(root, run="first", report=False)  # the detections are kept
    (root / "media/images/faces/004.png").unlink()
    (root / "media/images/faces/005.png").write_bytes(b"no image")
    result = curate.report(root, run="first")
    page = lxml_html.fromstring(Path(result.report).read_bytes().decode())
    told = [one.get("aria-label") for one in page.find_class("gone")]
    box = "large, 160 × 160 pixels"
    assert told[0] == f"Missed with_mask, {box}, in media/images/faces/004.png; the image cannot be read"
    assert (len(told), len(list(page.iter("img")))) == (7, 5)  # 4 on image 4, and 3 on image 5
    assert result.notes == ("Not readable: 2 images. The report has no picture of the mistakes in them.",)


def many_mistakes(root, count=700):
    """A dataset of images of noise, which compress badly, each with a missed object."""
    dataset = build_dataset(root, [[("with_mask", LARGE)], *[[("with_mask", SMALL)]] * (count - 1)], side_px=200)
    save(dataset)
    random = np.random.default_rng(0)
    for path in dataset.images["path"]:
        file = dataset.image_file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), random.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    return dataset


def test_page_stays_small(tmp_path, monkeypatch):
    """With many mistakes the page stays below 10 MB, and says how many are shown."""
    monkeypatch.setattr(CornerEngine, "offsets_px", {"first": 60.0})
    root = many_mistakes(tmp_path / "many").root
    start_run(root)
    result = curate.report(root, run="first")
    assert (result.missed, result.false_positives) == (700, 2100)
    assert result.bytes == Path(result.report).stat().st_size < 10_000_000
    assert 30 < result.shown < 122
    text = section(lxml_html.fromstring(Path(result.report).read_bytes().decode()), "gallery")
    assert f"{result.shown} of 2,800 are shown." in text
    assert re.search(r"699 small \d+ of 699 shown\.", text)


def test_a_group_is_cut_off(tmp_path, monkeypatch):
    """A group has the first crops up to its limit."""
    monkeypatch.setattr(gallery_module, "MOST_IN_A_GROUP", 2)
    truth = build_truth([(1, 1, 10, 10, 20, 20 + side) for side in (3, 9, 6)])
    nothing = build_predictions([])
    made = make_gallery(truth, nothing, find_mistakes(truth, nothing))
    (group,) = [group for group in made.groups if group.total]
    assert ([crop.height_px for crop in group.crops], group.total) == ([19, 16], 3)
    assert made.unreadable == ("1.jpg",)


# ── whatever there is ────────────────────────────────────────────────────────────────────────────────────────────


def test_same_bytes(root, monkeypatch):
    """The same run and data give the same page, byte for byte."""
    start_run(root)
    pages = [Path(curate.report(root, run="first").report).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("images", "classes"),
    [
        ([[("with_mask", SMALL)], []], CLASSES),  # one object, and false positives
        ([[("a", SMALL)], [("a", MEDIUM)]], ("a",)),  # one class
        ([[], []], CLASSES),  # no boxes
        ([[(f"class {number}", SMALL)] for number in range(60)], tuple(f"class {number}" for number in range(60))),
    ],
)
def test_anything_can_be_reported(tmp_path, images, classes):
    """Datasets without splits, with one class, many classes, or no box have a report."""
    root = save(build_dataset(tmp_path / "d", images, classes), pictures=True)
    start_run(root)
    result = curate.report(root, run="first")
    assert (result.split, result.report) == ("all", root / "runs/first/report.html")
    assert "The dataset has no splits" in section(lxml_html.fromstring(result.report.read_bytes().decode()), "summary")


def test_no_detections_and_no_mistakes(root, monkeypatch):
    """Without detections every object is missed; without mistakes the gallery is empty."""
    folder = start_run(root)
    curate.evaluate(root, run="first", report=False)
    folder.predictions_file("val").write_text("[]")
    page = page_of(root)
    assert (tiles(page)["missed"], tiles(page)["AP"]) == ("4", "0.0")
    assert "No detection with a score of 0.5 or more is a false positive." in section(page, "summary")
    val = Store(root).load().select("val").boxes
    truth = [
        {"image_id": row.image_id, "category_id": row.class_id, "score": 0.9,
         "bbox": [row.x0, row.y0, row.x1 - row.x0, row.y1 - row.y0]}
        for row in val.itertuples()
    ]  # fmt: skip
    folder.predictions_file("val").write_text(json.dumps(truth))
    page = page_of(root)
    assert "All 4 objects were found (all objects)." in section(page, "summary")
    assert "0 of 0 are shown." in section(page, "gallery")
    assert not list(page.iter("img"))


def test_names_are_text(tmp_path):
    """Names of classes, runs and folders with markup, formulas or commands are shown literally."""
    images = [[(name, SMALL)] for name in NASTY for _ in range(2)]
    splits = pd.array(["train", "val"] * len(NASTY), dtype="str")
    root = save(build_dataset(tmp_path / "<b>&amp;", images, NASTY, split=splits), pictures=True)
    start_run(root, "<i>run")
    data = Path(curate.report(root, run="<i>run").report).read_bytes().decode()
    assert "<script" not in data
    assert "<i>" not in data
    assert html.escape(NASTY[1]).replace("&#x27;", "&#39;") in data
    page = lxml_html.fromstring(data)
    assert words(page.find(".//h1")) == "Run <i>run"
    assert [row[0] for row in table(page, "By class")[1:]] == [*NASTY[:3], "w" * 79 + "…"]


def test_invisible_characters_are_shown(tmp_path):
    """Names of earlier versions, in tables, charts, pictures and titles, neither hide a character nor turn the text."""
    names = ("a\u202egpj", "a\x1b[2J", "a\nb", "a\x9bb", "a\u200bb")
    images = [[(name, SMALL)] for name in names for _ in range(2)]
    splits = pd.array(["train", "val"] * len(names), dtype="str")
    root = save(build_dataset(tmp_path / "a\u202eb", images, names, split=splits), pictures=True)
    start_run(root)
    data = Path(curate.report(root, run="first").report).read_bytes().decode()
    assert all(map(is_clean, data.split("\n")))
    page = lxml_html.fromstring(data)
    assert [row[0] for row in table(page, "By class")[1:]] == [shown(name).replace(r"\n", " ") for name in names]


def test_page_is_alone(root):
    """The page has no script and no external address, and its policy forbids requests."""
    start_run(root)
    page = page_of(root)
    assert not list(page.iter("script", "iframe", "object", "embed"))
    policy = page.find(".//meta[@http-equiv]").get("content")
    assert policy.startswith("default-src 'none'; img-src data:;")
    addresses = [one for element in page.iter() for name, one in element.attrib.items() if name in ("src", "href")]
    assert all(one.startswith(("data:", "#")) for one in addresses)
    assert "http" not in lxml_html.tostring(page, encoding="unicode").replace("http-equiv", "")


# ── terms, places, another run ───────────────────────────────────────────────────────────────────────────────────


def test_terms_of_the_last_evaluation(root):
    """Each option defaults to that of the last evaluation; a smallest side of 0 includes all objects."""
    start_run(root)
    curate.evaluate(root, run="first", min_side=24, score=0.7, precision=0.8, report=False)
    page = page_of(root)
    assert "shorter side ≥ 24 px" in section(page, "summary")
    assert "counts from score 0.7 on" in section(page, "summary")
    assert "precision 0.8 from score" in table(page, "Score thresholds")[0]
    page = page_of(root, score=0.8)
    assert "shorter side ≥ 24 px" in section(page, "summary")
    assert "counts from score 0.8 on" in section(page, "summary")
    page = page_of(root, min_side=0)
    assert "Of 4 objects (shorter side ≥ 0 px)" in section(page, "summary")
    assert "counts from score 0.7 on" in section(page, "summary")


def test_where_all_mistakes_are(root):
    """The run's table of mistakes is named only if its evaluation has the same terms."""
    start_run(root)
    assert "curate evaluate faces --run first --score 0.5 --errors mistakes.csv, or" in section(
        page_of(root), "gallery"
    )
    curate.evaluate(root, run="first", report=False)
    assert "All mistakes: errors_val.csv, or curate view faces --run first --score 0.5." in section(
        page_of(root), "gallery"
    )
    assert "errors_val.csv" not in section(page_of(root, score=0.9), "gallery")


def test_kept_evaluation_that_is_damaged(root):
    """An unreadable evaluation raises an error with its name and a remedy."""
    folder = start_run(root)
    (folder.path / "evaluation_val.json").write_text("{")
    with pytest.raises(DataError, match=r"evaluation_val\.json: .*Evaluate it again: `curate evaluate`\."):
        curate.report(root, run="first")


def test_against(root, monkeypatch):
    """The comparison has both runs with differences, and misses by size."""
    monkeypatch.setattr(CornerEngine, "offsets_px", {"second": 100.0})
    for run in ("first", "second"):
        start_run(root, run)
        curate.evaluate(root, run=run, report=False)
    page = page_of(root, run="second", against="first")
    ap = 100 * curate.evaluate(root, run="first", report=False).ap
    assert table(page, "AP")[:2] == [
        ["metric", "first", "second", "difference"],
        ["AP", f"{ap:.1f}", "0.0", f"−{ap:.1f}"],
    ]
    assert table(page, "Mistakes, all objects")[1:4] == [
        ["missed, large", "1", "1", "0"],
        ["missed, medium", "1", "1", "0"],
        ["missed, small", "0", "2", "+2"],
    ]
    assert [row[0] for row in table(page, "AP by class")[1:]] == list(CLASSES)
    with pytest.raises(UsageError, match="evaluated with different --score"):
        curate.report(root, run="second", against="first", score=0.6)


def test_against_other_classes(root):
    """With different classes, a sentence says that the means are over different ones."""
    start_run(root)
    curate.evaluate(root, run="first", report=False)
    assert "Their classes differ" not in section(page_of(root, against="first"), "comparison")
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    text = section(page_of(root, against="first"), "comparison")
    assert "AP is the mean over the classes that have objects, 2 here and 2 there, and with fewer classes" in text


def test_places(root):
    """The page is in the run's folder, named by split, and replaces an old one."""
    folder = start_run(root)
    folder.report_file.write_text("old")
    assert curate.report(root, run="first").report == folder.path / "report.html"
    assert curate.report(root, run="first", split="train").report == folder.path / "report_train.html"
    assert curate.report(root, run="first", split="all").report == folder.path / "report_all.html"
    assert b"<!doctype html>" in folder.report_file.read_bytes()


def test_run_of_another_dataset(root, tmp_path):
    """The page on another dataset has a name of its own."""
    other = save(build_dataset(tmp_path / "other", [[("with_mask", SMALL)]] * 2, split=["train", "val"]), pictures=True)
    folder = start_run(other, "away")
    own = curate.report(other, run="away").report
    assert (own, curate.report(root, run=str(folder.path)).report) == (
        folder.path / "report.html",
        folder.path / f"report_val_of_{Store(root).mark}.html",
    )


def test_out(root, tmp_path):
    """`out` creates folders, and replaces a file only with `overwrite`, which is checked first."""
    folder = start_run(root)
    out = tmp_path / "new" / "folder" / "page.html"
    assert curate.report(root, run="first", out=out).report == out
    before = out.read_bytes()
    assert not folder.report_file.exists()
    with pytest.raises(UsageError, match=r"page\.html: the file already exists\. .*--overwrite"):
        curate.report(root, run="nowhere", out=out)
    out.write_text("old")
    curate.report(root, run="first", out=out, overwrite=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["page.pdf", "page"])
def test_name_that_no_browser_opens(root, tmp_path, name):
    """Another suffix than .html raises an error."""
    with pytest.raises(UsageError, match=r"not an HTML file \(got .*; expected \.html or \.htm\)"):
        curate.report(root, run="first", out=tmp_path / name)


def test_json(root):
    """The document has exactly these keys."""
    start_run(root)
    document = curate.report(root, run="first").to_json()
    size = (root / "runs/first/report.html").stat().st_size
    assert document == {
        "run": "first",
        "split": "val",
        "report": (root / "runs/first/report.html").as_posix(),
        "bytes": size,
        "missed": 2,
        "false_positives": 10,
        "shown": 12,
    }


def test_kept_numbers_stay(root):
    """A report does not change the kept evaluation."""
    folder = start_run(root)
    curate.evaluate(root, run="first", score=0.6, report=False)
    kept = {file: file.read_bytes() for file in folder.path.glob("*_val.*")}
    curate.report(root, run="first", score=0.9)
    assert {file: file.read_bytes() for file in folder.path.glob("*_val.*")} == kept


# ── with evaluate ────────────────────────────────────────────────────────────────────────────────────────────────


def test_evaluate_writes_it(root):
    """`evaluate` writes the same page as `report`, with the comparison if one was requested."""
    folder = start_run(root)
    result = curate.evaluate(root, run="first", min_side=12)
    assert result.to_json()["report"] == folder.report_file.as_posix()
    page = folder.report_file.read_bytes()
    curate.report(root, run="first")
    assert folder.report_file.read_bytes() == page
    curate.evaluate(root, run="first", min_side=12, against="first")
    assert b"Comparison with" in folder.report_file.read_bytes()


def test_evaluate_without_it(root):
    """`evaluate` can leave the page out, and a training always does."""
    folder = start_run(root)
    assert curate.evaluate(root, run="first", report=False).to_json()["report"] is None
    curate.train(root, model="corner:only", run="new", steps=3)
    assert not folder.report_file.exists()
    assert not (root / "runs/new/report.html").exists()


def test_evaluation_outlives_its_report(root, monkeypatch):
    """If the page cannot be written, the numbers are returned with a note."""
    folder = start_run(root)
    folder.report_file.mkdir()
    result = curate.evaluate(root, run="first")
    assert (result.report, result.detections) == (None, 12)
    assert result.notes[-1].startswith("The report was not written: ")
    assert json.loads((folder.path / "evaluation_val.json").read_text())["ap"] == result.ap

    def fail(*_, **__):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(evaluating, "write_report", fail)
    assert curate.evaluate(root, run="first").notes[-1] == "The report was not written: no"


# ── on the command line ──────────────────────────────────────────────────────────────────────────────────────────


def test_command(root, run_main):
    """`report` prints path, size and number of mistakes; `--json` the document; an error is one line."""
    folder = start_run(root)
    curate.evaluate(root, run="first", report=False)  # the detections are kept, so the engine is not needed
    done = run_main("report", root, "--run", "first")
    assert done.stdout.splitlines() == [
        f"{folder.report_file} (0.1 MB)",
        "2 missed, 10 false positives; 12 of them shown",
    ]
    document = json.loads(run_main("report", root, "--run", "first", "--json").stdout)
    assert document["report"] == folder.report_file.as_posix()
    failed = run_main("report", root, "--run", "nothing")
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)
    assert "there is no run here" in failed.stderr


def test_evaluate_command(root, run_main):
    """`evaluate` prints the path of the page in its last line, unless it writes none."""
    folder = start_run(root)
    curate.evaluate(root, run="first", report=False)
    assert "report" not in run_main("evaluate", root, "--run", "first", "--no-report").stdout
    assert not folder.report_file.exists()
    done = run_main("evaluate", root, "--run", "first")
    assert done.stdout.splitlines()[-1] == f"report: {folder.report_file}"


def test_same_bytes_in_another_process(root):
    """Another process with another hash seed writes the same bytes."""
    folder = start_run(root)
    curate.evaluate(root, run="first")
    page = folder.report_file.read_bytes()
    assert run_curate("report", root, "--run", "first", PYTHONHASHSEED="1").returncode == 0
    assert folder.report_file.read_bytes() == page
