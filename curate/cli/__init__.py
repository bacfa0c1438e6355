"""The command line: parse, call one function of `curate.commands`, print."""

import io
import os
import sys
from typing import NoReturn

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main() -> None:
    """Run `curate`. An error becomes one line on stderr, an exit code, and with `--json` a document on stdout."""
    from curate.cli.app import app
    from curate.cli.completion import VARIABLE, complete_and_exit
    from curate.cli.output import naming_stdout
    from curate.errors import CurateError, StrictImportError, system_error
    from curate.plain_text import shown

    if VARIABLE in os.environ:
        complete_and_exit(app)

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may have characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        with naming_stdout():
            sys.stdout.flush()
        if code == _INTERRUPTED:
            _fail("interrupted", _INTERRUPTED)
        sys.exit(code)
    except StrictImportError as error:
        _fail(str(error), error.exit_code, error.result.to_json())  # pyright: ignore[reportAttributeAccessIssue]
    except CurateError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_stdout()
        sys.exit(1)
    except OSError as error:
        _fail(str(system_error(error)), 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # Typer's own errors have it; their class moved between versions
            raise
        usage = io.StringIO()
        error.show(usage)  # pyright: ignore[reportAttributeAccessIssue]
        print(shown(usage.getvalue(), lines=True), end="", file=sys.stderr)  # noqa: T201
        _fail(error.format_message(), error.exit_code, is_shown=True)  # pyright: ignore[reportAttributeAccessIssue]


def _fail(message: str, exit_code: int, document: object = None, *, is_shown: bool = False) -> NoReturn:
    """Print an error, unless it is shown already, and exit."""
    from curate.cli.output import print_json
    from curate.plain_text import shown

    if not is_shown:
        print(f"curate: {shown(message)}", file=sys.stderr)  # noqa: T201 - the one place that prints errors
    if "--json" in sys.argv:
        try:
            print_json({"error": message} if document is None else document)
            sys.stdout.flush()
        except OSError:  # nobody reads it, or its disk is full: the line on stderr has said what is wrong
            _discard_stdout()
    sys.exit(exit_code)


def _discard_stdout() -> None:
    """Send what is left in the buffer of stdout nowhere; Python would complain about it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
