"""Print results to stdout, as tables or as one JSON document, and notes and progress to stderr."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from curate.plain_text import shown, shown_document, shown_json
from curate.progress import UNKNOWN, Progress, silent

if TYPE_CHECKING:
    from curate.result import Result

_PLAIN_EVERY_S = 15.0
_UNLIMITED = 100_000  # characters a line


class EarlyNotes:
    """Prints notes that a command reports before long work; `show` does not print them again."""

    def __init__(self) -> None:
        self.printed: set[str] = set()

    def __call__(self, note: str) -> None:
        self.printed.add(note)
        _print_note(note)


def show(result: "Result", render: Callable[[Any], object], *, as_json: bool, early: EarlyNotes | None = None) -> None:
    """Print the notes of a result, and its document or what `render` makes of it.

    Args:
        result: Result of a command.
        render: Turns the result's JSON document into something that rich can print.
        as_json: Print the JSON document itself.
        early: Has printed some of the notes already.
    """
    document = result.to_json()
    for note in result.notes:
        if early is None or note not in early.printed:
            _print_note(note)
    if as_json:
        print_json(document)
    else:
        print_rich(render(shown_document(document)))


def say(text: str, *, lines: bool = False) -> None:
    """Print a text to stderr, with escapes for what a terminal would obey; with `lines` it may have several lines."""
    typer.echo(shown(text, lines=lines), err=True)


def _print_note(note: str) -> None:
    say(f"note: {note}")


@contextmanager
def naming_stdout() -> Iterator[None]:
    """Name stdout in the error when it cannot be written, as on a full disk; otherwise the error names no file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = "stdout"
        raise


def print_json(document: object) -> None:
    """Print one JSON document, in ASCII where the encoding of stdout is not Unicode."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    with naming_stdout():
        typer.echo(shown_json(json.dumps(document, indent=2, ensure_ascii=not is_unicode)))


def print_rich(*renderables: object) -> None:
    """Print tables and text to stdout.

    Lines are as wide as the terminal, or as the variable `COLUMNS` says. Without either, in a pipe, they are not
    wrapped. Colours appear on a terminal only.
    """
    wraps = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    # names from files may contain `[a]` and `:b:`, which are not markup
    console = _console(soft_wrap=not wraps)
    if not wraps:
        console.width = _UNLIMITED
    with naming_stdout():
        console.print(*renderables)


def _console(**options: Any) -> Any:
    """A console that shows text of others as it is: it is no markup, and controls nothing."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Any]:
            for segment in super().render(renderable, options):
                text = segment.text if segment.control else shown(segment.text, lines=True)
                yield segment if text == segment.text else Segment(text, segment.style)

    return Plain(highlight=False, markup=False, emoji=False, **options)


@contextmanager
def progress_on_stderr(*, quiet: bool = False) -> Iterator[Progress]:
    """Show progress: a bar per task on a terminal, else a line every 15 s; with `quiet` no lines."""
    if quiet and not sys.stderr.isatty():
        yield silent
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _plain_lines()


def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    bars = Bars(*columns, console=_console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}

    def report(task: str, done: int, total: int, note: str = "") -> None:
        whole, note = None if total == UNKNOWN else total, shown(note)
        if task not in tasks:
            bars.start()  # not before: it would overwrite a question
            tasks[task] = bars.add_task(shown(task), total=whole, note=note)
        # finished tasks disappear: there may be a thousand, one per video
        visible = whole is None or done < whole
        bars.update(tasks[task], completed=done, total=whole, note=note, visible=visible)

    try:
        yield report
    finally:
        bars.stop()


def _plain_lines() -> Progress:
    start = last_line = time.monotonic()

    def report(task: str, done: int, total: int, note: str = "") -> None:
        nonlocal last_line
        now = time.monotonic()
        if now - last_line >= _PLAIN_EVERY_S:
            last_line = now
            of = "" if total == UNKNOWN else f"/{total}"
            say(f"{task} {done}{of} {note}".rstrip() + f" ({now - start:.0f} s)")

    return report


@contextmanager
def explain_interruption(message: str | Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, print what was kept and how to continue: a text, or a function that looks what there is."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; {message if isinstance(message, str) else message()}")
        raise


def written_lines(files: Mapping[str, object]) -> Any:
    """A line for each file that a command wrote: what it is and its path; none for what was not written."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(f"{what}: {path}") for what, path in files.items() if path is not None))


def counts_line(counts: Mapping[str, int], *, none: str = "none") -> str:
    """{"a": 3, "b": 1} → "a 3, b 1"."""
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or none
