"""Guard of the FiftyOne app: services, files and operators."""

import json

import pytest
from asking import ENTRANCE, app, ask

from curate.fiftyone_app.guard import OPERATORS, guard_app
from curate.fiftyone_app.server import media_of

IMAGE = "/faces/media/images/a.png"


@pytest.fixture
def guard():
    """A guard for one image."""
    return guard_app(app, ENTRANCE, lambda path: path == IMAGE, ["assets"])


def test_who_is_let_in(guard):
    """Without the cookie of `view` a request is refused; with it the response has the policy."""
    status, _, body = ask(guard, "/datasets/faces", cookie=None)
    assert (status, body) == (401, b"Open the link that `curate view` printed: it has the token.\n")
    status, headers, body = ask(guard, "/datasets/faces")
    assert (status, body) == (200, b"/datasets/faces")
    assert b"default-src 'self'" in headers[b"content-security-policy"]


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
    """Only images of the dataset are served, under any path."""
    assert ask(guard, path, query, method=method)[0] == status


def operator(uri):
    return json.dumps({"operator_uri": uri, "params": {}}).encode()


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
    """Services that viewing and tagging do not need are refused, known or not."""
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
    """Operators that read or delete files of this machine are refused."""
    status, _, body = ask(guard, path, method="POST", body=operator(f"@voxel51/operators/{name}"))
    assert (status, body) == (403, f"The operator @voxel51/operators/{name} is not available.\n".encode())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"not json", b'{"operator_uri": ["a"]}', b'{"operator_uri": null}']
)
def test_an_operator_without_a_name(guard, body):
    """A request without an operator is refused."""
    assert ask(guard, "/operators/execute", method="POST", body=body)[0] == 403


@pytest.mark.parametrize("uri", sorted(OPERATORS))
def test_operators_that_show(guard, uri):
    """A known operator gets the whole request."""
    status, _, body = ask(guard, "/operators/execute", method="POST", body=operator(uri))
    assert (status, body) == (200, operator(uri))


def test_the_list_of_operators(guard):
    """The list of operators is available."""
    assert ask(guard, "/operators", method="POST", body=b'{"dataset_name": "faces"}')[0] == 200


def test_media_follows_no_way_round(tmp_path):
    """A file is served by its exact path only, without `..` and links."""
    image, secret = tmp_path / "a.png", tmp_path / "secret"
    image.write_bytes(b"")
    secret.write_bytes(b"")
    (tmp_path / "b.png").symlink_to(secret)
    is_media = media_of(frozenset([str(image), str(tmp_path / "gone.png")]))
    assert is_media(str(image))
    for other in (secret, tmp_path / "b.png", tmp_path / "gone.png", tmp_path / "x" / ".." / "a.png"):
        assert not is_media(str(other))


TRACE = 'Traceback (most recent call last):\n  File "/home/me/x.py", line 3\nValueError: no such field\n'


@pytest.mark.parametrize(
    ("status", "kind", "body", "expected"),
    [
        (500, b"application/json", {"kind": "Server Error", "stack": TRACE}, {"kind": "Server Error", "stack": None}),
        (
            200,
            b"application/json",
            {"errors": [{"extensions": {"stack": ["x.py"]}}]},
            {"errors": [{"extensions": {"stack": None}}]},
        ),
        (200, b"application/json; charset=utf-8", {"error": TRACE}, {"error": "ValueError: no such field"}),
        (200, b"application/json", {"stacks": 3, "text": "a"}, {"stacks": 3, "text": "a"}),
        (500, b"text/plain", TRACE, None),
    ],
)
def test_errors_hold_no_stack_trace(status, kind, body, expected):
    """FiftyOne sends the stack of an error; the guard leaves it out, and what the app says stays."""

    async def fails(scope, receive, send):
        assert b"accept-encoding" not in dict(scope["headers"])
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content[:5], "more_body": True})
        await send({"type": "http.response.body", "body": content[5:]})

    guard = guard_app(fails, ENTRANCE, lambda _: False)
    answered, headers, sent = ask(guard, "/events", method="POST", **{"accept-encoding": "gzip"})
    assert (answered, int(headers[b"content-length"])) == (status, len(sent))
    assert b"/home/me" not in sent
    assert b"x.py" not in sent
    assert expected is None or json.loads(sent) == expected
