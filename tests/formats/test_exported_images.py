"""Images of an export: what happens to those that are turned by EXIF."""

import pytest
from builders import write_image
from PIL import Image

from curate.errors import DataError, StoreError
from curate.formats.exported_images import ImageExport, Orientations
from curate.progress import silent


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
