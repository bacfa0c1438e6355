"""Playlists, told by their first bytes."""

import pytest

from curate.sources.containers import find_playlist

HLS = b"#EXTM3U\n#EXTINF:1,\na.ts\n"
ID3 = b"ID3\x04\0\0\0\0\0\x05hello"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (HLS, "HLS"),
        (HLS.lower(), "HLS"),
        (b"\xef\xbb\xbf" + HLS, "HLS"),
        (b"\r\n \t\0" + HLS, "HLS"),
        (HLS.decode().encode("utf-16"), "HLS"),
        (HLS.decode().encode("utf-16-be"), "HLS"),
        (ID3 + HLS, "HLS"),
        (b"ffconcat version 1.0\nfile a.ts", "ffconcat"),
        (b'<?xml version="1.0"?>\n<!-- a --><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "DASH"),
        (b"<mpd>", "DASH"),
        (b'<?xml version="1.0"?><cpl:CompositionPlaylist>', "IMF"),
        (b"<smil><body>", "SMIL"),
        (b'<ASX version="3.0">', "ASX"),
        (b"[playlist]\nFile1=a.mp4", "PLS"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1", "SDP"),
        (b"\0\0\0\x18ftypisom#EXTM3U", None),
        (b"\x1aE\xdf\xa3", None),
        (b"G@\0\x10", None),
        (b"", None),
        (b"ID3", None),
    ],
)
def test_playlists(head, kind):
    """Kinds of playlists, also behind marks, white space and tags; videos are none."""
    assert find_playlist(head) == kind
