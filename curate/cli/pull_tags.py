"""`pull-tags`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, DryRun
from curate.cli.output import progress_on_stderr, show
from curate.formatting import count_of


def pulled_lines(document: Mapping[str, Any]) -> RenderableType:
    """The images to correct and their folder, and the dropped images."""
    lines = []
    if document["relabel"]:
        folder = f" in {document['folder']}" if document["folder"] else ""  # a dry run makes no folder
        lines.append(f"{count_of(len(document['relabel']), 'image')} to correct{folder}")
        lines += [f"  {path}" for path in document["relabel"]]
    if document["dropped"]:
        version = "would be dropped" if document["version"] is None else f"dropped in version {document['version']}"
        lines.append(f"{count_of(len(document['dropped']), 'image')} {version}")
        lines += [f"  {path}" for path in document["dropped"]]
    return Text("\n".join(lines))


def pull_tags(
    dataset: DatasetFolder,
    keep_tags: Annotated[bool, typer.Option("--keep-tags", help="Leave the tags in the app.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.pull_tags import pull_tags as command

    with progress_on_stderr() as progress:
        result = command(dataset, keep_tags=keep_tags, dry_run=dry_run, progress=progress)
    show(result, pulled_lines, as_json=as_json)


def pull_tags_brief(document: Mapping[str, Any]) -> str:
    return f"{len(document['relabel'])} to correct, {len(document['dropped'])} dropped"
