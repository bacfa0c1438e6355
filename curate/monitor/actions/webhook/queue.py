"""Sends the stored deliveries to one webhook: in order, retried with growing waits, counted when they fail.

Every attempt is logged with its delivery, outcome and next wait.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from curate.monitor.actions.webhook.outbox import DEPRIORITISED_AFTER, Outbox
from curate.monitor.actions.webhook.sender import Delivery, Response, Sender, SendError, StoppedError
from curate.monitor.actions.webhook.settings import Webhook
from curate.monitor.actions.worker import ClosingThread
from curate.monitor.problems import Kind, Problems
from curate.monitor.triggers.event import Event

logger = logging.getLogger(__name__)
_FAILED = ("delivery failed", "deliveries failed")
_PENDING = ("delivery pending", "deliveries pending")
_DEPRIORITISED = ("delivery deprioritised", "deliveries deprioritised")
_GONE = "answered 410 Gone, and this watch sends nothing more to it"
_GIVEN_UP_AFTER = 10_000  # server errors: five days where nothing else is delivered either, longer than a weekend
_CLAIM_MARGIN_S = 5.0  # beyond the webhook's timeout
_POLL_S = 5.0  # for deliveries that another watch left


@dataclass(frozen=True)
class Backoff:
    """Waits after failed attempts: each twice the one before, randomly shortened by up to half."""

    first_s: float = 1.0
    max_s: float = 60.0
    random: Random = field(default_factory=Random)

    def wait_s(self, failures: int) -> float:
        """Return the wait after a number of failures in a row, in seconds."""
        wait_s = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return wait_s * self.random.uniform(0.5, 1.0)


class WebhookQueue(ClosingThread):
    """The deliveries to one webhook, with the thread that sends them. They are in the outbox, not here.

    Args:
        webhook: Settings from the trigger file.
        hosts: Hosts that the trigger file lists.
        name: Of the thread.
        backoff: Waits between attempts.
        problems: Gets what the receiver rejects.
        outbox: Holds the deliveries.

    Attributes:
        place: Name in problems and logs: host and port, since a path may be secret.
        last_error: Why the latest attempt failed; None after a success.

    Raises:
        UsageError: The secret cannot be read.
    """

    def __init__(
        self,
        webhook: Webhook,
        hosts: Sequence[str],
        *,
        name: str,
        backoff: Backoff,
        problems: Problems,
        outbox: Outbox,
    ) -> None:
        self.place = f"webhook {webhook.address.authority}"
        self.last_error: str | None = None
        self._url = webhook.url
        self._sender = Sender(webhook, hosts)
        self._claim_s = webhook.timeout_s + _CLAIM_MARGIN_S
        self._backoff, self._problems, self._outbox = backoff, problems, outbox
        self._is_hurried = False
        self._is_gone = False  # the receiver answered 410
        self._has_new = False
        self._requested_until = 0.0  # of `time.monotonic`: the receiver's `Retry-After`
        super().__init__(name, self._run, self._sender.stop)

    def put(self, event: Event) -> bool:
        """Store the delivery of an event; False once the queue is closed."""
        with self._changed:
            if self._deadline is not None:
                return False
        if self._is_gone:
            self._problems.count(self.place, _FAILED, _GONE)
            return True
        delivery = Delivery.of(event, self._url)
        self._outbox.put(delivery)
        logger.debug("%s: delivery %s stored for trigger %s", self.place, delivery.id, event.trigger)
        with self._changed:
            self._has_new = True
            self._changed.notify()
        return True

    @property
    def pending(self) -> int:
        """Number of deliveries that are not finished."""
        return self._outbox.count(self._url)

    @property
    def stored(self) -> int:
        """Number of deliveries that are on disk."""
        return self._outbox.count(self._url, with_memory=False)

    def pending_problem(self) -> tuple[Kind, int] | None:
        """Number of pending deliveries where the latest attempt failed; None otherwise."""
        reason = self.last_error
        pending = self.pending if reason is not None else 0
        return (Kind(self.place, _PENDING, reason), pending) if pending and reason is not None else None

    def _run(self) -> None:
        at_once = False
        while not self._stopped:
            with self._changed:
                self._has_new = False
            wait_s = self._requested_until - time.monotonic()
            if wait_s <= 0:
                taken = self._outbox.take(self._url, self._claim_s, at_once=at_once)
                if isinstance(taken, Delivery):
                    self._deliver(taken)
                    at_once = False
                    continue
                wait_s = taken
            at_once = self._wait(wait_s)

    def _wait(self, wait_s: float | None) -> bool:
        """Wait for a delivery to become due, None: for a new one; return whether the watch ended meanwhile.

        It ends the thread where nothing becomes due before the deadline.
        """
        now_s = time.monotonic()
        due_s = math.inf if wait_s is None else now_s + wait_s
        until = min(due_s, now_s + _POLL_S)
        with self._changed:
            while not (self._stopped or self._has_new) and (remaining_s := until - time.monotonic()) > 0:
                if self._deadline is not None:
                    if not self._is_hurried and wait_s is not None and self._requested_until <= now_s:
                        self._is_hurried = True
                        return True  # one more attempt, now that the watch ends
                    if due_s >= self._deadline:
                        self._stopped = True
                        break
                self._changed.wait(remaining_s)
        return False

    def _deliver(self, delivery: Delivery) -> None:
        delivery = replace(delivery, attempts=delivery.attempts + 1)
        try:
            outcome = self._sender.send(delivery)
        except SendError as error:
            outcome = error
        except Exception as error:  # would end the thread, and with it everything that waits
            outcome = SendError(f"{type(error).__name__}: {error}")
        if isinstance(outcome, SendError):
            self._retry(delivery, outcome)
            return
        if outcome.is_server_error:
            delivery = replace(delivery, server_errors=delivery.server_errors + 1)
            if delivery.server_errors == DEPRIORITISED_AFTER:
                self._problems.count(self.place, _DEPRIORITISED, f"{outcome}, {delivery.server_errors} times")
        if outcome.is_retryable and delivery.server_errors < _GIVEN_UP_AFTER:
            self._retry(delivery, outcome)
        else:
            self._finish(delivery, outcome)

    def _retry(self, delivery: Delivery, outcome: Response | SendError) -> None:
        if self.last_error is None or not isinstance(outcome, StoppedError):
            self.last_error = str(outcome)
        wait_s = self._backoff.wait_s(delivery.attempts)
        if isinstance(outcome, Response) and outcome.retry_after_s is not None:
            wait_s = max(wait_s, outcome.retry_after_s)
            self._requested_until = time.monotonic() + wait_s
        if isinstance(outcome, StoppedError):
            self._outbox.release(delivery)
            following = "not retried"
        else:
            self._outbox.retry(delivery, wait_s)
            following = f"next attempt in {wait_s:.1f} s"
        logger.info(
            "%s: delivery %s, attempt %d failed: %s; %s, %d pending",
            self.place, delivery.id, delivery.attempts, outcome, following, self.pending,
        )  # fmt: skip

    def _finish(self, delivery: Delivery, response: Response) -> None:
        self.last_error = None
        logger.info("%s: delivery %s, attempt %d %s", self.place, delivery.id, delivery.attempts, response)
        if response.is_gone:
            self._is_gone = True
            self._problems.count(self.place, _FAILED, _GONE, max(self._outbox.drop(self._url), 1))
            return
        if not response.is_success:
            times = f", {delivery.server_errors} times" if response.is_retryable else ""
            self._problems.count(self.place, _FAILED, f"{response}{times}")
        self._outbox.finish(delivery)
