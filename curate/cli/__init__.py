"""The command line: parse, call one step, print. What commands do is in `curate.steps`."""

import json
import os
import sys


def main() -> None:
    """Run `curate`; a `CurateError` becomes one line on stderr, its exit code, and with `--json` a document."""
    from curate.cli.app import app
    from curate.errors import CurateError, StrictImportError

    try:
        app()
    except CurateError as error:
        print(f"curate: {error}", file=sys.stderr)  # noqa: T201 - the one place that prints errors
        if "--json" in sys.argv:
            found = error.result.to_json() if isinstance(error, StrictImportError) else {"error": str(error)}  # pyright: ignore[reportAttributeAccessIssue]
            print(json.dumps(found, indent=2, ensure_ascii=False))  # noqa: T201
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
