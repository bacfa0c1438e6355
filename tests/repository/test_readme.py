"""The README's commands, options and links exist."""

import re

import pytest
import typer
from repository_paths import REPOSITORY

import curate
from curate.cli.app import app

README = REPOSITORY / "README.md"
if not README.is_file():
    pytest.skip("the README lies beside the tests in a clone only", allow_module_level=True)
TEXT = README.read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_in_the_readme(command):
    """Every command is documented."""
    assert f"`curate {command}" in TEXT


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_a_function(command):
    """Every command is a function."""
    assert callable(getattr(curate, command.replace("-", "_")))


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if "curate " in line])
def test_every_option_in_the_readme_is_there(line):
    """Every option that the README gives to a command exists."""
    named = re.findall(r"curate ([a-z-]+)", line)
    known = {option for name in named if name in COMMANDS for one in COMMANDS[name].params for option in one.opts}
    if known:
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) <= known


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_every_link_leads_somewhere(target):
    """The README's links lead to files of the repository."""
    assert (README.parent / target).exists()
