"""Finding the image of each XML file: to the letter, by spelling, by what is left of its name, by content."""

import os
import unicodedata

import pytest
from builders import images_of, labelimg_folder, pairs_of, problems_of, write_image, write_xml

from curate.formats.voc.matching import same_name
from curate.formats.voc.reader import read_voc

MASK = [("mask", 5, 5, 20, 20)]

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


@pytest.mark.parametrize(("objects", "lost"), [([], 0), (MASK, 0), ([*MASK, ("mask", 1, 1, 9, 9)], 1)])
def test_two_xml_with_the_name_of_one_image(tmp_path, objects, lost):
    """An image is incomplete if another XML of its name has an object that the first one lacks; a copy is noted."""
    labelimg_folder(tmp_path, {"a": MASK, "b": MASK})
    write_xml(tmp_path / "xml" / "a.xml", "a.jpg", objects)
    found = read_voc(tmp_path)
    assert found.images["label_state"].tolist() == ["incomplete" if lost else "labelled", "labelled"]
    (problem,) = found.problems
    assert (problem.file, problem.kind) == ("xml/a.xml", "image_taken")
    assert problem.action == ("quarantined" if lost else "noted")
    assert ("which lacks 1 object" in problem.detail) == bool(lost)


def test_missing_image(tmp_path):
    """XML without an image is quarantined."""
    labelimg_folder(tmp_path, {"a": MASK})
    write_xml(tmp_path / "b.xml", objects=MASK)
    assert (images_of(tmp_path), problems_of(tmp_path)) == (["a.jpg"], [("b.xml", "image_missing")])


# ── spelling ─────────────────────────────────────────────────────────────────────────────────────────────────────

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Küche é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("image", "stem", "filename"),
    [
        (f"{DECOMPOSED}.jpg", COMPOSED, f"{COMPOSED}.jpg"),
        (f"{COMPOSED}.jpg", DECOMPOSED, f"{DECOMPOSED}.jpg"),
        (f"{DECOMPOSED}.jpg", "0001", f"{COMPOSED}.jpg"),
        ("IMG_1.JPG", "0001", "img_1.jpg"),
        ("img_1.jpg", "IMG_1", "IMG_1.JPG"),
        ("my img.jpg", "0001", "my%20img.jpg"),
        ("my%20img.jpg", "0001", "my img.jpg"),
        ("K\u00fcche.jpg", "0001", "K%C3%BCche.jpg"),
        ("my img.jpg", "0001", "my+img.jpg"),
        ("a+b.jpg", "0001", "a%2Bb.jpg"),
        ("a&b.jpg", "0001", "a&amp;b.jpg"),
    ],
)
def test_spelling_of_names(tmp_path, image, stem, filename):
    """Unicode spelling, case and encodings of the web do not separate an XML from its image, and are not noted."""
    write_image(tmp_path / image)
    write_xml(tmp_path / f"{stem}.xml", filename, MASK)
    assert pairs_of(tmp_path) == {f"{stem}.xml": image}
    assert problems_of(tmp_path) == []


def test_spelling_that_fits_two(tmp_path):
    """A name that fits two images but for its case is of neither; to the letter it is of one."""
    write_image(tmp_path / "a.jpg", seed=1)
    write_image(tmp_path / "A.jpg", seed=2)
    write_xml(tmp_path / "0001.xml", "A.JPG", MASK)
    (problem, *_) = read_voc(tmp_path).problems
    assert (problem.kind, problem.action) == ("image_unclear", "quarantined")
    assert "2 images have this name (A.jpg, a.jpg)" in problem.detail
    write_xml(tmp_path / "0001.xml", "A.jpg", MASK)
    assert pairs_of(tmp_path) == {"0001.xml": "A.jpg"}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("a.jpg", "a.jpg", True),
        ("a.jpg", "A.JPG", True),
        (COMPOSED, DECOMPOSED, True),
        ("a b", "a%20b", True),
        ("a.jpg", "a.png", False),
        ("a", "á", False),
    ],
)
def test_same_name(one, other, is_same):
    """Names are the same but for case, Unicode spelling and percent-encoding."""
    assert same_name(one, other) is is_same


# ── what is left of a name ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("image", "xml", "filename", "path"),
    [
        ("one.jpg", "one.xml.xml", "one", None),
        ("one.jpg", "one.jpg.xml", None, None),
        ("one.jpg", "one.XML.xml", None, None),
        ("one.png", "one.jpg.xml", None, None),
        ("3.jpg", "3_jpg.xml", None, None),
        ("3.jpg", "3_jpg.xml", "3_jpg", None),
        ("3.PNG", "3-png.xml", None, None),
        ("two.of.three.jpg", "two.xml", "two", "/pictures/two.of.three.jpg"),
        ("two.of.three.jpg", "two.xml", None, None),
        ("b.jpg", "0001.xml", None, "C:\\pictures\\b.jpg"),
        ("b.jpg", "0001.xml", "0001.jpg", "/home/me/b.jpg"),
        ("b.jpg", "0001.xml", "b.png", None),
        ("b.jpg", "0001.xml", "b", None),
    ],
)
def test_names_that_tools_changed(tmp_path, image, xml, filename, path):
    """The image is found by `<path>`, by `<filename>` with another suffix, or by what tools left of its name."""
    write_image(tmp_path / image)
    write_image(tmp_path / "another.jpg", seed=9)
    write_xml(tmp_path / xml, filename, MASK, path=path)
    assert pairs_of(tmp_path) == {xml: image}


def test_letters_come_before_guesses(tmp_path):
    """An image goes to the XML that names it to the letter, also if a vague one comes first."""
    write_image(tmp_path / "two.of.three.jpg")
    write_xml(tmp_path / "two.xml", None, MASK)
    write_xml(tmp_path / "z.xml", "two.of.three.jpg", MASK)
    assert pairs_of(tmp_path) == {"z.xml": "two.of.three.jpg"}
    assert problems_of(tmp_path) == [("two.xml", "image_taken")]


def test_whole_name_is_not_cut(tmp_path):
    """A `<filename>` with a suffix is whole: an image whose name only begins like it is another one."""
    write_image(tmp_path / "two.of.three.jpg")
    write_xml(tmp_path / "two.xml", "two.jpg", MASK)
    assert ("two.xml", "image_missing") in problems_of(tmp_path)


def test_guess_that_fits_two(tmp_path):
    """A name cut at the first dot that fits two images is of neither."""
    write_image(tmp_path / "two.a.jpg", seed=1)
    write_image(tmp_path / "two.b.jpg", seed=2)
    write_xml(tmp_path / "two.xml", None, MASK)
    assert ("two.xml", "image_missing") in problems_of(tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"folder": "cam2"}, {"filename": "cam2/0.jpg"}, {"path": r"D:\cams\cam2\0.jpg"}, {"path": "/x/cam2/0.jpg"}],
)
def test_folder_chooses_among_equal_names(tmp_path, options):
    """`<folder>` or `<path>` selects one of several images with the name, which are elsewhere."""
    for number in (1, 2, 3):
        write_image(tmp_path / "pictures" / f"cam{number}" / "0.jpg", seed=number)
    write_xml(tmp_path / "xml" / "cam2_0.xml", **({"filename": "0.jpg", "objects": MASK} | options))
    assert pairs_of(tmp_path) == {"xml/cam2_0.xml": "pictures/cam2/0.jpg"}


def test_folders_like_those_of_the_xml(tmp_path):
    """Among images with one name, the one counts whose folders are called like those of the XML."""
    for number in ("1", "2"):
        write_image(tmp_path / "raw" / number / "a.jpg", seed=int(number))
        write_xml(tmp_path / "boxes" / number / "a.xml", "a.jpg", MASK)
    assert pairs_of(tmp_path) == {f"boxes/{number}/a.xml": f"raw/{number}/a.jpg" for number in ("1", "2")}


def test_folder_does_not_overrule_the_place(tmp_path):
    """An image beside the XML counts, whatever `<folder>` and `<path>` say: folders are moved."""
    for number in (1, 2):
        labelimg_folder(tmp_path / f"cam{number}", {"0": MASK}, seed=number)
    write_xml(tmp_path / "cam1" / "0.xml", "0.jpg", MASK, folder="cam2", path="/x/cam2/0.jpg")
    assert pairs_of(tmp_path) == {f"cam{number}/0.xml": f"cam{number}/0.jpg" for number in (1, 2)}


# ── other suffixes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.jpg_large", "a.img", "a", "a.jpeg~"])
@pytest.mark.parametrize("filename", [True, False])
def test_suffix_that_nobody_knows(tmp_path, name, filename):
    """A file that an XML names, or that has its name, is an image if its content is."""
    write_image(tmp_path / "x.jpg").rename(tmp_path / name)
    write_xml(tmp_path / "a.xml", name if filename else None, MASK)
    assert pairs_of(tmp_path) == {"a.xml": name}


def test_text_is_no_image(tmp_path):
    """A text with the XML's name is not its image."""
    write_xml(tmp_path / "a.xml", None, MASK)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert problems_of(tmp_path) == [("a.xml", "image_missing")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic", "no decoder for HEIC"),
        ("a.NEF", b"II*\0", "no decoder for a camera's raw format"),
        ("a.dat", b"0 1 2", "unknown format"),
    ],
)
def test_image_that_cannot_be_decoded(tmp_path, name, data, reason):
    """A file that an XML names but that cannot be decoded is not called missing: the reason is listed."""
    (tmp_path / name).write_bytes(data)
    write_xml(tmp_path / "a.xml", name, MASK)
    (problem,) = read_voc(tmp_path).problems
    assert (problem.file, problem.kind, problem.action) == ("a.xml", "image_broken", "quarantined")
    assert problem.detail.startswith(f"{name}: ")
    assert reason in problem.detail


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".ppm", ".jp2", ".avif"])
def test_other_formats_without_xml(tmp_path, suffix):
    """Images of all formats that are read come in without XML as well."""
    kind = {"format": "JPEG"} if suffix in (".jfif", ".jpe") else {}
    write_image(tmp_path / f"a{suffix}", **kind)
    assert read_voc(tmp_path, with_unlabelled=True).images["file"].tolist() == [f"a{suffix}"]


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
