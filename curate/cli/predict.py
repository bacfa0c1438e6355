"""`predict`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson, Device, Overwrite
from curate.cli.output import explain_interruption, progress_on_stderr, show
from curate.formatting import count_of
from curate.operating_point import DEFAULT_POINT

_SHOWN_PROBLEMS = 10


class FormName(StrEnum):
    """File formats of the detections."""

    COCO = "coco"
    VOC = "voc"


def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, such as masks/runs/first.", show_default=False)
    ],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Image, folder of images, or dataset.", show_default=False)
    ],
    form: Annotated[
        FormName | None,
        typer.Option("--as", help="COCO results in one file, or XML files for LabelImg.", show_default="coco"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Output folder.", show_default="coco: the run's folder; voc: beside the images"
        ),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE", help="Lowest score to keep.", show_default=f"coco: all; else {DEFAULT_POINT.score:g}"
        ),
    ] = None,
    draw: Annotated[
        bool,
        typer.Option(
            "--draw",
            help=f"Also write the pictures with their boxes, of at least the score, or {DEFAULT_POINT.score:g}.",
        ),
    ] = False,
    into_dataset: Annotated[
        bool, typer.Option("--into-dataset", help="Store the boxes as proposals in SOURCE, a dataset.")
    ] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.predict import predict as command

    kept = "XML files written so far are kept. Run the same command again." if form == "voc" else "nothing was changed."
    with progress_on_stderr() as progress, explain_interruption(kept):
        result = command(
            run,
            source,
            out=out,
            form=form.value if form else None,
            score=score,
            draw=draw,
            into_dataset=into_dataset,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    show(result, predict_lines, as_json=as_json)


def predict_lines(document: Mapping[str, Any]) -> RenderableType:
    """Counts and place of the detections, and the images that were left out."""
    form = {"coco": "COCO results", "voc": "XML for LabelImg", None: f"proposals, version {document['version']}"}
    lines = [f"{predict_brief(document)}: {form[document['form']]} in {document['out']}"]
    lines += [f"pictures with boxes: {document['drawn']}"] if document.get("drawn") else []
    problems = document["problems"]
    lines += [f"left out  {one['file']}: {one['detail']}" for one in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"and {len(problems) - _SHOWN_PROBLEMS} more; --json lists all")
    return Text("\n".join(lines))


def predict_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['boxes'], 'box')} in {count_of(document['images'], 'image')}"
