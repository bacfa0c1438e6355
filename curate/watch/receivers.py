"""A receiver of webhooks: what is for it waits in one line, in order, until it has been delivered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from curate.watch.action_file import Webhook
from curate.watch.events import Event
from curate.watch.troubles import Troubles, line
from curate.watch.waiting_line import Pause, WaitingLine
from curate.watch.webhooks import Answer, Delivery, Sender, SendError, StoppedError

FAILED = "delivery failed|deliveries failed"
_WAIT = "delivery waits|deliveries wait"


@dataclass(frozen=True)
class Backoff:
    """How long to wait after a failed attempt: each time twice as long, by chance down to half of it."""

    first_s: float = 1.0
    longest_s: float = 60.0
    random: Random = field(default_factory=Random)

    def pause_s(self, failures: int) -> float:
        """The pause after so many failures in a row, in seconds."""
        pause_s = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return pause_s * self.random.uniform(0.5, 1.0)


class Receiver:
    """One address and what is on its way there.

    Args:
        webhook: as the trigger file says it.
        hosts: those that the file names.
        name: of the thread.
        backoff: after failures.
        troubles: told of what the receiver refuses.
        done: told of each delivery that needs no other attempt.

    Raises:
        UsageError: the secret is not there.
    """

    def __init__(
        self,
        webhook: Webhook,
        hosts: Sequence[str],
        *,
        name: str,
        backoff: Backoff,
        troubles: Troubles,
        done: Callable[[Delivery], None],
    ) -> None:
        self.place = f"webhook {webhook.address.place}"
        self._url = webhook.url
        self._sender = Sender(webhook, hosts)
        self._backoff, self._troubles, self._done = backoff, troubles, done
        self._failures = 0
        self.why: str | None = None
        self.line: WaitingLine[Delivery] = WaitingLine(name, self._deliver, self._sender.stop)

    def put(self, event: Event) -> bool:
        """Send an event when its turn comes; False after the end."""
        return self.line.put(Delivery.of(event, self._url))

    def waits(self) -> str | None:
        """What waits since the last attempt failed, as a line; None where nothing does."""
        pending, why = self.line.pending, self.why
        return line(self.place, _WAIT, why, pending) if pending and why is not None else None

    def _deliver(self, delivery: Delivery) -> Pause | None:
        try:
            outcome = self._sender.send(delivery)
        except SendError as error:
            outcome = error
        except Exception as error:  # else the thread would end, and with it all that waits
            outcome = SendError(f"{type(error).__name__}: {error}")
        if isinstance(outcome, SendError) or outcome.is_worth_another:
            return self._pause(outcome)
        self._failures, self.why = 0, None
        if not outcome.is_done:
            self._troubles.add(self.place, FAILED, str(outcome))
        try:
            self._done(delivery)
        except OSError as error:
            self._troubles.add(self.place, "note lost|notes lost", f"{error.strerror}: it may be sent again")
        return None

    def _pause(self, outcome: Answer | SendError) -> Pause:
        self._failures += 1
        if self.why is None or not isinstance(outcome, StoppedError):
            self.why = str(outcome)
        own_s = self._backoff.pause_s(self._failures)
        asked_s = outcome.retry_after_s if isinstance(outcome, Answer) else None
        return Pause(own_s) if asked_s is None else Pause(max(own_s, asked_s), is_asked_for=True)
