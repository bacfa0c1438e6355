"""The size in an annotation file contradicts its picture."""

import numpy as np
import pytest
from builders import HEIGHT, MASK, WIDTH, box_rows, kinds, load, problem_of, state_of, write_image, write_xml
from PIL import Image

from curate.commands.imports import import_voc
from curate.errors import StrictImportError, UsageError
from curate.formats.voc.picture_size import turn_upright
from curate.images import decode_rgb

TURNED = range(5, 9)  # orientations that exchange the sides


def folder_with(tmp_path, size, objects=(MASK,), name="a", width=WIDTH, height=HEIGHT, **options):
    """A folder with one picture, as stored, and its XML."""
    folder = tmp_path / "one"
    write_image(folder / f"{name}.jpg", width, height, **options)
    write_xml(folder / f"{name}.xml", objects=objects, size=size)
    return folder


# ── EXIF turns the picture ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_upright(tmp_path, orientation):
    """A box around a mark of the stored picture is around the same mark of the upright one."""
    stored = np.zeros((17, 31, 3), dtype=np.uint8)
    stored[4:7, 10:20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    rows, columns = np.nonzero(decode_rgb(tmp_path / "a.png")[:, :, 0])
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert turn_upright((10, 4, 20, 7), orientation, (31, 17)) == expected


@pytest.mark.parametrize("orientation", TURNED)
def test_boxes_of_the_stored_picture(tmp_path, dataset, orientation):
    """Boxes in XML with the size of the stored picture are turned with it, as a repair, and the image is labelled."""
    result = import_voc(dataset, folder_with(tmp_path, (WIDTH, HEIGHT), orientation=orientation))
    expected = turn_upright(MASK[1:], orientation, (WIDTH, HEIGHT))
    assert box_rows(dataset) == [("a.jpg", "mask", *expected)]
    assert (kinds(result), result.repaired, state_of(dataset)) == (["turned"], 1, "labelled")
    assert any("a.xml" in note and "EXIF" in note for note in result.notes)


@pytest.mark.parametrize("orientation", TURNED)
def test_boxes_of_the_upright_picture(tmp_path, dataset, orientation):
    """Boxes in XML with the size of the upright picture stay as they are."""
    result = import_voc(dataset, folder_with(tmp_path, (HEIGHT, WIDTH), orientation=orientation))
    assert box_rows(dataset) == [("a.jpg", *MASK)]
    assert (kinds(result), result.notes) == ([], ())


def test_copy_of_turned_xml(tmp_path, dataset):
    """A second copy of the XML has the same boxes, before they are turned."""
    folder = folder_with(tmp_path, (WIDTH, HEIGHT), orientation=6)
    write_xml(folder / "copy" / "a.xml", objects=[MASK], size=(WIDTH, HEIGHT))
    assert problem_of(import_voc(dataset, folder), "image_taken")["action"] == "noted"
    assert state_of(dataset) == "labelled"


def test_minima_of_voc_are_turned(tmp_path, dataset):
    """Where pixels are counted from 1, minima are shifted in the frame in which they were written."""
    folder = folder_with(tmp_path, (WIDTH, HEIGHT), [("mask", 6, 7, 25, 36)], orientation=6)
    import_voc(dataset, folder, origin="voc")
    assert box_rows(dataset) == [("a.jpg", "mask", *turn_upright((5, 6, 25, 36), 6, (WIDTH, HEIGHT)))]


def test_reversed_corners_are_turned(tmp_path, dataset):
    """Reversed corners are put in order before they are turned."""
    import_voc(dataset, folder_with(tmp_path, (WIDTH, HEIGHT), [("mask", 25, 36, 5, 6)], orientation=6))
    assert box_rows(dataset) == [("a.jpg", "mask", *turn_upright(MASK[1:], 6, (WIDTH, HEIGHT)))]


def test_box_without_a_number_is_not_turned(tmp_path, dataset):
    """A corner that is not finite is quarantined, also where the picture is turned."""
    objects = [MASK, ("mask", "nan", 6, 25, 36)]
    result = import_voc(dataset, folder_with(tmp_path, (WIDTH, HEIGHT), objects, orientation=6))
    assert (result.boxes, problem_of(result, "not_finite")["object"]) == (1, 2)


@pytest.mark.parametrize(("orientation", "side"), [(2, WIDTH), (3, WIDTH), (4, WIDTH), (6, HEIGHT)])
def test_size_that_does_not_tell(tmp_path, dataset, orientation, side):
    """Where the size fits the stored and the upright picture, the boxes stay, and a sentence says so."""
    folder = folder_with(tmp_path, (side, HEIGHT), width=side, orientation=orientation)
    result = import_voc(dataset, folder)
    assert (problem_of(result, "frame_unclear")["action"], state_of(dataset)) == ("noted", "labelled")
    assert result.boxes == 1
    assert any("a.xml" in note and "EXIF turns the picture" in note for note in result.notes)


@pytest.mark.parametrize("size", [(0, 0), ("", ""), (HEIGHT, 0)])
def test_no_size_of_a_turned_picture(tmp_path, dataset, size):
    """A size that is missing does not tell the frame either, unless a side is that of the upright picture."""
    result = import_voc(dataset, folder_with(tmp_path, size, orientation=6))
    assert kinds(result) == ["size_missing" if size[0] == HEIGHT else "frame_unclear"]
    assert state_of(dataset) == "labelled"


def test_size_that_does_not_tell_beside_turned_pictures(tmp_path, dataset):
    """It makes the image incomplete if boxes of other pictures of the source are in the stored frame."""
    folder_with(tmp_path, (WIDTH, HEIGHT), orientation=6)
    folder = folder_with(tmp_path, (WIDTH, HEIGHT), name="b", orientation=3)
    result = import_voc(dataset, folder)
    assert (problem_of(result, "frame_unclear")["action"], state_of(dataset, "b.jpg")) == ("quarantined", "incomplete")
    assert any("b.xml" in note and "--size-mismatch keep" in note for note in result.notes)
    import_voc(dataset, folder, size_mismatch="keep")
    assert (state_of(dataset, "a.jpg"), state_of(dataset, "b.jpg")) == ("labelled", "labelled")
    assert {row[1:] for row in box_rows(dataset)} == {MASK}


# ── any other disagreement ────────────────────────────────────────────────────────────────────────────────────────────

DISAGREEING = [
    (WIDTH * 4, HEIGHT * 4),
    (WIDTH * 2, HEIGHT),
    (HEIGHT, WIDTH),
    (WIDTH + 1, HEIGHT),
    (WIDTH * 4, 0),
    (WIDTH * 4, ""),
    ("", HEIGHT + 1),
]


@pytest.mark.parametrize("size", DISAGREEING)
def test_disagreement_is_incomplete(tmp_path, dataset, size):
    """The image is incomplete, the problem has both sizes, and a sentence says what to do; one side is enough."""
    result = import_voc(dataset, folder_with(tmp_path, size))
    problem = problem_of(result, "size_mismatch")
    assert (problem["action"], state_of(dataset)) == ("quarantined", "incomplete")
    assert problem["detail"] == f"{size[0]}×{size[1]}, the image has {WIDTH}×{HEIGHT}"
    note, _ = result.notes
    assert all(word in note for word in ("1 image is incomplete", "a.xml", "--size-mismatch scale"))


def test_disagreement_without_boxes(tmp_path, dataset):
    """An XML without objects may be that of another picture, so its image is incomplete, too."""
    import_voc(dataset, folder_with(tmp_path, DISAGREEING[0], []))
    assert state_of(dataset) == "incomplete"


def test_disagreement_is_refused_by_strict(tmp_path, dataset):
    """`strict` refuses a size that contradicts the picture."""
    with pytest.raises(StrictImportError, match="size_mismatch"):
        import_voc(dataset, folder_with(tmp_path, DISAGREEING[0]), strict=True)


@pytest.mark.parametrize("size", DISAGREEING)
def test_keep(tmp_path, dataset, size):
    """With "keep", the boxes stay, the image is labelled, and the images are counted in a sentence."""
    result = import_voc(dataset, folder_with(tmp_path, size), size_mismatch="keep")
    assert (box_rows(dataset), state_of(dataset)) == ([("a.jpg", *MASK)], "labelled")
    assert any("1 image" in note and "a.xml" in note for note in result.notes)


@pytest.mark.parametrize(("across", "down"), [(4, 4), (0.5, 0.5), (2, 1)])
def test_scale(tmp_path, dataset, across, down):
    """With "scale", boxes are scaled with the picture, each side by itself, as a repair."""
    box = ("mask", 5 * across, 6 * down, 25 * across, 36 * down)
    folder = folder_with(tmp_path, (int(WIDTH * across), int(HEIGHT * down)), [box])
    result = import_voc(dataset, folder, size_mismatch="scale")
    assert box_rows(dataset) == [("a.jpg", *MASK)]
    assert (kinds(result), state_of(dataset)) == (["scaled"], "labelled")


def test_scale_from_voc(tmp_path, dataset):
    """Where pixels are counted from 1, minima are shifted before they are scaled."""
    folder = folder_with(tmp_path, (WIDTH * 4, HEIGHT * 4), [("mask", 21, 25, 100, 144)])
    import_voc(dataset, folder, size_mismatch="scale", origin="voc")
    assert box_rows(dataset) == [("a.jpg", *MASK)]


def test_scale_and_turn(tmp_path, dataset):
    """A size with the shape of the stored picture, at another scale, scales and turns the boxes."""
    folder = folder_with(tmp_path, (WIDTH * 4, HEIGHT * 4), [("mask", 20, 24, 100, 144)], orientation=6)
    import_voc(dataset, folder, size_mismatch="scale")
    assert box_rows(dataset) == [("a.jpg", "mask", *turn_upright(MASK[1:], 6, (WIDTH, HEIGHT)))]


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (WIDTH * 4, 0)])
def test_what_cannot_be_scaled(tmp_path, dataset, size):
    """Exchanged sides, and a single side, do not say how to scale: the image stays incomplete."""
    result = import_voc(dataset, folder_with(tmp_path, size), size_mismatch="scale")
    assert (kinds(result), state_of(dataset)) == (["size_mismatch"], "incomplete")
    assert any("cannot be scaled" in note for note in result.notes)


@pytest.mark.parametrize(
    "size", [None, (0, 0), ("", ""), ("wide", "high"), (-1, -1), (WIDTH, 0), (WIDTH, ""), ("nan", "inf")]
)
def test_no_size_contradicts_nothing(tmp_path, dataset, size):
    """A size that is missing, zero or no number is noted; the image is labelled."""
    result = import_voc(dataset, folder_with(tmp_path, size))
    assert (result.boxes, problem_of(result, "size_missing")["action"]) == (1, "noted")
    assert (state_of(dataset), result.notes) == ("labelled", ())


def test_size_with_a_decimal_point(tmp_path, dataset):
    """64.0 is 64."""
    assert kinds(import_voc(dataset, folder_with(tmp_path, (f"{WIDTH}.0", f"{HEIGHT}.0")))) == []


def test_corrected_by_a_second_import(tmp_path, dataset):
    """Importing again with the option makes the image labelled, with the boxes in their right place."""
    folder = folder_with(tmp_path, (WIDTH * 4, HEIGHT * 4), [("mask", 20, 24, 100, 144)])
    import_voc(dataset, folder)
    result = import_voc(dataset, folder, size_mismatch="scale")
    assert (result.updated, box_rows(dataset), state_of(dataset)) == (1, [("a.jpg", *MASK)], "labelled")
    assert set(load(dataset).problems["kind"]) == {"scaled"}


def test_many_images_are_one_sentence(tmp_path, dataset):
    """Images of one kind are one sentence with a count and the first files."""
    for name in "abcde":
        folder = folder_with(tmp_path, (WIDTH * 4, HEIGHT * 4), name=name)
    note, _ = import_voc(dataset, folder).notes
    assert note.startswith("5 images are incomplete")
    assert "(a.xml, b.xml, c.xml, …)" in note


def test_unknown_choice(tmp_path, dataset):
    """Another word than scale or keep is refused."""
    with pytest.raises(UsageError, match="--size-mismatch"):
        import_voc(dataset, folder_with(tmp_path, (1, 1)), size_mismatch="guess")
