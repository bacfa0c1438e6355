"""What happens after an event: lines written, webhooks sent, commands run, all behind the video's back."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.monitor.actions.command import CommandError, Runner
from curate.monitor.actions.config import Action, Command, Webhook
from curate.monitor.actions.webhook.queue import Backoff, Receiver
from curate.monitor.actions.webhook.sender import Delivery, encode
from curate.monitor.actions.webhook.spool import Undelivered
from curate.monitor.actions.worker import WaitingLine
from curate.monitor.problems import Troubles, lines_by_kind
from curate.monitor.triggers.config import STREAM_PREFIX, TriggerFile
from curate.monitor.triggers.event import Event

_LET_GO_S = 3.0  # for a thread whose work was broken off
_LOOK_S = 0.1
_LINE = "line failed|lines failed"
_RUN = "run failed|runs failed"
_NO_TIME = "there was no time"


class Actions:
    """The actions of a trigger file. Every file, receiver and command has a thread of its own and a line before it.

    Args:
        file: as `read_triggers` gives it.
        undelivered: where webhooks wait from one watch to the next; what is there is sent first.
        backoff: of webhooks that fail; by default from one second to a minute.

    Raises:
        UsageError: a secret is not there.
    """

    def __init__(self, file: TriggerFile, *, undelivered: Path, backoff: Backoff | None = None) -> None:
        self._file = file
        self._backoff = backoff or Backoff()
        self._troubles = Troubles()
        self._undelivered = Undelivered(undelivered)
        self._foreign: list[Delivery] = []
        self._receivers: dict[str, Receiver] = {}
        self._writers: dict[str, WaitingLine[Event]] = {}
        self._runners: list[tuple[str, WaitingLine[Event]]] = []
        self._starts: dict[str, list[Callable[[Event], bool]]] = {}
        self._is_closed = False
        try:
            for trigger, _, action in file.placed_actions():
                self._starts.setdefault(trigger, [])
                if (start := self._start_of(action)) is not None:
                    self._starts[trigger].append(start)
            self._send_what_was_left()
        except BaseException:
            self._break_off()
            self._undelivered.close()
            raise

    def start(self, event: Event) -> None:
        """Begin what the event's trigger asks for. Returns at once and never raises; see `problems`."""
        trigger = STREAM_PREFIX if event.trigger.startswith(STREAM_PREFIX) else event.trigger
        for start in self._starts.get(trigger, ()):
            try:
                if not start(event):
                    self._troubles.add("actions", "action left out|actions left out", "the watch had ended")
            except Exception as error:  # an alert that fails must end neither the watch nor the other actions
                self._troubles.add("actions", "action failed|actions failed", f"{type(error).__name__}: {error}")

    def problems(self) -> tuple[str, ...]:
        """What went wrong so far, each thing once with its count; also what waits for a receiver that fails."""
        return tuple(self.kinds().values())

    def kinds(self) -> dict[str, str]:
        """The same lines by what stays the same in them while their counts grow. For any thread, at any time."""
        waits = () if self._is_closed else (one.waiting() for one in self._receivers.values())
        return lines_by_kind([*self._troubles.counted(), *(wait for wait in waits if wait is not None)])

    def close(self, patience_s: float = 10.0, told: Callable[[int], None] = lambda pending: None) -> None:
        """Wait for what is under way, then end every thread and keep the webhooks that were not delivered.

        Args:
            patience_s: wait at most so long; what still runs then is broken off. May be called again.
            told: called with the number of what is under way, when it begins to wait and whenever that changes.
        """
        if self._is_closed:
            return
        try:
            until = time.monotonic() + patience_s
            for one in self._lines():
                one.finish(until)
            _wait_for(self._lines(), until, told)
        finally:
            self._is_closed = True
            self._break_off()
            self._tell_what_is_left()
            self._keep_webhooks()

    def _lines(self) -> list[WaitingLine[Any]]:
        receivers = [receiver.line for receiver in self._receivers.values()]
        return [*receivers, *self._writers.values(), *(one for _, one in self._runners)]

    def _start_of(self, action: Action) -> Callable[[Event], bool] | None:
        if action.write is not None:
            return self._writer(action.write).put
        if action.webhook is not None:
            return self._receiver(action.webhook).put
        if action.command is not None:
            return self._runner(action.command).put
        return None  # a clip, which is made of frames

    def _writer(self, path: Path) -> WaitingLine[Event]:
        def write(event: Event) -> None:
            try:
                append_line(path, encode(event.as_json()))
            except OSError as error:
                self._troubles.add(f"write {path}", _LINE, error.strerror or str(error))
            except Exception as error:
                self._troubles.add(f"write {path}", _LINE, f"{type(error).__name__}: {error}")

        key = os.path.realpath(path)
        if key not in self._writers:
            self._writers[key] = WaitingLine(f"curate-write-{len(self._writers)}", write, lambda: None)
        return self._writers[key]

    def _receiver(self, webhook: Webhook) -> Receiver:
        if webhook.url not in self._receivers:
            self._receivers[webhook.url] = Receiver(
                webhook,
                self._file.hosts,
                name=f"curate-webhook-{len(self._receivers)}",
                backoff=self._backoff,
                troubles=self._troubles,
                done=self._undelivered.done,
            )
        return self._receivers[webhook.url]

    def _runner(self, command: Command) -> WaitingLine[Event]:
        runner = Runner(command)
        place = f"command {runner.name}"

        def run(event: Event) -> None:
            try:
                runner.run(event)
            except CommandError as error:
                self._troubles.add(place, _RUN, str(error))
            except Exception as error:  # else the thread would end
                self._troubles.add(place, _RUN, f"{type(error).__name__}: {error}")

        waiting: WaitingLine[Event] = WaitingLine(f"curate-command-{len(self._runners)}", run, runner.stop)
        self._runners.append((place, waiting))
        return waiting

    def _send_what_was_left(self) -> None:
        if not self._receivers:
            return
        place = str(self._undelivered.file)
        try:
            left, unreadable = self._undelivered.claim()
        except OSError as error:
            self._troubles.add(place, "file not read|files not read", error.strerror or str(error))
            return
        if unreadable:
            self._troubles.add(place, "line left out|lines left out", "not a webhook that was kept", unreadable)
        for delivery in left:
            if (receiver := self._receivers.get(delivery.url)) is not None:
                receiver.put_back(delivery)
            else:
                self._foreign.append(delivery)
        if self._foreign:
            why = "their address is not in the trigger file any more"
            self._troubles.add(place, "webhook stays|webhooks stay", why, len(self._foreign))

    def _break_off(self) -> None:
        for one in self._lines():
            one.stop()
        until = time.monotonic() + _LET_GO_S
        for one in self._lines():
            if not one.has_ended(max(until - time.monotonic(), 0.0)):
                self._troubles.add("actions", "thread has not ended|threads have not ended", "what it does lasts")

    def _tell_what_is_left(self) -> None:
        file = self._undelivered.file
        for receiver in self._receivers.values():
            if left := len(receiver.left()):
                kept = f"delivery kept in {file}|deliveries kept in {file}"
                self._troubles.add(receiver.place, kept, receiver.why or _NO_TIME, left)
        for path, writer in self._writers.items():
            if left := len(writer.left()):
                self._troubles.add(f"write {path}", _LINE, _NO_TIME, left)
        for place, runner in self._runners:
            if left := len(runner.left()):
                self._troubles.add(place, "run left out|runs left out", _NO_TIME, left)

    def _keep_webhooks(self) -> None:
        kept = [*self._foreign, *(one for receiver in self._receivers.values() for one in receiver.left())]
        try:
            self._undelivered.keep(kept)
        except OSError as error:
            self._undelivered.close()
            lost = "webhook is lost|webhooks are lost"
            self._troubles.add(str(self._undelivered.file), lost, error.strerror or str(error), len(kept))


def append_line(path: Path, text: bytes) -> None:
    """Add a line to a file in one write, so that lines of several writers do not mix. Folders are made if need be.

    Raises:
        OSError: it cannot be written, or not in full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # O_NONBLOCK: a pipe that nobody reads is an error, not a wait without end
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
    try:
        if os.write(descriptor, text + b"\n") <= len(text):
            raise OSError(None, "the line was cut short")
    finally:
        os.close(descriptor)


def _wait_for(lines: list[WaitingLine[Any]], until: float, told: Callable[[int], None]) -> None:
    last = 0

    def tell() -> int:
        pending = sum(one.pending for one in lines)
        if pending != last:
            told(pending)
        return pending

    for one in lines:
        while not one.has_ended(min(max(until - time.monotonic(), 0.0), _LOOK_S)) and time.monotonic() < until:
            last = tell()
    tell()
