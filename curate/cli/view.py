"""Commands around the app: `view`, `pull-tags`."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder, DryRun, MinSide
from curate.cli.output import progress_on_stderr, show

if TYPE_CHECKING:
    from curate.commands.view import ViewResult


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
    from curate.cli.view_tables import view_lines
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
    from curate.cli.view_tables import pulled_lines
    from curate.commands.pull_tags import pull_tags as step

    with progress_on_stderr() as progress:
        result = step(dataset, keep_tags=keep_tags, dry_run=dry_run, progress=progress)
    show(result, pulled_lines, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command("view", rich_help_panel="Train and judge")(view)
    app.command("pull-tags", rich_help_panel="Train and judge")(pull_tags)
