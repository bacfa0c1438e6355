"""Splits that a source declares: lists and folders."""

import os

import pytest
from builders import labelimg_folder, problems_of, write_image, write_xml

from curate.errors import UsageError
from curate.formats.voc.reader import read_voc

MASK = [("mask", 5, 5, 20, 20)]

# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────


def devkit(folder, lists, stems="abc", lists_in="ImageSets/Main", encoding="utf-8", **options):
    labelimg_folder(folder, dict.fromkeys(stems, MASK), xml_in="Annotations", images_in="JPEGImages", **options)
    place = folder / lists_in
    place.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (place / f"{name}.txt").write_text(text, encoding=encoding)
    return folder


def splits_of(folder):
    images = read_voc(folder).images
    stems = [os.path.splitext(os.path.basename(file))[0] for file in images["file"]]
    return {stem: split for stem, split in zip(stems, images["split"].tolist(), strict=True) if isinstance(split, str)}


def test_splits(tmp_path):
    """ImageSets/Main gives the split of images; images in no list have none."""
    assert splits_of(devkit(tmp_path, {"train": "a\n", "val": "b\n"})) == {"a": "train", "b": "val"}


def test_test_split(tmp_path):
    """test.txt is a split as well."""
    assert splits_of(devkit(tmp_path, {"train": "a\n", "val": "b\n", "test": "c\n"})) == {
        "a": "train",
        "b": "val",
        "c": "test",
    }


def test_trainval_only(tmp_path):
    """With trainval.txt only, its images are in train."""
    assert splits_of(devkit(tmp_path, {"trainval": "a\nb\n", "test": "c\n"})) == {
        "a": "train",
        "b": "train",
        "c": "test",
    }


def test_train_val_is_trainval(tmp_path):
    """train_val.txt is another spelling of trainval.txt, unless it is of a class called train."""
    assert splits_of(devkit(tmp_path, {"train_val": "a\nb\n", "test": "c\n"})) == {
        "a": "train",
        "b": "train",
        "c": "test",
    }


def test_trainval_beside_its_parts(tmp_path):
    """With train.txt and val.txt, trainval.txt is ignored."""
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\nc\n"}
    assert splits_of(devkit(tmp_path, lists)) == {"a": "train", "b": "val"}


def test_trainval_beside_one_of_its_parts(tmp_path):
    """Beside val.txt alone, the rest of trainval.txt is train; beside train.txt alone, val. Neither is a conflict."""
    assert splits_of(devkit(tmp_path / "1", {"trainval": "a\nb\n", "val": "b\n"})) == {"a": "train", "b": "val"}
    assert splits_of(devkit(tmp_path / "2", {"trainval": "a\nb\n", "train": "b\n"})) == {"a": "val", "b": "train"}
    assert problems_of(tmp_path / "1") == []


def test_trainval_and_test_that_overlap(tmp_path):
    """An image in test.txt and in the rest of trainval.txt stays in test, and the conflict is noted."""
    folder = devkit(tmp_path, {"trainval": "a\nb\n", "val": "b\n", "test": "a\n"})
    assert splits_of(folder) == {"a": "test", "b": "val"}
    assert problems_of(folder) == [("ImageSets/Main/trainval.txt", "split_conflict")]


def test_class_lists_beside_general_ones(tmp_path):
    """Lists of single classes (`mask_train.txt`) are ignored where there is a list for all."""
    assert splits_of(devkit(tmp_path, {"mask_train": "a  1\nb -1\n", "train": "c\n"})) == {"c": "train"}


@pytest.mark.parametrize("text", ["a\r\nb\r\n", "\n a \n\nb", "\ufeffa\nb\n"], ids=["crlf", "blanks", "bom"])
def test_spelling_of_lists(tmp_path, text):
    """Line ends, blank lines and a byte-order mark do not matter."""
    assert splits_of(devkit(tmp_path, {"train": text})) == {"a": "train", "b": "train"}


def test_spaces_in_lists(tmp_path):
    """A name with a space in a list is matched."""
    assert splits_of(devkit(tmp_path, {"train": "first day\nb\n"}, ["first day", "b"])) == {
        "first day": "train",
        "b": "train",
    }


def test_contradicting_lists(tmp_path):
    """An image in two lists gets the first split, and the second is noted with its line."""
    folder = devkit(tmp_path, {"train": "a\nb\n", "val": "c\na\n"})
    assert splits_of(folder) == {"a": "train", "b": "train", "c": "val"}
    (problem,) = read_voc(folder).problems
    assert (problem.file, problem.line, problem.kind) == ("ImageSets/Main/val.txt", 2, "split_conflict")
    assert "1 image is in lists of two splits (ImageSets/Main/val.txt)" in " ".join(read_voc(folder).notes)


def test_list_names_no_image(tmp_path):
    """A name in a list without an image is noted."""
    assert [kind for _, kind in problems_of(devkit(tmp_path, {"train": "a\nghost\n"}))] == ["split_without_image"]


@pytest.mark.parametrize(
    "lists",
    [
        {"cat_train": "a.jpg 1\n", "cat_val": "b.jpg -1\nc.jpg 1\n"},
        {"cat_train": "a  1\n", "dog_train": "a -1\n", "cat_val": "b 0\n", "dog_val": "c  1\n"},
        {"Train": "a\n", "Validation": "b\nc\n"},
        {"training": "a\n", "valid": "b\nc\n"},
        {"cat_trainval": "a 1\n", "val": "b\nc\n", "train": "a\n"},
        {"train_list": "a\n", "val_list": "b\nc\n"},
        {"train_train": "a 1\n", "train_val": "b 1\nc -1\n", "train_trainval": "a 1\nb 1\nc 1\n"},  # the class train
    ],
)
def test_names_of_lists(tmp_path, lists):
    """Lists of classes count where there is no other, with any mark; `valid` and `Validation` are val."""
    assert splits_of(devkit(tmp_path, lists)) == {"a": "train", "b": "val", "c": "val"}
    assert problems_of(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        *("a.jpg", "JPEGImages/a.jpg", "./JPEGImages/a.jpg", "/data/VOC/JPEGImages/a.jpg"),
        *(r"C:\VOC\JPEGImages\a.jpg", "JPEGImages/a", "A.JPG", "a.png", "a.jpg 1", "JPEGImages/a.jpg -1"),
        *("a.jpg Annotations/a.xml", "Annotations/a.xml", '"a.jpg"', "'a'", "a.jpg,1,5,5", "a;b"),
    ],
)
def test_lines_of_lists(tmp_path, line):
    """A line names an image by path or name, with or without suffix, with or without more behind it."""
    assert splits_of(devkit(tmp_path, {"val": f"{line}\n"})) == {"a": "val"}
    assert problems_of(tmp_path) == []


def test_list_in_utf_16(tmp_path):
    """A list in UTF-16, as Windows writes, is read."""
    assert splits_of(devkit(tmp_path, {"val": "a\r\nb\r\n"}, encoding="utf-16")) == {"a": "val", "b": "val"}


def test_list_in_another_encoding(tmp_path):
    """A list whose encoding is not understood is reported, and none of its lines is guessed."""
    found = read_voc(devkit(tmp_path, {"val": "照片\na\n"}, encoding="gbk"))
    assert found.images["split"].isna().all()
    assert [(one.kind, one.detail) for one in found.problems] == [
        ("split_list_unknown", "the encoding of the list of names is not understood")
    ]


def test_comments_in_lists(tmp_path):
    """A comment is no name of an image."""
    assert splits_of(devkit(tmp_path, {"val": "# chosen by hand\na\n"})) == {"a": "val"}
    assert problems_of(tmp_path) == []


@pytest.mark.parametrize("name", ["val.TXT", "Val.Txt", "VAL", "val.lst", "val.csv"])
def test_suffixes_of_lists(tmp_path, name):
    """A list may have its suffix in capitals, another suffix, or none."""
    folder = devkit(tmp_path, {})
    (folder / "ImageSets" / "Main" / name).write_text("a\n")
    assert splits_of(folder) == {"a": "val"}


def test_other_files_among_lists(tmp_path):
    """Files with other suffixes beside the lists are no lists, unless they are called like a split."""
    folder = devkit(tmp_path, {"val": "a\n"})
    for name in ("README", "make.py", "notes.csv"):
        (folder / "ImageSets" / "Main" / name).write_text("b\n")
    assert splits_of(folder) == {"a": "val"}
    assert problems_of(folder) == []


@pytest.mark.parametrize(
    "place",
    ["ImageSets/Main", "ImageSets", "", "imagesets/main", "ImageSets/Segmentation", "Main", "splits"],
)
def test_places_of_lists(tmp_path, place):
    """Lists are in ImageSets/Main, in ImageSets, at the top, or in another folder there."""
    assert splits_of(devkit(tmp_path, {"train": "a\n", "val": "b\n"}, lists_in=place)) == {"a": "train", "b": "val"}


def test_texts_at_the_top_are_no_lists(tmp_path):
    """Texts at the top that name no image, or are of an image, are no lists, and are not reported."""
    labelimg_folder(tmp_path, {"0": MASK, "train": MASK})
    (tmp_path / "train.txt").write_text("0 0.5 0.5 0.1 0.1\n")  # boxes in the format of YOLO
    (tmp_path / "val.txt").write_text("nothing here\n")
    (tmp_path / "notes.txt").write_text("0\n")
    assert (splits_of(tmp_path), problems_of(tmp_path)) == ({}, [])


def test_devkits_below_the_top(tmp_path):
    """Each devkit has its own lists, also for images with equal names."""
    devkit(tmp_path / "VOC2007", {"train": "a\n", "val": "b\n"}, "ab", seed=1)
    devkit(tmp_path / "VOC2012", {"train": "b\n", "test": "a\n"}, "ab", seed=2)
    images = read_voc(tmp_path).images
    assert dict(zip(images["file"], images["split"], strict=True)) == {
        "VOC2007/JPEGImages/a.jpg": "train",
        "VOC2007/JPEGImages/b.jpg": "val",
        "VOC2012/JPEGImages/a.jpg": "test",
        "VOC2012/JPEGImages/b.jpg": "train",
    }


def test_lists_of_a_devkit_in_small_letters(tmp_path):
    """A devkit below the top may write its folder of lists in small letters."""
    devkit(tmp_path / "VOC2007", {"train": "a\n"}, lists_in="imagesets/main")
    assert splits_of(tmp_path) == {"a": "train"}


@pytest.mark.parametrize(
    ("lists", "fact"),
    [({"round2": "a\nb\n"}, "its name says no split"), ({"val": "x1\nx2\n"}, "no line names an image")],
)
def test_list_that_is_not_understood(tmp_path, lists, fact):
    """A list that is not understood is a problem and a note, which name it and the remedy."""
    found = read_voc(devkit(tmp_path, lists))
    (name,) = lists
    (problem,) = found.problems
    assert (problem.file, problem.kind) == (f"ImageSets/Main/{name}.txt", "split_list_unknown")
    assert (problem.detail, problem.action) == (fact, "noted")
    (note,) = found.notes
    assert note.startswith(f"Split lists that were not understood: ImageSets/Main/{name}.txt; --split NAME")


def test_list_of_all_images_is_no_split(tmp_path):
    """A list of every image, as CVAT writes (`default.txt`), declares no split and is not reported."""
    found = read_voc(devkit(tmp_path, {"default": "a\nb\nc\n"}))
    assert (found.notes, found.problems, found.images["split"].notna().any()) == ((), (), False)


# ── folders ──────────────────────────────────────────────────────────────────────────────────────────────────────


def in_folders(folder, *places):
    """One labelled image in each place, which says where XML and image are: (xml folder, image folder) or one name."""
    for number, place in enumerate(places):
        xml_in, images_in = place if isinstance(place, tuple) else (place, place)
        labelimg_folder(folder, {f"i{number}": MASK}, xml_in=xml_in, images_in=images_in, seed=number)
    return folder


@pytest.mark.parametrize(
    "places",
    [
        ["train", "valid", "test"],
        ["Train", "Validation", "Testing"],
        ["export/train", "export/val", "export/test"],
        [(f"{split}/annotations", f"{split}/images") for split in ("train", "val", "test")],
        [(f"annotations/{split}", f"images/{split}") for split in ("training", "val", "test")],
        [(f"annotations/{split}", "images") for split in ("train", "val", "test")],
        ["train2017", "val2017", "test2017"],
        ["train_images", "val_images", "test_images"],
        ["VOC-train", "VOC-val", "VOC-test"],
    ],
)
def test_folders_are_splits(tmp_path, places):
    """Folders train, valid, test say the split, at the top or deeper, of the images or of the XML."""
    assert splits_of(in_folders(tmp_path, *places)) == {"i0": "train", "i1": "val", "i2": "test"}
    found = read_voc(tmp_path)
    assert found.problems == ()
    assert found.notes == ("Splits by the names of folders: train 1, val 1, test 1 (--split NAME takes another).",)


def test_folders_of_images_elsewhere(tmp_path):
    """Folders of images that are elsewhere say the split."""
    for number, split in enumerate(("train", "valid")):
        write_image(tmp_path / "pictures" / split / f"i{number}.jpg", seed=number)
        write_xml(tmp_path / "xml" / f"i{number}.xml", objects=MASK)
    images = read_voc(tmp_path / "xml", images=tmp_path / "pictures").images
    assert images["split"].tolist() == ["train", "val"]


def test_train_alone(tmp_path):
    """A single folder train that holds everything says the split."""
    assert splits_of(in_folders(tmp_path, "train")) == {"i0": "train"}


@pytest.mark.parametrize("places", [["test"], ["train", "car", "bus"], ["val", "more"], ["val2017", "more"]])
def test_folders_that_may_mean_something_else(tmp_path, places):
    """A single folder called like a split is no split, which a note says."""
    found = read_voc(in_folders(tmp_path, *places))
    assert not found.images["split"].notna().any()
    assert found.notes == (f"Not taken as a split: the folder {places[0]}; --split NAME assigns one to all images.",)


def test_source_that_is_called_like_a_split(tmp_path):
    """If the source itself is called like a split, a note says how to take that as its split."""
    found = read_voc(in_folders(tmp_path / "valid", ""))
    assert found.notes == ("The folder is called valid; --split val makes that the split.",)


@pytest.mark.parametrize("place", ["list", "xml"])
def test_contradicting_places(tmp_path, place):
    """Where list and folder, or the folders of image and XML, contradict one another, the first counts, with a note."""
    xml_in = "annotations/train" if place == "list" else "annotations/val"
    others = [(f"annotations/{split}", f"images/{split}") for split in ("train", "val")]
    in_folders(tmp_path, (xml_in, "images/train"), *others)
    if place == "list":
        (tmp_path / "test.txt").write_text("i0.jpg\n")
    assert splits_of(tmp_path) == {"i0": "test" if place == "list" else "train", "i1": "train", "i2": "val"}
    (problem,) = read_voc(tmp_path).problems
    assert (problem.file, problem.kind, problem.action) == (f"{xml_in}/i0.xml", "split_conflict", "noted")
    assert "says train" in problem.detail


# ── --split, copies ──────────────────────────────────────────────────────────────────────────────────────────────


def test_split_on_request(tmp_path):
    """`split` is the split of all images, whatever lists and folders say."""
    folder = devkit(tmp_path, {"train": "a\n", "round2": "b\n"})
    found = read_voc(folder, split="test")
    assert (set(found.images["split"]), found.problems, found.notes) == ({"test"}, (), ())
    with pytest.raises(UsageError, match=r"--split: unknown split \(got 'valid'; expected train, val, test\)"):
        read_voc(folder, split="valid")


def test_augmented_copies(tmp_path):
    """Images that Roboflow made of one picture are counted in a note."""
    names = ["a_jpg.rf.0a1", "a_jpg.rf.0b2", "b_jpg.rf.0c3", "c.rf"]
    found = read_voc(labelimg_folder(tmp_path, dict.fromkeys(names, MASK)))
    assert found.notes == (
        "2 images are augmented copies of 1 picture (.rf. in their names); `curate split` keeps copies together.",
    )
