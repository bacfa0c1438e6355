"""Finding the image of each XML file, and the split of each image."""

import os

import pytest
from builders import labelimg_folder, write_image, write_xml

from curate.errors import DataError
from curate.formats.voc.reader import read_voc

MASK = [("mask", 5, 5, 20, 20)]


def images_of(folder, **options):
    """The images that were read from a folder, relative to it."""
    return sorted(read_voc(folder, **options).images["file"])


def problems_of(folder, **options):
    """(file, kind) of every problem."""
    return [(problem.file, problem.kind) for problem in read_voc(folder, **options).problems]


def pairs_of(folder, **options):
    """XML → image, by the boxes."""
    found = read_voc(folder, **options)
    files = found.images["file"].to_numpy()
    return dict(zip(found.boxes["file"], files[found.boxes["image"].to_numpy()], strict=True))


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("xml_in", "images_in"),
    [
        ("", ""),
        ("annotations", "images"),
        ("Annotations", "images"),
        ("labels", "images"),
        ("annotations", ""),
        ("", "images"),
        ("annotations/day 1", "images/day 1"),
        ("day 1/annotations", "day 1/images"),
        ("Annotations", "JPEGImages"),
    ],
)
def test_layouts(tmp_path, xml_in, images_in):
    """XML beside the images, in sibling folders and in a devkit: each file finds its image."""
    labelimg_folder(tmp_path, {"a": MASK, "b": MASK}, xml_in=xml_in, images_in=images_in)
    expected = {os.path.join(xml_in, f"{stem}.xml"): os.path.join(images_in, f"{stem}.jpg") for stem in "ab"}
    assert pairs_of(tmp_path) == expected
    assert problems_of(tmp_path) == []


def test_equal_names_in_folders(tmp_path):
    """XML and images with equal names in two folders are matched within their folder."""
    labelimg_folder(tmp_path, {"a": MASK}, xml_in="annotations/day1", images_in="images/day1", seed=1)
    labelimg_folder(tmp_path, {"a": MASK}, xml_in="annotations/day2", images_in="images/day2", seed=2)
    assert pairs_of(tmp_path) == {
        "annotations/day1/a.xml": "images/day1/a.jpg",
        "annotations/day2/a.xml": "images/day2/a.jpg",
    }


def test_separate_images(tmp_path):
    """With `--images`, images are searched only there."""
    labelimg_folder(tmp_path / "xml", {"a": MASK}, seed=1)
    write_image(tmp_path / "pictures" / "a.jpg")
    write_image(tmp_path / "pictures" / "b.jpg")
    found = read_voc(tmp_path / "xml", images=tmp_path / "pictures")
    assert (found.image_folder, found.images["file"].tolist()) == (tmp_path / "pictures", ["a.jpg"])


def test_separate_images_in_folders(tmp_path):
    """In subfolders of `--images`, images with equal names are matched by the folder of the XML."""
    for day in ("day1", "day2"):
        write_image(tmp_path / "pictures" / day / "a.jpg", seed=len(day))
        write_xml(tmp_path / "xml" / day / "a.xml", objects=MASK)
    found = pairs_of(tmp_path / "xml", images=tmp_path / "pictures")
    assert {xml: image.rpartition("pictures/")[2] for xml, image in found.items()} == {
        "day1/a.xml": "day1/a.jpg",
        "day2/a.xml": "day2/a.jpg",
    }


@pytest.mark.parametrize("name", ["source", "pictures"])
def test_missing_folder(tmp_path, name):
    """A missing folder is an error that names it."""
    labelimg_folder(tmp_path / "here", {"a": MASK})
    folders = {"source": tmp_path / "here", "pictures": tmp_path / "here"} | {name: tmp_path / "nowhere"}
    with pytest.raises(DataError, match="nowhere"):
        read_voc(folders["source"], images=folders["pictures"])


def test_folder_without_xml(tmp_path):
    """A folder without XML is an error whose remedy is --with-unlabelled."""
    labelimg_folder(tmp_path, {"a": None})
    with pytest.raises(DataError, match="--with-unlabelled"):
        read_voc(tmp_path)


def test_hidden_files(tmp_path):
    """Hidden files, such as those of macOS, are skipped."""
    labelimg_folder(tmp_path, {"a": MASK})
    (tmp_path / "._a.xml").write_bytes(b"\0\5\26\7")
    write_xml(tmp_path / ".Trash" / "b.xml", objects=MASK)
    assert (images_of(tmp_path), problems_of(tmp_path)) == (["a.jpg"], [])


def test_upper_case_suffixes(tmp_path):
    """.XML and .JPG are XML and images."""
    write_image(tmp_path / "a.JPG")
    write_xml(tmp_path / "a.XML", "a.JPG", MASK)
    assert pairs_of(tmp_path) == {"a.XML": "a.JPG"}


# ── which image ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_filename_goes_first(tmp_path):
    """`<filename>` names the image if no image has the name of the XML."""
    write_image(tmp_path / "b.jpg")
    write_xml(tmp_path / "a.xml", "b.jpg", MASK)
    assert pairs_of(tmp_path) == {"a.xml": "b.jpg"}


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif"])
def test_stem_with_any_suffix(tmp_path, suffix):
    """If `<filename>` does not fit, the image is found by the XML's stem and any suffix, with a note."""
    labelimg_folder(tmp_path, {"a": MASK}, suffix=suffix)
    write_xml(tmp_path / "a.xml", "gone.jpg", MASK)
    assert pairs_of(tmp_path) == {"a.xml": f"a{suffix}"}
    assert problems_of(tmp_path) == [("a.xml", "filename_mismatch")]


def test_filename_chooses_among_suffixes(tmp_path):
    """`<filename>` selects one of two images with the XML's stem."""
    write_image(tmp_path / "a.jpg", seed=1)
    write_image(tmp_path / "a.png", seed=2)
    write_xml(tmp_path / "a.xml", "a.png", MASK)
    assert pairs_of(tmp_path) == {"a.xml": "a.png"}


def test_old_filename_in_a_copy(tmp_path):
    """A copied XML with the old `<filename>` belongs to the image of its own name."""
    labelimg_folder(tmp_path, {"a": MASK, "b": MASK})
    write_xml(tmp_path / "b.xml", "a.jpg", MASK)
    assert pairs_of(tmp_path) == {"a.xml": "a.jpg", "b.xml": "b.jpg"}
    assert problems_of(tmp_path) == [("b.xml", "filename_mismatch")]


@pytest.mark.parametrize("filename", ["a.jpg", "images/a.jpg", r"C:\Users\me\a.jpg", "/home/me/a.jpg", " a.jpg "])
def test_folders_in_filename(tmp_path, filename):
    """Folders in `<filename>`, with any separator, are ignored."""
    labelimg_folder(tmp_path, {"a": MASK})
    write_xml(tmp_path / "a.xml", filename, MASK)
    assert pairs_of(tmp_path) == {"a.xml": "a.jpg"}
    assert problems_of(tmp_path) == []


@pytest.mark.parametrize("filename", [None, ""])
def test_no_filename(tmp_path, filename):
    """XML without `<filename>` belongs to the image of its own name."""
    labelimg_folder(tmp_path, {"a": MASK})
    write_xml(tmp_path / "a.xml", filename, MASK)
    assert pairs_of(tmp_path) == {"a.xml": "a.jpg"}


def test_filename_that_is_an_ending(tmp_path):
    """A `<filename>` that is only the end of an image's name does not match it, and is noted."""
    write_image(tmp_path / "left-a.jpg")
    write_xml(tmp_path / "left-a.xml", "a.jpg", MASK)
    assert problems_of(tmp_path) == [("left-a.xml", "filename_mismatch")]


@pytest.mark.parametrize(
    "name", ["with space", "ünïcödé", "маска", "口罩", "🐈", "a.b.c", "50%", "#1", "a'b", "-a", "{x}", "*"]
)
def test_any_name(tmp_path, name):
    """Names may have spaces, dots, quotes and letters of any script."""
    labelimg_folder(tmp_path, {name: MASK})
    assert len(pairs_of(tmp_path)) == 1
    assert problems_of(tmp_path) == []


def test_names_that_are_not_utf8(tmp_path):
    """Files whose names are not UTF-8 are listed, and the others are read."""
    labelimg_folder(tmp_path, {"a": MASK, "b": MASK})
    for suffix in (".jpg", ".xml"):
        os.rename(tmp_path / f"b{suffix}", os.fsencode(tmp_path) + b"/caf\xe9" + suffix.encode())
    assert images_of(tmp_path) == ["a.jpg"]
    assert problems_of(tmp_path) == [("caf\\xe9.jpg", "file_name"), ("caf\\xe9.xml", "file_name")]


def test_two_xml_for_one_image(tmp_path):
    """Of two XML files for an image, the one with the image's name counts, and the other is quarantined."""
    labelimg_folder(tmp_path, {"m": [("mask", 1, 1, 9, 9)]})
    write_xml(tmp_path / "a.xml", "m.jpg", MASK)
    assert pairs_of(tmp_path) == {"m.xml": "m.jpg"}
    assert problems_of(tmp_path) == [("a.xml", "image_taken")]


def test_missing_image(tmp_path):
    """XML without an image is quarantined."""
    labelimg_folder(tmp_path, {"a": MASK})
    write_xml(tmp_path / "b.xml", objects=MASK)
    assert (images_of(tmp_path), problems_of(tmp_path)) == (["a.jpg"], [("b.xml", "image_missing")])


# ── never outside the source ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "../outside.jpg",
        "../../outside.jpg",
        "{absolute}",
        "file://{absolute}",
        r"..\outside.jpg",
        "x/../../outside.jpg",
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "/",
        "\\",
    ],
)
def test_never_outside(tmp_path, text):
    """No image outside the source is read, whatever `<filename>` and `<path>` say."""
    outside = write_image(tmp_path / "outside.jpg")
    text = text.replace("{absolute}", str(outside))
    write_xml(tmp_path / "source" / "deep" / "a.xml", text, MASK, path=text)
    assert images_of(tmp_path / "source") == []
    assert problems_of(tmp_path / "source") == [("deep/a.xml", "image_missing")]


def test_links_in_the_folder(tmp_path):
    """Links in the source are followed."""
    labelimg_folder(tmp_path / "elsewhere", {"a": MASK})
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "day").symlink_to(tmp_path / "elsewhere")
    assert images_of(tmp_path / "source") == ["day/a.jpg"]


def test_link_to_a_parent(tmp_path):
    """A link to a parent folder is not followed endlessly."""
    labelimg_folder(tmp_path, {"a": MASK})
    (tmp_path / "again").symlink_to(tmp_path)
    assert images_of(tmp_path) == ["a.jpg"]


def test_link_to_itself(tmp_path):
    """A link to itself does not abort the import."""
    labelimg_folder(tmp_path, {"a": MASK})
    (tmp_path / "round").symlink_to("round")
    assert images_of(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("name", ["b.xml", "b.jpg"])
def test_link_to_nothing(tmp_path, name):
    """XML and images that are broken links are listed."""
    labelimg_folder(tmp_path, {"a": MASK, "b": MASK})
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    listed = {file.rpartition(".")[0]: kind for file, kind in problems_of(tmp_path) if kind != "image_without_xml"}
    assert list(listed) == ["b"]


# ── devkit splits ────────────────────────────────────────────────────────────────────────────────────────────────


def devkit(folder, lists, stems="abc"):
    labelimg_folder(folder, dict.fromkeys(stems, MASK), xml_in="Annotations", images_in="JPEGImages")
    place = folder / "ImageSets" / "Main"
    place.mkdir(parents=True)
    for name, text in lists.items():
        (place / f"{name}.txt").write_text(text, encoding="utf-8")
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


def test_trainval_beside_its_parts(tmp_path):
    """With train.txt and val.txt, trainval.txt is ignored."""
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\nc\n"}
    assert splits_of(devkit(tmp_path, lists)) == {"a": "train", "b": "val"}


def test_class_lists_are_no_splits(tmp_path):
    """Lists of single classes (`mask_train.txt`) are ignored."""
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


def test_list_names_no_image(tmp_path):
    """A name in a list without an image is noted."""
    assert [kind for _, kind in problems_of(devkit(tmp_path, {"train": "a\nghost\n"}))] == ["split_without_image"]


def test_other_folders_of_a_devkit(tmp_path):
    """Images in other folders of a devkit are ignored."""
    folder = devkit(tmp_path, {"train": "a\n"})
    write_image(folder / "SegmentationClass" / "a.png")
    assert problems_of(folder) == []
