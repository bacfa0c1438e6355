"""`curate COMMAND --help`: whole phrases, plain placeholders, and the defaults of the functions."""

import inspect
import re
from enum import Enum

import pytest
from typer.main import get_command

from curate.cli.app import app
from curate.commands.registry import COMMANDS
from curate.commands.watch import DEFAULT_PORT as PAGE_PORT
from curate.fiftyone_app.server import DEFAULT_PORT as APP_PORT

GROUP = get_command(app)
PARAMETERS = [(name, parameter) for name in COMMANDS for parameter in GROUP.commands[name].params]
# an option of the command line → the argument of the function that it turns off
SWITCHES_OFF = {"no_report": "report", "no_browser": "browser"}


def help_of(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert GROUP.main([name, "--help"], prog_name="curate", standalone_mode=False) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_at_80_columns(name, monkeypatch, capsys):
    """Lines fit; arguments have no braces, and values have a placeholder that says more than their type."""
    text = help_of(name, monkeypatch, capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(
        r"[{}<>]|TEXT|INTEGER|FLOAT|PATH|VALUE|BOOLEAN|…", text.replace("KEY=VALUE", "").replace("NAME=VALUE", "")
    )
    assert text.startswith(f"Usage: curate {name} [OPTIONS]")
    assert "default: (" not in text


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=[f"{name} {one.opts[0]}" for name, one in PARAMETERS])
def test_help_of_a_parameter_is_a_phrase(name, parameter):
    """The help text of a parameter is a whole phrase."""
    assert re.search(r"\.(  \[default: .+\])?$", parameter.help)
    assert not re.match(r"(Of|So|Instead|What|Such|Only tell|Where|Nothing|At least so|How)\b", parameter.help)


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"run", "predict", "watch", "models", "doctor"}))
def test_usage_line(name, monkeypatch, capsys):
    """The dataset folder is the first argument, without brackets."""
    assert " [OPTIONS] DATASET" in help_of(name, monkeypatch, capsys).splitlines()[0]


def test_arguments_that_may_be_left_out_or_repeated(monkeypatch, capsys):
    """Optional arguments have brackets, repeatable ones have dots."""
    assert "DATASET [URL]..." in help_of("fetch-youtube", monkeypatch, capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_those_of_the_function(name):
    """A missing option has the same effect as a missing argument of the function."""
    options = inspect.signature(COMMANDS[name].cli_function()).parameters
    arguments = inspect.signature(COMMANDS[name].function()).parameters
    for option in options.values():
        default = option.default.value if isinstance(option.default, Enum) else option.default
        if option.name in SWITCHES_OFF:
            assert (default, arguments[SWITCHES_OFF[option.name]].default) == (False, True)
        elif option.name in arguments:
            expected = arguments[option.name].default
            assert str(None if expected in ((), {}) else expected) == str(default), option.name


@pytest.mark.parametrize(("name", "default"), [("view", APP_PORT), ("watch", PAGE_PORT)])
def test_default_ports(name, default):
    """Defaults in words name the number that the code uses."""
    shown = next(one.show_default for one in GROUP.commands[name].params if "--port" in one.opts)
    assert shown.startswith(f"{default},")
