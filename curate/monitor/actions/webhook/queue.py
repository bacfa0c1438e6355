"""The deliveries to one webhook: sent in order, retried with growing waits, counted when they fail.

Every attempt is logged with its delivery, outcome and next wait.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from curate.monitor.actions.webhook.sender import Delivery, Response, Sender, SendError, StoppedError
from curate.monitor.actions.webhook.settings import Webhook
from curate.monitor.actions.worker import Retry, Worker
from curate.monitor.problems import Kind, Problems
from curate.monitor.triggers.event import Event

logger = logging.getLogger(__name__)
_FAILED = ("delivery failed", "deliveries failed")
_PENDING = ("delivery pending", "deliveries pending")
_DEPRIORITISED = ("delivery deprioritised", "deliveries deprioritised")
_NOT_RECORDED = ("delivery not recorded", "deliveries not recorded")
_DEPRIORITISED_AFTER = 10  # server errors: about three minutes
_GIVEN_UP_AFTER = 10_000  # server errors: five days where nothing else is delivered either, longer than a weekend


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


class WebhookQueue:
    """The queue of one webhook, with the thread that sends it.

    Args:
        webhook: Settings from the trigger file.
        hosts: Hosts that the trigger file lists.
        name: Of the thread.
        backoff: Waits between attempts.
        problems: Gets what the receiver rejects.
        on_done: Called with each delivery that needs no further attempt.

    Attributes:
        place: Name in problems and logs: host and port, since a path may be secret.
        worker: Holds the deliveries.
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
        on_done: Callable[[Delivery], None],
    ) -> None:
        self.place = f"webhook {webhook.address.authority}"
        self.last_error: str | None = None
        self._url = webhook.url
        self._sender = Sender(webhook, hosts)
        self._backoff, self._problems, self._on_done = backoff, problems, on_done
        self._failures = 0  # in a row, whichever delivery
        self._attempts: Counter[str] = Counter()  # of unfinished deliveries, by ID
        self._server_errors: dict[str, int] = {}  # likewise, over all watches
        self.worker: Worker[Delivery] = Worker(name, self._deliver, self._sender.stop)

    def put(self, event: Event) -> bool:
        """Queue an event; False once the queue is closed."""
        delivery = Delivery.of(event, self._url)
        logger.debug("%s: delivery %s queued for trigger %s", self.place, delivery.id, event.trigger)
        return self.worker.put(delivery)

    def put_back(self, delivery: Delivery) -> None:
        """Queue a delivery that an earlier watch could not finish."""
        if delivery.server_errors:
            self._server_errors[delivery.id] = delivery.server_errors
        if delivery.server_errors >= _DEPRIORITISED_AFTER:
            self.worker.put_deprioritised(delivery)
        else:
            self.worker.put(delivery)

    def remaining(self) -> list[Delivery]:
        """Deliveries that were not finished; valid after the worker has stopped."""
        return [replace(one, server_errors=self._server_errors.get(one.id, 0)) for one in self.worker.remaining()]

    def pending(self) -> tuple[Kind, int] | None:
        """Number of pending deliveries where the latest attempt failed; None otherwise."""
        pending, reason = self.worker.pending, self.last_error
        return (Kind(self.place, _PENDING, reason), pending) if pending and reason is not None else None

    def _deliver(self, delivery: Delivery) -> Retry | None:
        self._attempts[delivery.id] += 1
        try:
            outcome = self._sender.send(delivery)
        except SendError as error:
            outcome = error
        except Exception as error:  # would end the thread, and with it everything that waits
            outcome = SendError(f"{type(error).__name__}: {error}")
        if isinstance(outcome, SendError):
            return self._retry(delivery, outcome)
        server_errors = self._count_server_error(delivery, outcome)
        if outcome.is_retryable and server_errors < _GIVEN_UP_AFTER:
            return self._retry(delivery, outcome, deprioritise=server_errors >= _DEPRIORITISED_AFTER)
        self._finish(delivery, outcome, server_errors)
        return None

    def _count_server_error(self, delivery: Delivery, response: Response) -> int:
        """Return how often the receiver has failed on this delivery, this response included."""
        server_errors = self._server_errors.get(delivery.id, 0) + response.is_server_error
        if response.is_server_error:
            self._server_errors[delivery.id] = server_errors
            if server_errors == _DEPRIORITISED_AFTER:
                self._problems.count(self.place, _DEPRIORITISED, f"{response}, {server_errors} times")
        return server_errors

    def _retry(self, delivery: Delivery, outcome: Response | SendError, *, deprioritise: bool = False) -> Retry:
        self._failures += 1
        if self.last_error is None or not isinstance(outcome, StoppedError):
            self.last_error = str(outcome)
        wait_s = self._backoff.wait_s(self._failures)
        requested_s = outcome.retry_after_s if isinstance(outcome, Response) else None
        wait_s = wait_s if requested_s is None else max(wait_s, requested_s)
        following = "not retried" if isinstance(outcome, StoppedError) else f"next attempt in {wait_s:.1f} s"
        logger.info(
            "%s: delivery %s, attempt %d failed: %s; %s, %d pending",
            self.place, delivery.id, self._attempts[delivery.id], outcome, following, self.worker.pending,
        )  # fmt: skip
        return Retry(wait_s, is_requested=requested_s is not None, deprioritise=deprioritise)

    def _finish(self, delivery: Delivery, response: Response, server_errors: int) -> None:
        attempts = self._attempts.pop(delivery.id)
        self._failures, self.last_error = 0, None
        self._server_errors.pop(delivery.id, None)
        logger.info("%s: delivery %s, attempt %d %s", self.place, delivery.id, attempts, response)
        if not response.is_success:
            times = f", {server_errors} times" if response.is_retryable else ""
            self._problems.count(self.place, _FAILED, f"{response}{times}")
        try:
            self._on_done(delivery)
        except OSError as error:
            self._problems.count(self.place, _NOT_RECORDED, f"{error.strerror}; may be sent again")
