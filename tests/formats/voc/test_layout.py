"""The files of a source: folders of XML and images, devkits, links."""

import os

import pytest
from builders import images_of, labelimg_folder, pairs_of, problems_of, write_image, write_xml

from curate.errors import DataError
from curate.formats.voc.reader import read_voc

MASK = [("mask", 5, 5, 20, 20)]

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


@pytest.mark.parametrize("name", ["._a.xml", ".DS_Store", "__MACOSX/._a.xml", "__MACOSX/._a.jpg"])
def test_files_of_a_mac(tmp_path, name):
    """The files that macOS writes beside others, also into archives, are skipped."""
    labelimg_folder(tmp_path, {"a": MASK})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\0\5\26\7")
    assert (images_of(tmp_path, with_unlabelled=True), problems_of(tmp_path)) == (["a.jpg"], [])


def test_upper_case_suffixes(tmp_path):
    """.XML and .JPG are XML and images."""
    write_image(tmp_path / "a.JPG")
    write_xml(tmp_path / "a.XML", "a.JPG", MASK)
    assert pairs_of(tmp_path) == {"a.XML": "a.JPG"}


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── devkits ──────────────────────────────────────────────────────────────────────────────────────────────────────


def devkit(folder, stems="abc", **options):
    labelimg_folder(folder, dict.fromkeys(stems, MASK), xml_in="Annotations", images_in="JPEGImages", **options)
    return folder


@pytest.mark.parametrize("place", ["", "VOC2007", "VOCdevkit/VOC2012"])
@pytest.mark.parametrize("masks", ["SegmentationClass", "SegmentationObject"])
def test_other_folders_of_a_devkit(tmp_path, place, masks):
    """Masks and images in other folders of a devkit are ignored, wherever it is, also with `with_unlabelled`."""
    folder = devkit(tmp_path / place)
    write_image(folder / masks / "a.png")
    write_image(folder / "more" / "b.png")
    assert problems_of(tmp_path) == []
    assert len(images_of(tmp_path, with_unlabelled=True)) == 3


def test_equal_names_in_two_devkits(tmp_path):
    """XML and images with equal names in two devkits are matched within each."""
    names = ("VOC2007", "VOC2012")
    for seed, name in enumerate(names):
        devkit(tmp_path / name, "a", seed=seed)
    assert pairs_of(tmp_path) == {f"{name}/Annotations/a.xml": f"{name}/JPEGImages/a.jpg" for name in names}


def test_folders_beside_a_devkit(tmp_path):
    """XML and images beside a devkit that is below the top are read."""
    devkit(tmp_path / "VOC2007", "a", seed=1)
    labelimg_folder(tmp_path / "mine", {"b": MASK}, seed=2)
    assert images_of(tmp_path) == ["VOC2007/JPEGImages/a.jpg", "mine/b.jpg"]


def test_masks_without_annotations(tmp_path):
    """Masks beside `JPEGImages` are no images where there is no XML yet."""
    write_image(tmp_path / "JPEGImages" / "a.jpg")
    write_image(tmp_path / "SegmentationClass" / "a.png")
    assert images_of(tmp_path, with_unlabelled=True) == ["JPEGImages/a.jpg"]
