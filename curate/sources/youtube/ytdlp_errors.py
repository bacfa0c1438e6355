"""Explains yt-dlp's exceptions: each becomes a `FetchError` with its reason."""

import urllib.error
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import ContentTooShortError, ExtractorError, GeoRestrictedError, UnsupportedError

from curate.sources.youtube.failures import FetchError, Kind, explain, fail
from curate.sources.youtube.network_policy import RefusedError


def explain_error(error: BaseException) -> FetchError:
    """Find the failure behind an exception that yt-dlp raised."""
    chain = list(_iterate_causes(error))
    for cause in chain:
        if isinstance(cause, FetchError | KeyboardInterrupt):
            return cause if isinstance(cause, FetchError) else fail("other", "interrupted")
    status, retry_after_s, countries = None, None, ()
    kind: Kind = "other"
    for cause in chain:
        if isinstance(cause, RefusedError):
            kind = "refused"
        elif isinstance(cause, urllib.error.HTTPError) and "is not allowed" in str(cause.msg):
            return fail("refused_address", "the site redirects to an address that is not http or https")
        elif isinstance(cause, HTTPError):
            status = status or cause.status
            retry_after_s = retry_after_s or _retry_after_s(cause)
        elif isinstance(cause, GeoRestrictedError) and cause.countries:
            countries = tuple(cause.countries)
        elif isinstance(cause, UnsupportedError):
            kind = "unsupported"
        elif isinstance(cause, TransportError | ContentTooShortError | ConnectionError) and kind == "other":
            kind = "network"
    source = next((cause for cause in chain if isinstance(cause, RefusedError | ExtractorError | HTTPError)), error)
    message = getattr(source, "orig_msg", None) or getattr(source, "msg", None) or str(source) or type(source).__name__
    return FetchError(explain(str(message), kind=kind, status=status, countries=countries, retry_after_s=retry_after_s))


def is_retryable(error: BaseException) -> bool:
    """Whether a request may be repeated: the connection broke, or the server failed."""
    if isinstance(error, HTTPError):
        return error.status >= 500
    return isinstance(error, TransportError | IncompleteRead | ConnectionError | TimeoutError)


def _iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, which yt-dlp keeps in several attributes."""
    visited: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in visited:
            continue
        visited.add(id(cause))
        yield cause
        inner = getattr(cause, "exc_info", None) or (None, None, None)
        queue += [inner[1], getattr(cause, "cause", None), cause.__cause__, cause.__context__]


def _retry_after_s(error: HTTPError) -> float | None:
    text = error.response.headers.get("Retry-After")
    if not text:
        return None
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None
