"""Access control of the pages that curate serves: addresses, links, tokens."""

import asyncio
import inspect
import socket
import sys
from urllib.parse import urlencode

import pytest
from asking import ENTRANCE, HOST, PORT, TICKET, TOKEN, app, ask

from curate.cli.view import view
from curate.cli.watch import watch
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
    """A guard in front of an app that answers everything."""
    return Guard(app, ENTRANCE, check, POLICY, "view")


def test_with_the_cookie(guard):
    """A request with the cookie passes, and the response has the policy."""
    status, headers, body = ask(guard, "/datasets/faces")
    assert (status, body) == (200, b"/datasets/faces")
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"content-security-policy"] == POLICY.encode()
    assert headers[b"content-type"] == b"text/plain"


@pytest.mark.parametrize("cookie", [None, f"curate_{PORT}=other", f"curate_5152={TOKEN}", f"curate_{PORT}="])
def test_without_the_cookie(guard, cookie):
    """Without the cookie, with a wrong one, or with that of another port a request is refused."""
    status, _, body = ask(guard, cookie=cookie)
    assert status == 401
    assert b"curate view" in body


def test_the_link_gives_the_cookie(guard):
    """The token of a link becomes a cookie for this page only, and disappears from the address."""
    status, headers, _ = ask(guard, "/datasets/faces", f"view=missed-small&token={TOKEN}", cookie=None)
    assert status == 303
    assert headers[b"location"] == b"/datasets/faces?view=missed-small"
    assert headers[b"set-cookie"] == f"curate_{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/".encode()


def test_the_link_opened_again(guard):
    """The token also disappears from the address if the cookie is set already."""
    assert ask(guard, "/", f"token={TOKEN}")[0] == 303


def test_a_redirect_stays_here(guard):
    """A path with two slashes does not redirect to another host."""
    assert ask(guard, "//evil.example/x", f"token={TOKEN}", cookie=None)[1][b"location"] == b"/evil.example/x"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/\\evil.example", b"/evil.example"),
        ("/\\/evil.example", b"/evil.example"),
        ("\\\\evil.example", b"/evil.example"),
        ("https://evil.example/x", b"/https://evil.example/x"),
        ("/a\r\nset-cookie: x=1", b"/a%0D%0Aset-cookie:%20x=1"),
        ("/a\n", b"/a%0A"),
        ("/a?b#c", b"/a%3Fb%23c"),
        ("/%2F/evil.example", b"/%252F/evil.example"),
        ("/é\udcff\u202e", b"/%C3%A9%3F%E2%80%AE"),
        ("", b"/"),
    ],
)
def test_a_redirect_is_a_path_of_ours(guard, path, location):
    """Nothing in a path becomes another host, a query or a header of the redirect."""
    status, headers, _ = ask(guard, path, f"token={TOKEN}", cookie=None)
    assert (status, headers[b"location"]) == (303, location)


def test_a_redirect_goes_to_what_is_there(guard):
    """A path that the app does not answer is refused before the cookie is set."""
    status, headers, _ = ask(guard, "/secret", f"token={TOKEN}", cookie=None)
    assert status == 418
    assert b"set-cookie" not in headers


@pytest.mark.parametrize("text", ["a\r\nb", "\udcff", "%ff", "\u202e"])
def test_a_redirect_keeps_its_query(guard, text):
    """Values of the query are encoded again."""
    status, headers, _ = ask(guard, "/", f"{urlencode({'view': text}, errors='replace')}&token={TOKEN}", cookie=None)
    assert status == 303
    assert headers[b"location"].isascii()
    assert not {b"\r", b"\n"} & {headers[b"location"][at : at + 1] for at in range(len(headers[b"location"]))}


def test_who_is_in_is_told(guard):
    """The connection of a request with the cookie or the token is admitted, that of another is not."""
    admitted = []
    told = Guard(app, ENTRANCE, check, POLICY, "view", admitted.append)
    ask(told, cookie=None)
    ask(told, cookie=f"curate_{PORT}=wrong")
    assert admitted == []
    ask(told)
    ask(told, "/", f"token={TOKEN}", cookie=None)
    assert len(admitted) == 2


def test_an_error_says_nothing(caplog):
    """An app that fails answers in one line, without its stack; the log has one line."""

    async def fails(scope, receive, send):
        raise ZeroDivisionError("/home/me/secret.py")

    status, _, body = ask(Guard(fails, ENTRANCE, check, POLICY, "view"))
    assert (status, body) == (500, b"The server failed to answer.\n")
    assert [record.getMessage() for record in caplog.records] == ["the page failed to answer ZeroDivisionError: '/'"]


@pytest.mark.parametrize("query", ["token=other", "token=", f"token={TOKEN}&token={TOKEN}", f"Token={TOKEN}"])
def test_a_wrong_link(guard, query):
    """A wrong token, or two tokens, are refused."""
    assert ask(guard, "/", query, cookie=None)[0] == 401


def test_a_link_only_opens(guard):
    """The token in the address of a POST is refused."""
    assert ask(guard, "/graphql", f"token={TOKEN}", method="POST", cookie=None)[0] == 401


def test_a_ticket_is_good_once(guard):
    """A link with a ticket, which others can see in the process list, works once."""
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
    """A request for another host name or port is refused, which prevents DNS rebinding."""
    assert ask(guard, host=host)[0] == status


def test_the_address_that_was_reached(guard):
    """A server on all addresses accepts the address of the connection as a host name."""
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
    """A request from another page is refused, even with the cookie."""
    assert ask(guard, "/tag" if method == "POST" else "/", method=method, origin=origin)[0] == status


def test_two_hosts(guard):
    """A header that occurs twice is refused."""
    assert ask(guard, headers={"Host": "evil.example"})[0] == 400


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("x", 403)]
)
def test_requests_of_other_pages(guard, site, status):
    """A request from a page on another port, which sends the cookie, is refused by Sec-Fetch-Site."""
    assert ask(guard, "/datasets/faces", headers={"sec-fetch-site": site})[0] == status


def test_a_link_in_another_page(guard):
    """The link with the token works from any page."""
    assert ask(guard, "/", f"token={TOKEN}", cookie=None, headers={"sec-fetch-site": "cross-site"})[0] == 303


def test_no_other_protocol(guard):
    """Only HTTP requests are answered."""
    sent = []
    asyncio.run(guard({"type": "websocket"}, None, sent.append))
    assert sent == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.9.1", True), ("0.0.0.0", False), ("me", False)],
)
def test_what_is_loopback(address, expected):
    """Loopback addresses are recognised."""
    assert is_loopback(address) is expected


def test_two_cannot_have_one_port():
    """A port is in use as soon as it is taken; without a number another one is chosen."""
    first = take_port(LOOPBACK, None, usual=USUAL)
    port = first.getsockname()[1]
    with first, pytest.raises(UsageError, match="free port"):
        take_port(LOOPBACK, port, usual=USUAL)


def test_another_port_where_the_usual_one_is_taken():
    """Without a number, any free port is taken if the usual one is in use."""
    with take_port(LOOPBACK, 0, usual=USUAL) as first:
        taken = first.getsockname()[1]
        second = take_port(LOOPBACK, None, usual=taken)
        with second:
            assert second.getsockname()[1] != taken


@pytest.mark.parametrize("port", [-1, 70000])
def test_what_is_no_port(port):
    """An invalid port raises an error."""
    with pytest.raises(UsageError, match="--port"):
        take_port(LOOPBACK, port, usual=USUAL)


@pytest.mark.parametrize("command", [view, watch])
def test_only_on_the_loopback(command):
    """Without `--address`, a page is bound to one address of this machine, and answers on no other."""
    address = inspect.signature(command).parameters["address"].default
    with take_port(address, 0, usual=USUAL) as taken:
        host, port = taken.getsockname()
        assert host == LOOPBACK
        if sys.platform == "linux":  # where all of 127.0.0.0/8 is this machine
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=2):
                pass


def test_no_address():
    """An empty address, which would mean all addresses, raises an error."""
    with pytest.raises(UsageError, match="--address"):
        take_port("", 0, usual=USUAL)


def test_what_the_app_refuses(guard):
    """The app's check runs after access control, and its response has the policy too."""
    assert [ask(guard, path, query, cookie=None)[0] for path, query in (("/secret", ""), ("/", "secret=1"))] == [
        401
    ] * 2
    for path, query in (("/secret", ""), ("/", "secret=1")):
        status, headers, body = ask(guard, path, query)
        assert (status, body) == (418, b"Not this.\n")
        assert headers[b"content-security-policy"] == POLICY.encode()


def test_refused_by_the_app_itself():
    """An app can refuse a request in the same way."""

    async def refusing(scope, receive, send):
        raise RefusedError(413, "Too long.")

    status, headers, body = ask(Guard(refusing, ENTRANCE, check, POLICY, "watch"))
    assert (status, body, headers[b"x-frame-options"]) == (413, b"Too long.\n", b"DENY")


def test_the_command_is_named():
    """The response to a request without the token names the command that printed the link."""
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
    """A link has host, path, query and token; a link for one request has the ticket."""
    entrance = Entrance(host, PORT, frozenset({host}), TOKEN, TICKET)
    assert entrance.link("/a b", {"view": "x y"}) == expected
    assert entrance.link("/", once=True).endswith(f":{PORT}/?token={TICKET}")


def test_names_of_an_entrance():
    """A server on the loopback has local names, on another address only that one; tokens are unique."""
    with take_port(LOOPBACK, 0, usual=USUAL) as taken:
        one, two = Entrance.at(taken, LOOPBACK), Entrance.at(taken, "192.0.2.7")
        assert one.port == taken.getsockname()[1]
    assert one.names == {one.host, "127.0.0.1", "localhost", "::1"}
    assert two.names == {two.host} == {"192.0.2.7"}
    assert len({one.token, one.ticket, two.token, two.ticket}) == 4
    assert min(len(one.token), len(one.ticket)) >= 32
