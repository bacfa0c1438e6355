"""Credentials in URLs: what is hidden, and what stays readable."""

import pytest

from curate.redaction import redact_text, redact_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/a/b?x=1#part", "https://example.org/a/b?x=1#part"),
        ("rtsp://me:pw@10.0.0.7:554/main", "rtsp://***@10.0.0.7:554/main"),
        ("rtsp://me:p/w?@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("http://door/user=me_password=pw_channel=1?Token=x&fps=5", "http://door/user=me_password=***?Token=***&fps=5"),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234"),
        ("https://www.youtube.com/@channel/videos", "https://www.youtube.com/@channel/videos"),
        ("clips/a.mp4", "clips/a.mp4"),
    ],
)
def test_credentials_of_a_url_are_hidden(url, expected):
    """User, password and values with telling names become ***; redacting twice changes nothing."""
    assert redact_url(url) == expected
    assert redact_url(expected) == expected


def test_every_url_of_a_text_is_redacted():
    """The words around stay as they are."""
    text = "tried https://me:pw@a/x, then http://b/?sig=1 (key=2 stays)"
    assert redact_text(text) == "tried https://***@a/x, then http://b/?sig=*** (key=2 stays)"
