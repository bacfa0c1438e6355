"""`label`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, split_names
from curate.cli.output import say, show
from curate.formatting import count_of


def label_line(document: Mapping[str, Any]) -> RenderableType:
    """The folder with its images, how many more are unlabelled, and the classes."""
    count = f"{count_of(document['images'], 'image')} in {document['folder']}, {document['added']} new"
    return Text(f"{count}; {document['waiting']} more waiting\nclasses: {', '.join(document['classes']) or 'none yet'}")


def label(
    dataset: DatasetFolder,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Only images of this source, such as a video id.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Number of images in the folder.")] = 50,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Classes to offer besides those of the dataset.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open LabelImg.")] = False,
    as_json: AsJson = False,
) -> None:
    """In LabelImg, Ctrl+S saves an image whose boxes were changed. Space (Verify Image) saves one that needs no change:
    its proposed boxes are right, or it has no object. Only saved images are imported."""
    from curate.commands.label import label as command

    result = command(dataset, source=source, limit=limit, classes=split_names(classes))
    show(result, label_line, as_json=as_json)
    if not no_open:
        _open(result.command)


def _open(command: tuple[str, ...]) -> None:
    """Run LabelImg until it is closed; without LabelImg or a display, print what to do."""
    if shutil.which(command[0]) is None:
        say("LabelImg is not installed: pip install labelImg")
    elif sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        say(f"no display here; on a desktop run: {' '.join(command)}")
    else:
        subprocess.run(command, check=False, stdout=sys.stderr)


def label_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['images'], 'image')} in {document['folder']}"
