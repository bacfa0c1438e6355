"""Commands of triggers: a program without a shell, in a process group of its own, for a limited time."""

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import PurePath

from curate.monitor.actions.config import PLACEHOLDER, Command
from curate.monitor.actions.webhook.sender import encode
from curate.monitor.triggers.event import Event

_LOOK_S = 0.05
_LAST_BYTES = 2000
_DYING_S = 5.0
_PATHS = ("clip", "source")


class CommandError(Exception):
    """A command could not start, failed, or took too long."""


def fill_in(run: Sequence[str], event: Event) -> list[str]:
    """The arguments for an event: each stays one argument, and what is seen never becomes an option.

    Where an argument begins with a placeholder and what takes its place begins with `-`, a path gets `./` before it,
    anything else a space. `{{word}}` stands for `{word}`.
    """
    values = _values(event)
    filled = []
    for argument in run:
        text = PLACEHOLDER.sub(lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", argument)
        first = PLACEHOLDER.match(argument)
        if first is not None and first[2] and text.startswith("-"):
            text = ("./" if first[2] in _PATHS else " ") + text
        filled.append(text)
    return filled


def _values(event: Event) -> dict[str, str]:
    return {
        "trigger": event.trigger,
        "class": event.class_name or "",
        "track_id": "" if event.track_id is None else str(event.track_id),
        "score": "" if event.score is None else f"{event.score:.3f}",
        "time": event.time,
        "timestamp_s": f"{event.timestamp_s:.3f}",
        "clip": event.clip or "",
        "source": event.source or "",
    }


class Runner:
    """Runs one command of the trigger file, for one event at a time."""

    def __init__(self, command: Command) -> None:
        self.name = PurePath(command.run[0]).name
        self._command = command
        self._stopped = threading.Event()

    def run(self, event: Event) -> None:
        """Run it and wait for its end; the event's JSON is on its standard input.

        Raises:
            CommandError: it did not start, ended with another code than 0, or was killed for its time, or by `stop`.
        """
        if self._stopped.is_set():
            raise CommandError("the watch ended")
        with tempfile.TemporaryFile() as given:
            given.write(encode(event.as_json()))
            given.seek(0)
            try:
                process = subprocess.Popen(
                    fill_in(self._command.run, event),
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group to kill, which Ctrl-C at the terminal does not reach
                )
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise CommandError(f"it did not start ({why})") from error
        with process:
            said = self._follow(process)
        if process.returncode:
            raise CommandError(_end_of(process.returncode) + (f" ({said})" if said else ""))

    def stop(self) -> None:
        """Kill what runs, and start nothing more."""
        self._stopped.set()

    def _follow(self, process: "subprocess.Popen[bytes]") -> str:
        """Wait for the end; the last line that the command wrote."""
        output = process.stdout.fileno() if process.stdout is not None else -1
        os.set_blocking(output, False)
        until = time.monotonic() + self._command.timeout_s
        last = b""
        while process.poll() is None:
            if self._stopped.is_set() or time.monotonic() >= until:
                _kill(process)
                why = "the watch ended" if self._stopped.is_set() else f"took over {self._command.timeout_s:g} s"
                raise CommandError(f"killed: {why}")
            last = (last + _read(output, _LOOK_S))[-_LAST_BYTES:]
        last = (last + _read(output, 0))[-_LAST_BYTES:]
        lines = last.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _read(output: int, wait_s: float) -> bytes:
    """What a command has written; where it closed its output, wait all the same."""
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.poll(wait_s * 1000)
    try:
        chunk = os.read(output, 65_536)
    except BlockingIOError:
        return b""
    # one that writes without end must not take the video's share of the machine
    time.sleep(min(wait_s, 0.005) if chunk else wait_s)
    return chunk


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the group; its leader has not been waited for, so that the number is still its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_DYING_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError("it cannot be killed") from error


def _end_of(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
