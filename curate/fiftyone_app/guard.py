"""Guard of the FiftyOne app, whose own server checks neither the sender of a request nor its content.

`curate.serving.guard` checks the sender. A request passes this module if

- it is for a page of the app, or for one of the services that viewing and tagging need,
- a file that it names, under whatever path, is one of the app's images,
- an operator that it runs is a known one that only shows content. Operators that list or read files of this machine,
  or that change or delete content, are refused, and so are unknown ones.

`limit_requests` limits what the server instantiates by a class name in a request to stages of views and aggregations.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from curate.serving.address import Entrance
from curate.serving.guard import App, Guard, Message, Query, Receive, RefusedError, Scope, Send

PAGES = frozenset({"", "datasets"})  # first parts of paths; `guard_app` adds the app's own files
SERVICES = {
    "aggregate": "POST",
    "event": "POST",
    "events": "POST",
    "features": "GET",
    "fiftyone": "GET",
    "graphql": "POST",
    "media": "GET",
    "operators": "POST",
    "operators/execute": "POST",
    "operators/resolve-placements": "POST",
    "plugins": "GET",
    "sort": "POST",
    "tag": "POST",
    "tagging": "POST",
    "values": "POST",
}
_BUILTIN = "@voxel51/operators/"
OPERATORS = frozenset(
    _BUILTIN + name
    for name in (
        "edit_field_info",
        "get_field_schema",
        "get_label_schemas",
        "list_saved_views",
        "list_workspaces",
        "load_group_by",
        "load_saved_view",
        "load_workspace",
        "reload_saved_view",
        "save_view",
        "save_workspace",
    )
)
_POLICY = "; ".join(
    (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",  # the app evaluates scripts
        "style-src-elem 'self' 'unsafe-inline'",  # no fonts from other hosts
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)
_MAX_BODY = 16 * 2**20  # bytes of a request that is parsed
_UNSAFE_STAGES = frozenset({"Mongo", "Concat", "ToFrames", "ToClips", "ToTrajectories"})  # run pipelines, write files
_SAFE_PACKAGES = ("fiftyone.", "eta.")


def guard_app(
    app: App,
    entrance: Entrance,
    is_media: Callable[[str], bool],
    files: Collection[str] = (),
    admit: Callable[[Any], object] = lambda _: None,
) -> Guard:
    """Put the FiftyOne app behind all checks.

    Args:
        app: FiftyOne's app.
        entrance: Entrance of its server.
        is_media: Whether a file is one of the app's images.
        files: The app's own files and folders, as first parts of paths.
        admit: See `Guard`.
    """
    check = _RequestCheck(is_media, frozenset({*PAGES, *files}))
    return Guard(_OperatorCheck(_without_stacks(app)), entrance, check, _POLICY, "view", admit)


def _without_stacks(app: App) -> App:
    """An app whose responses hold no stack trace: FiftyOne sends those of its errors, with paths of this machine."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None
        body = bytearray()

        async def checked(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                kind = dict(message.get("headers", ())).get(b"content-type", b"")
                if message["status"] >= 500 or kind.startswith(b"application/json"):
                    start = message
                    return
            if start is None:
                await send(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            content = _hide_stacks(bytes(body), start["status"])
            headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            length = (b"content-length", str(len(content)).encode())
            await send({**start, "headers": [*headers, length]})
            await send({**message, "body": content})

        if scope["type"] == "http":  # compressed content could not be checked
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
            await app(scope, receive, checked)
        else:
            await app(scope, receive, send)

    return wrapped


def _hide_stacks(content: bytes, status: int) -> bytes:
    if status < 500 and b'"stack"' not in content and b"Traceback" not in content:
        return content
    try:
        return json.dumps(_hidden(json.loads(content))).encode()
    except (ValueError, RecursionError):
        return b"The server failed to answer.\n"


def _hidden(value: Any) -> Any:
    """A document without stacks."""
    if isinstance(value, dict):
        return {key: None if key == "stack" else _hidden(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner) for inner in value]
    if isinstance(value, str) and "Traceback (most recent call last)" in value:
        return value.strip().rpartition("\n")[2]  # the error itself
    return value


@dataclass(frozen=True, eq=False)
class _RequestCheck:
    """Refuses unknown services, and files that are not images of the app."""

    is_media: Callable[[str], bool]
    pages: frozenset[str]

    def __call__(self, scope: Scope, query: Query) -> None:
        path, method = scope["path"].removeprefix("/"), "GET" if scope["method"] == "HEAD" else scope["method"]
        is_page = method == "GET" and path.split("/")[0] in self.pages
        if not is_page and SERVICES.get(path) != method:
            raise RefusedError(403, "This service is not available.")
        self._check_files(scope, query)

    def _check_files(self, scope: Scope, query: Query) -> None:
        files = [value for name, value in query if name == "filepath"]
        needs_file = scope["path"] == "/media"
        if (needs_file and len(files) != 1) or not all(map(self.is_media, files)):
            raise RefusedError(403, "Only images of this dataset are available.")


@dataclass(frozen=True, eq=False)
class _OperatorCheck:
    """An app that refuses unknown operators."""

    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/operators/execute"):
            receive = await _check_operator(receive)
        await self.app(scope, receive, send)


async def _check_operator(receive: Receive) -> Receive:
    """Read the body of a request and check its operator; the returned function delivers the body again."""
    body, messages = b"", []
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise RefusedError(413, "The request is too long.")
        if not message.get("more_body"):
            break
    try:
        operator = json.loads(body)["operator_uri"]
    except (ValueError, KeyError, TypeError):
        operator = None
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise RefusedError(403, f"The operator {operator} is not available.")

    async def receive_again() -> Message:
        return messages.pop(0) if messages else await receive()

    return receive_again


def limit_requests() -> None:
    """Limit what requests can instantiate in this process to FiftyOne's own safe stages and aggregations.

    FiftyOne must be imported.
    """
    import eta.core.utils as etau
    from fiftyone.core.aggregations import Aggregation
    from fiftyone.core.stages import ViewStage

    for base in (ViewStage, Aggregation):
        _limit_subclasses(base)
    if not hasattr(etau.get_class, "limited"):
        etau.get_class = _limit_get_class(etau.get_class)


def _limit_subclasses(base: Any) -> None:
    if hasattr(base._from_dict, "limited"):
        return
    build = base._from_dict

    def from_dict(d: Any) -> Any:
        if not isinstance(d, dict) or d.get("_cls") not in _safe_names(base):
            raise ValueError(f"not to be built on request: {d.get('_cls') if isinstance(d, dict) else d!r}")
        return build(d)

    from_dict.limited = True  # pyright: ignore[reportFunctionMemberAccess]
    base._from_dict = staticmethod(from_dict)


def _safe_names(base: Any) -> set[str]:
    """Full names of the subclasses that FiftyOne itself defines, without unsafe ones."""
    subclasses = base.__subclasses__()
    own = {f"{one.__module__}.{one.__qualname__}" for one in subclasses if one.__name__ not in _UNSAFE_STAGES}
    return {name for name in own.union(*map(_safe_names, subclasses)) if name.startswith("fiftyone.core.")}


def _limit_get_class(get_class: Callable[..., Any]) -> Callable[..., Any]:
    def limited(class_name: str, module_name: str | None = None) -> Any:
        if not f"{module_name or class_name}.".startswith(_SAFE_PACKAGES):
            raise ImportError(f"not to be imported on request: {class_name}")
        return get_class(class_name, module_name)

    limited.limited = True  # pyright: ignore[reportFunctionMemberAccess]
    return limited
