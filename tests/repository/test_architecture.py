"""`docs/architecture.md` is compared with the tree: packages, modules, layers and the files that it names."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from repository_paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "architecture.md"
PACKAGE = REPOSITORY / "curate"
if not PAGE.is_file():
    pytest.skip("the page lies beside the tests in a clone only", allow_module_level=True)
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(curate/[\w/]*)` \| (.*) \| (.*) \|$", TEXT, flags=re.MULTILINE)


def modules_of(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.py")} - {"__init__"}


def test_map_lists_every_package_once():
    """Each package of the tree has one row."""
    packages = {f"{file.parent.relative_to(REPOSITORY).as_posix()}/" for file in PACKAGE.rglob("__init__.py")}
    assert sorted(name for name, _, _ in ROWS) == sorted(packages)


@pytest.mark.parametrize(("package", "description", "modules"), ROWS)
def test_row_describes_its_package(package, description, modules):
    """A row lists the modules of its package, and begins with the package's docstring."""
    folder = REPOSITORY / package
    documentation = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert sorted(re.findall(r"`(\w+)`", modules)) == sorted(modules_of(folder))
    assert description == documentation.partition("\n")[0]


def test_every_folder_with_modules_is_a_package():
    """A folder without `__init__.py` would be missing from the map and from the import contracts."""
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_layers_are_those_that_are_checked():
    """The page lists the layers of the import contract."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    assert f"```\n{chr(10).join(layers)}\n```" in TEXT


@pytest.mark.parametrize("named", sorted({*re.findall(r"`((?:curate|tests|docs)/[\w/.]+)`", TEXT)}))
def test_every_named_file_exists(named):
    """A file or folder that the page names is in the tree."""
    assert (REPOSITORY / named).exists()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_every_link_leads_to_a_file(target):
    """Links are relative to the page."""
    assert (PAGE.parent / target).exists()
