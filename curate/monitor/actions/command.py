"""Runs the commands of triggers: without a shell, in a process group of their own, with a timeout."""

import logging
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
from curate.monitor.triggers.event import Event, encode_json

logger = logging.getLogger(__name__)
_POLL_S = 0.05
_KEPT_OUTPUT_BYTES = 2000
_KILL_TIMEOUT_S = 5.0
_PATHS = ("clip", "source")


class CommandError(Exception):
    """A command did not start, failed, or exceeded its timeout."""


def fill_in(run: Sequence[str], event: Event) -> list[str]:
    """Replace the placeholders: each argument stays one argument, and a value never becomes an option.

    Where an argument begins with a placeholder whose value begins with `-`, a path is prefixed with `./`, any other
    value with a space. `{{word}}` stands for `{word}`.
    """
    values = _placeholder_values(event)
    arguments = []
    for argument in run:
        text = PLACEHOLDER.sub(lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", argument)
        first = PLACEHOLDER.match(argument)
        if first is not None and first[2] and text.startswith("-"):
            text = ("./" if first[2] in _PATHS else " ") + text
        arguments.append(text)
    return arguments


def _placeholder_values(event: Event) -> dict[str, str]:
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


class CommandRunner:
    """Runs one command of the trigger file, for one event at a time."""

    def __init__(self, command: Command) -> None:
        self.name = PurePath(command.run[0]).name
        self._command = command
        self._stopped = threading.Event()

    def run(self, event: Event) -> None:
        """Run the command and wait for its end. The event's JSON is on its standard input.

        Raises:
            CommandError: It did not start, failed, exceeded its timeout, or was killed by `stop`.
        """
        if self._stopped.is_set():
            raise CommandError("the watch ended")
        started_s = time.monotonic()
        with tempfile.TemporaryFile() as stdin:
            stdin.write(encode_json(event.as_json()))
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    fill_in(self._command.run, event),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=os.environ.copy(),  # whole, also where FFmpeg's own has less (`feeds/checking_proxy.py`)
                    start_new_session=True,  # a group to kill, which Ctrl-C at the terminal does not reach
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise CommandError(f"did not start ({reason})") from error
        # arguments may hold secrets, so only the program is logged
        logger.info("command %s: started for trigger %s, process %d", self.name, event.trigger, process.pid)
        with process:
            last_line = self._follow(process)
        logger.info(
            "command %s: process %d, %s after %.1f s",
            self.name, process.pid, _describe_exit(process.returncode), time.monotonic() - started_s,
        )  # fmt: skip
        if process.returncode:
            raise CommandError(_describe_exit(process.returncode) + (f" ({last_line})" if last_line else ""))

    def stop(self) -> None:
        """Kill the running process, and start no other."""
        self._stopped.set()

    def _follow(self, process: "subprocess.Popen[bytes]") -> str:
        """Wait for the end, and return the last line of output."""
        output = process.stdout.fileno() if process.stdout is not None else -1
        os.set_blocking(output, False)
        until = time.monotonic() + self._command.timeout_s
        tail = b""
        while process.poll() is None:
            if self._stopped.is_set() or time.monotonic() >= until:
                _kill(process)
                reason = "the watch ended" if self._stopped.is_set() else f"timeout of {self._command.timeout_s:g} s"
                raise CommandError(f"killed: {reason}")
            tail = (tail + _read(output, _POLL_S))[-_KEPT_OUTPUT_BYTES:]
        tail = (tail + _read(output, 0))[-_KEPT_OUTPUT_BYTES:]
        lines = tail.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _read(output: int, wait_s: float) -> bytes:
    """Read what a command has written, waiting up to `wait_s`; also wait where it has closed its output."""
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.poll(wait_s * 1000)
    try:
        chunk = os.read(output, 65_536)
    except BlockingIOError:
        return b""
    # a command that writes without pause must not take CPU time from the detector
    time.sleep(min(wait_s, 0.005) if chunk else wait_s)
    return chunk


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process group; its leader has not been waited for, so its number has not been reused."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_KILL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError("cannot be killed") from error


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
