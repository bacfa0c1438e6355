"""Starts the actions of events. Each file, webhook and command has a thread with a queue of its own."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from curate.growing_files import append_line
from curate.monitor.actions.command import CommandError, CommandRunner
from curate.monitor.actions.config import Action, Command
from curate.monitor.actions.webhook.outbox import Outbox
from curate.monitor.actions.webhook.queue import Backoff, WebhookQueue
from curate.monitor.actions.webhook.settings import Webhook
from curate.monitor.actions.worker import Worker
from curate.monitor.problems import Kind, Problems
from curate.monitor.triggers.event import STREAM_PREFIX, Event, encode_json

logger = logging.getLogger(__name__)
_INTERRUPT_TIMEOUT_S = 3.0  # for threads whose work was broken off
_POLL_S = 0.1
_LINE = ("line failed", "lines failed")
_RUN = ("run failed", "runs failed")
_RUN_SKIPPED = ("run skipped", "runs skipped")
_ENDED = "the watch ended"


class Actions:
    """Runs the actions of a trigger file; what fails is reported to `problems`.

    Args:
        actions: (name of the trigger, action) of each; the name is `stream_` for events about the source.
        hosts: Hosts that webhooks may go to.
        outbox: File of the webhooks that are not delivered yet, also of earlier watches.
        problems: Collector of the watch.
        backoff: Waits between attempts of webhooks; default 1 s to 60 s.

    Raises:
        UsageError: A webhook's secret cannot be read.
    """

    def __init__(
        self,
        actions: Iterable[tuple[str, Action]],
        hosts: Sequence[str],
        *,
        outbox: Path,
        problems: Problems,
        backoff: Backoff | None = None,
    ) -> None:
        self._hosts = tuple(hosts)
        self._backoff = backoff or Backoff()
        self._problems = problems
        self._outbox_file = outbox
        self._outbox: Outbox | None = None
        self._webhooks: dict[str, WebhookQueue] = {}
        self._writers: dict[str, Worker[Event]] = {}
        self._commands: list[tuple[str, Worker[Event]]] = []
        self._starts: dict[str, list[Callable[[Event], bool]]] = {}
        self._is_closed = False
        try:
            for trigger, action in actions:
                self._starts.setdefault(trigger, [])
                if (start := self._make_start(action)) is not None:
                    self._starts[trigger].append(start)
            self._report_others()
        except BaseException:
            self._interrupt()
            if self._outbox is not None:
                self._outbox.close()
            raise
        problems.watch_pending(self._pending_webhooks)

    def start(self, event: Event) -> None:
        """Queue the actions of the event's trigger. Returns at once and never raises."""
        trigger = STREAM_PREFIX if event.trigger.startswith(STREAM_PREFIX) else event.trigger
        for start in self._starts.get(trigger, ()):
            try:
                if not start(event):
                    self._problems.count("actions", ("action skipped", "actions skipped"), _ENDED)
            except Exception as error:  # must end neither the watch nor the other actions
                self._problems.count("actions", ("action failed", "actions failed"), _describe(error))

    def close(self, timeout_s: float = 10.0, on_pending: Callable[[int], None] = lambda pending: None) -> None:
        """Wait for queued actions, end every thread, and close the outbox. May be called again.

        Args:
            timeout_s: Longest wait; what still runs then is broken off.
            on_pending: Called with the number of pending actions, first and whenever it changes.
        """
        if self._is_closed:
            return
        try:
            until = time.monotonic() + timeout_s
            for worker in self._workers():
                worker.finish(until)
            _wait_for(self._workers(), until, on_pending)
        finally:
            self._is_closed = True
            self._interrupt()
            self._report_remaining()

    def _workers(self) -> list[Worker[Any] | WebhookQueue]:
        return [*self._webhooks.values(), *self._writers.values(), *(worker for _, worker in self._commands)]

    def _pending_webhooks(self) -> list[tuple[Kind, int]]:
        pending = () if self._is_closed else (webhook.pending_problem() for webhook in self._webhooks.values())
        return [one for one in pending if one is not None]

    def _make_start(self, action: Action) -> Callable[[Event], bool] | None:
        if action.write is not None:
            return self._writer(action.write).put
        if action.webhook is not None:
            return self._webhook(action.webhook).put
        if action.command is not None:
            return self._command(action.command).put
        return None  # clips are recorded from frames, see `ClipRecorder`

    def _writer(self, path: Path) -> Worker[Event]:
        def write(event: Event) -> None:
            try:
                if append_line(path, encode_json(event.as_json())):
                    self._problems.add(f"write {path}: an earlier line is cut off; events go on below it.")
            except OSError as error:
                self._problems.count(f"write {path}", _LINE, error.strerror or str(error))
            except Exception as error:  # would end the thread
                self._problems.count(f"write {path}", _LINE, _describe(error))

        key = os.path.realpath(path)
        if key not in self._writers:
            self._writers[key] = Worker(f"curate-write-{len(self._writers)}", write, lambda: None)
        return self._writers[key]

    def _webhook(self, webhook: Webhook) -> WebhookQueue:
        self._outbox = self._outbox or Outbox(self._outbox_file, self._problems)
        if webhook.url not in self._webhooks:
            self._webhooks[webhook.url] = WebhookQueue(
                webhook,
                self._hosts,
                name=f"curate-webhook-{len(self._webhooks)}",
                backoff=self._backoff,
                problems=self._problems,
                outbox=self._outbox,
            )
        return self._webhooks[webhook.url]

    def _command(self, command: Command) -> Worker[Event]:
        runner = CommandRunner(command)
        place = f"command {runner.name}"

        def run(event: Event) -> None:
            try:
                runner.run(event)
            except CommandError as error:
                self._problems.count(place, _RUN, str(error))
            except Exception as error:  # would end the thread
                self._problems.count(place, _RUN, _describe(error))

        worker: Worker[Event] = Worker(f"curate-command-{len(self._commands)}", run, runner.stop)
        self._commands.append((place, worker))
        return worker

    def _report_others(self) -> None:
        """Report deliveries that nobody sends any more."""
        if self._outbox is not None and (others := self._outbox.count_others(self._webhooks)):
            reason = "its URL is no longer in the trigger file"
            self._problems.count(str(self._outbox.file), ("webhook kept", "webhooks kept"), reason, others)

    def _interrupt(self) -> None:
        for worker in self._workers():
            worker.stop()
        until = time.monotonic() + _INTERRUPT_TIMEOUT_S
        for worker in self._workers():
            if not worker.has_ended(max(until - time.monotonic(), 0.0)):
                running = ("thread still running", "threads still running")
                self._problems.count("actions", running, "its work cannot be interrupted")

    def _report_remaining(self) -> None:
        stored = (f"delivery kept in {self._outbox_file}", f"deliveries kept in {self._outbox_file}")
        lost = self._outbox.count_in_memory() if self._outbox is not None else 0
        for webhook in self._webhooks.values():
            if remaining := webhook.stored:
                self._problems.count(webhook.place, stored, webhook.last_error or _ENDED, remaining)
        if lost:
            reason = "the file cannot be written"
            self._problems.count(str(self._outbox_file), ("webhook lost", "webhooks lost"), reason, lost)
        if self._outbox is not None:
            self._outbox.close()
        for path, writer in self._writers.items():
            if remaining := len(writer.remaining()):
                self._problems.count(f"write {path}", _LINE, _ENDED, remaining)
        for place, worker in self._commands:
            if remaining := len(worker.remaining()):
                self._problems.count(place, _RUN_SKIPPED, _ENDED, remaining)


def _wait_for(workers: Sequence[Worker[Any] | WebhookQueue], until: float, on_pending: Callable[[int], None]) -> None:
    last = 0

    def report() -> int:
        pending = sum(worker.pending for worker in workers)
        if pending != last:
            on_pending(pending)
        return pending

    for worker in workers:
        while not worker.has_ended(min(max(until - time.monotonic(), 0.0), _POLL_S)) and time.monotonic() < until:
            last = report()
    report()


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
