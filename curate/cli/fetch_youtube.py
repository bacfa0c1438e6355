"""`fetch-youtube`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import explain_interruption, progress_on_stderr, say, show
from curate.cli.table import Column, Kind, Table

_KEPT = "finished videos are kept. Run the same command again to continue."


class LicenceName(StrEnum):
    """Licences that `--licence` accepts."""

    CREATIVE_COMMONS = "creative-commons"


def fetch_youtube(
    dataset: DatasetFolder,
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL", help="Videos, playlists, or pages with videos.")
    ] = None,
    clip: Annotated[
        list[str] | None, typer.Option(metavar="START-END", help="Part to download, such as 0:10-0:40; repeatable.")
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of links: one per line, then START-END if only a part; # comments."),
    ] = None,
    newest: Annotated[
        int | None,
        typer.Option(metavar="N", help="Most videos of each channel, its newest ones, or playlist, its first ones."),
    ] = None,
    max_height: Annotated[
        int,
        typer.Option(
            metavar="PX", help="Most pixels on the shorter side, as in 720p; the best format up to it is chosen."
        ),
    ] = 720,
    licence: Annotated[LicenceName | None, typer.Option(help="Download only videos under this licence.")] = None,
    max_duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Skip videos longer than this, such as 10min or 1:30:00.")
    ] = None,
    cookies: Annotated[
        Path | None, typer.Option(metavar="FILE", help="cookies.txt of a browser; the site may block its account.")
    ] = None,
    rate_limit: Annotated[
        str | None, typer.Option(metavar="RATE", help="Maximum bytes per second in total, such as 500K or 2M.")
    ] = None,
    sleep: Annotated[
        str | None, typer.Option(metavar="TIME", help="Minimum delay between two downloads, such as 5s.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Videos downloaded in parallel.")] = 2,
    allow_private: Annotated[bool, typer.Option("--allow-private", help="Allow hosts in private networks.")] = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.fetch_youtube import fetch_youtube as command
    from curate.commands.fetch_youtube import note_before

    if note := note_before(urls or (), from_file=from_file):
        say(f"note: {note}")
    with progress_on_stderr() as progress, explain_interruption(_KEPT):
        result = command(
            dataset,
            urls or (),
            clip=clip or (),
            from_file=from_file,
            newest=newest,
            max_height=max_height,
            licence=licence.value if licence else None,
            max_duration=max_duration,
            cookies=cookies,
            rate_limit=rate_limit,
            sleep=sleep,
            workers=workers,
            allow_private=allow_private,
            progress=progress,
        )
    show(result, fetch_table, as_json=as_json)
    if result.failed:
        raise typer.Exit(1)


def fetch_table(document: Mapping[str, Any]) -> RenderableType:
    """The fetched videos, and the skipped and failed links with their reasons."""
    title = ", ".join(f"{len(document[key])} {key}" for key in ("fetched", "skipped", "failed"))
    licence, video_title = Column("licence", Kind.TEXT), Column("title", Kind.DETAIL)
    table = Table(title, "file", "seconds", "height", licence, video_title)
    for one in document["fetched"]:
        cells = (f"{one['duration_s']:.2f}", str(one["height"]), one["licence"] or "–", one["title"] or "–")
        table.add_row(one["path"], *cells)
    parts: list[RenderableType] = [table if document["fetched"] else Text(title, style="bold")]
    parts += [Text(f"skipped  {one['url']}: {one['reason']}", style="dim") for one in document["skipped"]]
    parts += [
        Text.assemble((f"{one['reason']}  ", "red"), f"{one['url']}: {one['advice']}") for one in document["failed"]
    ]
    return Group(*parts)


def fetch_brief(document: Mapping[str, Any]) -> str:
    return ", ".join(f"{len(links)} {outcome}" for outcome, links in document.items() if links) or "no links"
