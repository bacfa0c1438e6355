"""Which addresses are refused, in any spelling."""

import socket

import pytest

from curate.sources import hosts
from curate.sources.hosts import connect, find_refusal

NAMES = {
    "example.org": ["93.184.215.14"],
    "inside.example.org": ["93.184.215.14", "10.1.2.3"],
    "six.example.org": ["::1"],
    "cloud.example.org": ["93.184.215.14", "169.254.169.254"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """A name service with three names."""

    def look_up(host, port, **_):
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in NAMES[host]]

    monkeypatch.setattr(hosts.socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1%25eth0]",
        "[fc00::1]",
        "[fec0::1]",
        "[2001:db8::1]",
        "[64:ff9b:1::a00:1]",
        "[2606:4700::5efe:10.0.0.1]",
        "[2001:0:4136:e378:8000:63bf:f5ff:fffe]",
        "[ff02::1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "printer.local",
        "wiki.internal",
        "127%2e0%2e0%2e1",
        "localhos%74",
        "[::1%25eth0]",
        "[2606:4700:4700::1111%25/@127.0.0.1]",
        "inside.example.org",
        "six.example.org",
    ],
)
def test_refused_hosts(host):
    """Loopback, private, link-local, unspecified, multicast and reserved hosts are refused in every spelling."""
    assert find_refusal(f"http://{host}/clip.mp4")


@pytest.mark.parametrize(
    "link",
    [
        "file:///etc/passwd",
        "ftp://example.org/clip.mp4",
        "data:video/mp4;base64,AAAA",
        "rtmp://example.org/live",
        "javascript:alert(1)",
        "//example.org/clip.mp4",
        "http:///clip.mp4",
        "http://[::1/clip.mp4",
        "http://example.org:99999/clip.mp4",
        "http://example.org\\@127.0.0.1/clip.mp4",
        "http://user:secret@example.org/clip.mp4",
        "http://127.0.0.1@example.org/clip.mp4",
        "http://example%2eorg/clip.mp4",
    ],
)
def test_refused_links(link):
    """Only well-formed http and https links without credentials are followed."""
    assert find_refusal(link)


@pytest.mark.parametrize(
    "link",
    [
        "https://example.org/clip.mp4",
        "HTTP://EXAMPLE.ORG:8080/clip.mp4?x=127.0.0.1#10.0.0.1",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]/",
        "https://nowhere.example.org/",
        "https://local.example.org/",
    ],
)
def test_public(link):
    """Public hosts are allowed, and so is an unknown name, since nothing will be contacted."""
    assert find_refusal(link) is None


@pytest.mark.parametrize("link", ["http://127.0.0.1:8000/", "http://localhost/", "http://inside.example.org/"])
def test_allowed_private(link):
    """--allow-private allows every host."""
    assert find_refusal(link, allow_private=True) is None


@pytest.mark.parametrize("link", ["file:///etc/passwd", "http://u:p@localhost/"])
def test_never_allowed(link):
    """--allow-private does not allow files and credentials."""
    assert find_refusal(link, allow_private=True)


METADATA = [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.254.169.254.",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::a9fe:a9fe%25eth0]",
    "169.254.170.2",
    "[fd00:ec2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[fd20:ce::254]",
    "192.0.0.192",
    "168.63.129.16",
    "[::ffff:168.63.129.16]",
    "100.100.100.200",
]


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("host", METADATA)
def test_metadata(host, allow_private):
    """The addresses where a machine in a cloud gets its passwords are refused in every spelling, always."""
    assert "metadata address" in (find_refusal(f"http://{host}/latest/meta-data", allow_private=allow_private) or "")


def test_a_name_of_metadata():
    """So is a name that leads to one of them."""
    expected = "cloud.example.org resolves to 169.254.169.254, which is the metadata address of a cloud"
    assert find_refusal("http://cloud.example.org/") == expected


@pytest.mark.parametrize("allow_private", [False, True])
def test_an_address_that_a_name_has_when_it_is_contacted(monkeypatch, allow_private):
    """A name is resolved once to be contacted, and nothing is contacted if one of its addresses is refused."""
    monkeypatch.setattr(hosts.socket, "socket", lambda *_: pytest.fail("something was contacted"))
    with pytest.raises(hosts.RefusedAddressError, match=r"169\.254\.169\.254 is the metadata address"):
        connect("cloud.example.org", 80, 1.0, allow_private=allow_private)


def test_a_connection(monkeypatch):
    """A name with allowed addresses is contacted at the first that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", one)) for one in (1, port)]
        monkeypatch.setattr(hosts.socket, "getaddrinfo", lambda *_, **__: entries)
        with connect("street.example.org", port, 5.0, allow_private=True) as connection:
            assert connection.getpeername() == ("127.0.0.1", port)
        with pytest.raises(hosts.RefusedAddressError, match=r"127\.0\.0\.1 is not a public address"):
            connect("street.example.org", port, 5.0)
