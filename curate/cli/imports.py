"""`import-voc`, `import-widerface`."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, Link, split_names
from curate.cli.output import counts_line, progress_on_stderr, show
from curate.cli.table import Column, Kind, Table
from curate.formatting import count_of

_ACTIONS = ("quarantined", "repaired", "noted")
_ACTION_STYLES = {"quarantined": "red", "repaired": "yellow", "noted": "dim"}

Strict = Annotated[
    bool, typer.Option("--strict", help="Import nothing if a box would be repaired or a file or box quarantined.")
]


OwnSplit = Annotated[
    str | None, typer.Option("--split", metavar="train|val|test", help="Split of images that are in no split yet.")
]


class OriginName(StrEnum):
    """Pixel coordinates in XML: LabelImg counts from 0, VOC from 1."""

    LABELIMG = "labelimg"
    VOC = "voc"


class SizeMismatchName(StrEnum):
    """What is right where the size in the XML contradicts the picture."""

    SCALE = "scale"
    KEEP = "keep"


def import_voc(
    dataset: DatasetFolder,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder of LabelImg XML, or VOC devkit.", show_default=False)
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images.", show_default="SOURCE")
    ] = None,
    origin: Annotated[
        OriginName, typer.Option(help="Coordinates in the XML: labelimg counts from 0; voc from 1.")
    ] = OriginName.LABELIMG,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Allowed classes, in order; boxes of others are quarantined.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Card with class order and expected counts.", show_default="DATASET/card.yaml"
        ),
    ] = None,
    video_from: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Video id of an image: the first group of REGEX in its path.")
    ] = None,
    with_unlabelled: Annotated[
        bool, typer.Option("--with-unlabelled", help="Import images without XML too, as unlabelled.")
    ] = False,
    accept_proposals: Annotated[
        bool,
        typer.Option(
            "--accept-proposals", help="Count proposals of `predict` that nobody saved in LabelImg as labelled."
        ),
    ] = False,
    size_mismatch: Annotated[
        SizeMismatchName | None,
        typer.Option(
            help="Scale or keep the boxes of XML whose size is not that of the picture.",
            show_default="such images are incomplete",
        ),
    ] = None,
    split: OwnSplit = None,
    link: Link = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.imports import import_voc as command

    with progress_on_stderr() as progress:
        result = command(
            dataset,
            source,
            images=images,
            origin=origin.value,
            classes=split_names(classes),
            card=card,
            video_from=video_from,
            with_unlabelled=with_unlabelled,
            accept_proposals=accept_proposals,
            size_mismatch=size_mismatch.value if size_mismatch else None,
            split=split,
            link=link,
            strict=strict,
            progress=progress,
        )
    show(result, import_table, as_json=as_json)


def import_widerface(
    dataset: DatasetFolder,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder with label.txt and images/.", show_default=False)
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images.", show_default="SOURCE/images")
    ] = None,
    class_name: Annotated[str, typer.Option(metavar="NAME", help="Class of all boxes.")] = "face",
    split: OwnSplit = None,
    link: Link = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.imports import import_widerface as command

    with progress_on_stderr() as progress:
        result = command(
            dataset,
            source,
            class_name=class_name,
            images=images,
            split=split,
            link=link,
            strict=strict,
            progress=progress,
        )
    show(result, import_table, as_json=as_json)


def import_table(document: Mapping[str, Any]) -> RenderableType:
    """Counts of an import, and its problems by action and kind."""
    lines = [
        Text(f"{document['dataset']}, version {document['version']}: ", style="bold")
        + Text(f"{count_of(document['images'], 'image')}, {count_of(document['boxes'], 'box')}", style="not bold"),
        Text(f"classes: {counts_line(document['classes'])}"),
        Text(f"images: {document['added']} added, {document['updated']} updated, {document['unchanged']} unchanged"),
        Text(f"boxes: {document['repaired']} repaired, {document['quarantined']} quarantined"),
    ]
    if not document["problems"]:
        return Group(*lines)
    kinds = Counter((problem["action"], problem["kind"]) for problem in document["problems"])
    table = Table("problems", "action", Column("kind", Kind.TEXT), "count", Column("for example", Kind.DETAIL))
    for (action, kind), number in sorted(kinds.items(), key=lambda item: (_ACTIONS.index(item[0][0]), -item[1])):
        first = next(one for one in document["problems"] if (one["action"], one["kind"]) == (action, kind))
        where = first["file"] + (f":{first['line']}" if first["line"] else "")
        table.add_row(action, kind, str(number), f"{where}: {first['detail']}", style=_ACTION_STYLES[action])
    return Group(*lines, Text(), table)


def import_brief(document: Mapping[str, Any]) -> str:
    changes = ", ".join(
        f"{document[key]} {key}" for key in ("added", "updated", "repaired", "quarantined") if document[key]
    )
    counts = f"{count_of(document['images'], 'image')}, {count_of(document['boxes'], 'box')}"
    return f"{counts} ({changes})" if changes else counts
