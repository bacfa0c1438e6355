"""The Typer application; its commands come from `curate.commands.registry`, each loaded when it is used."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from curate import __version__
from curate.cli.completion import add_completion, items
from curate.cli.verbose import with_verbose
from curate.commands.registry import COMMANDS

_CONTEXT = {"help_option_names": ["-h", "--help"]}


class PlainCommand(TyperCommand):
    """Shows arguments by their names alone: `DATASET`, not `{DATASET}` or `DATASET <path>`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [self.options_metavar or "", *map(_usage_name, self._arguments())]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        records = {parameter.name: _plain(parameter.get_help_record(ctx)) for parameter in self.get_params(ctx)}
        arguments = [(_usage_name(argument), records.pop(argument.name)[1]) for argument in self._arguments()]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(name, about.removesuffix("[required]").rstrip()) for name, about in arguments])
        with formatter.section("Options"):
            formatter.write_dl(list(records.values()))

    def _arguments(self) -> list[Any]:
        return [parameter for parameter in self.params if parameter.param_type_name == "argument"]


def _plain(record: Any) -> tuple[str, str]:
    """Name and help of a parameter; Typer puts a default in words in parentheses."""
    return record[0], re.sub(r"\[default: \((.*)\)\]", r"[default: \1]", record[1])


def _usage_name(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return (name if argument.required else f"[{name}]") + ("..." if argument.nargs != 1 else "")


class _Commands(Mapping[str, Any]):
    """Name → Typer's command, built when it is asked for: Typer and rich take longer to load than all of curate."""

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        command = COMMANDS[name]
        function = with_verbose(command.cli_function())
        about = f"{command.about}\n\n{function.__doc__}" if function.__doc__ else command.about
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(command.name, cls=PlainCommand, help=about, context_settings=_CONTEXT)(function)
        built = typer.main.get_command(alone)
        types = get_type_hints(function)
        for parameter in built.params:
            if parameter.metavar is None and (choices := _choices(types.get(parameter.name))):
                parameter.metavar = "|".join(choices)
        add_completion(command, built.params)
        return built


def _choices(declared: Any) -> list[str]:
    """The values of an option whose type is an enum, an optional enum or a list of enums."""
    kinds = get_args(declared) or (declared,)
    return [str(member.value) for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for member in kind]


class CommandGroup(TyperGroup):
    """Lists the commands by panel, in the order of the registry."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands()

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The names of the commands, without building them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return items(((command.name, command.about) for command in COMMANDS.values()), incomplete)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for panel in dict.fromkeys(command.panel for command in COMMANDS.values()):
            with formatter.section(panel):
                formatter.write_dl(
                    [(command.name, command.about) for command in COMMANDS.values() if command.panel == panel]
                )


app = typer.Typer(
    name="curate",
    cls=CommandGroup,
    help="From videos and hand-drawn boxes to a detector that you can trust.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From videos and hand-drawn boxes to a detector that you can trust."""
