"""Webhooks: an event as a signed POST, within a time, to a named host and to no other.

    X-Curate-Delivery: the id of the delivery, the same at every attempt
    X-Curate-Timestamp: Unix seconds of the attempt
    X-Curate-Signature: sha256= and the HMAC-SHA256 of `timestamp.body` in hexadecimal, where there is a secret

No proxy is used, no redirect is followed, and of an answer nothing but its head is read.
"""

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from curate import __version__
from curate.monitor.actions.config import Webhook
from curate.monitor.triggers.event import Event

_AGAIN = (408, 425, 429)
_LONGEST_ASKED_FOR_S = 600.0


@dataclass(frozen=True)
class Delivery:
    """What is to be sent.

    Attributes:
        id: a UUID, also in the body; a receiver that has seen it may drop what comes again.
        url: where to.
        body: JSON, UTF-8.
        refused: how many answers said that the receiver failed, 500 and more.
    """

    id: str
    url: str
    body: bytes
    refused: int = 0

    @classmethod
    def of(cls, event: Event, url: str) -> "Delivery":
        """An event on its way to an address."""
        own_id = str(uuid.uuid4())
        return cls(own_id, url, encode(event.as_json() | {"id": own_id}))


@dataclass(frozen=True)
class Answer:
    """The head of a receiver's answer; `retry_after_s` is bounded."""

    status: int
    retry_after_s: float | None

    @property
    def is_done(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300

    @property
    def is_failure(self) -> bool:
        """Whether the receiver failed, of which the delivery may be the reason."""
        return self.status >= 500

    @property
    def is_worth_another(self) -> bool:
        """Whether the same may be taken later."""
        return self.status in _AGAIN or self.is_failure

    def __str__(self) -> str:
        known = http.client.responses.get(self.status, "")
        note = ", and redirects are not followed" if 300 <= self.status < 400 else ""
        return f"answered {self.status} {known}".rstrip() + note


class SendError(Exception):
    """A delivery came to no answer."""


class StoppedError(SendError):
    """It was broken off by `stop`, which says nothing about the receiver."""


def encode(document: object) -> bytes:
    """JSON in UTF-8; what is no text of Unicode in a file's name becomes an escape."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of `X-Curate-Signature`: HMAC-SHA256 (RFC 2104) of the time, a full stop and the body."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Sender:
    """Sends to one address, one delivery at a time.

    Args:
        webhook: as the trigger file says it.
        hosts: those that the file names.

    Raises:
        UsageError: the secret is not there.
    """

    def __init__(self, webhook: Webhook, hosts: Sequence[str]) -> None:
        self._webhook, self._hosts = webhook, tuple(hosts)
        self._address = webhook.address
        self._secret = webhook.read_secret()
        self._tls = ssl.create_default_context() if self._address.scheme == "https" else None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False
        self._stopped = False

    def send(self, delivery: Delivery) -> Answer:
        """Send it once. The receiver may have it although the answer did not come.

        Raises:
            SendError: there was no answer within the webhook's time, or `stop` came before it.
        """
        if delivery.url != self._webhook.url or not self._webhook.is_allowed(self._hosts):
            raise SendError("the trigger file does not name this host")
        with self._lock:
            self._cut = self._stopped
        timer = threading.Timer(self._webhook.timeout_s, self._break_off)
        timer.name = "curate-webhook-timer"
        timer.daemon = True
        timer.start()  # a socket's own timeout begins anew with every byte
        try:
            return self._exchange(delivery)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if self._stopped:
                raise StoppedError("the watch ended") from error
            overdue = self._cut or isinstance(error, TimeoutError)
            why = f"no answer within {self._webhook.timeout_s:g} s" if overdue else _reason(error)
            raise SendError(why) from error
        finally:
            self._let_go()
            timer.cancel()
            timer.join()

    def stop(self) -> None:
        """Break off what is being sent, and send nothing more."""
        with self._lock:
            self._stopped = True
        self._break_off()

    def _break_off(self) -> None:
        with self._lock:
            self._cut = True
            if self._socket is not None:
                try:
                    # past TLS, whose own shutdown would talk
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    return  # is not connected, or not any more

    def _hold(self, current: socket.socket) -> None:
        """Let `_break_off` reach this socket."""
        with self._lock:
            self._socket = current
            if self._cut:
                raise TimeoutError

    def _let_go(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    def _exchange(self, delivery: Delivery) -> Answer:
        timestamp = str(int(time.time()))
        headers = {
            **self._webhook.headers,
            "Host": self._address.place,
            "Connection": "close",
            "Content-Type": "application/json",
            "User-Agent": f"curate/{__version__}",
            "X-Curate-Delivery": delivery.id,
            "X-Curate-Timestamp": timestamp,
        }
        if self._secret is not None:
            headers["X-Curate-Signature"] = sign(self._secret, timestamp, delivery.body)
        connection = http.client.HTTPConnection(self._address.host, self._address.port)
        connection.sock = self._connect()
        connection.request("POST", self._address.path, body=delivery.body, headers=headers)
        with connection.getresponse() as response:
            return Answer(response.status, _retry_after_s(response.getheader("Retry-After")))

    def _connect(self) -> socket.socket:
        found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("the host has no address")
        for family, kind, protocol, _, place in found:
            current = socket.socket(family, kind, protocol)
            self._hold(current)
            try:
                current.settimeout(self._webhook.timeout_s)
                current.connect(place)
                return self._encrypted(current)
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
                self._let_go()
        raise failure

    def _encrypted(self, current: socket.socket) -> socket.socket:
        if self._tls is None:
            return current
        wrapped = self._tls.wrap_socket(current, server_hostname=self._address.host, do_handshake_on_connect=False)
        self._hold(wrapped)
        wrapped.do_handshake()
        return wrapped


def _retry_after_s(text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """`Retry-After` (RFC 9110, 10.2.3), seconds or a date, at most ten minutes."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return min(float(text.strip()[:9]), _LONGEST_ASKED_FOR_S)
    try:
        wanted = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    wanted = wanted if wanted.tzinfo is not None else wanted.replace(tzinfo=UTC)
    return min(max((wanted - now()).total_seconds(), 0.0), _LONGEST_ASKED_FOR_S)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason})"
    if isinstance(error, socket.gaierror):
        return "the host's name cannot be resolved"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection ended without an answer"
    if isinstance(error, http.client.HTTPException | ValueError):
        return "the answer is not HTTP"
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()
