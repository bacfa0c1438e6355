"""Lists of names; output files: what is checked before they are written."""

import pytest

from curate.errors import DataError, UsageError
from curate.files import check_output_files, read_names, suggest_file

NAMES = "口罩\r\n无口罩\r\n\r\n 口罩 \r\ncafé\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_unicode(tmp_path, encoding):
    """Names in every Unicode encoding that says what it is are read, without white space, each once."""
    (tmp_path / "names.txt").write_bytes(NAMES.encode(encoding))
    assert read_names(tmp_path / "names.txt") == ("口罩", "无口罩", "café")


def test_utf_16_of_either_order(tmp_path):
    """The byte order mark decides."""
    (tmp_path / "names.txt").write_bytes(b"\xfe\xff" + "口罩".encode("utf-16-be"))
    assert read_names(tmp_path / "names.txt") == ("口罩",)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("口罩\n", "gbk"),
        ("口罩\n", "big5"),
        ("마스크\n", "euc-kr"),
        ("マスク\n", "shift_jis"),
        ("café\n", "latin-1"),
        ("mask\n", "utf-16-le"),
        ("mask\n", "utf-32"),
        ("ma\ufffdk\n", "utf-8"),
    ],
)
def test_names_in_other_encodings(tmp_path, text, encoding):
    """Other encodings, and characters that were lost, are refused with a remedy; they never become names."""
    (tmp_path / "names.txt").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=r"names\.txt: the encoding .* is not understood .*Save the file as UTF-8"):
        read_names(tmp_path / "names.txt")


def test_names_that_cannot_be_read(tmp_path):
    """A list that cannot be read is an error of curate."""
    with pytest.raises(DataError, match="cannot be read"):
        read_names(tmp_path)


def test_free_names_are_accepted(tmp_path):
    """Files that do not exist, and outputs that were not requested, pass."""
    check_output_files(None, tmp_path / "new.csv", str(tmp_path / "missing" / "new.png"), overwrite=False)


def test_an_existing_file_is_refused(tmp_path):
    """The first existing file is named, with the option that replaces it; nothing is written."""
    (tmp_path / "old.csv").write_text("old")
    with pytest.raises(UsageError, match=r"old\.csv: the file already exists\. .*--overwrite"):
        check_output_files(tmp_path / "new.csv", tmp_path / "old.csv", overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["old.csv"]


def test_an_existing_file_may_be_replaced(tmp_path):
    """With `overwrite` an existing file passes, and is left as it is."""
    (tmp_path / "old.csv").write_text("old")
    check_output_files(tmp_path / "old.csv", overwrite=True)
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_never_replaced(tmp_path, overwrite):
    """A folder in the place of a file is refused, also with `overwrite`."""
    with pytest.raises(UsageError, match=r"this is a folder \(expected a file\)"):
        check_output_files(tmp_path, overwrite=overwrite)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("wlak.mp4", "walk.mp4"),
        ("WALK.MP4", "walk.mp4"),
        ("lables", "labels"),
        ("walk.mp4", None),
        ("zebra", None),
        ("nowhere/walk.mp4", None),
    ],
)
def test_a_path_that_is_nearly_right(tmp_path, path, meant):
    """A path without a file brings the file or folder beside it that is meant; one that exists brings none."""
    (tmp_path / "walk.mp4").touch()
    (tmp_path / "labels").mkdir()
    assert suggest_file(tmp_path / path) == (f"Did you mean {str(tmp_path / meant)!r}?" if meant else None)
