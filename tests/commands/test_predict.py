"""`predict`: COCO results, XML for LabelImg, and proposals, which never count as truth."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import box_rows, image_row, load, snapshot, write_image, write_xml
from corner_engine import CORNER, CornerDetector, register
from proposing import find, save_in_labelimg, write_run
from pycocotools.coco import COCO
from sample_datasets import MEDIUM, SMALL, build_dataset, save, set_column

import curate
from curate.cli import main
from curate.commands.predict import predict
from curate.errors import DataError, StoreError, UsageError
from curate.images import decode_rgb
from curate.inference.judge import training_images
from curate.store import Store

CLASSES = ("masked", "bare")


@pytest.fixture(autouse=True)
def corner(monkeypatch):
    """An engine that finds one box of every class in every image, with scores 0.9 and 0.6."""
    register(monkeypatch)


@pytest.fixture
def run(tmp_path):
    """A run with classes masked (1) and bare (2), of no dataset here."""
    return write_run(tmp_path / "runs" / "first")


@pytest.fixture
def photos(tmp_path):
    """Four images, two with equal names in two folders, one rotated by EXIF."""
    folder = tmp_path / "photos"
    for name in ("b.jpg", "a/1.jpg", "c/1.png"):
        write_image(folder / name)
    write_image(folder / "turned.jpg", orientation=6)
    return folder


@pytest.fixture
def root(tmp_path):
    """A dataset with images 1 and 2 labelled, 3 and 4 unlabelled, and its run `runs/first`."""
    states = pd.array(["labelled", "labelled", "unlabelled", "unlabelled"], dtype="str")
    boxes = [[("masked", SMALL)], [("bare", MEDIUM)], [], []]
    root = save(build_dataset(tmp_path / "faces", boxes, CLASSES, label_state=states), pictures=True)
    write_run(root / "runs" / "first", load(root).classes, version=1)
    return root


def interrupt(self, images):
    """A detector that is interrupted by Ctrl-C."""
    raise KeyboardInterrupt


def read(folder, name="predictions.json"):
    return json.loads((folder / name).read_text())


def states(root):
    return dict(load(root).images[["image_id", "label_state"]].itertuples(index=False))


# ── COCO results of a folder ─────────────────────────────────────────────────────────────────────────────────────


def test_results_of_a_folder(run, photos, tmp_path):
    """Image ids count from 1 in the order of paths; boxes are COCO's, of all scores; sizes are upright."""
    done = predict(run, photos, out=tmp_path / "out")
    assert read(tmp_path / "out", "images.json") == {
        "images": [
            {"id": 1, "file_name": "a/1.jpg", "width": 64, "height": 48},
            {"id": 2, "file_name": "b.jpg", "width": 64, "height": 48},
            {"id": 3, "file_name": "c/1.png", "width": 64, "height": 48},
            {"id": 4, "file_name": "turned.jpg", "width": 48, "height": 64},
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "masked"}, {"id": 2, "name": "bare"}],
    }
    assert read(tmp_path / "out") == [
        {"image_id": image_id, "category_id": class_id, "bbox": [10, 10, 20, 20], "score": score}
        for image_id in (1, 2, 3, 4)
        for class_id, score in ((1, 0.9), (2, 0.6))
    ]
    assert done.to_json() == {
        "run": str(run),
        "images": 4,
        "boxes": 8,
        "out": str(tmp_path / "out"),
        "form": "coco",
        "version": None,
        "drawn": None,
        "problems": [],
    }


def test_pycocotools_reads_them(run, photos, tmp_path):
    """The list of images is a COCO file for the results."""
    predict(run, photos, out=tmp_path)
    found = COCO(str(tmp_path / "images.json")).loadRes(str(tmp_path / "predictions.json"))
    assert len(found.getAnnIds(imgIds=[4], catIds=[2])) == 1


def test_results_go_into_the_run_s_folder(run, photos):
    """The default folder is in the run's folder, named after the source."""
    assert predict(run, photos).out == str(run / "predicted" / "photos")
    assert len(read(run / "predicted" / "photos")) == 8


def test_results_of_one_image_are_in_a_folder_without_its_suffix(run, photos):
    """The default folder of an image is not called as the image: `1`, and not `1.jpg`."""
    done = predict(run, photos / "a" / "1.jpg")
    assert done.out == str(run / "predicted" / "1")
    assert sorted(one.name for one in (run / "predicted").iterdir()) == ["1"]


@pytest.mark.parametrize("name", ["0.jpg", "0.PNG", "0.json"])
def test_folder_with_the_name_of_a_file(run, photos, tmp_path, name):
    """`--out` with the name of a picture or a JSON file is refused, unless it is a folder."""
    with pytest.raises(UsageError, match="not a folder"):
        predict(run, photos, out=tmp_path / name)
    (tmp_path / name).mkdir()
    assert predict(run, photos, out=tmp_path / name).images == 4


def test_source_with_the_name_of_a_file(run, photos, tmp_path):
    """A folder of images may be called as a picture is: only `--out` is asked for a folder's name."""
    source = photos.rename(tmp_path / "photos.jpg")
    assert predict(run, source).out == str(run / "predicted" / "photos.jpg")


@pytest.mark.parametrize("name", ["nothing.jpg", "nothing.json", "nothing"])
def test_source_that_is_not_there(run, tmp_path, name):
    """A source that is not there is named itself, whatever its suffix, and not the folder of its results."""
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / name))}: there is no such"):
        predict(run, tmp_path / name)


# ── pictures with boxes ──────────────────────────────────────────────────────────────────────────────────────────


def test_draw(run, photos, tmp_path):
    """Each picture is written upright with its boxes, under its own path; the pictures themselves stay."""
    before = snapshot(photos)
    done = predict(run, photos, out=tmp_path / "out", draw=True)
    assert done.drawn == str(tmp_path / "out" / "drawn")
    names = ["a/1.jpg", "b.jpg", "c/1.png", "turned.jpg"]
    found = sorted(file.relative_to(done.drawn).as_posix() for file in Path(done.drawn).rglob("*.*"))
    assert found == names
    for name in names:
        drawn, plain = decode_rgb(Path(done.drawn) / name), decode_rgb(photos / name)
        assert drawn.shape == plain.shape
        difference = np.abs(drawn.astype(int) - plain)
        assert difference[18:22, 9:12].max() > 60  # the left side of the box at 10
        assert difference[-4:, -4:].max() < 40
    assert snapshot(photos) == before


def test_drawn_from_a_score(run, photos, tmp_path, monkeypatch):
    """Without a score, boxes from 0.5 on are drawn, while the results have all; else those from the score on."""
    find(monkeypatch, [[20, 20, 40, 40]], scores=[0.4])
    plain = decode_rgb(photos / "c" / "1.png")
    done = predict(run, photos, out=tmp_path / "a", draw=True)
    assert done.boxes == 4
    assert (decode_rgb(Path(done.drawn) / "c" / "1.png") == plain).all()
    done = predict(run, photos, out=tmp_path / "b", draw=True, score=0.3)
    assert (decode_rgb(Path(done.drawn) / "c" / "1.png") != plain).any()


def test_drawn_pictures_are_not_overwritten(run, photos, tmp_path):
    """A folder with pictures is refused before the work; `overwrite` replaces them."""
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="the folder has files already"):
        predict(run, photos, out=tmp_path, draw=True)
    assert CornerDetector.shown == 0 or not (tmp_path / "predictions.json").exists()
    assert predict(run, photos, out=tmp_path, draw=True, overwrite=True).drawn
    assert (tmp_path / "drawn" / "mine.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("option", [{"form": "voc"}, {"into_dataset": True}])
def test_draw_is_for_results(run, root, option):
    """XML and proposals are looked at in LabelImg and the app."""
    with pytest.raises(UsageError, match=r"--draw and .* are mutually exclusive"):
        predict(run, root, draw=True, **option)


def test_draw_on_the_command_line(run, photos, run_main):
    """The folder of the pictures is printed."""
    printed = run_main("predict", run, photos, "--draw").stdout
    assert printed.splitlines()[1] == f"pictures with boxes: {run / 'predicted' / 'photos' / 'drawn'}"


def test_boxes_that_leave_the_image_stay_so(run, photos, tmp_path, monkeypatch):
    """Boxes in results are not clipped, as COCO scores them."""
    find(monkeypatch, [[-5, 1, 70, 20]])
    predict(run, photos, out=tmp_path)
    assert read(tmp_path)[0]["bbox"] == [-5, 1, 75, 19]


def test_nothing_found(run, photos, tmp_path, monkeypatch):
    """Without detections the results are an empty list, and the images are listed."""
    find(monkeypatch, [])
    done = predict(run, photos, out=tmp_path)
    assert (done.images, done.boxes, read(tmp_path), len(read(tmp_path, "images.json")["images"])) == (4, 0, [], 4)


def test_lowest_score(run, photos, tmp_path):
    """`--score` keeps detections of at least that score."""
    assert predict(run, photos, out=tmp_path / "a", score=0.6).boxes == 8
    assert predict(run, photos, out=tmp_path / "b", score=0.7).boxes == 4


def test_one_image(run, photos, tmp_path):
    """A single file is image 1."""
    assert predict(run, photos / "a" / "1.jpg", out=tmp_path).images == 1
    assert read(tmp_path, "images.json")["images"][0]["file_name"] == "1.jpg"


def test_results_are_not_overwritten(run, photos):
    """Existing results are replaced only with `--overwrite`."""
    predict(run, photos)
    before = snapshot(run)
    with pytest.raises(UsageError, match=r"predictions.json: the file already exists\..* --overwrite"):
        predict(run, photos, score=0.7)
    assert snapshot(run) == before
    assert predict(run, photos, score=0.7, overwrite=True).boxes == 4


def test_out_is_a_folder(run, photos, tmp_path):
    """A file name for `--out` raises an error before the work."""
    with pytest.raises(UsageError, match=r"not a folder \(expected a folder for predictions.json and images.json\)"):
        predict(run, photos, out=tmp_path / "found.json")
    assert CornerDetector.shown == 0


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_interrupted(run, photos, monkeypatch, form):
    """Ctrl-C leaves earlier results complete, and no partial file."""
    predict(run, photos)
    before = snapshot(run), snapshot(photos).keys()
    monkeypatch.setattr(CornerDetector, "predict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict(run, photos, form=form, overwrite=True)
    assert snapshot(run) == before[0]
    assert snapshot(photos).keys() - before[1] <= {Path("predefined_classes.txt")}


def test_xml_is_kept_when_interrupted(run, tmp_path, monkeypatch):
    """XML written before Ctrl-C stays, and the same command continues."""
    for number in range(10):
        write_image(tmp_path / "many" / f"{number}.jpg", seed=number)
    found, turns = CornerDetector.predict, []

    def until_the_second(self, images):
        turns.append(len(images))
        return found(self, images) if len(turns) == 1 else interrupt(self, images)

    monkeypatch.setattr(CornerDetector, "predict", until_the_second)
    with pytest.raises(KeyboardInterrupt):
        predict(run, tmp_path / "many", form="voc")
    done = len(list((tmp_path / "many").glob("*.xml")))
    assert 0 < done < 10
    monkeypatch.setattr(CornerDetector, "predict", found)
    assert predict(run, tmp_path / "many", form="voc").images == 10 - done


# ── images that cannot be read ───────────────────────────────────────────────────────────────────────────────────


def test_broken_images_are_told(run, photos, tmp_path):
    """Unreadable images are listed as problems; the others keep their ids."""
    (photos / "a" / "0.jpg").write_bytes(b"no image")
    damaged = (photos / "b.jpg").read_bytes()
    (photos / "b.jpg").write_bytes(damaged[:300] + b"\xff\xd9")
    done = predict(run, photos, out=tmp_path / "out")
    assert [(one["file"], one["kind"], one["action"]) for one in done.problems] == [
        (str(photos / "a" / "0.jpg"), "image_broken", "quarantined"),
        (str(photos / "b.jpg"), "image_broken", "quarantined"),
    ]
    assert [row["id"] for row in read(tmp_path / "out", "images.json")["images"]] == [2, 4, 5]
    assert {row["image_id"] for row in read(tmp_path / "out")} == {2, 4, 5}


def test_command_line(run, photos, monkeypatch, capsys):
    """A broken image is a problem in the document; the exit code is 0."""
    (photos / "x.png").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["curate", "predict", str(run), str(photos), "--as", "voc", "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    document = json.loads(capsys.readouterr().out)
    assert not caught.value.code
    assert (document["images"], document["boxes"], document["form"]) == (4, 8, "voc")
    assert [one["file"] for one in document["problems"]] == [str(photos / "x.png")]


def test_help(monkeypatch, capsys):
    """The help shows the arguments as for all commands."""
    monkeypatch.setattr(sys, "argv", ["curate", "predict", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert re.search(r"curate predict \[OPTIONS\] \W?RUN\W? \W?SOURCE\W?\n", capsys.readouterr().out)


def test_what_is_printed(run, photos, monkeypatch, capsys):
    """The output has the path of the results and the first problems."""
    for number in range(12):
        (photos / f"x{number:02d}.png").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["curate", "predict", str(run), str(photos)])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"8 boxes in 4 images: COCO results in {run / 'predicted' / 'photos'}"
    assert lines[1].startswith(f"left out  {photos / 'x00.png'}: the image cannot be used")
    assert (len(lines), lines[-1]) == (12, "and 2 more; --json lists all")


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_only_broken_images(run, tmp_path, form):
    """If no image is readable, an error is raised and nothing is written."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"broken: no image is readable"):
        predict(run, folder, form=form)
    assert [file.name for file in folder.iterdir()] == ["a.jpg"]


def test_empty_folder(run, tmp_path):
    """A folder without images, or a missing one, raises an error."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: the folder has no image"):
        predict(run, tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        predict(run, tmp_path / "nowhere")


# ── XML for LabelImg ─────────────────────────────────────────────────────────────────────────────────────────────


def test_xml_beside_the_images(run, photos):
    """Each image gets XML, also images with equal names in two folders; the class list is in the top folder."""
    done = predict(run, photos, form="voc")
    names = ["a/1.xml", "b.xml", "c/1.xml", "turned.xml"]
    assert sorted(file.relative_to(photos).as_posix() for file in photos.rglob("*.xml")) == names
    assert (photos / "predefined_classes.txt").read_text() == "masked\nbare\n"
    assert (done.images, done.boxes, done.out, done.form) == (4, 8, str(photos), "voc")


def test_xml_comes_back(run, photos, dataset):
    """Imported proposals are the detections: same class, place and image, without repairs."""
    predict(run, photos, form="voc")
    done = curate.import_voc(dataset, photos, accept_proposals=True)
    assert (done.images, done.repaired, done.quarantined, done.problems) == (4, 0, 0, ())
    assert [row[1:] for row in box_rows(dataset)] == [("bare", *CORNER), ("masked", *CORNER)] * 4
    assert set(load(dataset).images["label_state"]) == {"labelled"}
    assert list(load(dataset).class_names.values()) == ["masked", "bare"]


def test_turned_image(run, photos, dataset):
    """XML of an image rotated by EXIF has upright boxes, also after import."""
    predict(run, photos, form="voc")
    assert "<width>48</width>\n\t\t<height>64</height>" in (photos / "turned.xml").read_text()
    curate.import_voc(dataset, photos, accept_proposals=True)
    assert (image_row(dataset, "turned.jpg")["width"], image_row(dataset, "turned.jpg")["height"]) == (48, 64)


def test_boxes_are_cut_at_the_image(run, photos, dataset, monkeypatch):
    """Boxes in XML are clipped to the image; boxes outside it are left out."""
    find(monkeypatch, [[-5, 1, 70, 20], [100, 1, 110, 9]])
    assert predict(run, photos / "b.jpg", form="voc").boxes == 1
    curate.import_voc(dataset, photos, accept_proposals=True)
    assert box_rows(dataset) == [("b.jpg", "masked", 0, 1, 64, 20)]


def test_scores_below_one_half(run, photos, monkeypatch):
    """By default only boxes from score 0.5 on are proposed; an image without any gets XML without objects."""
    find(monkeypatch, [CORNER, CORNER], scores=[0.5, 0.49])
    assert predict(run, photos, form="voc").boxes == 4
    find(monkeypatch, [CORNER], scores=[0.49])
    assert predict(run, photos, form="voc", overwrite=True).boxes == 0
    assert "<object>" not in (photos / "b.xml").read_text()


def test_xml_in_a_folder_of_its_own(run, photos, tmp_path, dataset):
    """With `--out`, XML has the same subfolders, and is imported with `--images`."""
    predict(run, photos, form="voc", out=tmp_path / "xml")
    assert not list(photos.rglob("*.xml"))
    done = curate.import_voc(dataset, tmp_path / "xml", images=photos, accept_proposals=True)
    assert (done.images, done.boxes, done.problems) == (4, 8, ())


def test_xml_of_a_person_stays(run, photos):
    """XML saved by a person is not replaced, even with `--overwrite`, and a note says so."""
    write_xml(photos / "b.xml", objects=[("bare", 1, 2, 3, 4)])
    predict(run, photos / "a", form="voc")
    save_in_labelimg(photos / "a" / "1.xml")
    before = {name: (photos / name).read_bytes() for name in ("b.xml", "a/1.xml")}
    for overwrite in (False, True):
        done = predict(run, photos, form="voc", overwrite=overwrite)
        assert {name: (photos / name).read_bytes() for name in before} == before
        assert "Left out: 2 images with XML that a person saved." in done.notes


def test_proposals_stay_without_overwrite(run, photos):
    """Earlier proposals are replaced only with `--overwrite`, so an interrupted command continues."""
    predict(run, photos / "a", form="voc")
    assert predict(run, photos, form="voc").images == 3
    again = predict(run, photos, form="voc", score=0.7)
    assert (again.images, again.boxes) == (0, 0)
    assert "Left out: 4 images with a proposal; --overwrite replaces it." in again.notes
    assert predict(run, photos, form="voc", score=0.7, overwrite=True).boxes == 4


def test_xml_that_lies_in_another_folder(run, tmp_path):
    """In a devkit, an image with XML in `Annotations` gets no second one."""
    write_image(tmp_path / "kit" / "JPEGImages" / "a.jpg")
    write_image(tmp_path / "kit" / "JPEGImages" / "b.jpg")
    write_xml(tmp_path / "kit" / "Annotations" / "a.xml")
    predict(run, tmp_path / "kit", form="voc")
    assert sorted(file.name for file in (tmp_path / "kit" / "JPEGImages").glob("*.xml")) == ["b.xml"]


def test_xml_that_names_its_image(run, photos, dataset):
    """An image that a person's XML of another name assigns by `<filename>` gets no second XML."""
    write_xml(photos / "by_hand.xml", "b.jpg", [("bare", 1, 2, 30, 40)])
    done = predict(run, photos, form="voc")
    assert not (photos / "b.xml").exists()
    assert (done.images, done.notes[0]) == (3, "Left out: 1 image with XML that a person saved.")
    curate.import_voc(dataset, photos)
    assert box_rows(dataset) == [("b.jpg", "bare", 1, 2, 30, 40)]


def test_two_images_of_one_stem(run, photos):
    """Of `a.jpg` and `a.png`, which share an XML name, the first gets the XML, the second is a problem."""
    write_image(photos / "b.png")
    done = predict(run, photos, form="voc")
    assert [(one["file"], one["kind"], one["detail"]) for one in done.problems] == [
        (str(photos / "b.png"), "xml_taken", "b.xml belongs to b.jpg")
    ]
    assert "<filename>b.jpg</filename>" in (photos / "b.xml").read_text()


def test_class_list_of_a_person_stays(run, photos):
    """Names in the class list keep their position; missing ones are added."""
    (photos / "predefined_classes.txt").write_text("hat\nbare\n")
    predict(run, photos, form="voc")
    assert (photos / "predefined_classes.txt").read_text() == "hat\nbare\nmasked\n"


# ── images of a dataset ──────────────────────────────────────────────────────────────────────────────────────────


def test_results_of_a_dataset_can_be_evaluated(root, tmp_path):
    """Results on a dataset have its image ids, and `evaluate --predictions` accepts them."""
    done = predict(root / "runs" / "first", root, out=tmp_path / "out")
    assert {row["image_id"] for row in read(tmp_path / "out")} == {1, 2, 3, 4}
    assert read(tmp_path / "out", "images.json")["images"][0]["file_name"] == "media/images/faces/001.png"
    assert done.images == 4
    scores = curate.evaluate(root, predictions=tmp_path / "out" / "predictions.json", split="all")
    assert (scores.detections, scores.classes[0].ap) == (4, pytest.approx(1.0))


def test_merged_classes_are_followed(root, tmp_path):
    """Boxes of a merged class get the surviving class; those of a dropped class are left out."""
    curate.merge_classes(root, ["bare"], into="masked")
    predict(root / "runs" / "first", root, out=tmp_path / "merged")
    assert {row["category_id"] for row in read(tmp_path / "merged")} == {1}
    curate.undo(root)
    curate.drop_class(root, ["bare"])
    done = predict(root / "runs" / "first", root, out=tmp_path / "dropped")
    assert (done.boxes, "Left out: 4 boxes of classes that were dropped since." in done.notes) == (
        4,
        True,
    )


def test_run_of_another_dataset(root, tmp_path):
    """Classes of a run of another dataset are matched by name; unknown ones are added after the others."""
    other = write_run(tmp_path / "other", [(1, "hat"), (7, "bare")])
    done = predict(other, root, out=tmp_path / "out")
    assert [row["category_id"] for row in read(tmp_path / "out")][:2] == [3, 2]
    assert read(tmp_path / "out", "images.json")["categories"][-1] == {"id": 3, "name": "hat"}
    assert "The dataset has no class hat: boxes of that name cannot be evaluated on it." in done.notes


def test_xml_of_a_dataset(root, tmp_path):
    """Only unlabelled images of a dataset get XML, in the folder of `--out`."""
    with pytest.raises(UsageError, match=r"--as voc of a dataset needs --out\. Give a folder"):
        predict(root / "runs" / "first", root, form="voc")
    done = predict(root / "runs" / "first", root, form="voc", out=tmp_path / "xml")
    assert sorted(file.relative_to(tmp_path / "xml").as_posix() for file in (tmp_path / "xml").rglob("*.xml")) == [
        "faces/003.xml",
        "faces/004.xml",
    ]
    assert "Left out: 2 images labelled already." in done.notes
    before = load(root).images
    curate.import_voc(root, tmp_path / "xml", images=root / "media" / "images", accept_proposals=True)
    assert load(root).images["image_id"].tolist() == before["image_id"].tolist()
    assert set(states(root).values()) == {"labelled"}


# ── proposals in a dataset ───────────────────────────────────────────────────────────────────────────────────────


def propose(root, **options):
    return predict(root / "runs" / "first", root, into_dataset=True, **options)


def test_into_the_dataset(root):
    """Unlabelled images get the boxes and the state `proposed`, as one version with the name of the run."""
    labelled = load(root).boxes
    done = propose(root)
    assert states(root) == {1: "labelled", 2: "labelled", 3: "proposed", 4: "proposed"}
    boxes = load(root).boxes
    assert boxes[boxes["image_id"] <= 2].reset_index(drop=True).equals(labelled)
    assert boxes[boxes["image_id"] == 3][["class_id", "x0", "y0", "x1", "y1"]].to_numpy().tolist() == [
        [1, *CORNER],
        [2, *CORNER],
    ]
    assert (done.images, done.boxes, done.version, done.form, done.out) == (2, 4, 2, None, str(root))
    entry = curate.log(root).entries[0]
    assert (entry.operation, entry.arguments["run"]) == ("predict", str(root / "runs" / "first"))
    curate.undo(root)
    assert states(root)[3] == "unlabelled"


def test_again(root):
    """The same proposals make no version; other ones replace them."""
    propose(root)
    before = load(root).boxes
    assert propose(root).version == 2
    assert propose(root, score=0.7).boxes == 2
    after = load(root).boxes
    assert set(after["box_id"]) < set(before["box_id"])


def test_an_image_without_finds_is_proposed_too(root, monkeypatch):
    """An image without detections is proposed as empty."""
    propose(root)
    find(monkeypatch, [])
    assert propose(root).boxes == 0
    assert (states(root)[3], len(load(root).boxes)) == ("proposed", 2)


def test_nothing_waits(root):
    """If every image is labelled, nothing is done, with a note."""
    set_column(root, "label_state", ["labelled", "labelled", "incomplete", "labelled"])
    done = propose(root)
    assert (done.images, done.version, done.notes) == (0, 2, ("Every image is labelled.",))
    assert CornerDetector.shown == 0


def test_images_that_get_a_label_meanwhile(root, monkeypatch):
    """An image that a person labels in the meantime keeps its label."""
    found = CornerDetector.predict

    def slowly(self, images):
        set_column(root, "label_state", ["labelled", "labelled", "labelled", "unlabelled"])
        return found(self, images)

    monkeypatch.setattr(CornerDetector, "predict", slowly)
    assert propose(root).boxes == 2
    assert (states(root)[3], states(root)[4]) == ("labelled", "proposed")
    assert 3 not in set(load(root).boxes["image_id"])


def test_a_class_that_is_merged_meanwhile(root, monkeypatch):
    """Boxes of a class that is merged in the meantime get the surviving class."""
    found = CornerDetector.predict

    def slowly(self, images):
        curate.merge_classes(root, ["bare"], into="masked")
        return found(self, images)

    monkeypatch.setattr(CornerDetector, "predict", slowly)
    propose(root)
    assert set(load(root).boxes["class_id"]) == {1}


def test_a_first_model_from_elsewhere(root, tmp_path):
    """A run of another dataset adds its classes, so that a new dataset can start with proposals."""
    fresh = tmp_path / "fresh"
    curate.import_voc(fresh, root / "media" / "images" / "faces", with_unlabelled=True)
    done = predict(root / "runs" / "first", fresh, into_dataset=True)
    assert (done.images, done.boxes) == (4, 8)
    assert list(load(fresh).class_names.values()) == ["masked", "bare"]


def test_classes_that_are_not_found(root, tmp_path, monkeypatch):
    """Only classes with proposals are added to the dataset."""
    other = write_run(tmp_path / "other", [(1, "hat"), (2, "cap"), (3, "bare"), (4, "scarf")])
    find(monkeypatch, [CORNER, CORNER, CORNER], indices=[3, 1, 2])
    predict(other, root, into_dataset=True)
    assert list(load(root).class_names.values()) == ["masked", "bare", "cap", "scarf"]


def test_a_broken_image_keeps_its_state(root):
    """An unreadable image is a problem and does not change; the others get proposals."""
    (root / "media" / "images" / "faces" / "003.png").unlink()
    done = propose(root)
    assert [one["kind"] for one in done.problems] == ["image_broken"]
    assert (states(root)[3], states(root)[4]) == ("unlabelled", "proposed")


def test_interrupted_into_the_dataset(root, monkeypatch):
    """Ctrl-C leaves the dataset unchanged."""
    before = Store(root).head()
    monkeypatch.setattr(CornerDetector, "predict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        propose(root)
    assert Store(root).head() == before


def test_in_a_pipeline(root, tmp_path, monkeypatch):
    """In a pipeline it is skipped the second time, with files and with proposals."""
    monkeypatch.chdir(tmp_path)
    steps = [
        "predict: {run: faces/runs/first, source: faces/media, form: voc, out: xml}",
        "predict: {run: faces/runs/first, source: faces, into_dataset: true}",
        "split: {dataset: faces, group_by: none}",
    ]
    (tmp_path / "r.yaml").write_text("name: r\nsteps:\n" + "".join(f"  - {step}\n" for step in steps))
    assert [step.skipped for step in curate.run("r.yaml").steps] == [False] * 3
    assert [step.skipped for step in curate.run("r.yaml").steps] == [True] * 3
    assert [entry.operation for entry in curate.log(root).entries] == ["split", "predict", "build"]


# ── proposals are never truth ────────────────────────────────────────────────────────────────────────────────────


def test_counted_nowhere(root):
    """Proposals do not change stats, splits and the result of an import."""
    before = curate.stats(root).to_json()
    propose(root)
    after = curate.stats(root).to_json()
    assert {**after, "version": 1} == before
    assert before["unlabelled"] == 2
    divided = curate.split(root, val=0.5, group_by="none").splits
    assert sum(split.images for split in divided.values()) == 2
    assert sum(sum(split.classes.values()) for split in divided.values()) == 2
    assert load(root).images["split"].isna().tolist() == [False, False, True, True]


def test_counted_by_no_class_count(root):
    """Counts of history, diff and merges exclude proposals, though a merge also changes their class."""
    before = curate.log(root).entries[0].boxes
    propose(root)
    assert curate.log(root).entries[0].boxes == before == 2
    told = curate.diff(root, 1, 2)
    assert told.classes == {"masked": (1, 1), "bare": (1, 1)}
    assert (told.boxes_added, told.boxes_removed, told.boxes_changed) == (0, 0, 0)
    assert curate.merge_classes(root, ["bare"], into="masked").after == {"masked": 2}
    assert set(load(root).boxes["class_id"]) == {1}


def test_a_comparison_counts_them_once_they_are_accepted(root):
    """A proposed box counts as added in a diff when it becomes a label, and not before."""
    propose(root)
    curate.merge_classes(root, ["bare"], into="masked")
    assert curate.diff(root, 2, 3).boxes_changed == 1
    set_column(root, "label_state", ["labelled", "labelled", "labelled", "proposed"])
    told = curate.diff(root, 3, 4)
    assert (told.classes["masked"], told.boxes_added, told.boxes_changed) == ((2, 4), 2, 0)


def test_not_counted_by_an_import(root, tmp_path):
    """The counts of an import exclude proposals."""
    propose(root)
    write_image(tmp_path / "more" / "x.jpg")
    write_xml(tmp_path / "more" / "x.xml", objects=[("masked", 1, 1, 9, 9)])
    done = curate.import_voc(root, tmp_path / "more")
    assert (done.images, done.boxes, done.classes) == (5, 3, {"masked": 2, "bare": 1})


def test_not_trained_on(root):
    """Training uses labelled images only, with splits and without."""
    propose(root)
    assert training_images(load(root)).images["image_id"].tolist() == [1, 2]
    curate.split(root, val=0.5, group_by="none")
    set_column(root, "split", ["train", "val", "train", "train"])
    chosen = training_images(load(root))
    assert (chosen.images["image_id"].tolist(), len(chosen.boxes)) == ([1], 1)


def test_not_evaluated_on(root):
    """Evaluation uses labelled images only, also if a proposed one is in the split."""
    propose(root)
    set_column(root, "split", ["val", "val", "val", "val"])
    scores = curate.evaluate(root, run="first")
    assert (scores.images, scores.truth) == (2, 2)


def test_not_exported(root, tmp_path):
    """An export has labelled images only."""
    propose(root)
    done = curate.export_coco(root, tmp_path / "coco")
    assert (done.images, done.boxes) == (2, 2)


# ── arguments ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "yolo"}, r"--as: unknown form \(got 'yolo'; expected coco or voc\)"),
        ({"score": 1.5}, r"--score: not a score \(got 1.5; expected 0 to 1\)"),
        ({"score": float("nan")}, r"--score: not a score"),
        ({"into_dataset": True, "form": "voc"}, r"--into-dataset and --as are mutually exclusive"),
        ({"into_dataset": True, "out": "x"}, r"--into-dataset and --out are mutually exclusive"),
    ],
)
def test_misuse(run, photos, options, message):
    """Arguments that do not go together raise an error."""
    with pytest.raises(UsageError, match=message):
        predict(run, photos, **options)


def test_no_run(photos, tmp_path, run):
    """A folder without a run, and a run without a checkpoint, raise an error."""
    with pytest.raises(UsageError, match=r"nothing: there is no run here"):
        predict(tmp_path / "nothing", photos)
    (run / "checkpoints" / "best.pt").unlink()
    with pytest.raises(UsageError, match=r"first: the run has no checkpoint yet"):
        predict(run, photos)


def test_into_what_is_no_dataset(run, photos):
    """`--into-dataset` needs an existing dataset."""
    with pytest.raises(StoreError, match=r"there is no dataset here"):
        predict(run, photos, into_dataset=True)
    assert not (photos / "HEAD").exists()


def test_xml_into_a_file(run, photos):
    """`--out` for XML must be a folder."""
    with pytest.raises(UsageError, match=r"b.jpg: not a folder"):
        predict(run, photos, form="voc", out=photos / "b.jpg")
