"""Sends one event as a signed POST request, within a timeout, to a host that the trigger file lists.

    webhook-id: ID of the delivery, the same at every attempt
    webhook-timestamp: Unix seconds of the attempt
    webhook-signature: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64, if a secret is configured

as in the Standard Webhooks specification (https://github.com/standard-webhooks/standard-webhooks). For receivers of
before there are also

    X-Curate-Delivery, X-Curate-Timestamp: the same as the first two
    X-Curate-Signature: sha256= and the HMAC-SHA256 of `timestamp.body` in hexadecimal

No proxy is used, no redirect is followed, and only the head of a response is read.
"""

import base64
import hmac
import http.client
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
from curate.monitor.actions.webhook.settings import Webhook, decode_secret
from curate.monitor.triggers.event import Event, encode_json
from curate.sources.hosts import RefusedAddressError, look_up

_RETRIED_STATUSES = (408, 425, 429)  # and all from 500 on
_MAX_RETRY_AFTER_S = 600.0


@dataclass(frozen=True)
class Delivery:
    """One request to be sent.

    Attributes:
        id: A UUID, also in the body; lets a receiver drop duplicates.
        url: Where to send it.
        body: JSON in UTF-8.
        server_errors: How often the receiver has answered it with status 500 or higher.
        attempts: How often it was sent.
    """

    id: str
    url: str
    body: bytes
    server_errors: int = 0
    attempts: int = 0

    @classmethod
    def of(cls, event: Event, url: str) -> "Delivery":
        """Make the delivery of an event."""
        own_id = str(uuid.uuid4())
        return cls(own_id, url, encode_json(event.as_json() | {"id": own_id}))


@dataclass(frozen=True)
class Response:
    """Status of a response, and its `Retry-After` header in seconds, at most ten minutes."""

    status: int
    retry_after_s: float | None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_server_error(self) -> bool:
        """Whether the receiver failed; this delivery may be the cause."""
        return self.status >= 500

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing more."""
        return self.status == 410

    @property
    def is_retryable(self) -> bool:
        return self.status in _RETRIED_STATUSES or self.is_server_error

    def __str__(self) -> str:
        phrase = http.client.responses.get(self.status, "")
        note = ", and redirects are not followed" if 300 <= self.status < 400 else ""
        return f"answered {self.status} {phrase}".rstrip() + note


class SendError(Exception):
    """No response came."""


class StoppedError(SendError):
    """`stop` broke off the request; this says nothing about the receiver."""


def sign(secret: bytes, delivery: Delivery, timestamp: str) -> dict[str, str]:
    """Return the headers that sign a delivery.

    Args:
        secret: As in the trigger file; the Standard Webhooks form `whsec_…` holds the key in base64.
        delivery: Its ID and body are signed.
        timestamp: Unix seconds of the attempt.
    """
    signed = delivery.id.encode() + b"." + timestamp.encode() + b"." + delivery.body
    standard = hmac.digest(decode_secret(secret), signed, "sha256")
    before = hmac.digest(secret, timestamp.encode() + b"." + delivery.body, "sha256")
    return {
        "webhook-signature": "v1," + base64.b64encode(standard).decode(),
        "X-Curate-Signature": "sha256=" + before.hex(),
    }


class Sender:
    """Sends to one URL, one delivery at a time.

    Args:
        webhook: Settings from the trigger file.
        hosts: Hosts that the trigger file lists.

    Raises:
        UsageError: The secret cannot be read.
    """

    def __init__(self, webhook: Webhook, hosts: Sequence[str]) -> None:
        self._webhook, self._hosts = webhook, tuple(hosts)
        self._address = webhook.address
        self._secret = webhook.read_secret()
        self._tls = ssl.create_default_context() if self._address.scheme == "https" else None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._aborted = False
        self._stopped = False

    def send(self, delivery: Delivery) -> Response:
        """Make one attempt. The receiver may have got the delivery even if no response came.

        Raises:
            SendError: No response came within the webhook's timeout, or before `stop`.
        """
        if delivery.url != self._webhook.url or not self._webhook.is_allowed(self._hosts):
            raise SendError("the trigger file does not list this host")
        with self._lock:
            self._aborted = self._stopped
        timer = threading.Timer(self._webhook.timeout_s, self._abort)
        timer.name = "curate-webhook-timer"
        timer.daemon = True
        timer.start()  # a socket's own timeout restarts with every byte
        try:
            return self._exchange(delivery)
        except (OSError, ValueError, RefusedAddressError, http.client.HTTPException) as error:
            if self._stopped:
                raise StoppedError("the watch ended") from error
            timed_out = self._aborted or isinstance(error, TimeoutError)
            reason = f"no response within {self._webhook.timeout_s:g} s" if timed_out else _describe(error)
            raise SendError(reason) from error
        finally:
            self._close_socket()
            timer.cancel()
            timer.join()

    def stop(self) -> None:
        """Break off the current request, and send nothing more."""
        with self._lock:
            self._stopped = True
        self._abort()

    def _abort(self) -> None:
        with self._lock:
            self._aborted = True
            if self._socket is not None:
                try:
                    # not the TLS socket's own shutdown, which would exchange data
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    return  # not connected

    def _set_socket(self, current: socket.socket) -> None:
        """Make this the socket that `_abort` shuts down."""
        with self._lock:
            self._socket = current
            if self._aborted:
                raise TimeoutError

    def _close_socket(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    def _exchange(self, delivery: Delivery) -> Response:
        timestamp = str(int(time.time()))
        headers = {
            **self._webhook.headers,
            "Host": self._address.authority,
            "Connection": "close",
            "Content-Type": "application/json",
            "User-Agent": f"curate/{__version__}",
            "webhook-id": delivery.id,
            "webhook-timestamp": timestamp,
            "X-Curate-Delivery": delivery.id,
            "X-Curate-Timestamp": timestamp,
        }
        if self._secret is not None:
            headers |= sign(self._secret, delivery, timestamp)
        connection = http.client.HTTPConnection(self._address.host, self._address.port)
        connection.sock = self._connect()
        connection.request("POST", self._address.path, body=delivery.body, headers=headers)
        with connection.getresponse() as response:
            return Response(response.status, _parse_retry_after(response.getheader("Retry-After")))

    def _connect(self) -> socket.socket:
        # the trigger file lists the host, wherever it is; a file of others must not reach the metadata of a cloud
        addresses = look_up(self._address.host, self._address.port, allow_private=True)
        last_error: OSError = OSError("the host has no address")
        for family, kind, protocol, _, address in addresses:
            current = socket.socket(family, kind, protocol)
            self._set_socket(current)
            try:
                current.settimeout(self._webhook.timeout_s)
                current.connect(address)
                return self._wrap_tls(current)
            except ssl.SSLError:
                raise
            except OSError as error:
                last_error = error
                self._close_socket()
        raise last_error

    def _wrap_tls(self, current: socket.socket) -> socket.socket:
        if self._tls is None:
            return current
        wrapped = self._tls.wrap_socket(current, server_hostname=self._address.host, do_handshake_on_connect=False)
        self._set_socket(wrapped)
        wrapped.do_handshake()
        return wrapped


def _parse_retry_after(text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Parse `Retry-After` (RFC 9110, 10.2.3), seconds or a date; at most ten minutes."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return min(float(text.strip()[:9]), _MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return min(max((date - now()).total_seconds(), 0.0), _MAX_RETRY_AFTER_S)


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate is not trusted ({error.verify_message})"
    if isinstance(error, RefusedAddressError):
        return str(error)
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason})"
    if isinstance(error, socket.gaierror):
        return "host name cannot be resolved"
    if isinstance(error, http.client.RemoteDisconnected):
        return "connection closed without a response"
    if isinstance(error, http.client.HTTPException | ValueError):
        return "response is not HTTP"
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()
