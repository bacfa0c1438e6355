"""A receiver of webhooks: what is for it waits in one line, in order, until it has been delivered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from curate.monitor.actions.config import Webhook
from curate.monitor.actions.webhook.sender import Answer, Delivery, Sender, SendError, StoppedError
from curate.monitor.actions.worker import Pause, WaitingLine
from curate.monitor.problems import Kind, Troubles
from curate.monitor.triggers.event import Event

FAILED = "delivery failed|deliveries failed"
_WAIT = "delivery waits|deliveries wait"
_STEPPED_BACK = "delivery lets the others go first|deliveries let the others go first"
_STEPS_BACK_AFTER = 10  # answers that the receiver failed: some three minutes
_GIVEN_UP_AFTER = 10_000  # five days, where nothing else is delivered either: longer than a weekend


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
        self._refused: dict[str, int] = {}  # of deliveries that wait, by id
        self.why: str | None = None
        self.line: WaitingLine[Delivery] = WaitingLine(name, self._deliver, self._sender.stop)

    def put(self, event: Event) -> bool:
        """Send an event when its turn comes; False after the end."""
        return self.line.put(Delivery.of(event, self._url))

    def put_back(self, delivery: Delivery) -> None:
        """Send what an earlier watch could not deliver."""
        if delivery.refused:
            self._refused[delivery.id] = delivery.refused
        if delivery.refused >= _STEPS_BACK_AFTER:
            self.line.put_aside(delivery)
        else:
            self.line.put(delivery)

    def left(self) -> list[Delivery]:
        """What was not delivered; to be asked for after the line's end."""
        return [replace(one, refused=self._refused.get(one.id, 0)) for one in self.line.left()]

    def waiting(self) -> tuple[Kind, int] | None:
        """What waits since the last attempt failed, with its count; None where nothing does."""
        pending, why = self.line.pending, self.why
        return (Kind(self.place, _WAIT, why), pending) if pending and why is not None else None

    def _deliver(self, delivery: Delivery) -> Pause | None:
        try:
            outcome = self._sender.send(delivery)
        except SendError as error:
            outcome = error
        except Exception as error:  # else the thread would end, and with it all that waits
            outcome = SendError(f"{type(error).__name__}: {error}")
        if isinstance(outcome, SendError):
            return self._pause(outcome)
        refused = self._count(delivery, outcome)
        if outcome.is_worth_another and refused < _GIVEN_UP_AFTER:
            return replace(self._pause(outcome), steps_back=refused >= _STEPS_BACK_AFTER)
        self._failures, self.why = 0, None
        self._refused.pop(delivery.id, None)
        if not outcome.is_done:
            times = f", {refused} times" if outcome.is_worth_another else ""
            self._troubles.add(self.place, FAILED, f"{outcome}{times}")
        try:
            self._done(delivery)
        except OSError as error:
            self._troubles.add(self.place, "note lost|notes lost", f"{error.strerror}: it may be sent again")
        return None

    def _count(self, delivery: Delivery, answer: Answer) -> int:
        """How often the receiver has failed on it, this answer included."""
        refused = self._refused.get(delivery.id, 0) + answer.is_failure
        if answer.is_failure:
            self._refused[delivery.id] = refused
            if refused == _STEPS_BACK_AFTER:
                self._troubles.add(self.place, _STEPPED_BACK, f"{answer}, {refused} times")
        return refused

    def _pause(self, outcome: Answer | SendError) -> Pause:
        self._failures += 1
        if self.why is None or not isinstance(outcome, StoppedError):
            self.why = str(outcome)
        own_s = self._backoff.pause_s(self._failures)
        asked_s = outcome.retry_after_s if isinstance(outcome, Answer) else None
        return Pause(own_s) if asked_s is None else Pause(max(own_s, asked_s), is_asked_for=True)
