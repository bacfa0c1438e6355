"""The settings of a webhook in the trigger file: URL, secret, headers, timeout."""

import base64
import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from curate.errors import UsageError
from curate.formatting import short_repr
from curate.monitor.actions.webhook.address import Address, matches_host, parse_url
from curate.monitor.triggers.fields import FieldError, FilePath, StrictModel, Timeout, parsed_by

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_RESERVED_HEADERS = ("connection", "content-length", "content-type", "host", "transfer-encoding", "expect", "upgrade")
_RESERVED_PREFIXES = ("webhook-", "x-curate-")
_MAX_SECRET_BYTES = 4096
_STANDARD_SECRET = b"whsec_"  # of the Standard Webhooks specification, before a key of these sizes in base64
_KEY_BYTES = range(24, 65)


def decode_secret(secret: bytes) -> bytes:
    """Return the key of a secret: what `whsec_…` holds in base64, else the secret itself.

    Raises:
        UsageError: Behind `whsec_` there is no base64, or a key of another size; the message does not repeat it.
    """
    if not secret.startswith(_STANDARD_SECRET):
        return secret
    expected = f"whsec_ and {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes in base64"
    try:
        key = base64.b64decode(secret.removeprefix(_STANDARD_SECRET), validate=True)
    except ValueError as error:
        raise UsageError("the secret is not valid", expected=expected) from error
    if len(key) not in _KEY_BYTES:
        raise UsageError("the secret has a wrong length", got=f"{len(key)} bytes", expected=expected)
    return key


def _check_url(url: Any) -> Any:
    if isinstance(url, str):
        parse_url(url)
    return url


def _check_headers(headers: Any) -> Any:
    for name, value in headers.items() if isinstance(headers, Mapping) else ():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise UsageError("invalid header name", expected="such as X-Door")
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith(_RESERVED_PREFIXES):
            raise UsageError("header is set by curate", got=short_repr(name))
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise UsageError(f"invalid character in the value of {name}", expected="printable ASCII")
    return headers


class Webhook(StrictModel):
    """Where events are sent, and what they are signed with."""

    url: Annotated[str, parsed_by(_check_url)]
    secret_env: str | None = None
    secret_file: FilePath | None = None
    timeout_s: Timeout = Field(10.0, alias="timeout", le=600)
    headers: Annotated[Mapping[str, str], parsed_by(_check_headers)] = Field(default_factory=dict)
    allow_http: bool = False

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.secret_env is not None and self.secret_file is not None:
            raise FieldError(UsageError("secret_env and secret_file are mutually exclusive"))
        if self.address.scheme == "http" and not self.address.is_loopback and not self.allow_http:
            remedy = "Use https, or allow_http: true if you trust the network in between."
            raise FieldError(
                UsageError("webhook uses unencrypted http", got=self.address.authority, remedy=remedy), ".url"
            )
        return self

    @property
    def address(self) -> Address:
        """The parsed URL."""
        return parse_url(self.url)

    def is_allowed(self, hosts: Iterable[str]) -> bool:
        """Whether `hosts` of the trigger file lists the host of the URL."""
        return matches_host(self.address, hosts)

    def read_secret(self) -> bytes | None:
        """Read the secret that signs deliveries, without its line ending; None where none is configured.

        Raises:
            UsageError: The variable or file is missing or empty, or the secret is not valid.
        """
        secret = self._read_secret()
        if secret is not None:
            try:
                decode_secret(secret)
            except UsageError as error:
                place = "secret_env" if self.secret_env is not None else "secret_file"
                raise UsageError(error.fact, place=place, got=error.got, expected=error.expected) from error
        return secret

    def _read_secret(self) -> bytes | None:
        if self.secret_env is not None:
            secret = os.environ.get(self.secret_env, "").encode("utf-8", "surrogateescape")
            if not secret:
                # the value may be the secret itself, written there by mistake, so it is not repeated
                remedy = "Set the environment variable with this name before curate starts."
                raise UsageError("the variable is not set, or empty", place="secret_env", remedy=remedy)
            return secret
        if self.secret_file is None:
            return None
        try:
            secret = self.secret_file.read_bytes() if self.secret_file.is_file() else b""
        except OSError as error:
            raise UsageError(f"cannot read the secret: {error.strerror}", place="secret_file") from error
        secret = secret.removesuffix(b"\n").removesuffix(b"\r")
        if not 0 < len(secret) <= _MAX_SECRET_BYTES:
            rule = f"a file of 1 to {_MAX_SECRET_BYTES} bytes"
            raise UsageError("no secret found", place="secret_file", got=self.secret_file, expected=rule)
        return secret
