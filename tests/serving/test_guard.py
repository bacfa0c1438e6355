"""What stands before every page that curate serves: addresses, links, and who is let in."""

import asyncio

import pytest
from asking import ENTRANCE, HOST, PORT, TICKET, TOKEN, app, ask

from curate.errors import UsageError
from curate.serving.address import LOOPBACK, Entrance, is_loopback, take_port
from curate.serving.guard import Guard, RefusedError

POLICY = "default-src 'self'"
USUAL = 5151


def check(scope, query):
    """Refuses one path and one parameter."""
    if scope["path"] == "/secret" or ("secret", "1") in query:
        raise RefusedError(418, "Not this.")


@pytest.fixture
def guard():
    """A guard before an app that answers everything."""
    return Guard(app, ENTRANCE, check, POLICY, "view")


def test_with_the_cookie(guard):
    """Who has the cookie is let through, and told the browser's rules."""
    status, headers, body = ask(guard, "/datasets/faces")
    assert (status, body) == (200, b"/datasets/faces")
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"content-security-policy"] == POLICY.encode()
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
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("x", 403)]
)
def test_requests_of_other_pages(guard, site, status):
    """A picture in a page on another port of this machine is a request with the cookie: a browser tells whose it is."""
    assert ask(guard, "/datasets/faces", headers={"sec-fetch-site": site})[0] == status


def test_a_link_in_another_page(guard):
    """The link with the token opens from wherever it stands."""
    assert ask(guard, "/", f"token={TOKEN}", cookie=None, headers={"sec-fetch-site": "cross-site"})[0] == 303


def test_no_other_protocol(guard):
    """What is no HTTP request is not answered."""
    sent = []
    asyncio.run(guard({"type": "websocket"}, None, sent.append))
    assert sent == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.9.1", True), ("0.0.0.0", False), ("me", False)],
)
def test_what_is_loopback(address, expected):
    """Only this machine reaches these."""
    assert is_loopback(address) is expected


def test_two_cannot_have_one_port():
    """A port is taken from the first moment on, not only when the app answers; without a number there is another."""
    first = take_port(LOOPBACK, None, usual=USUAL)
    port = first.getsockname()[1]
    with first, pytest.raises(UsageError, match="free port"):
        take_port(LOOPBACK, port, usual=USUAL)


def test_another_port_where_the_usual_one_is_taken():
    """Without a number, any free port is as good."""
    with take_port(LOOPBACK, 0, usual=USUAL) as first:
        taken = first.getsockname()[1]
        second = take_port(LOOPBACK, None, usual=taken)
        with second:
            assert second.getsockname()[1] != taken


@pytest.mark.parametrize("port", [-1, 70000])
def test_what_is_no_port(port):
    """A number that is none is refused."""
    with pytest.raises(UsageError, match="--port"):
        take_port(LOOPBACK, port, usual=USUAL)


def test_no_address():
    """An empty address would be all addresses; it is refused."""
    with pytest.raises(UsageError, match="--address"):
        take_port("", 0, usual=USUAL)


def test_what_the_app_refuses(guard):
    """The check of the app comes after that of the person, and its answer has the browser's rules too."""
    assert [ask(guard, path, query, cookie=None)[0] for path, query in (("/secret", ""), ("/", "secret=1"))] == [
        401
    ] * 2
    for path, query in (("/secret", ""), ("/", "secret=1")):
        status, headers, body = ask(guard, path, query)
        assert (status, body) == (418, b"Not this.\n")
        assert headers[b"content-security-policy"] == POLICY.encode()


def test_refused_by_the_app_itself():
    """An app that looks into a request refuses in the same way."""

    async def refusing(scope, receive, send):
        raise RefusedError(413, "Too long.")

    status, headers, body = ask(Guard(refusing, ENTRANCE, check, POLICY, "watch"))
    assert (status, body, headers[b"x-frame-options"]) == (413, b"Too long.\n", b"DENY")


def test_the_command_is_named():
    """Who comes without the token learns which command printed the link."""
    body = ask(Guard(app, ENTRANCE, check, POLICY, "watch"), cookie=None)[2]
    assert body == b"Open the link that `curate watch` printed: it has the token.\n"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.localhost", "http://a.localhost:5151/a%20b?view=x+y&token=s3cret"),
        ("::1", "http://[::1]:5151/a%20b?view=x+y&token=s3cret"),
    ],
)
def test_links(host, expected):
    """A link names the host, the path, what is asked for, and the token; one for one time has the ticket."""
    entrance = Entrance(host, PORT, frozenset({host}), TOKEN, TICKET)
    assert entrance.link("/a b", {"view": "x y"}) == expected
    assert entrance.link("/", once=True).endswith(f":{PORT}/?token={TICKET}")


def test_names_of_an_entrance():
    """A server on the loopback has its local names; on another address only that one; each has tokens of its own."""
    with take_port(LOOPBACK, 0, usual=USUAL) as taken:
        one, two = Entrance.at(taken, LOOPBACK), Entrance.at(taken, "192.0.2.7")
        assert one.port == taken.getsockname()[1]
    assert one.names == {one.host, "127.0.0.1", "localhost", "::1"}
    assert two.names == {two.host} == {"192.0.2.7"}
    assert len({one.token, one.ticket, two.token, two.ticket}) == 4
    assert min(len(one.token), len(one.ticket)) >= 32
