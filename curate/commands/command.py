"""What the registry knows about a command, and where its functions are found by name.

Importing this module loads nothing else, so that `curate --help` and `import curate` stay quick.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from importlib import import_module
from typing import Any


class Role(Enum):
    """What an argument of a command names. Every argument that may hold a path or text has a role."""

    DATASET = "the dataset folder"
    DATASET_AND_CARD = "the dataset folder, whose card is read too"
    DATASET_AND_RUNS = "the dataset folder, whose runs are read too"
    INPUT = "files or folders that the command reads"
    IMAGES = "images or a dataset; proposals may be written beside the images"
    OUTPUT = "a file or folder that the command writes"
    NEW_RUN = "the run that is trained"
    RUN = "a run whose checkpoint is read; results are written into its folder"
    EVALUATED_RUN = "a run whose checkpoint and evaluations are read"
    DETECTOR = "a run, or ENGINE:NAME"
    MODEL = "ENGINE:NAME, where NAME may be a configuration file"
    SETTINGS = "a mapping whose values may name files and runs that are read"
    TEXT = "text that names neither a file nor a run"


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: As typed on the command line; with underscores, its function in `curate.commands` and in `curate.cli`.
        panel: Its section in `curate --help`.
        about: One sentence for `curate --help`.
        module: The module in `curate.commands`, and of the same name in `curate.cli`, that holds the functions.
        brief: Name of the function in the cli module that sums up a result document in one line of `curate run`.
            None: pipelines cannot run the command.
        written: Keys of the result document that hold paths of written files, separated by spaces. A pipeline runs the
            command again if such a file is missing.
        arguments: Role → argument names, separated by spaces.
    """

    name: str
    _: KW_ONLY
    panel: str
    about: str
    module: str
    brief: str | None
    written: str
    arguments: Mapping[Role, str]

    @property
    def function_name(self) -> str:
        return self.name.replace("-", "_")

    @property
    def home(self) -> str:
        """The module of the command's function."""
        return f"curate.commands.{self.module}"

    def function(self) -> Callable[..., Any]:
        """The function that does the work, such as `import_voc`."""
        return getattr(import_module(self.home), self.function_name)

    def cli_function(self) -> Callable[..., None]:
        """The function that Typer turns into the command."""
        return getattr(import_module(f"curate.cli.{self.module}"), self.function_name)

    def brief_function(self) -> Callable[[Any], str]:
        """The function that sums up a result document in one line.

        Raises:
            LookupError: Pipelines cannot run the command.
        """
        if self.brief is None:
            raise LookupError(f"{self.name} cannot be part of a pipeline")
        return getattr(import_module(f"curate.cli.{self.module}"), self.brief)

    def names(self, *roles: Role) -> tuple[str, ...]:
        """The arguments that have one of these roles, in the order of the roles."""
        return tuple(name for role in roles for name in self.arguments.get(role, "").split())
