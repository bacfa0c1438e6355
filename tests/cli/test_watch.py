"""`watch` on the command line: its output, and its exit codes."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from contextlib import suppress

import colour_engine
import pytest
from rich.console import Console
from stream_servers import RtspServer
from watching import one_red_standing, write_scene

from curate.cli.watch import ask_for_permission, event_line, watch_lines
from curate.monitor.permission import Answer, Request
from curate.monitor.triggers.event import Event

TIMEOUT_S = 60


@pytest.fixture
def curate(tmp_path, monkeypatch):
    """Start `curate` in a folder with the weights of the tests' engine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.json").write_text("{}")
    (tmp_path / "main.py").write_text(
        "import os, sys, time\n"
        "from curate.engines import base\n"
        "base.ENGINES = {'colour': base.EngineEntry('colour_engine', 'ColourEngine', ())}\n"
        "import colour_engine\n"
        "pause = float(os.environ.get('PAUSE_S', '0'))\n"
        "colour_engine.ColourDetector.before = staticmethod(lambda images: time.sleep(pause))\n"
        "from curate.cli import main\n"
        "sys.exit(main())\n"
    )

    def start(*arguments, pause_s=0, **parts):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PAUSE_S": str(pause_s)}
        return subprocess.Popen(
            [sys.executable, "main.py", *arguments], env=environment, text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | parts,
        )  # fmt: skip

    return start


WATCH = ("watch", "colour:squares", "--weights", "weights.json", "--device", "cpu")


def test_json_and_exit_code(curate, tmp_path):
    """stdout has one JSON document, stderr a line per event; the exit code is 0."""
    write_scene(tmp_path / "in.mp4", 5, one_red_standing)
    process = curate(*WATCH, "in.mp4", "--json")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    document = json.loads(out)
    assert (document["frames"], document["detections"], document["events"], document["problems"]) == (5, 5, 1, [])
    assert "watching in.mp4 with colour:squares with weights.json: scores from 0.5" in err
    assert "seen  red 0.9" in err


def wait_for_line(process, words):
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended without {words!r}")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGINT, signal.SIGHUP))]
)
def test_signal_ends_a_live_source(curate, number):
    """A signal is the normal end of a live source: exit code 0, a summary, and complete files."""
    with RtspServer() as server:
        process = curate(*WATCH, server.url, "--out", "out.mp4", "--detections", "d.parquet", "--json")
        wait_for_line(process, "seen")
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert json.loads(out)["frames"] > 0
    assert os.path.getsize("out.mp4") > 0
    assert os.path.getsize("d.parquet") > 0


def test_interrupted_file_has_an_exit_code_of_its_own(curate, tmp_path):
    """The exit code is 130, since the output is incomplete; frames so far are written."""
    write_scene(tmp_path / "in.mp4", 300, one_red_standing)
    process = curate(*WATCH, "in.mp4", "--out", "out.mp4", "--json", pause_s=0.05)
    wait_for_line(process, "seen")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert 0 < json.loads(out)["frames"] < 300
    assert os.path.getsize("out.mp4") > 0


def test_missing_file_is_misuse(run_main, monkeypatch, tmp_path):
    """The error is one line, the exit code 2."""
    colour_engine.register(monkeypatch)
    weights = colour_engine.write_weights(tmp_path)
    ended = run_main("watch", colour_engine.MODEL, "--weights", weights, "--device", "cpu", "none.mp4", folder=tmp_path)
    assert ended.returncode == 2
    assert (
        ended.stderr.strip()
        .splitlines()[-1]
        .endswith("none.mp4: no such file or folder. A camera is a number, a stream a URL such as rtsp://HOST/PATH.")
    )
    assert "Traceback" not in ended.stderr


def test_a_trigger_file_needs_permission(curate, tmp_path, monkeypatch):
    """Without a terminal it is refused before the model is loaded; with the option the first line says what it does."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write_scene(tmp_path / "in.mp4", 2, one_red_standing)
    (tmp_path / "t.yaml").write_text("triggers: [{name: red, actions: [{command: ['true']}]}]")
    _, err = (process := curate(*WATCH, "in.mp4", "--triggers", "t.yaml")).communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert "t.yaml: this trigger file runs 1 command (true), which is not allowed yet" in err
    process = curate(*WATCH, "in.mp4", "--triggers", "t.yaml", "--allow-commands")
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err.splitlines()[0]) == (0, "note: t.yaml runs 1 command (true).")


def test_the_question_at_a_terminal(curate, tmp_path, monkeypatch):
    """It is asked before the model is loaded, and the answer `always` holds for the next start."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write_scene(tmp_path / "in.mp4", 2, one_red_standing)
    (tmp_path / "t.yaml").write_text("triggers: [{name: red, actions: [{command: ['true']}]}]")
    for answers in (["always"], []):
        own, terminal = pty.openpty()
        process = curate(*WATCH, "in.mp4", "--triggers", "t.yaml", stdin=terminal, stderr=terminal)
        os.close(terminal)
        shown = ""
        with os.fdopen(own, "r+b", buffering=0) as screen, suppress(OSError):  # the other end is closed at its end
            while select.select([screen], [], [], TIMEOUT_S)[0] and (chunk := screen.read(4096)):
                shown += chunk.decode()
                if "[N]o:" in shown and answers:
                    screen.write(f"{answers.pop()}\n".encode())
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, shown
        assert answers == []
        assert "t.yaml runs 1 command (true)." in shown


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + 15), (signal.SIGHUP, 128 + 1)]
)
def test_a_signal_ends_the_question(curate, tmp_path, monkeypatch, number, code):
    """The first one does, since nothing has begun yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write_scene(tmp_path / "in.mp4", 2, one_red_standing)
    (tmp_path / "t.yaml").write_text("triggers: [{name: red, actions: [{command: ['true']}]}]")
    own, terminal = pty.openpty()
    with curate(*WATCH, "in.mp4", "--triggers", "t.yaml", stdin=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown, is_sent = "", False
        with os.fdopen(own, "rb", buffering=0) as screen, suppress(OSError):  # the other end is closed at its end
            while select.select([screen], [], [], 10 if is_sent else TIMEOUT_S)[0] and (chunk := screen.read(4096)):
                shown += chunk.decode()
                if "[N]o:" in shown and not is_sent:
                    process.send_signal(number)
                    is_sent = True
            process.kill()  # it has not ended
        assert process.wait() == code, shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("given", "answer"), [("y", Answer.ONCE), ("always", Answer.ALWAYS), ("", Answer.NO), ("yep", Answer.NO)]
)
def test_answers_to_the_question(monkeypatch, capsys, given, answer):
    """The question shows whole command lines; what is neither yes nor always is no."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{given}\n"))
    assert ask_for_permission(Request("door.yaml runs 1 command (sh).", ("sh -c 'rm x'",))) is answer
    shown = capsys.readouterr().err
    assert "door.yaml runs 1 command (sh).\n  runs: sh -c 'rm x'\n" in shown


def test_missing_package(run_main, monkeypatch, tmp_path):
    """A missing package is a one-line error that says how to install it."""
    monkeypatch.setitem(sys.modules, "supervision", None)
    ended = run_main("watch", "run", "0", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == (
        "curate: watch: the package supervision is not installed. pip install 'curate-vision[watch]'\n"
    )


def test_event_line():
    """Time in the video, time of day, trigger and object; events of the source have their detail."""
    event = Event("2026-05-04T12:00:01.250+02:00", 62.5, "bare face", "without_mask", 7, 0.875, (1, 2, 3, 4), (9,))
    assert event_line(event.as_json()).split("  ")[-3:] == ["12:00:01", "bare face", "without_mask 0.88 #7"]
    trouble = Event(
        "2026-05-04T12:00:01.250+02:00", 62.5, "stream_broken", None, None, None, None, (), detail="it ended"
    )
    assert event_line(trouble.as_json()) == "    62.50 s  12:00:01  stream_broken  it ended"


def test_summary_without_frames():
    """Without frames, the latency is a dash."""
    document = {"frames": 0, "detections": 0, "events": 0, "frames_per_s": 0.0, "problems": []}
    console = Console(width=80, file=io.StringIO())
    console.print(watch_lines(document | {"latency_ms": {"p50": None, "p95": None, "p99": None}}))
    assert console.file.getvalue().splitlines()[2].split() == ["0", "0", "0", "0.0", "–", "–", "–"]
