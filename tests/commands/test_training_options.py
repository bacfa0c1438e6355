"""Training options are written once: the command line, the functions and the configuration agree on all of them."""

import inspect
import math
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

import curate
from curate.cli.app import app
from curate.commands.training_options import CLASSIFIER, CLASSIFIER_CROP_PX, CLASSIFIER_MARGIN, LOOP, TRAIN, given
from curate.errors import UsageError
from curate.run_folder.config import TrainingConfig, options

COMMANDS = {"train": TRAIN, "train-classifier": CLASSIFIER, "loop": LOOP}
EVERYWHERE = {"as_json", "verbose"}
EACH = pytest.mark.parametrize("command", COMMANDS)


def cli_options(command):
    """Argument name → the option of the command line."""
    return {parameter.name: parameter for parameter in get_command(app).commands[command].params}


@EACH
def test_command_line_and_function_have_the_same_arguments(command):
    """Every option of the command line is an argument of the function, and every argument is an option."""
    function = getattr(curate, command.replace("-", "_"))
    arguments = set(inspect.signature(function).parameters) - {"progress", "announce", "warn"}
    if command == "loop":
        arguments = arguments - {"training"} | set(LOOP)
    assert set(cli_options(command)) - EVERYWHERE == arguments


@EACH
def test_help_shows_every_default(command):
    """The help of every training option is a phrase, followed by the default."""
    for name, option in COMMANDS[command].items():
        shown = cli_options(command)[name]
        assert shown.opts == [option.flag]
        assert shown.metavar == option.metavar
        assert (shown.help, shown.show_default) == (option.help, option.default)
        assert option.help[0].isupper()
        assert option.help.endswith(".")


@pytest.mark.parametrize("name", [item.name for item in fields(TrainingConfig) if item.name != "model"])
def test_defaults_in_words(name):
    """The default in the help is the one of the configuration, or a description where that is None or computed."""
    default = getattr(TrainingConfig(model="a:b"), name)
    described = {"weights", "lr", "image_size", "loss", "settings", "eval_every", "patience", "workers"}
    assert (options()[name].default == str(default)) == (name not in described)
    assert options()[name].default


def test_defaults_of_the_classifier():
    """The defaults in the help of `train-classifier` are those of its engine."""
    pytest.importorskip("torch", reason="needs torch: pip install 'curate-vision[train]'")
    from curate.engines.two_stage.engine import CROP_PX
    from curate.engines.two_stage.settings import TwoStageSettings

    assert (TwoStageSettings().margin, CROP_PX) == (CLASSIFIER_MARGIN, CLASSIFIER_CROP_PX)


def test_options_become_settings():
    """Values are converted to the types of the options; what is not given has its default."""
    config = TrainingConfig.checked(model="a:b", steps="7", lr=1, settings={"x": 1})
    assert (config.steps, config.lr, config.settings, config.seed) == (7, 1.0, {"x": 1}, 0)
    assert TrainingConfig.checked(**config.as_dict()) == config


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("steps", (1, 10**9), (0, 10**9 + 1, 1.5, None)),
        ("batch", (1,), (0,)),
        ("lr", (1e-9, None), (0, -1, math.nan, math.inf)),
        ("image_size", (32, 4096, None), (31, 4097)),
        ("balance", ("none", "repeat-factor", "repeat-factor:0.1"), ("", "repeat", "repeat-factor:2")),
        ("loss", ("default", "focal"), ("hinge",)),
        ("seed", (0, 2**63 - 1), (-1, 2**63)),
        ("device", ("auto", "cpu", "cuda", "cuda:12"), ("gpu", "cuda:")),
        ("workers", (0,), (-1,)),
        ("model", ("a:b",), ("",)),
        ("weights", ("none",), ("",)),
    ],
)
def test_limits(name, good, bad):
    """Each limit holds at its edge."""
    for value in good:
        assert getattr(TrainingConfig.checked(**{"model": "a:b", name: value}), name) == value
    for value in bad:
        with pytest.raises(UsageError, match=f"the training options are not valid: {name} ="):
            TrainingConfig.checked(**{"model": "a:b", name: value})


def test_unknown_argument():
    """A misspelt argument is a TypeError before anything is read, as for any function."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepz'"):
        curate.train("nowhere", model="a:b", run="r", stepz=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'balance'"):
        curate.train_classifier("nowhere", run="r", balance="none")


@pytest.mark.parametrize("function", ["train", "train_classifier"])
def test_docstring_lists_the_options(function):
    """`help(curate.train)` says what each option means."""
    text = inspect.getdoc(getattr(curate, function))
    for name, option in COMMANDS[function.replace("_", "-")].items():
        assert f"{name}: {option.help}" in text


@pytest.mark.parametrize("weights", [Path("a") / "b.pt", "a/b.pt"])
def test_given_options(weights):
    """A path object becomes text; None and empty settings are left out."""
    assert given({"weights": weights, "lr": None, "settings": {}, "seed": 0}) == {"weights": "a/b.pt", "seed": 0}
