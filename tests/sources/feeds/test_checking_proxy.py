"""Hosts that a server names are reached only if they are public; the one that the user named always is."""

import socket
from contextlib import closing
from ipaddress import ip_address

import pytest
from clips import write_clip
from stream_servers import HttpServer

from curate.errors import DataError
from curate.sources import hosts
from curate.sources.feeds.checking_proxy import CheckingProxy
from curate.sources.feeds.live import open_live


@pytest.fixture(autouse=True)
def no_names(monkeypatch):
    """No name is known, and none is looked up."""
    real = socket.getaddrinfo

    def look_up(host, *arguments, **options):
        if not str(host)[:1].isdecimal():
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def clip(tmp_path):
    """A video of 12 frames."""
    return write_clip(tmp_path / "a.ts", 12).read_bytes()


@pytest.fixture
def other(clip):
    """A server in this network that nobody named."""
    with HttpServer({"/a.ts": clip}) as server:
        yield server


def count_frames(address):
    feed, count = open_live(address), 0
    with closing(feed):
        while not feed.ended:
            count += len(feed.take(100, 5))
    return count


def answers(server, link):
    """A playlist, and a redirect, that lead to a link."""
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{link}\n#EXTINF:1,\n{link}\n#EXT-X-ENDLIST\n"
    return {"/list.m3u8": text.encode(), "/moved.ts": (302, {"Location": link})}


@pytest.mark.parametrize("path", ["/list.m3u8", "/moved.ts"])
@pytest.mark.parametrize("no_proxy", [None, "*", "127.0.0.1"])
def test_a_server_that_leads_elsewhere(other, monkeypatch, path, no_proxy):
    """A redirect or playlist to another host of this network is not followed, whatever the environment says."""
    if no_proxy:
        monkeypatch.setenv("no_proxy", no_proxy)
    with (
        HttpServer(answers(other, f"{other.url}/a.ts")) as server,
        pytest.raises(DataError, match=r"leads to another host: 127\.0\.0\.1 is not a public address\. If the video"),
    ):
        count_frames(server.url + path)
    assert other.asked == []


@pytest.mark.parametrize(("path", "frames"), [("/list.m3u8", 24), ("/moved.ts", 12)])
def test_a_server_that_leads_to_a_public_host(other, monkeypatch, path, frames):
    """A redirect or playlist to a public host is followed."""
    monkeypatch.setattr(hosts, "is_public", lambda _: True)
    with HttpServer(answers(other, f"{other.url}/a.ts")) as server:
        assert count_frames(server.url + path) == frames
    assert set(other.asked) == {"/a.ts"}


def test_the_named_host_leads_to_itself(clip):
    """Paths on the server that the user named are followed, though it is in this network."""
    with HttpServer(answers(None, "/a.ts") | {"/a.ts": clip}) as server:
        assert [count_frames(server.url + path) for path in ("/list.m3u8", "/moved.ts")] == [24, 12]


def test_the_proxy_of_the_user(clip, monkeypatch):
    """A proxy of the environment gets the requests, with its password, except those for hosts of `no_proxy`."""
    with HttpServer({"http://street.example.org:80/a.ts": clip}) as beyond:
        monkeypatch.setenv("http_proxy", beyond.url.replace("//", "//me:hush@"))
        monkeypatch.setenv("no_proxy", "inside.example.org")
        assert count_frames("http://street.example.org/a.ts") == 12
        assert set(beyond.asked) == {"http://street.example.org:80/a.ts"}
        with pytest.raises(DataError, match="unknown host"):
            count_frames("http://inside.example.org/a.ts")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:1/a.ts", "connection refused: nothing listens at this address"),
        ("https://127.0.0.1:1/a.ts", "connection refused: nothing listens at this address"),
        ("http://nowhere.invalid/a.ts", "unknown host"),
    ],
)
def test_a_host_that_cannot_be_reached(address, message):
    """The message is that of the connection, not of the proxy."""
    with pytest.raises(DataError, match=message):
        open_live(address)


def ask(proxy, line):
    """The first line of the proxy's answer, and the connection."""
    connection = socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 10)
    connection.sendall(f"{line}\r\nHost: x\r\n\r\n".encode())
    return connection, connection.recv(1000).split(b"\r\n")[0]


def test_tunnels():
    """Encrypted connections pass unread to the named host, and to no other of this network."""
    with socket.create_server(("127.0.0.1", 0)) as named:
        port = named.getsockname()[1]
        proxy = CheckingProxy(f"https://127.0.0.1:{port}/a.ts", 5)
        with closing(proxy):
            connection, answer = ask(proxy, f"CONNECT 127.0.0.1:{port} HTTP/1.1")
            with connection, named.accept()[0] as inside:
                assert answer == b"HTTP/1.1 200 Connection established"
                connection.sendall(b"hello")
                assert inside.recv(10) == b"hello"
                inside.sendall(b"joe")
                assert connection.recv(10) == b"joe"
            for line in (
                f"CONNECT localhost:{port} HTTP/1.1",
                "CONNECT 169.254.169.254:443 HTTP/1.1",
                "GET /x HTTP/1.1",
            ):
                connection, answer = ask(proxy, line)
                connection.close()
                assert answer == b"HTTP/1.1 403 Forbidden"
            assert proxy.refusal == "localhost is a private host"


def test_a_named_host_does_not_become_the_metadata_of_a_cloud(monkeypatch):
    """Its name may resolve to any address but those; the user has named a camera."""
    monkeypatch.setattr(hosts, "METADATA", frozenset({ip_address("127.0.0.9")}))  # that no test leaves this machine
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 80))
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **names: [entry] if host == "camera.example" else real(host, *rest, **names),
    )
    with closing(CheckingProxy("http://camera.example/a.ts", 5)) as proxy:
        connection, answer = ask(proxy, "GET http://camera.example/a.ts HTTP/1.1")
        connection.close()
        assert answer == b"HTTP/1.1 403 Forbidden"
        assert proxy.refusal == "127.0.0.9 is the metadata address of a cloud"
