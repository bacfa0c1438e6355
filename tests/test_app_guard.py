"""What stands before the FiftyOne app: who is let in, and to what."""

import asyncio
import json

import pytest

from curate.browse.app_guard import OPERATORS, Guard
from curate.browse.app_server import is_loopback, media_of

TOKEN, TICKET, PORT = "s3cret", "once", 5151
HOST = f"127.0.0.1:{PORT}"
IMAGE = "/faces/media/images/a.png"


async def app(scope, receive, send):
    """Answers with what it was asked."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body or scope["path"].encode()})


@pytest.fixture
def guard():
    """A guard for one image."""
    return Guard(app, TOKEN, PORT, ("127.0.0.1", "localhost"), lambda path: path == IMAGE, ["assets"], {TICKET})


def ask(guard, path="/", query="", *, method="GET", body=b"", server=("127.0.0.1", PORT), headers=None, **more):
    """Status, headers and body of an answer; the cookie and the host are right unless other ones are given."""
    headers = {"host": HOST, "cookie": f"other=1; curate_{PORT}={TOKEN}"} | (headers or {}) | more
    parts = [body[:3], body[3:]]
    sent = []

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "server": server,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value is not None],
    }  # fmt: skip
    asyncio.run(guard(scope, receive, send))
    start, *rest = sent
    return start["status"], dict(start["headers"]), b"".join(one["body"] for one in rest)


def test_with_the_cookie(guard):
    """Who has the cookie is let through, and told the browser's rules."""
    status, headers, body = ask(guard, "/datasets/faces")
    assert (status, body) == (200, b"/datasets/faces")
    assert headers[b"x-frame-options"] == b"DENY"
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"content-type"] == b"text/plain"


@pytest.mark.parametrize("cookie", [None, f"curate_{PORT}=other", f"curate_5152={TOKEN}", f"curate_{PORT}="])
def test_without_the_cookie(guard, cookie):
    """Without it, with a wrong one, or with that of another port nobody is let through."""
    status, _, body = ask(guard, cookie=cookie)
    assert status == 401
    assert b"curate view" in body


def test_the_link_gives_the_cookie(guard):
    """The token in a link becomes a cookie that scripts and other pages do not get, and leaves the address."""
    status, headers, _ = ask(guard, "/datasets/faces", f"view=missed-small&token={TOKEN}", cookie=None)
    assert status == 303
    assert headers[b"location"] == b"/datasets/faces?view=missed-small"
    assert headers[b"set-cookie"] == f"curate_{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/".encode()


def test_the_link_opened_again(guard):
    """With the cookie already there, the token leaves the address too."""
    assert ask(guard, "/", f"token={TOKEN}")[0] == 303


def test_a_redirect_stays_here(guard):
    """A path with two slashes, which names another host, does not lead there."""
    assert ask(guard, "//evil.example/x", f"token={TOKEN}", cookie=None)[1][b"location"] == b"/evil.example/x"


@pytest.mark.parametrize("query", ["token=other", "token=", f"token={TOKEN}&token={TOKEN}", f"Token={TOKEN}"])
def test_a_wrong_link(guard, query):
    """A wrong token, or two of them, let nobody in."""
    assert ask(guard, "/", query, cookie=None)[0] == 401


def test_a_link_only_opens(guard):
    """The token in the address of a POST does nothing."""
    assert ask(guard, "/graphql", f"token={TOKEN}", method="POST", cookie=None)[0] == 401


def test_a_ticket_is_good_once(guard):
    """What stood in a browser's command line, where others may see it, opens one time."""
    assert [ask(guard, "/", f"token={TICKET}", cookie=None)[0] for _ in range(2)] == [303, 401]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (HOST, 200),
        (f"LOCALHOST:{PORT}", 200),
        (f"evil.example:{PORT}", 403),
        ("127.0.0.1", 403),
        ("127.0.0.1:80", 403),
        (f"127.0.0.1.evil.example:{PORT}", 403),
        (None, 403),
    ],
)
def test_host(guard, host, status):
    """Only under its own names and port is the app served: a foreign name may have been bound to this address."""
    assert ask(guard, host=host)[0] == status


def test_the_address_that_was_reached(guard):
    """On a server that listens on all addresses, the one that a connection came to is a name too."""
    assert ask(guard, host=f"10.1.2.3:{PORT}", server=("10.1.2.3", PORT))[0] == 200
    assert ask(guard, host=f"[fd00::1]:{PORT}", server=("fd00::1", PORT))[0] == 200
    assert ask(guard, host=f"10.1.2.3:{PORT}", server=("::ffff:10.1.2.3", PORT))[0] == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (f"http://{HOST}", 200),
        ("http://evil.example", 403),
        (f"https://{HOST}", 403),
        (f"http://localhost:{PORT}", 403),
        ("null", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_origin(guard, origin, status, method):
    """A request that another page sends is refused, whatever it has."""
    assert ask(guard, "/tag" if method == "POST" else "/", method=method, origin=origin)[0] == status


def test_two_hosts(guard):
    """A header that is there twice can be read in two ways; it is refused."""
    assert ask(guard, headers={"Host": "evil.example"})[0] == 400


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/media", f"filepath={IMAGE}", 200),
        ("/media", "filepath=/etc/passwd", 403),
        ("/media", "filepath=%2Fetc%2Fpasswd", 403),
        ("/media", f"filepath={IMAGE}/../../../../etc/passwd", 403),
        ("/media", f"filepath={IMAGE}&filepath=/etc/passwd", 403),
        ("/media", "", 403),
        ("/media/", "filepath=/etc/passwd", 403),
        ("//media", "filepath=/etc/passwd", 403),
        ("/media/x", "", 403),
        ("/datasets/a", "filepath=/etc/passwd", 403),
        ("/anything", "filepath=/etc/passwd", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files(guard, path, query, status, method):
    """Only the dataset's images are given away, whatever the path is called."""
    assert ask(guard, path, query, method=method)[0] == status


def operator(uri):
    return json.dumps({"operator_uri": uri, "params": {}}).encode()


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("x", 403)]
)
def test_requests_of_other_pages(guard, site, status):
    """A picture in a page on another port of this machine is a request with the cookie: a browser tells whose it is."""
    assert ask(guard, "/datasets/faces", headers={"sec-fetch-site": site})[0] == status


def test_a_link_in_another_page(guard):
    """The link with the token opens from wherever it stands."""
    assert ask(guard, "/", f"token={TOKEN}", cookie=None, headers={"sec-fetch-site": "cross-site"})[0] == 303


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/graphql"),
        ("PUT", "/graphql"),
        ("PATCH", "/dataset/1/sample/2"),
        ("POST", "/dataset/1/sample/2/commit-mask"),
        ("POST", "/operators/execute/generator"),
        ("POST", "/operators/resolve-type"),
        ("POST", "/operators/subscribe-execution-store"),
        ("POST", "/media"),
        ("GET", "/screenshot/x.html"),
        ("GET", "/runtime-assets/models/sam2/x"),
        ("GET", "/plugins/x/index.js"),
        ("POST", "/frames"),
        ("DELETE", "/"),
        ("GET", "/..%2fetc"),
    ],
)
def test_what_is_not_needed(guard, method, path):
    """Services that looking and tagging do not take are off, known or not."""
    assert ask(guard, path, method=method)[0] == 403


@pytest.mark.parametrize("path", ["/", "/datasets/a/b", "/assets/x.js", "/datasets/assets/x.js"])
def test_pages(guard, path):
    """The app's own pages and files are served."""
    assert ask(guard, path)[0] == 200


@pytest.mark.parametrize("path", ["/operators/execute"])
@pytest.mark.parametrize(
    "name", ["list_files", "download_file", "delete_selected_samples", "clone_sample_field", "delete_sample_field"]
)
def test_operators_that_are_off(guard, path, name):
    """Operators that read or delete on this machine do not run."""
    status, _, body = ask(guard, path, method="POST", body=operator(f"@voxel51/operators/{name}"))
    assert (status, body) == (403, f"The operator @voxel51/operators/{name} is off.\n".encode())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"not json", b'{"operator_uri": ["a"]}', b'{"operator_uri": null}']
)
def test_an_operator_without_a_name(guard, body):
    """What does not say which operator it wants is refused."""
    assert ask(guard, "/operators/execute", method="POST", body=body)[0] == 403


@pytest.mark.parametrize("uri", sorted(OPERATORS))
def test_operators_that_show(guard, uri):
    """What the app needs goes through, with all that was sent."""
    status, _, body = ask(guard, "/operators/execute", method="POST", body=operator(uri))
    assert (status, body) == (200, operator(uri))


def test_the_list_of_operators(guard):
    """Which operators there are may be asked."""
    assert ask(guard, "/operators", method="POST", body=b'{"dataset_name": "faces"}')[0] == 200


def test_no_other_protocol(guard):
    """What is no HTTP request is not answered."""
    sent = []
    asyncio.run(guard({"type": "websocket"}, None, sent.append))
    assert sent == []


def test_media_follows_no_way_round(tmp_path):
    """A file counts by its exact path: neither `..` nor a link to elsewhere makes another one of it."""
    image, secret = tmp_path / "a.png", tmp_path / "secret"
    image.write_bytes(b"")
    secret.write_bytes(b"")
    (tmp_path / "b.png").symlink_to(secret)
    is_media = media_of(frozenset([str(image), str(tmp_path / "gone.png")]))
    assert is_media(str(image))
    for other in (secret, tmp_path / "b.png", tmp_path / "gone.png", tmp_path / "x" / ".." / "a.png"):
        assert not is_media(str(other))


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.9.1", True), ("0.0.0.0", False), ("me", False)],
)
def test_what_is_loopback(address, expected):
    """Only this machine reaches these."""
    assert is_loopback(address) is expected
