"""What `view` prints when the app is ready, and `pull-tags` when it is done."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from curate.cli.tables import new_table


def view_lines(document: Mapping[str, Any]) -> RenderableType:
    """The link, and what each saved view shows; names are links where the terminal knows them."""
    table = new_table(_what(document), "view", "images", "objects", left=1)
    for view in document["views"]:
        if not view["patches"]:
            name = Text(view["name"], style=Style(link=view["link"]))
            table.add_row(name, str(view["images"]), "" if view["objects"] is None else str(view["objects"]))
    patches = (
        "“… patches” of each shows the objects alone. Tag images `relabel` or `drop`; `curate pull-tags` takes them."
    )
    return Group(table, Text(patches), Text(f"\nOpen {document['link']}", style="bold"), Text("Ctrl-C ends it."))


def pulled_lines(document: Mapping[str, Any]) -> RenderableType:
    """What lies ready to be corrected, and what was dropped."""
    lines = []
    if document["relabel"]:
        lines.append(f"{_images(document['relabel'])} to correct in {document['folder']}")
        lines += [f"  {path}" for path in document["relabel"]]
    if document["dropped"]:
        version = "would go" if document["version"] is None else f"gone in version {document['version']}"
        lines.append(f"{_images(document['dropped'])} {version}")
        lines += [f"  {path}" for path in document["dropped"]]
    return Text("\n".join(lines))


def _images(paths: Sequence[str]) -> str:
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'}"


def _what(document: Mapping[str, Any]) -> str:
    what = f"{document['images']} images, version {document['version']}"
    if not document["runs"]:
        return what
    side = document["min_side_px"]
    interest = f", sides of at least {side:g} px" if side else ""
    return f"{what}; {', '.join(document['runs'])} on {document['split']}, scores from {document['score']:g}{interest}"
