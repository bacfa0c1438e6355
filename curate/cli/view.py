"""`view`."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from curate.cli.options import Address, AsJson, DatasetFolder, LastMinSide, LastScore, SplitName
from curate.cli.output import progress_on_stderr, show
from curate.cli.table import Table
from curate.formatting import count_of

if TYPE_CHECKING:
    from curate.commands.view import ViewResult


def view_lines(document: Mapping[str, Any]) -> RenderableType:
    """Counts of each saved view, and the link. Names are links where the terminal supports them."""
    table = Table(_title(document), "view", "images", "objects")
    for view in document["views"]:
        if not view["patches"]:
            name = Text(view["name"], style=Style(link=view["link"]))
            table.add_row(name, str(view["images"]), "" if view["objects"] is None else str(view["objects"]))
    patches = (
        "Each view has a second one, NAME patches, with the objects alone."
        " Tag images `relabel` or `drop`; `curate pull-tags` applies the tags."
    )
    link = Text.assemble(("Open ", "bold"), (document["link"], f"bold link {document['link']}"))
    return Group(table, Text(patches), Text(), link, Text("Press Ctrl-C to stop."))


def _title(document: Mapping[str, Any]) -> str:
    title = f"{count_of(document['images'], 'image')}, version {document['version']}"
    if not document["runs"]:
        return title
    side = document["min_side_px"]
    interest = f", sides of at least {side:g} px" if side else ""
    return f"{title}; {', '.join(document['runs'])} on {document['split']}, scores from {document['score']:g}{interest}"


def view(
    dataset: DatasetFolder,
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN", help="Run to show, by name or path; repeatable. Objects are coloured by the first."
        ),
    ] = None,
    split: SplitName = "val",
    min_side: LastMinSide = None,
    score: LastScore = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of the app.", show_default="5151, or a free one")
    ] = None,
    address: Address = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the link without opening a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.view import view as command

    with ExitStack() as bars:

        def ready(result: "ViewResult") -> None:
            bars.close()
            show(result, view_lines, as_json=as_json)
            sys.stdout.flush()  # a reader at the other end of a pipe waits for the link

        command(
            dataset,
            run=run or (),
            split=split,
            min_side=min_side,
            score=score,
            port=port,
            address=address,
            browser=not no_browser,
            on_ready=ready,
            progress=bars.enter_context(progress_on_stderr()),
        )
