"""Printing: results to stdout as tables or one JSON document, notes and progress to stderr."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from curate.progress import UNKNOWN, Progress, silent

if TYPE_CHECKING:
    from curate.result import Result

_PLAIN_EVERY_S = 15.0
_UNLIMITED = 100_000  # characters a line


def show(result: "Result", render: Callable[[Any], object], *, as_json: bool) -> None:
    """Print a result, and its notes.

    Args:
        result: what a step returned.
        render: makes something that rich can print of the result's JSON document.
        as_json: print the document itself.
    """
    document = result.to_json()
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json(document)
    else:
        print_rich(render(document))


def print_json(document: object) -> None:
    """Print one JSON document, readable by every reader of the stream's encoding."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(document, indent=2, ensure_ascii=not is_unicode))


def print_rich(*renderables: object) -> None:
    """Print tables and text: as wide as the terminal or `COLUMNS`, else as wide as they need, without colours."""
    from rich.console import Console

    wraps = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    # names come from files: `[a]` and `:b:` in them are no markup
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=not wraps)
    if not wraps:
        console.width = _UNLIMITED
    console.print(*renderables)


@contextmanager
def progress_on_stderr(*, quiet: bool = False) -> Iterator[Progress]:
    """A progress bar a task on a terminal; elsewhere a line now and then, and none for what is done at once."""
    if quiet and not sys.stderr.isatty():
        yield silent
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _plain_lines()


def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(task: str, done: int, total: int, note: str = "") -> None:
            whole = None if total == UNKNOWN else total
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=whole, note=note)
            # what is done makes room: of a thousand videos those at work are shown
            visible = whole is None or done < whole
            bars.update(tasks[task], completed=done, total=whole, note=note, visible=visible)

        yield report


def _plain_lines() -> Progress:
    began = time.monotonic()
    said = began

    def report(task: str, done: int, total: int, note: str = "") -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _PLAIN_EVERY_S:
            said = now
            of = "" if total == UNKNOWN else f"/{total}"
            typer.echo(f"{task} {done}{of} {note}".rstrip() + f" ({now - began:.0f} s)", err=True)

    return report


@contextmanager
def interruption_told(words: str) -> Iterator[None]:
    """On Ctrl-C, tell what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {words}", err=True)
        raise


def counts_line(counts: Mapping[str, int], *, none: str = "none") -> str:
    """{"a": 3, "b": 1} → "a 3, b 1"."""
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or none
