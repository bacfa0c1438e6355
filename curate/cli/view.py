"""Commands around the app: `view`, `pull-tags`."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, DryRun, MinSide
from curate.cli.output import progress_on_stderr, show
from curate.cli.tables import new_table

if TYPE_CHECKING:
    from curate.commands.view import ViewResult


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


def view(
    dataset: DatasetFolder,
    run: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="A run, by name or path; repeatable. The first colours.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all: where runs are judged.")] = "val",
    min_side: MinSide = None,
    score: Annotated[
        float | None, typer.Option(help="Lowest score that counts; default: as the run was evaluated last, else 0.5.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Default: 5151, or any that is free.")] = None,
    address: Annotated[
        str, typer.Option(help="Where to listen; another than this is for all who can reach this machine.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the link.")] = False,
    as_json: AsJson = False,
) -> None:
    """Browse the dataset, and what runs missed, by size, in the FiftyOne app; until Ctrl-C."""
    from curate.commands.view import view as step

    with ExitStack() as bars:

        def ready(result: "ViewResult") -> None:
            bars.close()
            show(result, view_lines, as_json=as_json)
            sys.stdout.flush()  # who reads it through a pipe waits for the link

        step(
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


def pull_tags(
    dataset: DatasetFolder,
    keep_tags: Annotated[bool, typer.Option("--keep-tags", help="Leave the tags in the app.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take in what was tagged `relabel` or `drop` in the app: to LabelImg, or a version without."""
    from curate.commands.pull_tags import pull_tags as step

    with progress_on_stderr() as progress:
        result = step(dataset, keep_tags=keep_tags, dry_run=dry_run, progress=progress)
    show(result, pulled_lines, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command("view", rich_help_panel="Train and judge")(view)
    app.command("pull-tags", rich_help_panel="Train and judge")(pull_tags)
