"""The registry of engines: one row makes an engine known everywhere."""

import sys

import pytest
from colour_engine import MODEL
from repository_paths import REPOSITORY

from curate.commands.doctor import doctor
from curate.engines import base
from curate.engines.base import ENGINES, EngineEntry, Package, engine_for, library_versions
from curate.errors import MissingError

NOWHERE = Package("no-such-package", "no_such_module", "`colour:` models", "pip install no-such-package")


@pytest.fixture
def colour_engine(monkeypatch):
    """A row for an engine outside of curate, which imports a package that is missing."""
    entry = EngineEntry("colour_engine", "ColourEngine", (NOWHERE,))
    monkeypatch.setattr(base, "ENGINES", {**ENGINES, "colour": entry})


def test_a_row_makes_an_engine_known(colour_engine):
    """Its models have an engine, and `doctor` looks for its packages."""
    assert type(engine_for(MODEL)).__name__ == "ColourEngine"
    (check,) = (check for check in doctor().checks if check.name == "no-such-package")
    assert (check.ok, check.needed_for, check.remedy) == (False, "`colour:` models", "pip install no-such-package")


def test_the_versions_are_those_of_all_engines_packages(monkeypatch):
    """A run records what is installed of them, and nothing that is missing."""
    pytest_package = Package("pytest", "pytest", "tests", "pip install pytest")
    monkeypatch.setattr(base, "ENGINES", {"colour": EngineEntry("colour_engine", "X", (NOWHERE, pytest_package))})
    assert set(library_versions()) == {"curate", "pytest"}


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("no_such_module", "pip install no-such-package"), ("another_module", "pip install another_module")],
)
def test_a_missing_module_names_the_package(monkeypatch, module, remedy):
    """The remedy is that of the row; for a module that it does not name, the module itself."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(base, "ENGINES", {"colour": EngineEntry(module, "X", (NOWHERE,))})
    with pytest.raises(MissingError, match=rf"{module} is not installed\. {remedy}$"):
        engine_for("colour:any")


def test_every_engine_is_documented():
    """docs/training.md has a model of each in its table."""
    text = (REPOSITORY / "docs/training.md").read_text(encoding="utf-8")
    assert [name for name in ENGINES if f"`{name}:" not in text] == []
