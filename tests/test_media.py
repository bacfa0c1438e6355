"""Images of an import: size, copying into the dataset, equal names, equal content."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
from builders import (
    BARE,
    HEIGHT,
    MASK,
    WIDTH,
    image_row,
    kinds,
    labelimg_folder,
    load,
    problem_of,
    write_image,
    write_xml,
)

from curate.commands.imports import import_voc, import_widerface
from curate.errors import StoreError
from curate.media import copy_file


def test_size_from_the_header(tmp_path, dataset):
    """Width and height come from the image, whatever `<size>` says."""
    folder = labelimg_folder(tmp_path / "one", {"a": []})
    write_xml(folder / "a.xml", objects=[MASK], size=(640, 480))
    import_voc(dataset, folder)
    assert (image_row(dataset, "a.jpg")["width"], image_row(dataset, "a.jpg")["height"]) == (WIDTH, HEIGHT)


def test_size_is_upright(tmp_path, dataset):
    """An image with EXIF orientation has its upright size, and boxes are checked against that."""
    write_image(tmp_path / "one" / "a.jpg", 48, 64, orientation=6)
    write_xml(tmp_path / "one" / "a.xml", objects=[("mask", 0, 0, 64, 48)], size=(64, 48))
    result = import_voc(dataset, tmp_path / "one")
    assert (image_row(dataset, "a.jpg")["width"], image_row(dataset, "a.jpg")["height"]) == (64, 48)
    assert kinds(result) == []


def names_of(file):
    """Number of names (hard links) that a file has."""
    return os.stat(file).st_nlink


def test_images_are_copied(dataset, source):
    """An image in the dataset is a file of its own: what is written into either does not change the other."""
    import_voc(dataset, source)
    placed = dataset / image_row(dataset, "a.jpg")["path"]
    assert placed.read_bytes() == (source / "a.jpg").read_bytes()
    assert (names_of(placed), names_of(source / "a.jpg")) == (1, 1)


def test_read_only_images_are_linked(dataset, source):
    """An image that nobody may write to is linked, and takes no room."""
    (source / "a.jpg").chmod(0o444)
    import_voc(dataset, source)
    assert (dataset / image_row(dataset, "a.jpg")["path"]).samefile(source / "a.jpg")
    assert not (dataset / image_row(dataset, "b.jpg")["path"]).samefile(source / "b.jpg")


@pytest.mark.parametrize("read", [import_voc, import_widerface])
def test_images_are_linked_on_request(tmp_path, dataset, read):
    """`link` links all images."""
    source = labelimg_folder(tmp_path / "clips", {"a": [MASK]}, images_in="images")
    (source / "label.txt").write_text("# a.jpg\n5 6 20 30\n")
    read(dataset, source, link=True)
    assert (dataset / image_row(dataset, "a.jpg")["path"]).samefile(source / "images" / "a.jpg")


def refuse(code):
    """A system call that fails with this code."""

    def refused(*_, **__):
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("link", [True, False])
def test_images_are_copied_where_links_fail(dataset, source, monkeypatch, code, link):
    """The image is copied if the disk does not allow hard links."""
    monkeypatch.setattr(os, "link", refuse(code))
    import_voc(dataset, source, link=link)
    target = dataset / image_row(dataset, "a.jpg")["path"]
    assert not target.samefile(source / "a.jpg")
    assert target.read_bytes() == (source / "a.jpg").read_bytes()


def test_copies_come_back_unchanged(tmp_path, dataset, source):
    """Copied images are recognised in a second import, and other images of the same name do not overwrite them."""
    import_voc(dataset, source)
    other = labelimg_folder(tmp_path / "more" / "clips", {"a": [BARE]}, seed=7)
    assert import_voc(dataset, other).added == 1
    assert import_voc(dataset, source).unchanged == 2


def test_a_copy_never_overwrites(dataset, source, monkeypatch):
    """If another process has created an image of that name meanwhile, ours gets another name."""
    target = dataset / "media" / "images" / "clips" / "a.jpg"

    def refuse_late(*_, **__):
        if not target.exists():
            target.write_bytes(b"another process's image")
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse_late)
    import_voc(dataset, source)
    assert target.read_bytes() == b"another process's image"


@pytest.mark.parametrize("missing", ["ioctl", "copy_file_range", "both"])
def test_ways_to_copy(tmp_path, monkeypatch, missing):
    """A copy has the bytes of its origin, whether the kernel shares blocks, copies them, or does neither."""
    origin, target = tmp_path / "origin", tmp_path / "target"
    origin.write_bytes(os.urandom(100_000))
    if missing != "copy_file_range":
        monkeypatch.setattr(fcntl, "ioctl", refuse(errno.EOPNOTSUPP))
    if missing != "ioctl":
        monkeypatch.setattr(os, "copy_file_range", refuse(errno.EXDEV), raising=False)
    copy_file(origin, str(target))
    assert target.read_bytes() == origin.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["origin", "target"]


def test_reflink_is_used(tmp_path, monkeypatch):
    """Where the file system shares blocks, no byte is copied."""
    origin = tmp_path / "origin"
    origin.write_bytes(b"pixels")
    monkeypatch.setattr(fcntl, "ioctl", lambda target, request, source: target.write(b"shared"))
    copy_file(origin, str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"shared"


def test_full_disk(dataset, source, monkeypatch):
    """A full disk is an error that names the file in the dataset, and the option that takes no room."""
    with monkeypatch.context() as patch:
        patch.setattr("curate.media._clone", refuse(errno.ENOSPC))
        there = "dataset/media/images/clips/a.jpg"
        with pytest.raises(StoreError, match=f"{there}: the image cannot be copied: No space .*import with --link"):
            import_voc(dataset, source)
    assert import_voc(dataset, source, link=True).images == 2


def test_copy_that_fails_leaves_nothing(tmp_path):
    """A copy that cannot be made leaves neither a target nor a temporary file."""
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "gone", str(tmp_path / "target"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [True, False])
def test_symbolic_link_is_followed(tmp_path, dataset, link):
    """For a symbolic link, the file that it refers to is copied or linked."""
    write_image(tmp_path / "real.jpg")
    write_xml(tmp_path / "one" / "a.xml", objects=[MASK])
    (tmp_path / "one" / "a.jpg").symlink_to(tmp_path / "real.jpg")
    import_voc(dataset, tmp_path / "one", link=link)
    placed = dataset / image_row(dataset, "a.jpg")["path"]
    assert not placed.is_symlink()
    assert placed.read_bytes() == (tmp_path / "real.jpg").read_bytes()
    assert placed.samefile(tmp_path / "real.jpg") == link


@pytest.mark.parametrize("same_source_name", [True, False])
def test_equal_names_from_two_sources(tmp_path, dataset, same_source_name):
    """Images with the same name from two sources stay two images."""
    one = labelimg_folder(tmp_path / "x" / "clips", {"a": [MASK]}, seed=1)
    two = labelimg_folder(tmp_path / "y" / ("clips" if same_source_name else "other"), {"a": [BARE]}, seed=2)
    import_voc(dataset, one)
    result = import_voc(dataset, two)
    assert (result.images, result.boxes, result.added) == (2, 2, 1)
    placed = {(dataset / path).read_bytes() for path in load(dataset).images["path"]}
    assert placed == {(one / "a.jpg").read_bytes(), (two / "a.jpg").read_bytes()}


def test_equal_names_in_two_image_folders(tmp_path, dataset):
    """In subfolders of `--images`, files with the same name and different content stay two images."""
    for number, day in enumerate(("day1", "day2")):
        write_image(tmp_path / "pictures" / day / "a.jpg", seed=number)
        write_xml(tmp_path / "xml" / day / "a.xml", objects=[MASK])
    assert import_voc(dataset, tmp_path / "xml", images=tmp_path / "pictures").images == 2


def test_equal_files_in_two_image_folders(tmp_path, dataset):
    """In subfolders of `--images`, files with the same name and content stay two images."""
    for day in ("day1", "day2"):
        write_image(tmp_path / "pictures" / day / "a.jpg")
        write_xml(tmp_path / "xml" / day / "a.xml", objects=[MASK])
    assert import_voc(dataset, tmp_path / "xml", images=tmp_path / "pictures").images == 2


def test_equal_files_beside_an_image_folder(tmp_path, dataset):
    """An image and its copy in `images/`, each with XML, are two images."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK]})
    labelimg_folder(folder, {"a": [BARE]}, xml_in="annotations", images_in="images")
    assert import_voc(dataset, folder).images == 2


@pytest.mark.parametrize("name", ["a\\b", "with space", "маска 口罩", "-a", "a.b.c", "50%25"])
def test_any_file_name(tmp_path, dataset, name):
    """Images with any file name are imported or listed as problems."""
    folder = labelimg_folder(tmp_path / "clips", {"plain": [MASK], name: [MASK]})
    result = import_voc(dataset, folder)
    listed = sum(problem["action"] == "quarantined" for problem in result.problems)
    assert result.images == 2 or (result.images == 1 and listed)


def test_long_names_that_collide(tmp_path, dataset):
    """Two images with the same name of maximum length are both imported."""
    name = "a" * 251
    import_voc(dataset, labelimg_folder(tmp_path / "x" / "clips", {name: [MASK]}, seed=1))
    assert import_voc(dataset, labelimg_folder(tmp_path / "y" / "clips", {name: [MASK]}, seed=2)).images == 2


def test_source_whose_name_is_not_utf8(tmp_path, dataset):
    """A source folder whose name is not UTF-8 can be imported."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    labelimg_folder(folder, {"a": [MASK]})
    assert import_voc(dataset, folder).images == 1


def test_dataset_inside_its_source(tmp_path):
    """A dataset inside its source folder is not imported into itself."""
    labelimg_folder(tmp_path, {"a": [MASK]})
    import_voc(tmp_path / "dataset", tmp_path, with_unlabelled=True)
    again = import_voc(tmp_path / "dataset", tmp_path, with_unlabelled=True)
    assert (again.images, again.unchanged, kinds(again), again.version) == (1, 1, [], 1)


@pytest.mark.parametrize(
    ("lost", "more", "detail"), [(2, 0, "the end mark is missing"), (0, 9, "9 bytes after the end mark")]
)
def test_odd_end_of_an_image_is_noted(tmp_path, dataset, lost, more, detail):
    """A JPEG that lacks only its end mark, or has bytes after it, is imported with a note."""
    folder = labelimg_folder(tmp_path / "one", {"a": [MASK]})
    data = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(data[: len(data) - lost] + bytes(more))
    result = import_voc(dataset, folder)
    assert (result.boxes, kinds(result)) == (1, ["image_end"])
    assert problem_of(result, "image_end")["detail"] == f"a.jpg: {detail}"
