"""`label`: frames to LabelImg and back, with their boxes, times and videos."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from builders import write_image, write_xml
from clips import write_clip
from corner_engine import register
from proposing import save_in_labelimg, write_run
from sample_datasets import write_text

import curate
from curate.errors import DataError, UsageError
from curate.formats.voc.xml_parser import VocParser
from curate.store import Store

CLASSES = ["with_mask", "without_mask"]
UNKNOWN_XML = "Not imported yet, or changed since: XML of 1 image in the folder."


@pytest.fixture
def root(tmp_path):
    """A dataset of eight unlabelled frames of two videos."""
    for number, name in enumerate("ab"):
        write_clip(tmp_path / "in" / f"{name}.mp4", 8 + number, fps=2)
    root = tmp_path / "faces"
    curate.sample_frames(root, [str(tmp_path / "in")], every="1s", max_frames=4)
    return root


def images_in(folder):
    return sorted(file.name for file in Path(folder).glob("*.jpg"))


def draw(folder, name, objects):
    """Write XML as LabelImg saves it; each object is (class, x0, y0, x1, y1)."""
    write_xml(Path(folder) / f"{Path(name).stem}.xml", name, objects, size=(160, 96))


def test_the_daily_loop(root):
    """Drawn boxes are imported for their frames, which keep video, time and id; then the next frames follow."""
    before = Store(root).load().images.set_index("path")
    first = curate.label(root, limit=3, classes=CLASSES)
    names = images_in(first.folder)
    assert names == ["a_00000000ms.jpg", "a_00001000ms.jpg", "a_00002000ms.jpg"]
    assert (Path(first.folder) / "predefined_classes.txt").read_text() == "with_mask\nwithout_mask\n"
    draw(first.folder, names[0], [("without_mask", 10, 10, 40, 40)])
    draw(first.folder, names[1], [])
    done = curate.import_voc(root, first.folder)
    assert (done.added, done.updated, done.boxes, done.problems) == (0, 2, 1, ())
    assert list(done.classes) == CLASSES
    after = Store(root).load().images.set_index("path")
    same = ["image_id", "video_id", "frame_index", "timestamp_s", "source", "sha256"]
    assert after[same].equals(before[same])
    assert after["label_state"].tolist()[:3] == ["labelled", "labelled", "unlabelled"]

    second = curate.label(root, limit=3)
    assert (second.images, second.added, second.waiting) == (3, 2, 3)
    assert images_in(second.folder) == ["a_00002000ms.jpg", "a_00003000ms.jpg", "b_00000000ms.jpg"]
    done = ["a_00000000ms.jpg", "a_00000000ms.xml", "a_00001000ms.jpg", "a_00001000ms.xml"]
    assert sorted(file.name for file in (root / "labelled").iterdir()) == done


def test_json_document(root):
    """The document has the folder, the counts and the command that opens it."""
    folder = root / "label"
    assert curate.label(root, limit=3, classes=CLASSES).to_json() == {
        "folder": str(folder),
        "images": 3,
        "added": 3,
        "waiting": 5,
        "classes": CLASSES,
        "command": ["labelImg", str(folder), str(folder / "predefined_classes.txt"), str(folder)],
    }


def test_images_are_copies(root):
    """The images in the folder are copies: editing one in place does not change the dataset's."""
    folder = curate.label(root, limit=1).folder
    own = root / "media/images/a/a_00000000ms.jpg"
    assert Path(folder, "a_00000000ms.jpg").read_bytes() == own.read_bytes()
    assert own.stat().st_nlink == 1


@pytest.fixture
def pictures(tmp_path):
    """An imported folder of pictures whose names differ by suffix or case alone."""
    for number, name in enumerate(["a.jpg", "a.png", "a.webp", "B.jpg", "b.png", "a_png.jpg"]):
        write_image(tmp_path / "in" / name, seed=number)
    curate.import_voc(tmp_path / "ds", tmp_path / "in", with_unlabelled=True)
    return tmp_path / "ds"


def test_each_image_has_its_own_xml(pictures):
    """Images whose names differ by suffix or case alone get other stems, since LabelImg names XML by the stem."""
    folder = Path(curate.label(pictures, classes=CLASSES).folder)
    names = {file.name for file in folder.iterdir() if file.suffix != ".txt"}
    assert names == {"in__a.jpg", "in__a_png_2.png", "in__a_webp.webp", "in__B.jpg", "in__b_png.png", "in__a_png.jpg"}
    for name in names:
        draw(folder, name, [("with_mask", 1, 1, 9, 9)])
    done = curate.import_voc(pictures, folder)
    assert (done.updated, done.boxes, done.added) == (6, 6, 0)


def test_names_stay_when_more_images_come(pictures, tmp_path):
    """An image keeps its name in the folder when one with its stem is imported later."""
    folder = Path(curate.label(pictures, classes=CLASSES).folder)
    before = set(folder.iterdir())
    write_image(tmp_path / "more" / "in" / "B.bmp", seed=9)
    curate.import_voc(pictures, tmp_path / "more" / "in", with_unlabelled=True)
    curate.label(pictures)
    assert {file.name for file in set(folder.iterdir()) - before} == {"in__B_bmp.bmp"}


def test_one_source(root):
    """`source` selects the frames of one video."""
    assert images_in(curate.label(root, source="b").folder) == [f"b_0000{second}000ms.jpg" for second in (0, 1, 3, 4)]
    with pytest.raises(UsageError, match=r"unknown source \(got 'c'; expected one of a, b\)"):
        curate.label(root, source="c")


def test_again_before_anything_is_drawn(root):
    """A second call leaves the folder as it is; a higher limit adds images."""
    curate.label(root, limit=2)
    again = curate.label(root, limit=2)
    assert (again.images, again.added, again.waiting) == (2, 0, 6)
    assert (curate.label(root, limit=20).images, len(images_in(again.folder))) == (8, 8)


def test_what_is_drawn_but_not_imported_stays(root):
    """XML that was not imported stays, and a note says so."""
    folder = curate.label(root, limit=2).folder
    draw(folder, "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9)])
    result = curate.label(root, limit=2)
    assert result.added == 0
    assert UNKNOWN_XML in result.notes
    curate.import_voc(root, folder)
    draw(folder, "a_00000000ms.jpg", [("with_mask", 1, 1, 30, 30)])  # corrected after the import
    result = curate.label(root, limit=2)
    assert (Path(folder) / "a_00000000ms.xml").exists()
    assert UNKNOWN_XML in result.notes


@pytest.mark.parametrize("box", [("with_msk", 1, 1, 9, 9), ("with_mask", "nan", 1, 9, 9)])
def test_quarantined_boxes_keep_their_image_in_the_folder(root, box):
    """An image with a quarantined box stays, to be corrected, and a note says so."""
    folder = curate.label(root, limit=1, classes=CLASSES).folder
    draw(folder, "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9), box])
    curate.import_voc(root, folder, classes=CLASSES)
    again = curate.label(root, limit=1)
    assert (Path(folder) / "a_00000000ms.xml").exists()
    assert (again.images, UNKNOWN_XML in again.notes) == (1, True)


def test_after_an_undo_what_was_drawn_comes_back(root):
    """After undo of an import, its XML is restored to the folder with the images, and can be imported again."""
    folder = curate.label(root, limit=1, classes=CLASSES).folder
    draw(folder, "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9)])
    curate.import_voc(root, folder)
    curate.label(root, limit=1)
    curate.undo(root)
    again = curate.label(root, limit=2)
    assert UNKNOWN_XML in again.notes
    assert again.classes == tuple(CLASSES)
    assert curate.import_voc(root, folder).boxes == 1


def test_corrected_afterwards(root):
    """Labelled images can be corrected in the folder `labelled`, and imported again."""
    folder = curate.label(root, limit=1).folder
    draw(folder, "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9)])
    curate.import_voc(root, folder)
    curate.label(root, limit=1)
    draw(root / "labelled", "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9), ("with_mask", 20, 20, 40, 40)])
    done = curate.import_voc(root, root / "labelled")
    assert (done.added, done.updated, done.boxes) == (0, 1, 2)


def test_xml_that_was_put_away_is_never_overwritten(root):
    """A newer XML file of the same name keeps the older one under another name."""
    folder = Path(curate.label(root, limit=1).folder)
    draw(folder, "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9)])
    (root / "labelled").mkdir()
    draw(root / "labelled", "a_00000000ms.jpg", [("with_mask", 3, 3, 9, 9)])
    curate.import_voc(root, folder)
    curate.label(root, limit=1)
    assert "<xmin>1</xmin>" in (root / "labelled/a_00000000ms.xml").read_text()
    assert "<xmin>3</xmin>" in (root / "labelled/a_00000000ms.xml.1").read_text()


def test_frames_of_one_content(tmp_path):
    """Boxes drawn on the second of two equal images belong to the second."""
    import av
    from clips import draw_number

    with av.open(str(tmp_path / "still.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_number(1), format="rgb24")))
        container.mux(stream.encode(None))
    root = tmp_path / "faces"
    curate.sample_frames(root, [str(tmp_path / "still.mp4")], every="1s")
    folder = curate.label(root).folder
    draw(folder, "still_00001000ms.jpg", [("with_mask", 1, 1, 9, 9)])
    curate.import_voc(root, folder)
    dataset = Store(root).load()
    assert dataset.images.loc[dataset.images["label_state"] == "labelled", "timestamp_s"].tolist() == [1.0]


def test_images_of_one_name(root, tmp_path):
    """Images with the same name from two sources have their source in the name."""
    for source in ("x", "y"):
        folder = tmp_path / source
        folder.mkdir()
        picture = (root / f"media/images/{'a' if source == 'x' else 'b'}").glob("*3000ms.jpg")
        (folder / "1.jpg").write_bytes(next(picture).read_bytes() + source.encode())
        curate.import_voc(root, folder, with_unlabelled=True)
    curate.label(root, source="y")
    assert images_in(root / "label") == ["y__1.jpg"]
    draw(root / "label", "y__1.jpg", [("with_mask", 1, 1, 9, 9)])
    curate.import_voc(root, root / "label")
    images = Store(root).load().images
    assert images.loc[images["label_state"] == "labelled", "path"].tolist() == ["media/images/y/1.jpg"]


def test_classes_of_the_dataset_and_its_card(root):
    """The list has the card's classes, later the dataset's; without classes there is a note."""
    assert any("The dataset has no classes yet" in note for note in curate.label(root, limit=1).notes)
    assert not (root / "label/predefined_classes.txt").exists()
    write_text(root / "card.yaml", "name: faces\nclasses: [mask, bare]\n")
    assert curate.label(root, limit=1).classes == ("mask", "bare")
    draw(root / "label", "a_00000000ms.jpg", [("bare", 1, 1, 9, 9)])
    curate.import_voc(root, root / "label")
    assert curate.label(root, limit=1, classes=["hat"]).classes == ("mask", "bare", "hat")
    assert curate.label(root, limit=1).classes == ("mask", "bare", "hat")


def test_a_list_that_somebody_wrote_stays(root):
    """If neither dataset nor card has classes, the person's list is kept."""
    folder = root / "label"
    folder.mkdir()
    write_text(folder / "predefined_classes.txt", "cat\ndog\n")
    assert curate.label(root, limit=1).classes == ("cat", "dog")
    assert (folder / "predefined_classes.txt").read_text() == "cat\ndog\n"


def test_class_list_in_another_encoding(root):
    """A class list that is not understood stays as it is."""
    folder = Path(curate.label(root, limit=1).folder)
    written = "口罩\n".encode("gbk")
    (folder / "predefined_classes.txt").write_bytes(written)
    with pytest.raises(DataError, match="Save the file as UTF-8"):
        curate.label(root, limit=1)
    assert (folder / "predefined_classes.txt").read_bytes() == written


def test_nothing_left(root):
    """If everything is labelled, that is an error."""
    folder = curate.label(root).folder
    for name in images_in(folder):
        draw(folder, name, [])
    curate.import_voc(root, folder)
    with pytest.raises(DataError, match=r"no images to label \(got 8 images, none unlabelled\)\. Add some"):
        curate.label(root)
    assert images_in(folder) == []


def test_names_do_not_change_while_images_wait(root, tmp_path):
    """A later import does not change the names of images in the folder."""
    for source in ("x", "y"):
        folder = tmp_path / source
        folder.mkdir()
        (folder / "1.jpg").write_bytes((root / "media/images/a/a_00000000ms.jpg").read_bytes() + source.encode())
        curate.import_voc(root, folder, with_unlabelled=True)
        curate.label(root, source=source)
    assert images_in(root / "label") == ["x__1.jpg", "y__1.jpg"]


def test_another_source_than_what_lies_there(root):
    """The limit counts images of the given source only."""
    curate.label(root, source="a", limit=3)
    assert curate.label(root, source="b", limit=3).added == 3


def test_limit(root):
    """A limit below 1 is a usage error."""
    with pytest.raises(UsageError, match=r"--limit: "):
        curate.label(root, limit=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays are told by variables on Linux only")
def test_labelimg_is_opened_where_there_is_a_display(root, tmp_path, run_main):
    """LabelImg is started with folder, class list and save folder; not without a display, nor with --no-open."""
    program = tmp_path / "programs" / "labelImg"
    program.parent.mkdir()
    write_text(program, f'#!/bin/sh\necho "$@" > {tmp_path}/opened\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{program.parent}:{os.environ['PATH']}"
    quiet = run_main("label", root, "--no-open", PATH=path, DISPLAY=":9")
    blind = run_main("label", root, PATH=path, DISPLAY="", WAYLAND_DISPLAY="")
    assert quiet.returncode == 0
    assert "no display here" in blind.stderr
    assert not (tmp_path / "opened").exists()
    shown = run_main("label", root, "--json", PATH=path, DISPLAY=":9")
    folder = root / "label"
    assert (tmp_path / "opened").read_text().split() == [str(folder), f"{folder}/predefined_classes.txt", str(folder)]
    assert json.loads(shown.stdout)["images"] == 8


# ── proposals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def proposed(root, tmp_path, monkeypatch):
    """The dataset, with a box of each class proposed on every frame."""
    register(monkeypatch)
    run = write_run(tmp_path / "run", [(1, "with_mask"), (2, "without_mask")])
    curate.predict(run, root, into_dataset=True)
    return root


def states(root):
    return Store(root).load().images["label_state"].tolist()


def test_proposals_lie_beside_their_images(proposed):
    """Proposals are written as XML with the class list; a note says how LabelImg saves those that are right."""
    result = curate.label(proposed, limit=2)
    folder = Path(result.folder)
    assert (result.images, result.waiting, result.classes) == (2, 6, tuple(CLASSES))
    said = VocParser().parse((folder / "a_00000000ms.xml").read_bytes())
    assert (said.filename, said.width, said.height) == ("a_00000000ms.jpg", "160", "96")
    assert [one[:5] for one in said.objects] == [("with_mask", 10, 10, 30, 30), ("without_mask", 10, 10, 30, 30)]
    assert result.notes[0].startswith("Proposed boxes on 2 images; only saved ones are imported.")
    assert "press Space (Verify Image), which saves the image" in result.notes[0]


def test_a_person_s_boxes_replace_the_proposals(proposed):
    """Saved files make their images labelled with the saved boxes only; the others stay proposed."""
    folder = Path(curate.label(proposed, limit=3).folder)
    save_in_labelimg(folder / "a_00000000ms.xml", [("with_mask", 50, 50, 90, 90)])
    save_in_labelimg(folder / "a_00001000ms.xml")  # right as it was
    done = curate.import_voc(proposed, folder)
    assert (done.updated, done.boxes, done.classes) == (2, 3, {"with_mask": 2, "without_mask": 1})
    assert [problem["kind"] for problem in done.problems] == ["untouched_proposal"]
    assert states(proposed) == ["labelled"] * 2 + ["proposed"] * 6
    dataset = Store(proposed).load()
    assert dataset.select().boxes_xyxy.tolist() == [[50, 50, 90, 90], [10, 10, 30, 30], [10, 10, 30, 30]]
    again = curate.label(proposed, limit=3)
    assert images_in(again.folder) == ["a_00002000ms.jpg", "a_00003000ms.jpg", "b_00000000ms.jpg"]
    assert (proposed / "labelled" / "a_00000000ms.xml").exists()


def test_nothing_becomes_labelled_by_itself(proposed):
    """Importing the folder before anything was saved changes no image and no box."""
    before = Store(proposed).load()
    curate.label(proposed)
    done = curate.import_voc(proposed, proposed / "label")
    after = Store(proposed).load()
    assert (done.updated, done.boxes) == (0, 0)
    assert after.images.equals(before.images)
    assert after.boxes.equals(before.boxes)


def test_proposals_can_be_accepted(proposed):
    """`--accept-proposals` makes them labelled as they are; `undo` makes them proposals again."""
    folder = curate.label(proposed, limit=2).folder
    done = curate.import_voc(proposed, folder, accept_proposals=True)
    assert (done.updated, done.boxes) == (2, 4)
    curate.label(proposed, limit=1)
    assert (proposed / "labelled" / "a_00000000ms.xml").exists()
    curate.undo(proposed)
    assert states(proposed) == ["proposed"] * 8
    assert curate.label(proposed, limit=2).images == 2


def test_better_proposals_take_the_place_of_older_ones(proposed, tmp_path):
    """XML in the folder follows the dataset's proposals, unless a person has saved it."""
    folder = Path(curate.label(proposed, limit=2).folder)
    saved = save_in_labelimg(folder / "a_00000000ms.xml").read_bytes()
    curate.predict(tmp_path / "run", proposed, into_dataset=True, score=0.7)
    curate.label(proposed, limit=2)
    assert (folder / "a_00000000ms.xml").read_bytes() == saved
    assert len(VocParser().parse((folder / "a_00001000ms.xml").read_bytes()).objects) == 1


def test_a_proposal_never_displaces_what_was_put_away(proposed):
    """A proposal for an image that was labelled elsewhere does not replace XML saved by a person."""
    folder = Path(curate.label(proposed, limit=1).folder)
    draw(proposed / "labelled", "a_00000000ms.jpg", [("with_mask", 1, 1, 9, 9)])
    os.link(folder / "a_00000000ms.jpg", proposed / "labelled" / "a_00000000ms.jpg")
    curate.import_voc(proposed, proposed / "labelled")
    curate.label(proposed, limit=1)
    assert "<xmin>1</xmin>" in (proposed / "labelled" / "a_00000000ms.xml").read_text()
    assert not (folder / "a_00000000ms.xml").exists()


def test_proposals_of_a_dataset_without_any_are_none(root):
    """Images without proposals get no XML."""
    assert not list(Path(curate.label(root, limit=2).folder).glob("*.xml"))
