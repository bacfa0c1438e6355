"""Files that grow: whole lines, and parts that outlive a kill."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from full_disk import files_up_to

from curate.errors import DataError
from curate.growing_files import PartFile, append_line, check_appendable, free_name, keep_parts


def test_writers_of_one_file_do_not_mix_lines(tmp_path):
    """Four threads append long lines to one file; all lines are intact."""
    file = tmp_path / "lines"
    texts = [bytes([mark]) * 50_000 for mark in b"abcd"]
    threads = [
        threading.Thread(target=lambda text=text: [append_line(file, text) for _ in range(20)]) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.read_bytes().splitlines()) == sorted(texts * 20)


@pytest.mark.parametrize("room", range(1, 12))
def test_a_line_that_does_not_fit_leaves_no_half(tmp_path, room):
    """Wherever the disk is full within the line, the file is as before; with space again, the next line is its own."""
    file = tmp_path / "lines"
    append_line(file, b"first")
    with files_up_to(6 + room - 1), pytest.raises(OSError, match="too large"):
        append_line(file, b"second line")
    assert file.read_bytes() == b"first\n"
    assert append_line(file, b"third") is False
    assert file.read_bytes() == b"first\nthird\n"


def test_a_torn_line_is_ended(tmp_path):
    """What a killed writer left of a line stays a line of its own, and that is told once."""
    file = tmp_path / "lines"
    file.write_bytes(b'whole\n{"half')
    assert [append_line(file, b"next"), append_line(file, b"last")] == [True, False]
    assert file.read_bytes() == b'whole\n{"half\nnext\nlast\n'


def test_a_file_that_is_moved_away_begins_anew(tmp_path):
    """As by logrotate, between two lines."""
    file = tmp_path / "lines"
    append_line(file, b"one")
    file.rename(tmp_path / "lines.1")
    append_line(file, b"two")
    assert [(tmp_path / name).read_bytes() for name in ("lines.1", "lines")] == [b"one\n", b"two\n"]


def test_a_locked_file_does_not_block_forever(tmp_path, monkeypatch):
    """A program that keeps the lock costs a line, with its cause, and not the watch."""
    monkeypatch.setattr("curate.growing_files._LOCK_TIMEOUT_S", 0.02)
    with (tmp_path / "lines").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another program has locked the file"):
            append_line(tmp_path / "lines", b"text")
    append_line(tmp_path / "lines", b"text")
    assert (tmp_path / "lines").read_bytes() == b"text\n"


def test_checking_leaves_no_trace(tmp_path):
    """A new file is not created, and an old one is unchanged."""
    (tmp_path / "old").write_text("x")
    for name in ("old", "new"):
        check_appendable(tmp_path / name)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("old", "x")]
    with pytest.raises(OSError, match="No such file"):
        check_appendable(tmp_path / "none" / "file")


def test_free_names_are_numbered(tmp_path):
    """The name itself, then -2, -3; a link to nothing is taken, too."""
    names = []
    for _ in range(3):
        names.append(free_name(tmp_path / "a.mp4"))
        names[-1].touch()
    (tmp_path / "a-4.mp4").symlink_to("nothing")
    assert [name.name for name in (*names, free_name(tmp_path / "a.mp4"))] == [
        "a.mp4", "a-2.mp4", "a-3.mp4", "a-5.mp4",
    ]  # fmt: skip


def test_a_part_of_a_killed_process_is_kept(tmp_path):
    """The next writer gives it a name of its own, however often."""
    script = "import os, sys; from pathlib import Path; from curate.growing_files import PartFile\n"
    script += (
        "part = PartFile(Path('out.bin')); os.write(part.descriptor, sys.argv[1].encode()); os.kill(os.getpid(), 9)"
    )
    for text in ("one", "two"):
        subprocess.run([sys.executable, "-c", script, text], cwd=tmp_path, env=os.environ, check=False)
    part = PartFile(tmp_path / "out.bin")
    os.write(part.descriptor, b"three")
    assert part.finish(replace=True) == tmp_path / "out.bin"
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {"out-interrupted.bin": "one", "out-interrupted-2.bin": "two", "out.bin": "three"}


def test_two_writers_of_one_part(tmp_path):
    """The second is refused, and the first is not disturbed."""
    first = PartFile(tmp_path / "out.bin")
    os.write(first.descriptor, b"mine")
    with pytest.raises(DataError, match="another process is writing this file"):
        PartFile(tmp_path / "out.bin")
    assert keep_parts(tmp_path, ".bin", least_bytes=1) == []
    first.finish(replace=True)
    assert (tmp_path / "out.bin").read_bytes() == b"mine"


def test_a_second_writer_can_write_beside_the_first(tmp_path):
    """Under the first name that neither a file nor another writer has."""
    (tmp_path / "out-2.bin").write_text("there")
    parts = [PartFile(tmp_path / "out.bin", beside=True) for _ in range(3)]
    for number, part in enumerate(parts):
        os.write(part.descriptor, b"%d" % number)
    assert [part.finish(replace=False).name for part in parts] == ["out.bin", "out-3.bin", "out-4.bin"]
    assert [(tmp_path / name).read_text() for name in ("out.bin", "out-2.bin", "out-3.bin")] == ["0", "there", "1"]


def test_an_empty_part_is_not_left(tmp_path):
    """Nothing was written to it, as on a full disk."""
    PartFile(tmp_path / "out.bin").close()
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_not_opened_through_a_link(tmp_path):
    """A link with the name of the part leads nowhere."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".out.part.bin").symlink_to("victim")
    with pytest.raises(OSError, match="symbolic link"):
        PartFile(tmp_path / "out.bin")
    assert keep_parts(tmp_path, ".bin", least_bytes=1) == []
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path):
    """Unless that is wanted."""
    for replace in (False, True):
        part = PartFile(tmp_path / "out.bin")
        (tmp_path / "out.bin").write_text("theirs")
        assert part.finish(replace=replace).name == ("out.bin" if replace else "out-2.bin")


def test_parts_that_cannot_be_kept_stay(tmp_path, monkeypatch):
    """One that its writer finishes between the listing and the look, or that may not be opened, stops nobody."""
    (tmp_path / ".b.part.bin").write_bytes(b"b")
    gone = tmp_path / ".a.part.bin"
    (tmp_path / ".c.part.bin").mkdir()
    os.mkfifo(tmp_path / ".d.part.bin")
    monkeypatch.setattr(Path, "glob", lambda self, _: [gone, *self.iterdir()])
    assert keep_parts(tmp_path, ".bin", least_bytes=1) == [tmp_path / "b-interrupted.bin"]


def test_a_full_disk_does_not_refuse_a_file(tmp_path, monkeypatch):
    """There may be space when there is a line; what else is wrong is an error."""
    for number, is_refused in ((errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EACCES, True)):

        def fail(*_, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="denied") if is_refused else nullcontext():
            check_appendable(tmp_path / "a.jsonl")
