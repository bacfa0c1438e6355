"""Names that the shell completes: datasets, runs, classes, versions, sources, splits and models.

A completer reads file names, HEAD and one version file, and loads no table and no library: the shell waits for it. What
it cannot read gives no names.
"""

import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

import typer

from curate.commands.command import Command, Role
from curate.errors import CurateError
from curate.plain_text import is_clean, shown

try:
    from typer._click.shell_completion import CompletionItem
except ImportError:  # before Typer 0.27
    from click.shell_completion import CompletionItem

VARIABLE = "_CURATE_COMPLETE"  # Typer's, for a program called curate
SPLITS = "train|val|test|all"  # as `--split` shows them

_BREAKS = (":", "=")  # of COMP_WORDBREAKS, inside a word
_SPECIAL = re.compile(r"[^\w@%+=:,./-]")  # a shell would interpret it

Names = Iterable[str] | Iterable[tuple[str, str]]  # each alone, or with what some shells show beside it
Completer = Callable[[typer.Context, str], Names]


def complete_and_exit(app: Callable[..., object]) -> NoReturn:
    """Print what the shell can complete, and exit. A fault prints nothing: it would land in the person's command line.

    bash takes `a:b` and `a=b` for three words and puts in place of the last one what is printed. So the words are
    joined before Typer sees them, and what precedes the last break is cut off afterwards.
    """
    is_bash = os.environ.get(VARIABLE) == "complete_bash"
    printed, cut, code = io.StringIO(), "", 0
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        try:
            cut = _join_breaks() if is_bash else ""
            app(prog_name="curate", standalone_mode=False)
        except SystemExit as leaving:
            code = leaving.code
        except Exception:
            printed = io.StringIO()
    for line in filter(None, printed.getvalue().splitlines()):
        if line.startswith(cut):
            word = line.removeprefix(cut)
            sys.stdout.write(f"{shlex.quote(word) if is_bash and _SPECIAL.search(word) else word}\n")
    sys.stdout.flush()
    sys.exit(code)


def _join_breaks() -> str:
    """Join the words that bash split, and return the part of the last one up to the last break, as Typer prints it.

    Of `--option=value`, Typer prints the value.
    """
    words, number = os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD", "0"))
    current = words[: number + 1] if len(words) > number else [*words, ""]
    joined: list[str] = []
    for word in current:
        if joined and (word in _BREAKS or joined[-1].endswith(_BREAKS)):
            joined[-1] += word
        else:
            joined.append(word)
    os.environ["COMP_WORDS"] = "\n".join(joined)
    os.environ["COMP_CWORD"] = str(len(joined) - 1)
    option, sign, value = joined[-1].partition("=")
    last = value if sign and option.startswith("--") else joined[-1]
    return last[: 1 + max(map(last.rfind, _BREAKS))]


def _dataset(ctx: typer.Context) -> Path:
    """The dataset that was typed before; behind an option without a value, Typer has not assigned the arguments yet.

    Raises:
        StopIteration: There is none.
    """
    typed = ctx.params.get("dataset")
    return Path(typed) if typed else Path(next(word for word in ctx.args if not word.startswith("-")))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _version(ctx: typer.Context) -> dict[str, Any]:
    """The document of the current version."""
    from curate.versions import VersionFiles

    files = VersionFiles(_dataset(ctx))
    return files.read(files.head())


def datasets(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The dataset folders beside what is typed; where there is none, the shell completes folders."""
    from curate.versions import dataset_folders

    typed = incomplete.rpartition("/")[0]
    parent = Path(typed or ("/" if incomplete.startswith("/") else "."))
    return [str(folder) for folder in dataset_folders(parent)]


def runs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The runs of the dataset."""
    from curate.run_folder.names import runs_of

    return [run.name for run in runs_of(_dataset(ctx))]


def run_folders(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The folders of the runs of all datasets in the working folder, or of the dataset that is typed."""
    from curate.run_folder.names import runs_of, runs_of_datasets

    before, is_typed, _ = incomplete.partition("/runs/")
    return map(str, runs_of(Path(before)) if is_typed else runs_of_datasets(Path()))


def classes(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The classes of the current version that were not typed yet."""
    typed = ctx.params.get("sources") or ctx.params.get("names") or ()
    return [shown(entry["name"]) for entry in _version(ctx)["classes"] if entry["name"] not in typed]


def versions(ctx: typer.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """All versions whose files can be read, newest first, each with its operation and time."""
    from curate.versions import VersionFiles

    files = VersionFiles(_dataset(ctx))
    for number in reversed(files.numbers()):
        with suppress(CurateError, KeyError):
            document = files.read(number)
            yield str(number), f"{document['operation']}, {document['time']}"


def sources(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The sources of the dataset's images: each has a folder."""
    return [folder.name for folder in _folders(_dataset(ctx) / "media" / "images")]


def splits(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The names of splits that curate makes, and all."""
    return SPLITS.split("|")


def models(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The models of the engines that are trained by `train`."""
    return [name for name in _model_names() if not name.startswith("two-stage:")]


def classifiers(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The networks of a second stage."""
    return [name.partition(":")[2] for name in _model_names() if name.startswith("two-stage:")]


def detectors(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The runs of the dataset, and all models."""
    yield from models(ctx, incomplete)
    yield from runs(ctx, incomplete)


def watched(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """The folders of runs, and all models."""
    yield from models(ctx, incomplete)
    yield from run_folders(ctx, incomplete)


def _model_names() -> list[str]:
    from curate.engines.models import known_models

    return [model.full_name for model in known_models()]


_BY_ROLE: Mapping[Role, Completer] = {
    Role.DATASET: datasets,
    Role.DATASET_AND_CARD: datasets,
    Role.DATASET_AND_RUNS: datasets,
    Role.NEW_RUN: runs,
    Role.RUN: runs,
    Role.EVALUATED_RUN: runs,
    Role.DETECTOR: detectors,
    Role.MODEL: models,
}
_BY_NAME: Mapping[str, Completer] = {"split": splits, "a": versions, "b": versions, "version": versions}
_OWN: Mapping[tuple[str, str], Completer] = {
    ("label", "source"): sources,
    ("merge-classes", "sources"): classes,
    ("merge-classes", "into"): classes,
    ("rename-class", "old"): classes,
    ("drop-class", "names"): classes,
    ("train-classifier", "model"): classifiers,
    ("predict", "run"): run_folders,
    ("watch", "run"): watched,
    ("watch", "collect"): datasets,
}


def completer_of(command: Command, parameter: str) -> Completer | None:
    """What completes a parameter of a command: its own completer, else that of its role, else that of its name."""
    of_role = (_BY_ROLE.get(role) for role in Role if parameter in command.names(role))
    return _OWN.get((command.name, parameter)) or next(filter(None, of_role), None) or _BY_NAME.get(parameter)


def _quote_for_zsh(text: str) -> str:
    return text.replace("\\", r"\\")


def _quote_for_powershell(text: str) -> str:
    return "'{}'".format(text.replace("'", "''")) if _SPECIAL.search(text) else text


_QUOTES: Mapping[str, Callable[[str], str]] = {
    "complete_zsh": _quote_for_zsh,
    "complete_powershell": _quote_for_powershell,
    "complete_pwsh": _quote_for_powershell,
}


def items(names: Iterable[str | tuple[str, str]], incomplete: str) -> list[Any]:
    """What Typer takes of the names that begin with what is typed; none where they cannot be read.

    Names that a terminal would not show are left out. The others come from files of others, and reach a shell: Typer
    quotes them for zsh, which evaluates what it is given, but forgets backslashes, and does not quote for PowerShell.
    """
    found, quote = [], _QUOTES.get(os.environ.get(VARIABLE, ""), str)
    try:
        for name in names:
            value, about = (name, None) if isinstance(name, str) else name
            if value.startswith(incomplete) and is_clean(value):
                found.append(CompletionItem(quote(value), help=about and quote(shown(about))))
    except Exception:
        return found
    return found


def add_completion(command: Command, parameters: Iterable[Any]) -> None:
    """Give the parameters of a command that Typer has built their completers."""
    for parameter in parameters:
        if (completer := completer_of(command, parameter.name)) is not None:
            parameter.shell_complete = _shell_complete(completer)


def _shell_complete(completer: Completer) -> Callable[[Any, str], list[Any]]:
    def complete(ctx: typer.Context, incomplete: str) -> list[Any]:
        try:
            return items(completer(ctx, incomplete), incomplete)
        except Exception:  # no dataset, or one that cannot be read
            return []

    return complete
