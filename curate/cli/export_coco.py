"""`export-coco`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, Link, Overwrite
from curate.cli.output import progress_on_stderr, show
from curate.formatting import count_of


def export_coco(
    dataset: DatasetFolder,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder for images and annotations.", show_default=False)
    ],
    link: Link = False,
    keep_exif: Annotated[
        bool,
        typer.Option("--keep-exif", help="Keep images that EXIF turns as they are, instead of writing them upright."),
    ] = False,
    contiguous_ids: Annotated[
        bool,
        typer.Option("--contiguous-ids", help="Number classes from 1 without gaps; the dataset's ids: class_ids.json."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.export_coco import export_coco as command

    with progress_on_stderr() as progress:
        result = command(
            dataset,
            out,
            link=link,
            keep_exif=keep_exif,
            contiguous_ids=contiguous_ids,
            overwrite=overwrite,
            progress=progress,
        )
    show(result, export_lines, as_json=as_json)


def export_lines(document: Mapping[str, Any]) -> RenderableType:
    """Counts and files of the export, and the result of its check."""
    ap = document["self_check_ap"]
    lines = [f"{count_of(document['images'], 'image')} and {count_of(document['boxes'], 'box')} in {document['out']}"]
    lines += [f"  {split}: {path}" for split, path in document["files"].items()]
    lines.append("checked: evaluated against itself, AP is 1" if ap is not None else "not checked: there are no boxes")
    return Text("\n".join(lines))


def export_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['images'], 'image')}, {count_of(document['boxes'], 'box')}, checked"
