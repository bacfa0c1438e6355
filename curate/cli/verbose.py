"""`--verbose`, which every command has: the log of `curate.*` on stderr."""

import inspect
import logging
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from curate import __version__
from curate.cli.output import say
from curate.plain_text import shown

_NAME = "verbose"
_OPTION = Annotated[bool, typer.Option("--verbose", help="Log what the command does to stderr.")]
_PARAMETER = inspect.Parameter(_NAME, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_OPTION)
logger = logging.getLogger(__name__)


class _Lines(logging.Formatter):
    """Escapes the message of a record, so that a name in it begins no line of its own; a stack has its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of logging
        record.message = shown(record.message)
        return super().formatMessage(record)


class _StderrHandler(logging.Handler):
    """Looks up `sys.stderr` for each record: progress bars replace it, so that log lines appear above them."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(self.format(record), lines=True)
        except (OSError, ValueError):  # the terminal is gone, or the message does not fit its arguments
            self.handleError(record)


def with_verbose(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option `--verbose`, which its own function does not see."""

    @wraps(command)
    def run_with_log(*args: Any, **options: Any) -> None:
        is_verbose = options.pop(_NAME, False)
        with log_on_stderr(command.__name__.replace("_", "-")) if is_verbose else warnings_on_stderr():
            command(*args, **options)

    signature = inspect.signature(command)
    parameters = [*signature.parameters.values(), _PARAMETER]
    run_with_log.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run_with_log.__annotations__ = get_type_hints(command, include_extras=True) | {_NAME: _OPTION}
    return run_with_log


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Print warnings that no result has, also without `--verbose`: of image files, and of a training's workers."""
    handler = _StderrHandler(logging.WARNING)
    handler.setFormatter(_Lines("curate: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("curate.images", "curate.engines.training.loader")]
    for one in loggers:
        one.addHandler(handler)
    try:
        yield
    finally:
        for one in loggers:
            one.removeHandler(handler)


@contextmanager
def log_on_stderr(command: str) -> Iterator[None]:
    """Log all of `curate.*` inside the block, and how the command ended."""
    handler = _StderrHandler()
    handler.setFormatter(_Lines("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger("curate")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    start = time.monotonic()
    try:
        logger.info("%s, curate %s, Python %s", command, __version__, platform.python_version())
        yield
        logger.info("%s finished after %.2f s", command, time.monotonic() - start)
    except typer.Exit as leaving:
        logger.info("%s ended with exit code %d after %.2f s", command, leaving.exit_code, time.monotonic() - start)
        raise
    except Exception:
        logger.debug("%s failed after %.2f s", command, time.monotonic() - start, exc_info=True)
        raise
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
