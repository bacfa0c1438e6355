"""`--verbose` of every command writes the log to stderr and changes nothing else."""

import inspect
import json
import logging
import re
import sys

import pytest
from sample_datasets import face_dataset, save
from typer.main import get_command

from curate.cli import main
from curate.cli.app import app
from curate.cli.verbose import log_on_stderr, warnings_on_stderr
from curate.commands.registry import COMMANDS

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (DEBUG|INFO) curate\.[\w.]+: ")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, beside a dataset `faces`: exit code, stdout, stderr."""
    save(face_dataset(tmp_path / "faces"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["curate", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, *capsys.readouterr()

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_it_and_no_function_of_the_library(name):
    """Every command has the option; no function has the argument, so that pipelines do not have it either."""
    parameters = get_command(app).commands[name].params
    assert [parameter.opts for parameter in parameters].count(["--verbose"]) == 1
    assert "verbose" not in inspect.signature(COMMANDS[name].function()).parameters


def test_log_goes_to_stderr(call):
    """Lines have time, level and logger; the JSON document on stdout is unchanged."""
    merge = ("merge-classes", "faces", "badly_masked", "--into", "with_mask", "--json")
    quiet, verbose = call(*merge, "--dry-run"), call(*merge, "--verbose")
    assert (quiet[0], verbose[0], quiet[2]) == (0, 0, "")
    assert json.loads(verbose[1]) == json.loads(quiet[1]) | {"version": 2}
    lines = verbose[2].splitlines()
    assert all(LINE.match(line) for line in lines)
    assert "INFO curate.cli.verbose: merge-classes, curate " in lines[0]
    assert any("INFO curate.store: faces: version 2 by merge-classes" in line for line in lines)
    assert "merge-classes finished after" in lines[-1]


def test_doctor_logs_each_check(call):
    """Each check is logged with its result."""
    assert "DEBUG curate.commands.doctor: pandas: " in call("doctor", "--verbose")[2]


def test_other_libraries_stay_quiet(capsys):
    """Loggers outside of `curate` are not shown."""
    with log_on_stderr("stats"):
        logging.getLogger("curate.engines").debug("from an engine")
        logging.getLogger("other").info("from elsewhere")
    err = capsys.readouterr().err
    assert ("from an engine" in err, "from elsewhere" in err) == (True, False)


def test_failure(call):
    """The log has the traceback; the error line and the exit code are unchanged."""
    code, out, err = call("stats", "nowhere", "--verbose")
    assert (code, out) == (1, "")
    assert "DEBUG curate.cli.verbose: stats failed after" in err
    assert "Traceback (most recent call last):" in err
    assert err.splitlines()[-1].startswith("curate: nowhere: there is no dataset here")


def test_nothing_stays_behind(call):
    """The command restores the handlers and the level of the logger."""
    root = logging.getLogger("curate")
    before = list(root.handlers), root.level
    call("stats", "faces", "--verbose")
    assert (root.handlers, root.level) == before
    assert call("stats", "faces")[2] == ""


def test_warnings_about_images_are_always_printed(capsys):
    """A warning about an image file is printed without `--verbose` too; other records are not."""
    with warnings_on_stderr():
        logging.getLogger("curate.images").warning("a.jpg: the picture data end early")
        logging.getLogger("curate.images").info("decoded")
        logging.getLogger("curate.store").warning("slow")
    logging.getLogger("curate.images").warning("after the command")
    assert capsys.readouterr().err == "curate: a.jpg: the picture data end early\n"
