"""The relay: every address in a playlist becomes one of its own, and it opens no other."""

import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from io import BytesIO

import pytest

from curate.sources.youtube.ffmpeg_relay import Upstream, open_relay

LIST = "https://example.org/hls/list.m3u8"


@dataclass
class Response:
    """What the site answers."""

    body: BytesIO
    url: str
    status: int = 200
    headers: Message = field(default_factory=Message)

    def read(self, amount=None):
        return self.body.read(amount)

    def close(self):
        self.body.close()


@pytest.fixture
def site():
    """A site's files by link, and the links that were asked for."""
    files, asked = {}, []

    def request(link, first, last):
        asked.append(link)
        return Response(BytesIO(files[link]), link)

    with open_relay(Upstream(request, lambda _: False, None, lambda _: None, lambda _: None)) as relay:
        yield relay, files, asked


def read(address, proxy=None):
    """What a program gets, directly or with the relay as its proxy."""
    handler = urllib.request.ProxyHandler({"http": proxy} if proxy else {})
    with urllib.request.build_opener(handler).open(address, timeout=20) as answer:
        return answer.read()


@pytest.mark.parametrize("link", [LIST, "https://example.org/A.M3U8", "https://example.org/a.ts"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\r\n ", "\0"])
@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("b.ts", "https://example.org/b.ts"),
        ("//other.org/b.ts", "https://other.org/b.ts"),
        ("http://10.0.0.1/b.ts", "http://10.0.0.1/b.ts"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ('#EXT-X-KEY:METHOD=AES-128,URI="/k",IV=0x1', "https://example.org/k"),
        ("#EXT-X-KEY:METHOD=AES-128,URI=http://10.0.0.1/k,IV=0x1", "http://10.0.0.1/k"),
        ("#EXT-X-MAP:URI=//other.org/m", "https://other.org/m"),
        ("#EXT-X-MEDIA:TYPE=VIDEO,URI=/v.m3u8", "https://example.org/v.m3u8"),
        ("#comment\0http://10.0.0.1/b.ts", "http://10.0.0.1/b.ts"),
    ],
)
def test_addresses_of_playlists(site, link, before, line, target):
    """A playlist is known by its content, and each address in it, also without quotation marks, leads to the relay."""
    relay, files, asked = site
    files[link] = f"{before}#EXTM3U\n{line}\n".encode()
    text = read(relay.url_for(link)).decode()
    assert text.startswith("#EXTM3U\n")
    (address,) = re.findall(r'http://[^"\s,]+', text)
    assert address.startswith(f"{relay.base}/")
    files[target.replace("/b", "/hls/b", 1) if link == LIST and line == "b.ts" else target] = b"found"
    assert read(address) == b"found"
    assert len(asked) == 2
    assert relay.error is None


def test_other_files_are_unchanged(site):
    """A file that is no playlist comes as it is, whatever it is called."""
    relay, files, _ = site
    files[LIST] = b"GIF89a\n#EXTM3U\nhttp://10.0.0.1/\n"
    assert read(relay.url_for(LIST)) == files[LIST]


@pytest.mark.parametrize("address", ["http://10.0.0.1/b.ts", "http://example.org/", "http://{own}/x/0"])
def test_other_addresses(site, address):
    """As ffmpeg's proxy the relay opens nothing that it has not checked, and says what was wanted."""
    relay, _, asked = site
    address = address.format(own=relay.base.removeprefix("http://"))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        read(address, relay.base)
    assert asked == []
    assert address in str(relay.error)


def test_own_addresses_through_the_proxy(site):
    """What the relay has given out can be had from it as a proxy."""
    relay, files, _ = site
    files["https://example.org/a.ts"] = b"video"
    assert read(relay.url_for("https://example.org/a.ts"), relay.base) == b"video"
