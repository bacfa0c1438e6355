"""Hosts that a server names are reached only if they are public; the one that the user named always is."""

import gzip
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import urllib.request
from contextlib import closing
from ipaddress import ip_address

import pytest
from clips import write_clip
from playlists import HLS_FORMS
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate as cameras have: signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, file = (tmp_path_factory.mktemp("tls") / name for name in ("key.pem", "certificate.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(file), "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


def test_an_encrypted_server(clip, certificate):
    """Files, playlists and redirects come over https: with whole links, relative ones, and those without a scheme."""
    with HttpServer({"/a.ts": clip}, tls=certificate) as server:
        bare = server.url.removeprefix("https:")
        server.files |= {f"/{name}{path}": answer
            for name, link in {"whole": f"{server.url}/a.ts", "relative": "/a.ts", "bare": f"{bare}/a.ts"}.items()
            for path, answer in answers(server, link).items()}  # fmt: skip
        assert count_frames(f"{server.url}/a.ts") == 12
        for name in ("whole", "relative", "bare"):
            found = [count_frames(f"{server.url}/{name}{path}") for path in ("/list.m3u8", "/moved.ts")]
            assert found == [24, 12], name


def test_a_plain_server_leads_to_an_encrypted_one(clip, certificate, monkeypatch):
    """Encryption is that of each link."""
    monkeypatch.setattr(hosts, "is_public", lambda _: True)
    with (
        HttpServer({"/a.ts": clip}, tls=certificate) as other,
        HttpServer(answers(other, f"{other.url}/a.ts")) as server,
    ):
        assert [count_frames(server.url + path) for path in ("/list.m3u8", "/moved.ts")] == [24, 12]


def test_a_server_that_does_not_encrypt(clip):
    """The message says so."""
    with HttpServer({"/a.ts": clip}) as server, pytest.raises(DataError, match="does not encrypt"):
        open_live(server.url.replace("http:", "https:") + "/a.ts")


def test_encrypted_through_the_proxy_of_the_user(clip, certificate, monkeypatch):
    """It is asked for a tunnel, with its password."""
    asked = []

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self):
            while line := self.rfile.readline().strip():
                asked.append(line)
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port)) as inside:
                pass_on(self.connection, inside)

    with (
        HttpServer({"/a.ts": clip}, tls=certificate) as server,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as tunnel,
    ):
        port = int(server.url.rpartition(":")[2])
        threading.Thread(target=tunnel.serve_forever, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://me:hush@127.0.0.1:{tunnel.server_address[1]}")
        monkeypatch.setattr(urllib.request, "proxy_bypass", lambda _: False)
        assert count_frames("https://street.example.org/a.ts") == 12
        tunnel.shutdown()
    assert asked[0] == b"CONNECT street.example.org:443 HTTP/1.1"
    assert b"Proxy-Authorization: Basic bWU6aHVzaA==" in asked


def pass_on(one, other):
    """Pass data on in both directions until one side ends."""
    while True:
        for source in select.select((one, other), (), ())[0]:
            if not (data := source.recv(1 << 16)):
                return
            (other if source is one else one).sendall(data)


LINKS = ("tcp://{}", "tls://{}", "https://{}/x.ts", "httpproxy://{}/x.ts", "crypto:tcp://{}", "crypto+tcp://{}")


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("form", HLS_FORMS)
def test_no_protocol_goes_past_the_proxy(link, form):
    """Whatever protocol of FFmpeg a playlist names, the host gets no connection."""
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.setblocking(False)
        text = HLS_FORMS[form](link.format(f"127.0.0.1:{inside.getsockname()[1]}"))
        with HttpServer({"/list.m3u8": text.encode()}) as server, pytest.raises(DataError):
            count_frames(f"{server.url}/list.m3u8")
        with pytest.raises(BlockingIOError):
            inside.accept()


@pytest.mark.parametrize(
    ("hide", "headers"),
    [
        (lambda text: b"ID3\x04\0\0\0\0\x27\x08" + bytes(5000) + text, {}),
        (gzip.compress, {"Content-Encoding": "gzip"}),
    ],
    ids=["behind a tag", "compressed"],
)
def test_a_hidden_playlist(hide, headers):
    """FFmpeg gets no playlist that the proxy does not see."""
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.setblocking(False)
        text = hide(HLS_FORMS["variant"](f"tcp://127.0.0.1:{inside.getsockname()[1]}").encode())
        with HttpServer({"/list.m3u8": (200, headers, text)}) as server, pytest.raises(DataError, match="leads to"):
            open_live(f"{server.url}/list.m3u8")
        with pytest.raises(BlockingIOError):
            inside.accept()


def ask(proxy, line):
    """The first line of the proxy's answer."""
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 10) as connection:
        connection.sendall(f"{line}\r\nHost: x\r\n\r\n".encode())
        return connection.recv(1000).split(b"\r\n")[0]


def test_what_is_asked_for():
    """Only whole links with http are answered: no tunnels, and no other host of this network."""
    proxy = CheckingProxy("http://127.0.0.1:1/a.ts", 5, 5)
    with closing(proxy):
        for line in (
            "CONNECT 127.0.0.1:1",
            "GET /x",
            "GET ftp://127.0.0.1:1/",
            "GET http://169.254.169.254/",
            "GET http:///",
        ):
            assert ask(proxy, f"{line} HTTP/1.1") == b"HTTP/1.1 403 Forbidden"
        assert ask(proxy, "GET http://127.0.0.1:1/ HTTP/1.1") == b"HTTP/1.1 502 Bad Gateway"


def test_close_ends_open_connections():
    """A host that sends nothing keeps no thread."""
    with socket.create_server(("127.0.0.1", 0)) as named:
        port = named.getsockname()[1]
        proxy = CheckingProxy(f"http://127.0.0.1:{port}/a.ts", 5, 600)
        with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 10) as connection:
            connection.sendall(f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n".encode())
            with named.accept()[0] as inside:
                inside.recv(1000)
                proxy.close()
                inside.settimeout(10)
                assert inside.recv(10) == b""


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
    with closing(CheckingProxy("http://camera.example/a.ts", 5, 5)) as proxy:
        answer = ask(proxy, "GET http://camera.example/a.ts HTTP/1.1")
        assert answer == b"HTTP/1.1 403 Forbidden"
        assert proxy.refusal == "127.0.0.9 is the metadata address of a cloud"
