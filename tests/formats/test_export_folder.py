"""Folders of exports: what is replaced and removed there, exports that were killed, and images that EXIF turns."""

import json
import os
import shutil

import pandas as pd
import pytest
from builders import snapshot, write_image
from PIL import Image
from sample_datasets import face_dataset, save, set_column

import curate
from curate.errors import CurateError, DataError, StoreError, UsageError
from curate.formats.export_folder import UNFINISHED, ExportFolder, ImageExport, Orientations
from curate.progress import silent

SPLITS = pd.array(["train"] * 4 + ["val"] * 4, dtype="str")
LEADING_OUT = ["../../victim", "../victim", "a/../../../victim", "{victim}", "..\\victim", "", None, 7]


@pytest.fixture
def root(tmp_path):
    """Eight images in two splits."""
    return save(face_dataset(tmp_path / "faces", split=SPLITS), pictures=True)


@pytest.fixture
def victim(tmp_path):
    """A file of the user's beside the export."""
    file = tmp_path / "victim"
    file.write_text("mine")
    return file


def content(folder):
    """Every file below a folder with its bytes."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ── what a file names ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_in_an_old_annotation_file(root, tmp_path, victim, name):
    """An annotation file that names anything but a file inside is not one of ours: nothing is removed or written."""
    out = tmp_path / "out"
    curate.export_coco(root, out)
    file = out / "annotations/instances_val.json"
    document = json.loads(file.read_text())
    document["images"].append({"file_name": name.format(victim=victim) if isinstance(name, str) else name})
    file.write_text(json.dumps(document))
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="not an export of curate"):
        curate.export_coco(root, out, overwrite=True)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", [*LEADING_OUT, "."])
@pytest.mark.parametrize("overwrite", [False, True])
def test_names_in_a_list_of_an_unfinished_export(root, tmp_path, victim, name, overwrite):
    """Such a list makes a folder no export."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    named = name.format(victim=victim) if isinstance(name, str) else name
    (out / UNFINISHED).write_text(json.dumps({"files": ["images/a.png", named]}))
    before = snapshot(tmp_path)
    with pytest.raises(UsageError):
        curate.export_coco(root, out, overwrite=overwrite)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"files": 7}', '{"files": []}', '{"files": "ab"}', '{"files"'])
def test_damaged_lists(root, tmp_path, text):
    """A list that cannot be read makes a folder no export."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "out" / UNFINISHED).write_text(text)
    with pytest.raises(UsageError):
        curate.export_coco(root, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("name", [UNFINISHED, "annotations/instances_val.json", "class_ids.json"])
def test_pipes(root, tmp_path, name):
    """A pipe in place of a file of an export is not waited for."""
    out = tmp_path / "out"
    curate.export_coco(root, out)
    (out / name).unlink(missing_ok=True)
    os.mkfifo(out / name)
    with pytest.raises(UsageError, match="--overwrite"):
        curate.export_coco(root, out)


@pytest.mark.parametrize("linked", ["images", "images/faces", "annotations"])
@pytest.mark.parametrize("old_only", [False, True])
def test_linked_folders(root, tmp_path, linked, old_only):
    """Nothing behind a linked folder is replaced or removed, also where only the old export has files there."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    curate.export_coco(root, out)
    (out / linked).rename(elsewhere)
    (out / linked).symlink_to(elsewhere)
    if old_only:
        moved = pd.array([f"media/images/other/{number}.png" for number in range(8)], dtype="str")
        (root / "media/images/faces").rename(root / "media/images/other")
        for number, file in enumerate(sorted((root / "media/images/other").iterdir())):
            file.rename(file.with_name(f"{number}.png"))
        set_column(root, "path", moved)
    before = snapshot(elsewhere)
    with pytest.raises(StoreError, match=f"{linked}: this is a link"):
        curate.export_coco(root, out, overwrite=True)
    assert snapshot(elsewhere) == before


def test_a_stranger_in_the_way(root, tmp_path):
    """A file that the earlier export did not have is not replaced by an image of its name."""
    out = tmp_path / "out"
    set_column(root, "label_state", ["labelled"] * 7 + ["unlabelled"])
    curate.export_coco(root, out)
    (out / "images/faces/008.png").write_text("mine")
    set_column(root, "label_state", ["labelled"] * 8)
    before = snapshot(out)
    with pytest.raises(UsageError, match=r"008\.png: the file is not of an earlier export"):
        curate.export_coco(root, out, overwrite=True)
    assert snapshot(out) == before


def test_an_annotation_file_that_was_removed(root, tmp_path):
    """Copies of images that no annotation file lists any more are replaced, not refused."""
    out = tmp_path / "out"
    curate.export_coco(root, out)
    before = content(out)
    (out / "annotations/instances_val.json").unlink()
    curate.export_coco(root, out, overwrite=True)
    assert content(out) == before


@pytest.mark.parametrize("contiguous_ids", [False, True])
def test_all_annotation_files_were_removed(root, tmp_path, contiguous_ids):
    """A folder of nothing but copies of the images is replaced, also from a pipeline, which gives the same again."""
    out = tmp_path / "out"
    curate.export_coco(root, out, contiguous_ids=contiguous_ids)
    before = content(out)
    shutil.rmtree(out / "annotations")
    with pytest.raises(UsageError, match="--overwrite"):
        curate.export_coco(root, out, contiguous_ids=contiguous_ids)
    curate.export_coco(root, out, contiguous_ids=contiguous_ids, overwrite=True)
    assert content(out) == before


@pytest.mark.parametrize("name", ["mine.txt", "images/faces/mine.png", "images/faces/001.png"])
def test_other_files_without_annotation_files(root, tmp_path, name):
    """Where no annotation file says whose a folder is, one file that is no copy makes it somebody else's."""
    out = tmp_path / "out"
    curate.export_coco(root, out, contiguous_ids=True)
    shutil.rmtree(out / "annotations")
    (out / name).write_text("mine")
    before = content(out)
    with pytest.raises(UsageError, match="not an export of curate"):
        curate.export_coco(root, out, contiguous_ids=True, overwrite=True)
    assert content(out) == before


def test_class_ids_of_the_user_stay(root, tmp_path):
    """A `class_ids.json` that maps no ids is not the export's."""
    out = tmp_path / "out"
    curate.export_coco(root, out)
    (out / "class_ids.json").write_text('{"mine": "too"}')
    curate.export_coco(root, out, overwrite=True)
    assert (out / "class_ids.json").read_text() == '{"mine": "too"}'


# ── killed exports ───────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """Raised in place of the process being killed."""


def dies_after(monkeypatch, count, act):
    """Let `count` changes of the disk succeed and none after; whether `act` died."""
    left = [count]

    def dying(call):
        def either(*arguments, **options):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return call(*arguments, **options)

        return either

    with monkeypatch.context() as patch:
        for name in ("replace", "link", "unlink", "mkdir", "fsync"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            act()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_killed_export_is_given_again(root, tmp_path, monkeypatch, overwrite):
    """Whenever a first export is killed, the same command makes the whole one, and keeps what the user put there."""
    curate.export_coco(root, tmp_path / "whole")
    whole, deaths = content(tmp_path / "whole"), 0
    for count in (*range(6), *range(6, 500, 5)):
        out = tmp_path / f"out-{count}"
        if not dies_after(monkeypatch, count, lambda out=out: curate.export_coco(root, out)):
            break
        deaths += 1
        if (out / UNFINISHED).exists():
            (out / "images").mkdir(exist_ok=True)
            (out / "images/mine.txt").write_text("mine")
        curate.export_coco(root, out, overwrite=overwrite)
        found = content(out)
        found.pop("images/mine.txt", None)
        assert found == whole, count
    assert deaths > 5


def test_a_killed_replacement(root, tmp_path, monkeypatch):
    """Whenever the replacement of an export is killed, the next one leaves no file of the first."""
    set_column(root, "split", ["train"] * 4 + ["test"] * 4)
    set_column(root, "label_state", ["labelled"] * 6 + ["unlabelled"] * 2)
    curate.export_coco(root, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for count in range(3, 500, 16):
        out = tmp_path / f"out-{count}"
        curate.checkout(root, 1)
        curate.export_coco(root, out, contiguous_ids=True)
        (out / "mine.txt").write_text("mine")
        curate.checkout(root, 3)
        died = dies_after(monkeypatch, count, lambda out=out: curate.export_coco(root, out, overwrite=True))
        curate.export_coco(root, out, overwrite=True)
        found = content(out)
        assert found.pop("mine.txt") == b"mine", count
        assert found == whole, count
        if not died:
            break
    assert count > 16


def test_a_folder_without_earlier_files(tmp_path):
    """A folder with files, and neither a list nor an earlier export, is refused; an empty one is free."""
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(CurateError), ExportFolder(tmp_path, (), overwrite=overwrite).writing(["mine.txt"]):
            raise AssertionError
    assert ExportFolder(tmp_path / "new", (), overwrite=False).path == tmp_path / "new"


# ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def export(tmp_path, *names, **options):
    pairs = [(name, name) for name in names]
    return ImageExport(**options).write(tmp_path / "own", tmp_path / "out", pairs, silent)


def test_orientations_are_counted(tmp_path):
    """Upright images are copied; turned ones are written upright and counted."""
    write_image(tmp_path / "own" / "a.jpg")
    write_image(tmp_path / "own" / "b.png", orientation=3)
    assert export(tmp_path, "a.jpg", "b.png") == Orientations(upright=1, kept=0)


def test_format_without_encoder_keeps_its_bytes(tmp_path, monkeypatch):
    """A turned image of a format that nothing encodes keeps its bytes, and is counted as such."""
    path = write_image(tmp_path / "own" / "a.webp", orientation=6)
    monkeypatch.delitem(Image.SAVE, "WEBP")
    assert export(tmp_path, "a.webp") == Orientations(upright=0, kept=1)
    assert (tmp_path / "out" / "a.webp").read_bytes() == path.read_bytes()


def test_turned_image_that_is_damaged(tmp_path):
    """A turned image that cannot be decoded is an error that names it."""
    path = write_image(tmp_path / "own" / "a.png", orientation=6)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"own/a\.png: the image cannot be decoded"):
        export(tmp_path, "a.png")


def test_image_that_is_gone(tmp_path):
    """A missing image is an error that names it."""
    with pytest.raises(StoreError, match=r"own/a\.png: the image file is missing"):
        export(tmp_path, "a.png")
