"""Files that are read, lists of names; output files: what is checked before they are written."""

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from curate.errors import DataError, UsageError
from curate.files import (
    check_output_files,
    is_temporary,
    read_names,
    read_regular,
    remove_leftovers,
    suggest_file,
    temporary_file,
    temporary_name,
    write_atomically,
)

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


def test_written_whole(tmp_path):
    """A file is replaced at once, in a folder that need not exist; nothing else is left there."""
    file = tmp_path / "new" / "a.json"
    for content in (b"old", b"new"):
        write_atomically(file, lambda out, content=content: out.write(content))
        assert file.read_bytes() == content
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "trouble", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt(), ValueError()]
)
def test_failed_write_leaves_nothing(tmp_path, trouble):
    """After a failure or an interruption the old content is there, and no temporary file."""
    (tmp_path / "a.json").write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise trouble

    with pytest.raises(type(trouble)):
        write_atomically(tmp_path / "a.json", write)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.json": b"old"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_names_its_file(tmp_path, monkeypatch, call):
    """The error of the system names the file, not a temporary one, whichever call failed."""
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(tmp_path / "a.json", lambda file: file.write(b"x"))
    assert caught.value.filename == str(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_the_writer_cannot_read_is_named(tmp_path):
    """An error about another file keeps its name."""
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "a.json", lambda file: file.write((tmp_path / "gone").read_bytes()))
    assert caught.value.filename == str(tmp_path / "gone")


def test_long_names(tmp_path):
    """A name as long as file systems allow is no obstacle."""
    write_atomically(tmp_path / ("a" * 255), lambda file: file.write(b"x"))
    assert (tmp_path / ("a" * 255)).read_bytes() == b"x"


def test_leftovers_of_killed_writers(tmp_path):
    """Only regular files with a name of ours that no living process writes are removed."""
    child = os.fork()
    if child == 0:
        with temporary_file(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    for name in ("x.tmp", ".x.tmp", ".1-2.tmp", ".curate-1.tmp", ".curate-1-0123456789abcdef.tmp.old"):
        (tmp_path / name).write_bytes(b"mine")
    Path(temporary_name(tmp_path)).mkdir()
    Path(temporary_name(tmp_path)).symlink_to(tmp_path / "x.tmp")
    os.mkfifo(temporary_name(tmp_path))
    before = set(tmp_path.iterdir())
    with temporary_file(tmp_path) as held:
        remove_leftovers(tmp_path)
        after = set(tmp_path.iterdir())
        assert is_temporary(Path(held.name).name)
    assert len(before - after) == 1
    assert not any(file.name.endswith(".old") or file.is_dir() for file in before - after)
    assert after - before == {Path(held.name)}


def test_leftovers_of_no_folder(tmp_path):
    """A folder that does not exist has none."""
    remove_leftovers(tmp_path / "gone")


def test_file_that_is_removed_before_it_is_locked(tmp_path, monkeypatch):
    """A writer whose file another process has taken for a leftover begins with another one."""
    names = iter([str(tmp_path / ".curate-1-0000000000000001.tmp"), str(tmp_path / ".curate-1-0000000000000002.tmp")])

    def lock(file, _):
        if file.name.endswith("1.tmp"):
            os.unlink(file.name)

    monkeypatch.setattr("curate.files.temporary_name", lambda _: next(names))
    monkeypatch.setattr("curate.files.fcntl.flock", lock)
    write_atomically(tmp_path / "a", lambda file: file.write(b"x"))
    assert (tmp_path / "a").read_bytes() == b"x"
