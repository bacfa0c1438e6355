"""Where output goes and how wide it is: a terminal, a pipe, and the variable `COLUMNS`."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from rich.text import Text
from sample_datasets import MEDIUM, build_dataset, save

from curate.cli.output import counts_line, progress_on_stderr

CLASSES = [f"a_class_with_a_long_name_{number:02d}" for number in range(30)]
COMMANDS = [("stats", "faces"), ("split", "faces"), ("log", "faces"), ("doctor",)]
EXPECTED = {"stats": CLASSES, "split": CLASSES, "log": ["build"], "doctor": ["✓ python", "✓ disk"]}


@pytest.fixture
def folder(tmp_path):
    """A folder with a dataset `faces` of 30 classes."""
    save(build_dataset(tmp_path / "faces", [[(name, MEDIUM)] for name in CLASSES], classes=CLASSES))
    return tmp_path


def run_in_terminal(width, *arguments, folder):
    """Run the command line on a pseudo-terminal of this width; return its output as lines without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    script = "from curate.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs,
    ):  # fmt: skip
        os.close(theirs)
        pieces = []
        while True:
            try:
                pieces.append(os.read(ours, 1 << 16))
            except OSError:  # Linux reports the closed terminal as an error
                break
            if not pieces[-1]:
                break
    os.close(ours)
    return Text.from_ansi(b"".join(pieces).decode().replace("\r", "")).plain.splitlines()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_terminal_of_80_columns(folder, arguments):
    """Every line fits, and no value is shortened."""
    lines = run_in_terminal(80, *arguments, folder=folder)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert all(any(name in line for line in lines) for name in EXPECTED[arguments[0]])


def test_pipe(folder, run_main):
    """In a pipe each row is one line, with all columns and without colours."""
    out = run_main("stats", "faces", folder=folder).stdout
    assert "\x1b" not in out
    assert sum(name in line and "█" in line for name in CLASSES for line in out.splitlines()) == 30
    remedies = [line for line in run_main("doctor", folder=folder).stdout.splitlines() if line.startswith("✗")]
    assert all("missing. " in line or "torch" in line for line in remedies)


def test_pipe_with_columns(folder, run_main):
    """The variable COLUMNS sets the width of a pipe."""
    lines = run_main("doctor", folder=folder, COLUMNS="80").stdout.splitlines()
    assert 60 < max(map(len, lines)) <= 80


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("arguments", [("stats", "faces"), ("stats", "faces", "--json"), ("stats", "none", "--json")])
def test_results_on_a_full_disk(folder, arguments):
    """Results that cannot be written are one line on stderr and exit code 1."""
    script = "from curate.cli import main; main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "curate: stdout: No space left on device. Free" if "none" not in arguments else "curate: none: "
    )


def test_closed_stdout(folder):
    """A process that is started without stdout does its work."""
    script = "import os, sys; os.close(1); sys.stdout = None; from curate.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "undo", "faces", "--json"],
        cwd=folder, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_counts_line():
    """Names with their numbers, in order; a word for no counts."""
    assert counts_line({"a": 3, "b": 1}) == "a 3, b 1"
    assert (counts_line({}), counts_line({}, none="")) == ("none", "")


def test_progress_bars_stay_in_their_line(monkeypatch):
    """A name of a task or a note, such as that of a video, neither controls the terminal nor begins a line."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress_on_stderr() as progress:
        progress("clip\nok: done\x1b]0;x\x07", 1, 2, "note\nok: noted \x9b31m [red]")
        progress("clip\nok: done\x1b]0;x\x07", 1, 2, "note\nok: noted \x9b31m [red]")
    text = terminal.getvalue()
    assert r"clip\nok: done\x1b]0;x\x07" in text
    assert r"note\nok: noted \x9b31m [red]" in text
    assert "\nok" not in text
    assert "\x1b]" not in text
