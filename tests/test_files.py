"""Files that are read, lists of names; output files: what is checked before they are written."""

import os
import socket
import sys

import pytest

from curate.errors import DataError, UsageError
from curate.files import check_output_files, read_names, read_regular, suggest_file

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


def test_a_regular_file_is_read_as_a_whole(tmp_path):
    """A file is read to its end, also through a link, and one as large as the limit."""
    data = bytes(range(256)) * 1000
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "link", len(data)) == data
    (tmp_path / "empty").touch()
    assert read_regular(tmp_path / "empty", 0) == b""


def test_a_file_over_the_limit_is_not_read(tmp_path):
    """A file that is too large, also one with nothing in it, is refused with its size and the limit."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(OSError, match=r"bytes, the limit is 1,000"):
        read_regular(tmp_path / "a", 1000)


def test_other_files_are_refused(tmp_path):
    """A pipe without a writer, a socket, a device and a folder are refused, and nothing waits for them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for place in (tmp_path / "pipe", tmp_path / "link", "/dev/zero", "/dev/null"):
        with pytest.raises(OSError, match="no regular file"):
            read_regular(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_regular(tmp_path / "socket")
    with pytest.raises(OSError, match="Is a directory"):
        read_regular(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has these files")
@pytest.mark.parametrize("file", ["/proc/self/environ", "/proc/version", "/proc/self/maps"])
def test_files_of_the_kernel_are_refused(tmp_path, file):
    """What a link to `/proc` leads to is not read: it would come into the dataset."""
    (tmp_path / "a.txt").symlink_to(file)
    with pytest.raises(OSError, match="no regular file"):
        read_regular(tmp_path / "a.txt")
    with pytest.raises(DataError, match="the list of names cannot be read: it is no regular file"):
        read_names(tmp_path / "a.txt")
