"""What the FiftyOne app may be asked for: its server checks neither who asks nor for what.

Who asks is checked by `curate.serving.guard`. What is asked for passes when

- it is a page of the app, or one of the few services that looking and tagging take,
- the file it wants, under whatever path it asks, is one of the app's images,
- the operator it wants to run is one that only shows: those that list or fetch files of this machine, or that change
  or delete what the dataset holds, are refused, and so is every one that is not known here.

What a request may have built by name is limited in `fiftyone_limits`.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from curate.serving.address import Entrance
from curate.serving.guard import App, Guard, Message, Query, Receive, RefusedError, Scope, Send

# these run pipelines as they are given, or write files
_OFF = frozenset({"Mongo", "Concat", "ToFrames", "ToClips", "ToTrajectories"})
_HOME = ("fiftyone.", "eta.")


def limit_requests() -> None:
    """From now on, only what looks at a view is built by name, in this process. FiftyOne must be imported."""
    import eta.core.utils as etau
    from fiftyone.core.aggregations import Aggregation
    from fiftyone.core.stages import ViewStage

    for base in (ViewStage, Aggregation):
        _limit(base)
    if not hasattr(etau.get_class, "limited"):
        etau.get_class = _only_fiftyone(etau.get_class)


def _limit(base: Any) -> None:
    if hasattr(base._from_dict, "limited"):
        return
    build = base._from_dict

    def from_dict(d: Any) -> Any:
        if not isinstance(d, dict) or d.get("_cls") not in _names(base):
            raise ValueError(f"not to be built on request: {d.get('_cls') if isinstance(d, dict) else d!r}")
        return build(d)

    from_dict.limited = True  # pyright: ignore[reportFunctionMemberAccess]
    base._from_dict = staticmethod(from_dict)


def _names(base: Any) -> set[str]:
    """Full names of the classes below one, where FiftyOne itself defines them."""
    below = base.__subclasses__()
    own = {f"{one.__module__}.{one.__qualname__}" for one in below if one.__name__ not in _OFF}
    return {name for name in own.union(*map(_names, below)) if name.startswith("fiftyone.core.")}


def _only_fiftyone(get_class: Callable[..., Any]) -> Callable[..., Any]:
    def limited(class_name: str, module_name: str | None = None) -> Any:
        if not f"{module_name or class_name}.".startswith(_HOME):
            raise ImportError(f"not to be imported on request: {class_name}")
        return get_class(class_name, module_name)

    limited.limited = True  # pyright: ignore[reportFunctionMemberAccess]
    return limited


_MOST_BYTES = 16 * 2**20  # of a request that is looked into
PAGES = frozenset({"", "datasets"})  # first parts of paths; the app's own files come to it
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
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",  # the app is one of scripts that make scripts
        "style-src-elem 'self' 'unsafe-inline'",  # no fonts from elsewhere
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)


def guard_app(
    app: App,
    entrance: Entrance,
    is_media: Callable[[str], bool],
    files: Collection[str] = (),
) -> Guard:
    """The FiftyOne app behind all checks.

    Args:
        app: FiftyOne's.
        entrance: of its server.
        is_media: whether a file is one of the app's images.
        files: the app's own files and folders, as first parts of paths.
    """
    check = _Services(is_media, frozenset({*PAGES, *files}))
    return Guard(_KnownOperators(app), entrance, check, _POLICY, "view")


@dataclass(frozen=True, eq=False)
class _Services:
    is_media: Callable[[str], bool]
    pages: frozenset[str]

    def __call__(self, scope: Scope, query: Query) -> None:
        path, method = scope["path"].removeprefix("/"), "GET" if scope["method"] == "HEAD" else scope["method"]
        is_page = method == "GET" and path.split("/")[0] in self.pages
        if not is_page and SERVICES.get(path) != method:
            raise RefusedError(403, "This is not served here.")
        self._check_files(scope, query)

    def _check_files(self, scope: Scope, query: Query) -> None:
        files = [value for name, value in query if name == "filepath"]
        wants_media = scope["path"] == "/media"
        if (wants_media and len(files) != 1) or not all(map(self.is_media, files)):
            raise RefusedError(403, "Only images of this dataset are served.")


@dataclass(frozen=True, eq=False)
class _KnownOperators:
    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/operators/execute"):
            receive = await _check_operator(receive)
        await self.app(scope, receive, send)


async def _check_operator(receive: Receive) -> Receive:
    """Look into the request which operator it is to run; what was read is given again."""
    body, messages = b"", []
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise RefusedError(413, "The request is too long.")
        if not message.get("more_body"):
            break
    try:
        wanted = json.loads(body)["operator_uri"]
    except (ValueError, KeyError, TypeError):
        wanted = None
    if not isinstance(wanted, str) or wanted not in OPERATORS:
        raise RefusedError(403, f"The operator {wanted} is off.")

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again
