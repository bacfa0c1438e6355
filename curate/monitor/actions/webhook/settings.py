"""The settings of a webhook in the trigger file: URL, secret, headers, timeout."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from curate.errors import UsageError
from curate.monitor.actions.webhook.address import Address, matches_host, parse_url
from curate.monitor.triggers.fields import FieldError, FilePath, StrictModel, Timeout, parsed_by, short_repr

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_RESERVED_HEADERS = ("connection", "content-length", "content-type", "host", "transfer-encoding", "expect", "upgrade")
_MAX_SECRET_BYTES = 4096


def _check_url(url: Any) -> Any:
    if isinstance(url, str):
        parse_url(url)
    return url


def _check_headers(headers: Any) -> Any:
    for name, value in headers.items() if isinstance(headers, Mapping) else ():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise UsageError("invalid header name", expected="such as X-Door")
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith("x-curate-"):
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
            UsageError: The variable or file is missing or empty.
        """
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
